/**
 * Call the methods of a server, and answer its calls.
 */

import { Notice, UnaryCall, type Order, type Reply } from "./call.js";
import { RpcError, textOf } from "./errors.js";
import { Link, type State } from "./link.js";
import { encodeMetadata, type MetadataLike } from "./metadata.js";
import { encodeArguments, PAYLOAD_LIMITS } from "./payload.js";
import { Registry } from "./registry.js";
import type { WebSocketClass } from "./socket.js";
import { RpcStream, type Items } from "./stream.js";
import { describedStub, looseStub, type Description, type ServiceOptions } from "./stub.js";
import { BODY_MAX, CREDIT_MAX, DEFAULTS } from "./wire.js";

/** Arguments: in order, or by name; `{"*": [1, 2], b: 3}` is both. */
export type Arguments = readonly unknown[] | Readonly<Record<string, unknown>>;

/** What a call may have of its own. */
export interface CallOptions {
  /** Seconds, all stages together; `Infinity` for as long as it takes. */
  timeout?: number | undefined;
  /** Pairs beside the arguments. */
  metadata?: MetadataLike | undefined;
  /** Gives the call up. */
  signal?: AbortSignal | undefined;
}

/** What a stream may have of its own. */
export interface StreamOptions extends CallOptions {
  /** What this side sends; it is read no faster than the server takes it. */
  items?: Items;
}

export interface ClientOptions extends CallOptions {
  /** The WebSocket to use where there is none built in: that of the package `ws`. */
  WebSocket?: unknown;
  /** Seconds for one attempt to connect. */
  connectTimeout?: number;
  /** A token, sent in HELLO. */
  auth?: string;
  /** Longest body that is taken from the server. */
  maxBody?: number;
  /** Calls of the server's that may be open at once. */
  maxCalls?: number;
  /** Credit the server has at the start of each stream. */
  window?: number;
  /** Deepest nesting of what the server sends. */
  maxDepth?: number;
  /** Most elements in one payload, all containers together. */
  maxItems?: number;
}

export const AGENT = "fastrpc-js/0.1.0";

/** A way to call: a client, or a view of one with other options. */
export class Caller {
  /** @internal */
  constructor(
    private readonly link: Link,
    private readonly defaults: CallOptions,
  ) {}

  /** Call a method and wait for its value. */
  async call<T = unknown>(method: string, args?: Arguments, options?: CallOptions): Promise<T> {
    return (await this.exchange<T>(method, args, options)).value;
  }

  /** Call a method and wait for its value and what the server sent beside it. */
  async exchange<T = unknown>(method: string, args?: Arguments, options?: CallOptions): Promise<Reply<T>> {
    const call = new UnaryCall(this.order(method, args, options), this.link);
    return (await call.promise) as Reply<T>;
  }

  /** Open a stream; nothing is sent before it is used. */
  stream<T = unknown>(method: string, args?: Arguments, options?: StreamOptions): RpcStream<T> {
    return new RpcStream<T>(this.order(method, args, options), this.link, options?.items);
  }

  /** Call a method and forget about it: no value, no error, nothing to wait for. */
  notify(method: string, args?: Arguments, options?: CallOptions): void {
    new Notice(this.order(method, args, options), this.link);
  }

  /** Return a view with other options and the same connection. */
  options(options: CallOptions): Caller {
    checkTimeout(options.timeout);
    return new Caller(this.link, { ...this.defaults, ...defined(options) });
  }

  /** Ask the server what it offers; with `schema` also JSON Schemas. */
  describe(options: { schema?: boolean } = {}): Promise<Description> {
    return this.call<Description>("fastrpc.describe", options.schema ? { schema: true } : []);
  }

  /**
   * Return the methods of a service as an object, without asking the server.
   *
   * A call runs if it is awaited; `for await`, right where it is made, opens a stream. "" is for
   * functions that are served by themselves.
   */
  stub<T extends object = Record<string, (...args: unknown[]) => unknown>>(service: string, options?: ServiceOptions): T {
    return looseStub(this, service, options) as T;
  }

  /** Return the methods of a service as an object; the server is asked which of them stream. */
  async service<T extends object = Record<string, (...args: unknown[]) => unknown>>(
    service: string,
    options?: ServiceOptions,
  ): Promise<T> {
    return describedStub(this, await this.describe({ schema: true }), service, options) as T;
  }

  private order(method: string, args: Arguments | undefined, options: CallOptions = {}): Order {
    const { timeout, signal, metadata } = { ...this.defaults, ...defined(options) };
    checkTimeout(timeout);
    const limit = timeout === Infinity ? undefined : timeout;
    let payload: Uint8Array;
    try {
      payload = encodeArguments(args);
    } catch (cause) {
      throw new RpcError(`${method}: ${textOf(cause)}`, { status: "BAD_REQUEST", ran: "no", method, cause });
    }
    return { method, payload, metadata: encodeMetadata(metadata), timeout: limit, signal };
  }
}

