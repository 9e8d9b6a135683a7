/**
 * A call whose items come, go, or both: the caller's side.
 */

import { givenUp, Limit, roomOn, trailers, type Dispatcher, type Job, type Order } from "./call.js";
import type { Connection, Waiter } from "./connection.js";
import { RpcError, textOf } from "./errors.js";
import { Inlet, Outlet } from "./flow.js";
import { encodeFrame, type Frame } from "./frame.js";
import { Metadata } from "./metadata.js";
import { errorOf, valueOf } from "./outcome.js";
import { encodeValue } from "./payload.js";
import { BIT_END, Kind, Serializer, Status } from "./wire.js";

/** Anything whose items can be sent. */
export type Items<T = unknown> = AsyncIterable<T> | Iterable<T>;

/** What an open stream has. */
interface Core {
  connection: Connection;
  id: number;
  inlet: Inlet;
  outlet: Outlet;
}

interface Settle<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

/**
 * A stream. Nothing is sent before it is used.
 *
 * Iterate over it for what comes; `send` or `feed` what goes, then `end`; `result` waits for
 * the value. Leaving a `for await` early gives it up, and so does `cancel`.
 */
export class RpcStream<T = unknown> implements AsyncIterable<T>, Waiter, Job {
  /** What the server sent beside the end; empty before. */
  metadata = new Metadata();
  isDone = false;
  private core: Core | undefined;
  private opening: Settle<Core> | undefined;
  private limit: Limit | undefined;
  private readonly value = settle<unknown>();
  private ended: { error: unknown } | undefined;
  private hasEnded = false; // this side's items
  private endsAtOnce = true;

  /** @internal */
  constructor(
    private readonly order: Order,
    private readonly dispatcher: Dispatcher,
    private readonly items?: Items,
  ) {}

  get method(): string {
    return this.order.method;
  }

  /** Open it for items in both directions; without, the first thing done with it decides. */
  async open(): Promise<this> {
    await this.opened(false);
    return this;
  }

  /** Send an item as soon as the server has room for it. */
  async send(item: unknown): Promise<void> {
    const encoded = encodeValue(item); // before it is opened: a value that can't be sent costs nothing
    const core = await this.opened(false);
    if (this.hasEnded) throw this.over();
    await core.outlet.send(...encoded);
  }

  /**
   * Send all items, then say that there are no more.
   *
   * Returns early if the server ends the stream, and gives the stream up if the source fails.
   */
  async feed(items: Items): Promise<void> {
    const core = await this.opened(false);
    try {
      for await (const item of items) {
        if (this.isDone) break;
        await core.outlet.send(...encodeValue(item));
      }
    } catch (error) {
      this.giveUp(Status.CANCELLED, textOf(error), error, error);
      if (this.ended!.error === undefined) return; // it had ended well before
      throw error;
    }
    if (!this.isDone) await this.end();
  }

  /** Say that no more items will be sent; those of the server still come. */
  async end(): Promise<void> {
    const core = await this.opened(true);
    if (this.hasEnded) return;
    this.hasEnded = true;
    core.outlet.close(this.over());
    if (!this.isDone) core.connection.send(encodeFrame(Kind.HALF, core.id));
  }

  /** Wait for the end and return the value; undefined for a stream that has none. */
  async result(): Promise<unknown> {
    await this.opened(this.endsAtOnce);
    return this.value.promise;
  }

  /** Give it up. */
  cancel(reason?: unknown): void {
    this.giveUp(Status.CANCELLED, "the stream was cancelled", reason);
  }

  [Symbol.asyncIterator](): AsyncIterator<T, undefined> {
    const next = async (): Promise<IteratorResult<T, undefined>> => {
      const core = await this.opened(this.endsAtOnce);
      try {
        return (await core.inlet.next()) as IteratorResult<T, undefined>;
      } catch (error) {
        // `for await` does not come back after an error: an item that can't be read ends it.
        this.giveUp(Status.CANCELLED, textOf(error));
        throw error;
      }
    };
    const leave = (): Promise<IteratorResult<T, undefined>> => {
      this.cancel();
      return Promise.resolve({ done: true, value: undefined });
    };
    return { next, return: leave };
  }

  // Opening

