/** A server that does what a test says, at the other end of a WebSocket that is none. */

import { connect, type Client, type ClientOptions } from "../src/index.js";
import { encodeFrame, FrameReader, type Frame } from "../src/frame.js";
import { encode } from "../src/payload.js";
import type { WebSocketLike } from "../src/socket.js";
import { Kind } from "../src/wire.js";

type HelloTold = Record<string, unknown>;

/** The server's end of one connection. */
export class Peer {
  readonly frames: Frame[] = [];
  readonly messages: number[] = [];
  hello: HelloTold = {};
  isClosed = false;
  private readonly reader = new FrameReader();
  private wake: (() => void) | undefined;

  constructor(readonly socket: FakeSocket) {}

  take(data: Uint8Array): void {
    this.messages.push(data.length);
    this.reader.feed(data.slice(), (frame) => {
      if (frame.kind === Kind.HELLO) this.hello = JSON.parse(new TextDecoder().decode(frame.payload)) as HelloTold;
      else this.frames.push(frame);
    });
    this.wake?.();
  }

  closed(): void {
    this.isClosed = true;
    this.wake?.();
  }

  /** Return the next frame that the client sends. */
  async next(): Promise<Frame> {
    for (;;) {
      const frame = this.frames.shift();
      if (frame) return frame;
      if (this.isClosed) throw new Error("the client closed the connection");
      await new Promise<void>((wake) => (this.wake = wake));
    }
  }

  /** Return when the client has closed the connection. */
  async end(): Promise<void> {
    while (!this.isClosed) await new Promise<void>((wake) => (this.wake = wake));
  }

  send(kind: number, id: number | bigint, fields: Partial<Frame> = {}): void {
    this.raw(encodeFrame(kind, id, fields));
  }

  raw(data: Uint8Array | string): void {
    const shown = typeof data === "string" ? data : data.slice().buffer;
    this.socket.onmessage?.({ data: shown } as never);
  }

  /** Answer HELLO. */
  welcome(told: HelloTold = {}): this {
    const answer = { magic: 64087, version: 1, nonce: this.hello["nonce"], later: "unknown keys are ignored", ...told };
    const payload = new TextEncoder().encode(JSON.stringify(answer));
    this.send(Kind.HELLO, 0, { reply: true, serializer: 2, payload });
    return this;
  }

  /** Answer a call. */
  reply(id: number | bigint, value: unknown, fields: Partial<Frame> = {}): void {
    this.send(Kind.CALL, id, { reply: true, serializer: 1, payload: encode(value), ...fields });
  }
}

/** A WebSocket whose other end is a `Peer`. */
export class FakeSocket implements WebSocketLike {
  binaryType = "blob";
  bufferedAmount = 0;
  protocol = "";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  readonly peer = new Peer(this);

  constructor(readonly protocols: string[]) {}

  send(data: Uint8Array): void {
    this.peer.take(data);
  }

  close(): void {
    this.peer.closed();
  }
}

/** What a client dials: it decides about each attempt. */
export class Script {
  readonly peers: Peer[] = [];
  attempts = 0;
  refuses = false;
  isSilent = false;
  protocol = "fastrpc.1";
  private wake: (() => void) | undefined;
  private given = 0;

  /** Return the client's next connection, its HELLO read. */
  async accept(): Promise<Peer> {
    while (this.peers.length <= this.given) await new Promise<void>((wake) => (this.wake = wake));
    return this.peers[this.given++]!;
  }

  client(options: ClientOptions = {}): Client {
    const script = this;
    class Dialled extends FakeSocket {
      constructor(_: string, protocols: string[]) {
        super(protocols);
        script.attempts += 1;
        queueMicrotask(() => script.open(this));
      }
    }
    return connect("ws://nowhere/", { WebSocket: Dialled, ...options });
  }

  private open(socket: FakeSocket): void {
    if (this.isSilent) return;
    if (this.refuses) {
      socket.onerror?.({ message: "refused" } as never);
      socket.onclose?.({ code: 1006, reason: "" } as never);
      return;
    }
    socket.protocol = this.protocol;
    socket.onopen?.({} as never);
    queueMicrotask(() => {
      this.peers.push(socket.peer);
      this.wake?.();
    });
  }
}

/** Return a client and its connection, both open. */
export async function joined(
  options: ClientOptions = {},
  told: HelloTold = {},
  prepare: (client: Client) => void = () => undefined,
): Promise<{ client: Client; peer: Peer; script: Script }> {
  const script = new Script();
  const client = script.client(options);
  prepare(client);
  const opening = client.open();
  const peer = (await script.accept()).welcome(told);
  await opening;
  return { client, peer, script };
}
