/**
 * Answer the calls of the server on one connection.
 *
 * Rules of the room:
 *   - every call that is not oneway gets exactly one reply, unless it was cancelled: then none;
 *   - a call holds its place until its handler has really ended.
 */

import type { Connection } from "./connection.js";
import { ApplicationError, ProtocolError, RpcError, textOf, typeOf } from "./errors.js";
import { Inlet, Outlet } from "./flow.js";
import { encodeFrame, type Frame, type Id } from "./frame.js";
import { decodeMetadata } from "./metadata.js";
import { valueOf } from "./outcome.js";
import { encode, encodeValue } from "./payload.js";
import type { CallContext, Handler, Registry } from "./registry.js";
import * as wire from "./wire.js";

const { Kind, Status, Serializer } = wire;

/** Results wait while the server leaves more than this unread. */
const UNSENT_MAX = 8 * 2 ** 20;
const UNSENT_PAUSE = 20;
const TEXT_MAX = 2000;

/** One handler that runs. */
interface Running {
  method: string;
  frame: Frame;
  controller: AbortController;
  inlet: Inlet | undefined;
  outlet: Outlet | undefined;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** The reply is sent, or nobody waits for one. */
  isSettled: boolean;
}

export class Serving {
  /** The highest id that was taken. */
  lastId = 0;
  private readonly open = new Map<Id, Running>();
  private readonly names = new Map<number, string>();

  constructor(
    private readonly connection: Connection,
    private readonly registry: Registry,
  ) {}

  /** Handlers that have not ended. */
  get running(): number {
    return this.open.size;
  }

  /** Take a CALL or OPEN of the server's. */
  request(frame: Frame): void {
    if (typeof frame.id === "bigint" || frame.id <= this.lastId) {
      throw new ProtocolError("ids of calls must rise");
    }
    this.lastId = frame.id;
    if (frame.kind === Kind.OPEN) frame.oneway = false;
    if (frame.oversize) {
      const most = this.connection.owner.offer.maxBody;
      this.refuse(frame, "TOO_LARGE", `arguments of ${frame.oversize} bytes are over max_body of ${most}`);
      return;
    }
    const method = this.methodOf(frame);
    const handler = method === undefined ? undefined : this.registry.get(method);
    if (method === undefined || !handler) {
      this.refuse(frame, "NOT_FOUND", method === undefined ? "" : `there is no ${method.slice(0, 255)}`);
      return;
    }
    if (frame.bits & (wire.BIT_ZIP | wire.BIT_SEG) || frame.serializer > Serializer.JSON) {
      this.refuse(frame, "UNSUPPORTED", `${method}: the payload is encoded in a way that was not agreed on`);
    } else if (handler.isStream !== (frame.kind === Kind.OPEN)) {
      this.refuse(frame, "BAD_REQUEST", `${method} is ${handler.isStream ? "a" : "no"} stream`);
    } else if (this.open.size >= this.connection.owner.offer.maxCalls) {
      this.refuse(frame, "OVERLOADED", "too many calls of this connection (max_calls)");
    } else {
      this.start(frame, method, handler);
    }
  }

  private methodOf(frame: Frame): string | undefined {
    if (!frame.name.length) return this.names.get(frame.arg);
    const method = new TextDecoder().decode(frame.name);
    if (frame.arg && frame.arg <= this.connection.owner.offer.methods && this.registry.get(method)) {
      const bound = this.names.get(frame.arg);
      if (bound !== undefined && bound !== method) {
        throw new ProtocolError(`method number ${frame.arg} has another name`);
      }
      this.names.set(frame.arg, method);
    }
    return method;
  }

  private start(frame: Frame, method: string, handler: Handler): void {
    let args: unknown[];
    let metadata;
    try {
      metadata = decodeMetadata(frame.metadata);
      args = this.argumentsOf(frame, method);
    } catch (error) {
      const status = error instanceof RpcError && error.status === "TOO_LARGE" ? "TOO_LARGE" : "BAD_REQUEST";
      this.refuse(frame, status, textOf(error));
      return;
    }
    const controller = new AbortController();
    const running: Running = {
      method, frame, controller, inlet: undefined, outlet: undefined, timer: undefined,
      isSettled: frame.oneway,
    };
    if (handler.isStream) this.openStream(running);
    if (frame.time) running.timer = setTimeout(() => this.expire(running), Math.min(frame.time, 2 ** 31 - 1));
    this.open.set(frame.id, running);
    const { inlet } = running;
    const items: AsyncIterable<unknown> = {
      [Symbol.asyncIterator]: () => ({
        next: () => inlet?.next() ?? Promise.resolve({ done: true, value: undefined }),
        return: () => {
          inlet?.drop();
          return Promise.resolve({ done: true, value: undefined });
        },
      }),
    };
    const context: CallContext = { method, metadata, signal: controller.signal, items };
    void this.run(running, handler, context, args);
  }

  /** Return what the handler is called with; arguments by name come last, as one object. */
  private argumentsOf(frame: Frame, method: string): unknown[] {
    const { limits, offer } = this.connection.owner;
    const value = valueOf(frame, `${method}: the payload`, offer.maxBody, limits);
    if (frame.serializer === Serializer.RAW) return [value];
    if (Array.isArray(value)) return value as unknown[];
    if (typeof value !== "object" || value === null || value instanceof Uint8Array) {
      throw new Error(`${method}: arguments are an array or a map`);
    }
    const { "*": first = [], ...named } = value as Record<string, unknown>;
    if (!Array.isArray(first)) throw new Error(`${method}: '*' must hold an array`);
    return Object.keys(named).length ? [...(first as unknown[]), named] : (first as unknown[]);
  }

