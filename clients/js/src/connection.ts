/**
 * One connection, from HELLO to its end: who waits for what, in both directions.
 *
 * Rules of the room:
 *   - no socket: bytes are given in and out, time is asked for;
 *   - every waiter is told exactly once how its call ended;
 *   - a broken rule ends the connection with GOAWAY; a call that fails ends alone.
 */

import { Bucket } from "./bucket.js";
import { FrameError, ProtocolError, RpcError, textOf } from "./errors.js";
import { EMPTY, encodeFrame, FrameReader, type Frame, type Id } from "./frame.js";
import { decodeHello, decodeRefusal, encodeHello, type Answer, type Offer } from "./hello.js";
import { errorMap } from "./outcome.js";
import { encode, type PayloadLimits } from "./payload.js";
import type { Registry } from "./registry.js";
import { Serving } from "./serving.js";
import * as wire from "./wire.js";

const { Kind, Status } = wire;

/** Where the bytes go. */
export interface Pipe {
  send(data: Uint8Array): void;
  close(): void;
  /** Bytes that wait to be sent. */
  readonly buffered: number;
}

/** Who waits for the reply of a call or stream. */
export interface Waiter {
  readonly method: string;
  /** The terminal reply. */
  reply(frame: Frame, connection: Connection): void;
  /** There will be none. */
  fail(error: RpcError): void;
  /** It was not run here; another connection may take it. */
  moved(error: RpcError): void;
  /** The server lets this side send more. */
  credit?(bytes: number): void;
  /** An item came. */
  item?(frame: Frame): void;
}

/** What a request is made of. */
export interface Request {
  method: string;
  payload: Uint8Array;
  metadata: Uint8Array;
  /** Milliseconds left, 0 for no deadline. */
  time: number;
  kind: 0 | 2;
  bits?: number;
  oneway?: boolean;
}

/** What the owner of a connection is told. */
export interface Owner {
  readonly address: string;
  readonly offer: Offer;
  readonly registry: Registry;
  readonly limits: PayloadLimits;
  opened(connection: Connection): void;
  /** The server takes no more calls here. */
  draining(connection: Connection): void;
  ended(connection: Connection, error: RpcError): void;
}

/** A method and the number this side has given it. */
interface Binding {
  number: number;
  isSent: boolean;
  /** The server has answered a call by name: it knows the number. */
  isSure: boolean;
}

type Pong = (milliseconds: number) => void;
type Fail = (error: RpcError) => void;

const STRAYS = 1000;
const CANCELS = 1000;
const CANCELS_PER_SECOND = 33;
const PINGS = 3;
const ID_MAX = Number.MAX_SAFE_INTEGER;

export class Connection {
  answer: Answer | undefined;
  isDraining = false;
  isEnded = false;
  /** When bytes came last, in milliseconds. */
  heardAt: number;
  /** How many have come. */
  heard = 0;
  private readonly reader: FrameReader;
  private readonly serving: Serving;
  private readonly waiters = new Map<Id, Waiter>();
  private readonly named = new Map<Id, Binding>();
  private readonly bindings = new Map<string, Binding>();
  private readonly pings = new Map<Id, { sent: number; done: Pong; fail: Fail }>();
  private readonly line: (() => void)[] = [];
  private readonly strays: Bucket;
  private readonly cancels: Bucket;
  private readonly pinged: Bucket;
  private readonly nonce: string;
  private lastId = 0;
  private lastPing = 0;
  private nextPing = 0;

  constructor(
    readonly owner: Owner,
    private readonly pipe: Pipe,
    readonly clock: () => number,
  ) {
    const { offer } = owner;
    const now = clock();
    this.heardAt = now;
    this.nonce = offer.nonce;
    this.reader = new FrameReader(offer.maxBody);
    this.serving = new Serving(this, owner.registry);
    this.strays = new Bucket(STRAYS, STRAYS / 60, now);
    this.cancels = new Bucket(CANCELS + offer.maxCalls, CANCELS_PER_SECOND, now);
    this.pinged = new Bucket(PINGS, 1000 / Math.max(offer.pingMs, 1), now);
    const payload = encodeHello(offer);
    this.send(encodeFrame(Kind.HELLO, 0, { serializer: wire.Serializer.JSON, payload }));
  }

