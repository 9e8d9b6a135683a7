/**
 * A WebSocket as a pipe of bytes: whole frames go into messages, bytes come out of them.
 */

import type { Pipe } from "./connection.js";

/** What this side uses of a WebSocket: the browser's, Node's from 22 on, and that of `ws`. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  readonly protocol: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  send(data: Uint8Array): void;
  close(): void;
}

export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike;

export type Socket = Pipe;

export const SUBPROTOCOL = "fastrpc.1";

/** Frames are put together to messages of about this size. */
const MESSAGE = 64 * 1024;

export interface SocketEvents {
  opened(pipe: Pipe): void;
  received(data: Uint8Array): void;
  closed(why: string): void;
}

/** Dial, and tell what happens; `closed` comes exactly once. */
export function openSocket(kind: WebSocketClass, url: string, events: SocketEvents): Socket {
  const socket = new kind(url, [SUBPROTOCOL]);
  socket.binaryType = "arraybuffer";
  const queue: Uint8Array[] = [];
  let state: "new" | "open" | "closed" = "new";
  let why = "the connection could not be made";

  const flush = (): void => {
    let bunch: Uint8Array[] = [];
    let size = 0;
    const push = (): void => {
      if (bunch.length) socket.send(bunch.length === 1 ? bunch[0]! : concat(bunch, size));
      bunch = [];
      size = 0;
    };
    for (const frame of queue.splice(0)) {
      if (size + frame.length > MESSAGE) push();
      bunch.push(frame);
      size += frame.length;
    }
    push();
  };
  const over = (reason: string): void => {
    if (state === "closed") return;
    state = "closed";
    queue.length = 0;
    events.closed(reason);
  };
  const pipe: Pipe = {
    send(data) {
      if (state !== "open") return;
      if (!queue.length) {
        queueMicrotask(() => {
          if (state === "open") flush();
        });
      }
      queue.push(data);
    },
    close() {
      if (state === "open") flush();
      over("it was closed here");
      socket.close();
    },
    get buffered() {
      return socket.bufferedAmount;
    },
  };

  socket.onopen = () => {
    if (state !== "new") return;
    if (socket.protocol !== SUBPROTOCOL) {
      over(`there is a WebSocket, but it does not speak ${SUBPROTOCOL}`);
      socket.close();
      return;
    }
    state = "open";
    why = "the connection was lost";
    events.opened(pipe);
  };
  socket.onmessage = (event: { data: unknown }) => {
    if (state !== "open") return;
    if (event.data instanceof ArrayBuffer) events.received(new Uint8Array(event.data));
    else {
      over("a text message came, and only binary ones belong here");
      socket.close();
    }
  };
  socket.onerror = (event: { message?: unknown }) => {
    if (typeof event.message === "string" && event.message) why += `: ${event.message}`;
  };
  socket.onclose = (event: { code?: unknown; reason?: unknown }) => {
    const reason = typeof event.reason === "string" && event.reason ? ` ${event.reason}` : "";
    over(typeof event.code === "number" ? `${why} (${event.code}${reason})` : why);
  };
  return pipe;
}

function concat(chunks: Uint8Array[], size: number): Uint8Array {
  const data = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    data.set(chunk, at);
    at += chunk.length;
  }
  return data;
}