  private openStream(running: Running): void {
    const { connection } = this;
    const { frame, method } = running;
    const id = frame.id as number;
    const { offer, limits } = connection.owner;
    running.inlet = new Inlet(
      offer.window,
      (arg) => connection.send(encodeFrame(Kind.CREDIT, id, { reply: true, arg })),
      (item, count) => valueOf(item, `${method}: item ${count}`, offer.maxBody, limits),
    );
    if (frame.bits & wire.BIT_END) running.inlet.end();
    running.outlet = new Outlet(connection.answer!.window, id, (serializer, payload) =>
      connection.item(id, true, serializer, payload, method),
    );
  }

  private async run(running: Running, handler: Handler, context: CallContext, args: unknown[]): Promise<void> {
    const { connection } = this;
    try {
      const value: unknown = await handler.run(context, args);
      const poured = running.outlet && isAsyncIterable(value);
      if (poured) await this.pour(running, running.outlet!, value);
      while (connection.buffered > UNSENT_MAX && !connection.isEnded && !running.isSettled) {
        await new Promise((resolve) => setTimeout(resolve, UNSENT_PAUSE));
      }
      if (!running.isSettled) this.result(running, value, poured ?? false);
    } catch (error) {
      if (!running.isSettled) this.raised(running, error);
    } finally {
      this.settle(running);
      this.open.delete(running.frame.id);
      connection.rest();
    }
  }

  /** Send what a handler gives, and let it know if nobody wants more. */
  private async pour(running: Running, outlet: Outlet, items: AsyncIterable<unknown>): Promise<void> {
    for await (const item of items) {
      if (running.isSettled) break;
      await outlet.send(...encodeValue(item));
    }
  }

  // Replies

  private result(running: Running, value: unknown, poured: boolean): void {
    const { frame, method } = running;
    let serializer: number = Serializer.RAW;
    let payload: Uint8Array = new Uint8Array(0);
    try {
      if (!poured) [serializer, payload] = encodeValue(value);
      const most = this.connection.answer!.maxBody;
      if (payload.length > most) throw new Error(`${payload.length} bytes are over the server's max_body of ${most}`);
    } catch (error) {
      this.fail(frame, Status.RESULT_UNSENDABLE, { message: `${method}: the result can't be sent: ${textOf(error)}` });
      return;
    }
    this.connection.send(encodeFrame(Kind.CALL, frame.id, { reply: true, serializer, payload }));
  }

  private raised(running: Running, error: unknown): void {
    const message = textOf(error);
    if (error instanceof ApplicationError) {
      const { type, data, code } = error;
      this.fail(running.frame, Status.APPLICATION, { type, message, data }, code);
    } else {
      this.fail(running.frame, Status.SERVER_ERROR, { type: typeOf(error), message });
    }
  }

  private refuse(frame: Frame, status: wire.StatusName, message: string): void {
    if (frame.oneway) return;
    if (message) this.fail(frame, Status[status], { type: status.toLowerCase(), message });
    else this.connection.send(encodeFrame(Kind.CALL, frame.id, { reply: true, status: Status[status] }));
  }

  private fail(frame: Frame, status: number, body: Record<string, unknown>, arg = 0): void {
    const told = { ...body, message: String(body["message"] ?? "").slice(0, TEXT_MAX) };
    let payload: Uint8Array;
    try {
      payload = encode(told);
      if (payload.length > this.connection.answer!.maxBody) throw new Error("too large");
    } catch {
      payload = encode({ type: body["type"], message: told.message }); // without the data
      if (payload.length > this.connection.answer!.maxBody) payload = new Uint8Array(0);
    }
    const serializer = Serializer.MSGPACK;
    this.connection.send(encodeFrame(Kind.CALL, frame.id, { reply: true, status, arg, serializer, payload }));
  }

  // What else may come for an open call

  item(frame: Frame): void {
    const inlet = this.open.get(frame.id)?.inlet;
    if (!inlet) return;
    inlet.push(frame);
    if (frame.bits & wire.BIT_END) inlet.end();
  }

  half(frame: Frame): void {
    this.open.get(frame.id)?.inlet?.end();
  }

  credit(frame: Frame): void {
    this.open.get(frame.id)?.outlet?.grant(frame.arg);
  }

  cancel(frame: Frame): void {
    const running = this.open.get(frame.id);
    if (running) this.settle(running, new RpcError("the server gave the call up", { status: "CANCELLED" }));
  }

  private expire(running: Running): void {
    if (running.isSettled) {
      running.controller.abort();
      return;
    }
    const text = `${running.method}: the deadline passed`;
    this.fail(running.frame, Status.DEADLINE, { type: "DeadlineExceeded", message: text });
    this.settle(running, new RpcError(text, { status: "DEADLINE" }));
  }

  /** Let nobody wait any more: neither for the reply nor, in the handler, for the stream. */
  private settle(running: Running, reason?: RpcError): void {
    running.isSettled = true;
    clearTimeout(running.timer);
    if (reason) running.controller.abort(reason);
    const over = reason ?? new RpcError(`${running.method}: the stream has ended`, { status: "CANCELLED" });
    if (reason) running.inlet?.end(reason);
    else running.inlet?.drop();
    running.outlet?.close(over);
  }

  /** The connection has ended. */
  end(): void {
    for (const running of this.open.values()) {
      this.settle(running, new RpcError("the connection has ended", { status: "CANCELLED" }));
    }
  }
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}
