/**
 * A call of one value, and a oneway: what is sent, who waits, and until when.
 */

import type { Connection, Waiter } from "./connection.js";
import { RpcError } from "./errors.js";
import type { Frame } from "./frame.js";
import { decodeMetadata, Metadata } from "./metadata.js";
import { errorOf, valueOf } from "./outcome.js";
import { Kind, Status } from "./wire.js";

/** Something that wants a connection. */
export interface Job {
  readonly isDone: boolean;
  /** Go on this connection. */
  start(connection: Connection): void;
  /** There is no connection. */
  fail(error: RpcError): void;
}

/** What finds connections for jobs. */
export interface Dispatcher {
  dispatch(job: Job): void;
}

/** What a call is made of. */
export interface Order {
  method: string;
  payload: Uint8Array;
  metadata: Uint8Array;
  /** Seconds, undefined for no deadline. */
  timeout: number | undefined;
  signal: AbortSignal | undefined;
}

/** A value, and what came beside it. */
export interface Reply<T> {
  value: T;
  metadata: Metadata;
}

const TIMER_MAX = 2 ** 31 - 1;
const TIME_MAX = 2 ** 32 - 1;
const MOVES_MAX = 3;

/** When a call has to end, and who may end it earlier. */
export class Limit {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly deadline: number;

  constructor(
    private readonly order: Order,
    private readonly over: (status: 41 | 42, why: string, cause?: unknown) => void,
  ) {
    const { timeout, signal } = order;
    this.deadline = timeout === undefined ? 0 : performance.now() + timeout * 1000;
    signal?.addEventListener("abort", this.aborted, { once: true });
    this.wait();
  }

  /** Milliseconds left as they are sent, 0 for no deadline. */
  get left(): number {
    if (!this.deadline) return 0;
    return Math.min(Math.max(Math.ceil(this.deadline - performance.now()), 1), TIME_MAX);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.order.signal?.removeEventListener("abort", this.aborted);
  }

  private wait(): void {
    if (!this.deadline) return;
    const left = this.deadline - performance.now();
    if (left > 0) {
      this.timer = setTimeout(() => this.wait(), Math.min(Math.ceil(left), TIMER_MAX));
    } else {
      this.over(Status.CLIENT_TIMEOUT, `the deadline of ${this.order.timeout! * 1000} ms passed`);
    }
  }

  private readonly aborted = (): void => {
    this.over(Status.CANCELLED, "the call was aborted", this.order.signal!.reason);
  };
}

/** Return the error of a call that this side gave up. */
export function givenUp(method: string, status: 41 | 42, why: string, sent: boolean, cause: unknown): RpcError {
  const name = status === Status.CANCELLED ? "CANCELLED" : "CLIENT_TIMEOUT";
  const fields = { status: name, ran: sent ? "maybe" : "no", method } as const;
  return new RpcError(`${method}: ${why}`, cause === undefined ? fields : { ...fields, cause });
}

/** Wait for room on a connection; true if there is some now. */
export function roomOn(connection: Connection, job: Job, dispatcher: Dispatcher): boolean {
  if (connection.answer!.maxCalls === 0) {
    job.fail(new RpcError(`${connection.owner.address} takes no calls`, { status: "UNAVAILABLE" }));
    return false;
  }
  if (connection.hasRoom) return true;
  connection.whenRoom(() => {
    if (!job.isDone) dispatcher.dispatch(job);
  });
  return false;
}

/** A call that waits for one value. */
export class UnaryCall implements Waiter, Job {
  readonly promise: Promise<Reply<unknown>>;
  isDone = false;
  private readonly limit: Limit;
  private settle!: { resolve(reply: Reply<unknown>): void; reject(error: unknown): void };
  private at: { connection: Connection; id: number } | undefined;
  private moves = 0;

  constructor(
    private readonly order: Order,
    private readonly dispatcher: Dispatcher,
  ) {
    this.promise = new Promise((resolve, reject) => (this.settle = { resolve, reject }));
    this.limit = new Limit(order, (status, why, cause) => this.giveUp(status, why, cause));
    if (order.signal?.aborted) this.giveUp(42, "the call was aborted", order.signal.reason);
    if (!this.isDone) dispatcher.dispatch(this);
  }

  get method(): string {
    return this.order.method;
  }

  start(connection: Connection): void {
    if (this.isDone || !roomOn(connection, this, this.dispatcher)) return;
    const { method, payload, metadata } = this.order;
    try {
      const request = { kind: Kind.CALL, method, payload, metadata, time: this.limit.left };
      this.at = { connection, id: connection.request(request, this) };
    } catch (error) {
      this.fail(error as RpcError);
    }
  }

  reply(frame: Frame, connection: Connection): void {
    const { method } = this;
    if (frame.status === Status.NOT_FOUND && connection.forget(frame.id as number, method)) {
      this.start(connection); // the server did not know the number: once more, by name
      return;
    }
    if (frame.status === Status.UNAVAILABLE && connection.isDraining && this.moves < MOVES_MAX) {
      this.moved(errorOf(frame, method));
      return;
    }
    try {
      if (frame.status) throw errorOf(frame, method);
      const { owner } = connection;
      const value = valueOf(frame, `${method}: the reply`, owner.offer.maxBody, owner.limits);
      this.end();
      this.settle.resolve({ value, metadata: trailers(frame) });
    } catch (error) {
      this.fail(error as RpcError);
    }
  }

  fail(error: RpcError): void {
    if (this.isDone) return;
    this.end();
    this.settle.reject(error);
  }

  moved(error: RpcError): void {
    this.at = undefined;
    this.moves += 1;
    if (this.moves > MOVES_MAX) this.fail(error);
    else this.dispatcher.dispatch(this);
  }

  private giveUp(status: 41 | 42, why: string, cause?: unknown): void {
    if (this.isDone) return;
    const { at } = this;
    this.fail(givenUp(this.method, status, why, at !== undefined, cause));
    at?.connection.cancel(at.id, status);
  }

  private end(): void {
    this.isDone = true;
    this.limit?.stop();
  }
}

/** A call that nobody waits for. */
export class Notice implements Job {
  isDone = false;

  constructor(
    private readonly order: Order,
    dispatcher: Dispatcher,
  ) {
    dispatcher.dispatch(this);
  }

  start(connection: Connection): void {
    this.isDone = true;
    const { method, payload, metadata } = this.order;
    const time = this.order.timeout === undefined ? 0 : Math.max(Math.ceil(this.order.timeout * 1000), 1);
    try {
      connection.request({ kind: Kind.CALL, method, payload, metadata, time, oneway: true }, undefined);
    } catch {
      // Too large for this server, or no name: nobody waits to hear of it.
    }
  }

  fail(): void {
    this.isDone = true;
  }
}

/** Return what came beside a reply; what can't be read may be ignored. */
export function trailers(frame: Frame): Metadata {
  try {
    return decodeMetadata(frame.metadata);
  } catch {
    return new Metadata();
  }
}