  /** Calls and streams of this side that are open. */
  get open(): number {
    return this.waiters.size;
  }

  /** Whether nothing is under way, in either direction. */
  get isIdle(): boolean {
    return !this.waiters.size && !this.line.length && !this.serving.running;
  }

  /** Whether part of a frame has come and the rest has not. */
  get isPartial(): boolean {
    return this.reader.isPartial;
  }

  get buffered(): number {
    return this.pipe.buffered;
  }

  /** Take bytes that came. */
  feed(data: Uint8Array): void {
    if (this.isEnded) return;
    this.heardAt = this.clock();
    this.heard += data.length;
    try {
      this.reader.feed(data, (frame) => {
        if (!this.isEnded) this.receive(frame);
      });
    } catch (error) {
      this.broken(error);
    }
  }

  send(data: Uint8Array): void {
    if (!this.isEnded) this.pipe.send(data);
  }

  // Calls of this side

  /** Whether one more call has room. */
  get hasRoom(): boolean {
    return this.answer !== undefined && this.waiters.size < this.answer.maxCalls;
  }

  /** Let `go` be called when there is room for a call, or none any more. */
  whenRoom(go: () => void): void {
    this.line.push(go);
  }

  /**
   * Send a request and return its id.
   *
   * Throws an `RpcError` if it can't be sent; then nothing was.
   */
  request(request: Request, waiter: Waiter | undefined): number {
    const { method } = request;
    const name = new TextEncoder().encode(method);
    if (!name.length || name.length > wire.NAME_MAX) {
      throw new RpcError(`a method name has 1 to ${wire.NAME_MAX} bytes`, { status: "NOT_FOUND", method });
    }
    const binding = this.bind(method);
    // A stream's items follow at once and nobody hears of a oneway: both have to be sure.
    const isLoose = request.kind === Kind.OPEN || request.oneway;
    const isShort = binding && (isLoose ? binding.isSure : binding.isSent);
    const size = (isShort ? 0 : name.length) + request.metadata.length + request.payload.length;
    if (size > this.answer!.maxBody) {
      const text = `${method}: ${size} bytes are over the server's max_body of ${this.answer!.maxBody}`;
      throw new RpcError(text, { status: "TOO_LARGE", method });
    }
    if (this.lastId >= ID_MAX) throw new RpcError("all ids are used up", { status: "NETWORK", ran: "no" });
    const id = ++this.lastId;
    this.send(
      encodeFrame(request.kind, id, {
        serializer: wire.Serializer.MSGPACK,
        arg: binding?.number ?? 0,
        name: isShort ? EMPTY : name,
        metadata: request.metadata,
        payload: request.payload,
        time: request.time,
        bits: request.bits ?? 0,
        oneway: request.oneway ?? false,
      }),
    );
    if (binding && !isShort) {
      if (!request.oneway) binding.isSent = true;
      if (waiter) this.named.set(id, binding);
    }
    if (waiter) this.waiters.set(id, waiter);
    return id;
  }

  private bind(method: string): Binding | undefined {
    let binding = this.bindings.get(method);
    if (!binding && this.bindings.size < this.answer!.methods) {
      binding = { number: this.bindings.size + 1, isSent: false, isSure: false };
      this.bindings.set(method, binding);
    }
    return binding;
  }

  /** Forget that the server knows a method's number; true if its name was not sent with the call. */
  forget(id: number, method: string): boolean {
    const binding = this.bindings.get(method);
    const wasNamed = this.named.has(id) || !binding;
    if (binding) binding.isSent = binding.isSure = false;
    return !wasNamed;
  }

  /** Give up a call: nobody waits for its reply any more. */
  cancel(id: number, status: 41 | 42): void {
    if (!this.drop(id)) return;
    this.send(encodeFrame(Kind.CANCEL, id, { status }));
  }