  private opened(ends: boolean): Promise<Core> | Core {
    if (this.core) return this.core;
    if (this.ended) return Promise.reject(this.ended.error ?? this.over());
    if (!this.opening) {
      this.endsAtOnce = ends && this.items === undefined;
      this.opening = settle();
      this.limit = new Limit(this.order, (status, why, cause) => this.giveUp(status, why, cause));
      const { signal } = this.order;
      if (signal?.aborted) this.giveUp(Status.CANCELLED, "the call was aborted", signal.reason);
      else this.dispatcher.dispatch(this);
    }
    return this.opening.promise;
  }

  /** @internal */
  start(connection: Connection): void {
    if (this.isDone || !roomOn(connection, this, this.dispatcher)) return;
    const { method, payload, metadata } = this.order;
    const { offer, limits } = connection.owner;
    const bits = this.endsAtOnce ? BIT_END : 0;
    let id: number;
    try {
      id = connection.request({ kind: Kind.OPEN, method, payload, metadata, time: this.limit!.left, bits }, this);
    } catch (error) {
      this.fail(error as RpcError);
      return;
    }
    const inlet = new Inlet(
      offer.window,
      (arg) => connection.send(encodeFrame(Kind.CREDIT, id, { arg })),
      (item, count) => valueOf(item, `${method}: item ${count}`, offer.maxBody, limits),
    );
    const outlet = new Outlet(connection.answer!.window, id, (serializer, body) =>
      connection.item(id, false, serializer, body, method),
    );
    this.core = { connection, id, inlet, outlet };
    if (this.endsAtOnce) {
      this.hasEnded = true;
      outlet.close(this.over());
    }
    this.opening!.resolve(this.core);
    if (this.items) {
      this.feed(this.items).catch(() => undefined); // the stream tells of it
    }
  }

  private over(): RpcError {
    const text = `${this.method}: nothing more can be sent on this stream`;
    return new RpcError(text, { status: "CANCELLED", ran: "maybe", method: this.method });
  }

  // What comes

  /** @internal */
  item(frame: Frame): void {
    this.core?.inlet.push(frame);
  }

  /** @internal */
  credit(bytes: number): void {
    this.core?.outlet.grant(bytes);
  }

  /** @internal */
  reply(frame: Frame, connection: Connection): void {
    if (frame.status === Status.NOT_FOUND && connection.forget(frame.id as number, this.method) && !this.hasStarted) {
      this.core = undefined;
      this.start(connection);
      return;
    }
    this.metadata = trailers(frame);
    if (frame.status) {
      this.finish(errorOf(frame, this.method));
      return;
    }
    try {
      const isNothing = frame.serializer === Serializer.RAW && !frame.payload.length && !frame.oversize;
      const { offer, limits } = connection.owner;
      const value = isNothing ? undefined : valueOf(frame, `${this.method}: the reply`, offer.maxBody, limits);
      this.finish(undefined, value);
    } catch (error) {
      this.finish(error as RpcError);
    }
  }

  /** Whether items have gone out, so that it can't be opened once more. */
  private get hasStarted(): boolean {
    return !this.endsAtOnce;
  }

  /** @internal */
  fail(error: RpcError): void {
    this.finish(error);
  }

  /** @internal */
  moved(error: RpcError): void {
    this.finish(error);
  }

  private giveUp(status: 41 | 42, why: string, cause?: unknown, fault?: unknown): void {
    if (this.isDone) return;
    const { core } = this;
    this.finish(fault ?? givenUp(this.method, status, why, core !== undefined, cause));
    core?.connection.cancel(core.id, status);
  }

  private finish(error: unknown, value?: unknown): void {
    if (this.isDone) return;
    this.isDone = true;
    this.ended = { error };
    this.limit?.stop();
    this.core?.inlet.end(error);
    this.core?.outlet.close(error ?? this.over());
    this.value.promise.catch(() => undefined); // who only iterates hears of it there
    if (error === undefined) this.value.resolve(value);
    else this.value.reject(error);
    if (this.opening && !this.core) {
      this.opening.promise.catch(() => undefined);
      this.opening.reject(error ?? this.over());
    }
  }
}

function settle<T>(): Settle<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