type StateListener = (state: State, error: RpcError | undefined) => void;

/** A client of one server. It connects at its first call, or with `open`. */
export class Client extends Caller {
  private readonly core: Link;
  private readonly registry: Registry;
  private readonly listeners: Set<StateListener>;

  /** @internal */
  constructor(url: string, options: ClientOptions = {}) {
    const registry = new Registry();
    const listeners = new Set<StateListener>();
    const maxBody = whole("maxBody", options.maxBody ?? DEFAULTS.maxBody, BODY_MAX);
    const link = new Link({
      url: checkedUrl(url),
      webSocket: webSocketOf(options.WebSocket),
      connectTimeout: Math.min(checkTimeout(options.connectTimeout ?? 3)!, 3600),
      registry,
      limits: {
        maxDepth: whole("maxDepth", options.maxDepth ?? PAYLOAD_LIMITS.maxDepth, 512),
        maxItems: whole("maxItems", options.maxItems ?? PAYLOAD_LIMITS.maxItems, CREDIT_MAX),
      },
      offer: {
        agent: AGENT,
        auth: options.auth ?? "",
        maxBody,
        maxCalls: whole("maxCalls", options.maxCalls ?? DEFAULTS.maxCalls, CREDIT_MAX),
        methods: DEFAULTS.methods,
        window: whole("window", options.window ?? DEFAULTS.window, CREDIT_MAX),
        pingMs: DEFAULTS.pingMs,
      },
      changed(state, error) {
        for (const listener of [...listeners]) {
          try {
            listener(state, error);
          } catch (fault) {
            queueMicrotask(() => {
              throw fault; // whoever wrote the listener should hear of it; here things go on
            });
          }
        }
      },
    });
    const { timeout, metadata, signal } = options;
    checkTimeout(timeout);
    super(link, defined({ timeout, metadata, signal }));
    this.core = link;
    this.registry = registry;
    this.listeners = listeners;
  }

  /** Where the client stands. */
  get state(): State {
    return this.core.state;
  }

  /** Connect, and wait until calls can be made. */
  async open(): Promise<this> {
    if (this.core.connection) return this;
    await new Promise<void>((resolve, reject) => {
      this.core.dispatch({
        isDone: false,
        start: () => resolve(),
        fail: (error) => reject(error),
      });
    });
    return this;
  }

  /**
   * Let the server call the methods of an object, or a function.
   *
   * Do it before the client connects: the server may call at once.
   */
  register(name: string, service: object | ((...args: never[]) => unknown)): this {
    this.registry.add(name, service);
    return this;
  }

  /** Measure the way to the server and back, in milliseconds. */
  async ping(): Promise<number> {
    await this.open();
    const { connection } = this.core;
    return new Promise((resolve, reject) => {
      if (!connection || connection.isEnded) {
        reject(new RpcError("the connection is lost", { status: "NETWORK", ran: "maybe" }));
        return;
      }
      connection.ping(resolve, reject);
    });
  }

  /** Hear of changes of the state; what is returned stops it. */
  on(event: "state", listener: StateListener): () => void {
    if (event !== "state") throw new TypeError(`there is no event ${String(event)}`);
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Stop for good: calls that are open fail. */
  close(): void {
    this.core.close();
  }
}

/** Return a client of the server at a `ws:` or `wss:` address. It connects at its first call. */
export function connect(url: string | URL, options: ClientOptions = {}): Client {
  return new Client(String(url), options);
}

function checkedUrl(url: string): string {
  const { protocol } = new URL(url);
  if (protocol !== "ws:" && protocol !== "wss:") throw new TypeError(`${url} is no ws: or wss: address`);
  return url;
}

function webSocketOf(given: unknown): WebSocketClass {
  const found = given ?? (globalThis as { WebSocket?: unknown }).WebSocket;
  if (typeof found !== "function") {
    throw new TypeError("there is no WebSocket here: give that of the package ws, connect(url, { WebSocket })");
  }
  return found as WebSocketClass;
}

function checkTimeout(timeout: number | undefined): number | undefined {
  if (timeout !== undefined && !(timeout > 0)) {
    throw new RangeError(`a timeout is a number of seconds above 0, got ${timeout}`);
  }
  return timeout;
}

function whole(name: string, value: number, most: number): number {
  if (!Number.isSafeInteger(value) || value < 1 || value > most) {
    throw new RangeError(`${name} is a whole number from 1 to ${most}, got ${value}`);
  }
  return value;
}

function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}
