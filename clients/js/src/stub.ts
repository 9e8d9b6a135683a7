/**
 * The methods of a service as an object.
 */

import type { Caller } from "./client.js";
import { RpcError } from "./errors.js";
import type { RpcStream } from "./stream.js";

/** Which of several services of one name. */
export interface ServiceOptions {
  version?: string;
  group?: string;
}

/** What a server tells of itself. */
export interface Description {
  agent: string;
  limits: Record<string, number>;
  services: DescribedService[];
  [key: string]: unknown;
}

export interface DescribedService {
  name: string;
  version: string;
  group: string;
  doc: string;
  methods: DescribedMethod[];
  [key: string]: unknown;
}

export interface DescribedMethod {
  name: string;
  signature: string;
  doc: string;
  mode: string;
  parameters: { name: string; type: string; kind: string; required: boolean }[];
  result?: Record<string, unknown>;
  [key: string]: unknown;
}

/** Arguments by name, as the last argument of a stub's method. */
export class Named<T extends object = Record<string, unknown>> {
  constructor(readonly values: T) {}
}

/** Return arguments by name, to be given behind those in order. */
export function named<T extends object>(values: T): Named<T> {
  return new Named(values);
}

type Method = (...args: unknown[]) => unknown;

function keyOf(method: string, { version = "", group = "" }: ServiceOptions): string {
  if (!version && !group) return method;
  return `${method}@${version}${group ? `/${group}` : ""}`;
}

/** Return an object with any method. */
export function looseStub(caller: Caller, service: string, options: ServiceOptions = {}): object {
  const made = new Map<string, Method>();
  return new Proxy(Object.create(null) as object, {
    get(_, name): unknown {
      // A stub is no promise, although `await` asks every object.
      if (typeof name !== "string" || name === "then") return undefined;
      let method = made.get(name);
      if (!method) {
        const key = keyOf(service ? `${service}.${name}` : name, options);
        method = (...args) => new Pending(caller, key, args);
        made.set(name, method);
      }
      return method;
    },
  });
}

/** Return an object with the methods that the server has told of. */
export function describedStub(
  caller: Caller,
  told: Description,
  name: string,
  options: ServiceOptions = {},
): object {
  const { version = "", group = "" } = options;
  const found = told.services.find(
    (service) => service.name === name && service.version === version && service.group === group,
  );
  if (!found) {
    const what = keyOf(name, options);
    throw new RpcError(`the server has no service ${what}`, { status: "NOT_FOUND", method: name });
  }
  const stub: Record<string, Method> = Object.create(null) as Record<string, Method>;
  for (const method of found.methods) {
    const short = method.name.startsWith(`${name}.`) ? method.name.slice(name.length + 1) : method.name;
    // With a method of this name it would be a promise, and `await` would call it.
    if (short !== "then") stub[short] = methodOf(caller, keyOf(method.name, options), method);
  }
  return stub;
}

function methodOf(caller: Caller, key: string, method: DescribedMethod): Method {
  if (method.mode !== "stream") return (...args) => caller.call(key, argumentsOf(args));
  const gives = method.result?.["x-stream"] === true;
  const takes = method.parameters.some((parameter) => parameter.kind === "items");
  return (...args) => {
    const { rest, items } = split(args);
    if (takes && !items) {
      throw new RpcError(`${key}: the items to send are missing`, { status: "BAD_REQUEST", method: key });
    }
    const stream = caller.stream(key, argumentsOf(rest), items ? { items } : {});
    return gives ? stream : stream.result();
  };
}

/** Return arguments as a call takes them: those by name come last. */
function argumentsOf(args: unknown[]): unknown[] | Record<string, unknown> {
  const last = args.at(-1);
  if (!(last instanceof Named)) return trimmed(args);
  const values = last.values as Record<string, unknown>;
  const first = trimmed(args.slice(0, -1));
  return first.length ? { "*": first, ...values } : { ...values };
}

/** Return arguments without those left out at the end: the server has defaults for them. */
function trimmed(args: unknown[]): unknown[] {
  let count = args.length;
  while (count && args[count - 1] === undefined) count -= 1;
  return args.slice(0, count);
}

/** Take what is to be sent item by item out of the arguments. */
function split(args: unknown[]): { rest: unknown[]; items: AsyncIterable<unknown> | undefined } {
  const at = args.findIndex(
    (arg) => typeof arg === "object" && arg !== null && Symbol.asyncIterator in arg,
  );
  if (at < 0) return { rest: args, items: undefined };
  return { rest: args.filter((_, index) => index !== at), items: args[at] as AsyncIterable<unknown> };
}

/**
 * A call of a loose stub: awaited it is a call, iterated over it is a stream.
 *
 * Which of them shows until the current turn of the loop is over: `for await` asks at once.
 */
class Pending implements AsyncIterable<unknown>, PromiseLike<unknown> {
  readonly [Symbol.toStringTag] = "Promise";
  private stream: RpcStream | undefined;
  private readonly promise: Promise<unknown>;

  constructor(
    private readonly caller: Caller,
    private readonly method: string,
    private readonly args: unknown[],
  ) {
    this.promise = Promise.resolve().then(() => this.go());
  }

  then<A, B>(
    done?: ((value: unknown) => A | PromiseLike<A>) | null,
    failed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.promise.then(done, failed);
  }

  catch<B>(failed?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<unknown> {
    return this.promise.catch(failed);
  }

  finally(done?: (() => void) | null): Promise<unknown> {
    return this.promise.finally(done);
  }

  [Symbol.asyncIterator](): AsyncIterator<unknown> {
    return this.opened()[Symbol.asyncIterator]();
  }

  private opened(): RpcStream {
    if (!this.stream) {
      const { rest, items } = split(this.args);
      this.stream = this.caller.stream(this.method, argumentsOf(rest), items ? { items } : {});
    }
    return this.stream;
  }

  private go(): Promise<unknown> | undefined {
    if (this.stream) return undefined; // somebody iterates
    if (split(this.args).items) return this.opened().result();
    return this.caller.call(this.method, argumentsOf(this.args));
  }
}