  /** Send an item of a stream and return what it costs. */
  item(id: number, reply: boolean, serializer: number, payload: Uint8Array, method: string): number {
    const most = this.answer!.maxBody;
    if (payload.length > most) {
      const text = `${method}: an item of ${payload.length} bytes is over the server's max_body of ${most}`;
      throw new RpcError(text, { status: "TOO_LARGE", method });
    }
    const frame = encodeFrame(Kind.DATA, id, { reply, serializer, payload });
    this.send(frame);
    return frame.length;
  }

  /** Ping the server, not more often than it likes; `done` is told how long the pong took, in ms. */
  ping(done: Pong, fail: Fail): void {
    const now = this.clock();
    const turn = Math.max(this.nextPing, now - this.answer!.pingMs);
    this.nextPing = turn + this.answer!.pingMs;
    const go = (): void => {
      const token = ++this.lastPing;
      this.pings.set(token, { sent: this.clock(), done, fail });
      this.send(encodeFrame(Kind.CALL, token, { heartbeat: true }));
    };
    if (turn <= now) go();
    else setTimeout(() => (this.isEnded ? fail(this.lost()) : go()), turn - now);
  }

  private lost(): RpcError {
    return new RpcError(`${this.owner.address}: the connection is lost`, { status: "NETWORK", ran: "maybe" });
  }

  // The end

  /** End it without a word about why: this side is done. */
  close(error: RpcError): void {
    if (this.isEnded) return;
    if (this.answer) this.send(encodeFrame(Kind.GOAWAY, this.serving.lastId, { status: Status.UNAVAILABLE }));
    this.end(error);
  }

