/**
 * What this side lets the server do: methods by name.
 */

import type { Metadata } from "./metadata.js";

/** What a handler may know of the call it answers. */
export interface CallContext {
  /** Full name of the method. */
  readonly method: string;
  /** What came beside the arguments. */
  readonly metadata: Metadata;
  /** Aborted when the server gives up, the deadline passes or the connection ends. */
  readonly signal: AbortSignal;
  /** The server's items, for methods made by `streaming`. */
  readonly items: AsyncIterable<unknown>;
}

type Plain = (...args: never[]) => unknown;
type WithContext = (call: CallContext, ...args: never[]) => unknown;

/** How a handler is run. */
export interface Handler {
  /** It takes or gives a stream. */
  isStream: boolean;
  run(call: CallContext, args: unknown[]): unknown;
}

const MARK = Symbol("fastrpc");

interface Mark {
  [MARK]: boolean; // whether it streams
}

/** Mark a handler that wants to know its call: the context comes first. */
export function withCall<F extends WithContext>(handler: F): Plain {
  return marked(handler, false);
}

/**
 * Mark a handler that takes the server's items (`call.items`), gives some, or both.
 *
 * What it returns are items if it can be iterated over with `for await`, else the value. An
 * `async function*` that wants neither items nor context needs no mark.
 */
export function streaming<F extends WithContext>(handler: F): Plain {
  return marked(handler, true);
}

function marked(handler: WithContext, isStream: boolean): Plain {
  const call = handler as unknown as (...args: unknown[]) => unknown;
  return Object.assign((...args: never[]) => call(...args), { [MARK]: isStream });
}

const AsyncGeneratorFunction = Object.getPrototypeOf(async function* () {}) as object;

/** The methods that are served, by full name. */
export class Registry {
  private readonly handlers = new Map<string, Handler>();

  get size(): number {
    return this.handlers.size;
  }

  /** Serve the methods of an object under a name, or one function under it. */
  add(name: string, service: object | Plain): void {
    if (typeof service === "function") {
      this.set(name, service as Plain, undefined);
      return;
    }
    const names = methodNames(service);
    if (!names.length) throw new TypeError(`${name} has no methods`);
    for (const method of names) {
      const handler = (service as Record<string, Plain>)[method]!;
      this.set(`${name}.${method}`, handler, service);
    }
  }

  get(name: string): Handler | undefined {
    return this.handlers.get(name);
  }

  private set(name: string, handler: Plain, owner: unknown): void {
    if (!name || name.length > 255) throw new TypeError(`a method can't be called ${JSON.stringify(name)}`);
    if (this.handlers.has(name)) throw new TypeError(`${name} is there already`);
    const mark = (handler as unknown as Partial<Mark>)[MARK];
    const call = handler as (...args: unknown[]) => unknown;
    this.handlers.set(name, {
      isStream: mark ?? Object.getPrototypeOf(handler) === AsyncGeneratorFunction,
      run: (context, args) =>
        mark === undefined ? call.apply(owner, args) : call.call(owner, context, ...args),
    });
  }
}

/** Return the names of an object's methods, those of its class included. */
function methodNames(service: object): string[] {
  const names = new Set<string>();
  for (let at: object | null = service; at && at !== Object.prototype; at = Object.getPrototypeOf(at) as object | null) {
    for (const name of Object.getOwnPropertyNames(at)) {
      const { value } = Object.getOwnPropertyDescriptor(at, name)!;
      if (name !== "constructor" && !name.startsWith("_") && typeof value === "function") names.add(name);
    }
  }
  return [...names];
}