  /** End it: the pipe is gone, or is to go. */
  end(error: RpcError): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.pipe.close();
    this.serving.end();
    const waiters = [...this.waiters.values()];
    this.waiters.clear();
    this.owner.ended(this, error);
    for (const waiter of waiters) {
      waiter.fail(new RpcError(`${waiter.method}: ${error.message}`, { status: error.status, ran: "maybe" }));
    }
    for (const ping of this.pings.values()) ping.fail(this.lost());
    for (const go of this.line.splice(0)) go();
  }

  private broken(error: unknown): void {
    const status = error instanceof ProtocolError ? error.status : Status.PROTOCOL;
    const isStranger = error instanceof FrameError && error.at === "magic" && !this.answer;
    if (!isStranger) {
      const message = error instanceof ProtocolError ? error.message : "internal error";
      // What the peer sent is not repeated to it.
      const told = error instanceof FrameError ? `not a frame: ${error.at}` : message;
      const payload = encode({ message: told });
      const fields = { status, payload, serializer: wire.Serializer.MSGPACK };
      this.send(encodeFrame(Kind.GOAWAY, this.serving.lastId, fields));
    }
    const text = isStranger ? "is no fastrpc server" : "broke the protocol";
    this.end(new RpcError(`${this.owner.address} ${text}: ${textOf(error)}`, { status: "NETWORK", cause: error }));
  }

  // What comes

  private receive(frame: Frame): void {
    if (!this.answer && frame.kind !== Kind.GOAWAY) {
      this.welcome(frame);
      return;
    }
    if (frame.bits & wire.BIT_MORE) throw new ProtocolError("MORE is not in use");
    switch (frame.kind) {
      case Kind.CALL:
        if (frame.heartbeat) this.heartbeat(frame);
        else if (frame.reply) this.replied(frame);
        else this.serving.request(frame);
        break;
      case Kind.OPEN:
        if (frame.reply || frame.heartbeat) throw new ProtocolError("OPEN goes the wrong way");
        this.serving.request(frame);
        break;
      case Kind.DATA:
        if (frame.reply) this.waiters.get(frame.id)?.item?.(frame);
        else this.serving.item(frame);
        break;
      case Kind.HALF:
        if (frame.reply) throw new ProtocolError("HALF goes the wrong way");
        this.serving.half(frame);
        break;
      case Kind.CREDIT:
        if (frame.reply) this.waiters.get(frame.id)?.credit?.(frame.arg);
        else this.serving.credit(frame);
        break;
      case Kind.CANCEL:
        if (frame.reply) throw new ProtocolError("CANCEL goes the wrong way");
        if (!this.cancels.take(this.clock())) throw new ProtocolError("too many cancels", Status.FLOOD);
        this.serving.cancel(frame);
        break;
      case Kind.GOAWAY:
        if (frame.reply) throw new ProtocolError("GOAWAY goes the wrong way");
        this.goaway(frame);
        break;
      case Kind.HELLO:
        throw new ProtocolError("a second HELLO");
      default: // 12 to 15 may be skipped
        if (frame.kind < 12) throw new ProtocolError(`kind ${frame.kind} is not known`);
    }
  }

  private welcome(frame: Frame): void {
    if (frame.kind !== Kind.HELLO || !frame.reply) throw new ProtocolError("HELLO comes first");
    if (frame.oversize) throw new ProtocolError(`HELLO is over ${wire.HELLO_MAX} bytes`);
    if (frame.serializer !== wire.Serializer.JSON || frame.bits || frame.id) {
      throw new ProtocolError("HELLO must be plain JSON with id 0");
    }
    if (frame.status) {
      const { message, retryAfter } = decodeRefusal(frame.payload);
      const text = `${this.owner.address} refused the connection: ${message || `status ${frame.status}`}`;
      this.end(new RpcError(text, { status: wire.statusName(frame.status), ran: "no", retryAfter }));
      return;
    }
    const answer = decodeHello(frame.payload);
    if (answer.nonce !== this.nonce) throw new ProtocolError("HELLO: the nonce is another's");
    this.answer = answer;
    this.owner.opened(this);
  }

  private heartbeat(frame: Frame): void {
    if (frame.reply) {
      const ping = this.pings.get(frame.id);
      this.pings.delete(frame.id);
      ping?.done(this.clock() - ping.sent);
      return;
    }
    if (frame.oversize || frame.payload.length > wire.PING_BODY_MAX) {
      throw new ProtocolError(`a ping has at most ${wire.PING_BODY_MAX} bytes`);
    }
    if (!this.pinged.take(this.clock())) throw new ProtocolError("too many pings", Status.FLOOD);
    const { payload, serializer } = frame;
    this.send(encodeFrame(Kind.CALL, frame.id, { heartbeat: true, reply: true, payload, serializer }));
  }

  private replied(frame: Frame): void {
    const waiter = this.waiters.get(frame.id);
    if (!waiter) {
      if (frame.id > this.lastId && !this.strays.take(this.clock())) {
        throw new ProtocolError("too many replies to nobody", Status.FLOOD);
      }
      return;
    }
    const binding = this.named.get(frame.id);
    const isKnown = frame.status !== Status.NOT_FOUND && frame.status !== Status.TOO_LARGE;
    if (binding && isKnown) binding.isSent = binding.isSure = true;
    waiter.reply(frame, this);
    this.drop(frame.id);
  }

  private drop(id: Id): boolean {
    this.named.delete(id);
    const wasOpen = this.waiters.delete(id);
    while (wasOpen && this.line.length && this.hasRoom) this.line.shift()!();
    if (wasOpen) this.rest();
    return wasOpen;
  }

  private goaway(frame: Frame): void {
    const isClean = frame.status === Status.UNAVAILABLE;
    const { message } = errorMap(frame);
    const why = typeof message === "string" ? message.slice(0, 500) : `status ${frame.status}`;
    const text = isClean ? "is shutting down" : `closed the connection: ${why}`;
    const fields = { status: isClean ? "UNAVAILABLE" : "NETWORK", ran: "no" } as const;
    const error = new RpcError(`${this.owner.address} ${text}`, fields);
    if (!this.isDraining) {
      this.isDraining = true;
      this.owner.draining(this);
    }
    for (const [id, waiter] of [...this.waiters]) {
      if (id > frame.id) {
        this.named.delete(id);
        this.waiters.delete(id);
        waiter.moved(error);
      }
    }
    for (const go of this.line.splice(0)) go();
    if (isClean) this.rest();
    else this.end(error);
  }

  /** Close if the server has said goodbye and nothing is under way. */
  rest(): void {
    if (!this.isDraining || this.isEnded) return;
    queueMicrotask(() => {
      if (this.isIdle) this.end(new RpcError(`${this.owner.address} is shut down`, { status: "NETWORK", ran: "no" }));
    });
  }
}
