/**
 * The client against a real server: tests/interop/test_js_client.py starts one and says where.
 */

import assert from "node:assert/strict";
import { after, test } from "node:test";
import WebSocket from "ws";
import {
  ApplicationError,
  connect,
  named,
  NdArray,
  RpcError,
  streaming,
  withCall,
  type Client,
  type ClientOptions,
} from "../src/index.js";
import { failing } from "./failing.js";

const url = process.env["FASTRPC_URL"] ?? "";
const options = { skip: url ? false : "FASTRPC_URL says where the server is" };
const clients: Client[] = [];
const sockets: WebSocket[] = [];

class Recorded extends WebSocket {
  constructor(address: string, protocols: string[]) {
    super(address, protocols);
    sockets.push(this);
  }
}

function join(given: ClientOptions = {}): Client {
  const client = connect(url, { WebSocket: Recorded, timeout: 10, ...given });
  clients.push(client);
  return client;
}

after(() => clients.forEach((client) => client.close()));

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

async function* upTo(count: number): AsyncGenerator<number> {
  for (let number = 0; number < count; number++) yield number;
}

test("calls, in order and by name", options, async () => {
  const client = join();
  assert.equal(await client.call("Arith.add", [1, 2]), 3);
  assert.equal(await client.call("Arith.add", [1]), 3);
  assert.equal(await client.call("Arith.add", { a: 1, b: 5 }), 6);
  assert.equal(await client.call("Arith.add", { "*": [1], b: 6 }), 7);
  assert.deepEqual(await client.call("Arith.only_named", { left: 4 }), [4, 1]);
  assert.deepEqual(await client.call("Arith.rest", { "*": ["a", 1, 2], c: "d" }), ["a", [1, 2], { c: "d" }]);
  assert.deepEqual(await client.call("Arith.echo", [{ a: 1 }]), { a: 1 });
  assert.equal(await client.call("shout", ["é"]), "É");
  const sums = await Promise.all(Array.from({ length: 2000 }, (_, n) => client.call<number>("Arith.add", [n, 1])));
  assert.deepEqual(sums.at(-1), 2000);
});

test("types", options, async () => {
  const client = join();
  const echoed: unknown[] = [null, true, 1.5, "☃", [1], { a: [null] }, Uint8Array.of(1, 2), 2n ** 60n, -5,
    new Date("2026-01-02T03:04:05.678Z"), Float64Array.of(1, 2)];
  for (const value of echoed) assert.deepEqual(await client.call("Arith.echo", [value]), value);
  const point = { x: 1, y: 2, color: "blue", tags: ["a"] };
  assert.deepEqual(await client.call("Arith.move", [point, 5]), { ...point, x: 6, tags: ["a", "moved"] });
  const moment = new Date("2026-01-02T03:04:05Z");
  assert.deepEqual(await client.call("Arith.later", [moment]), new Date("2026-01-02T04:04:05Z"));
  assert.equal(await client.call("Arith.later", ["2026-01-02T03:04:05"]), "2026-01-02T04:04:05");
  const key = "00000000-0000-0000-0000-000000000001";
  assert.deepEqual(await client.call("Arith.typed", ["2026-01-02", "1.10", key, Uint8Array.of(255)]), [
    "2026-01-02", "1.10", key, "ff",
  ]);
  assert.deepEqual(await client.call("Arith.keys", [new Map([[1, "a"]])]), { 2: "a" });
  assert.deepEqual(await client.call("Arith.doubled", [Float64Array.of(1, 2.5)]), Float64Array.of(2, 5));
  assert.deepEqual(
    await client.call("Arith.doubled", [new NdArray(Float64Array.of(1, 2, 3, 4), [2, 2])]),
    new NdArray(Float64Array.of(2, 4, 6, 8), [2, 2]),
  );
  assert.deepEqual(await client.call("Arith.grid"), new NdArray(Int32Array.of(0, 1, 2, 3, 4, 5), [2, 3]));
  const octets = await client.call<Uint8Array>("Arith.octets", [2 ** 20]);
  assert.equal(octets.length, 2 ** 20);
  assert.equal(octets[255], 255);
  const large = new Uint8Array(3 * 2 ** 20).fill(7);
  assert.deepEqual(await client.call("Arith.echo", [large]), large);
});

test("errors say what happened and whether the handler ran", options, async () => {
  const client = join({ maxBody: 100_000 });
  const told = async (method: string, args: unknown[] = []): Promise<unknown[]> => {
    const { status, ran, type, message } = await failing(client.call(method, args));
    return [status, ran, type, message];
  };
  const refused = await failing(client.call("Arith.refuse"));
  assert.ok(refused instanceof ApplicationError);
  assert.deepEqual([refused.code, refused.data, refused.ran], [402, { balance: 3 }, "yes"]);
  assert.deepEqual(await told("Arith.bug"), ["SERVER_ERROR", "yes", "ZeroDivisionError", "by zero"]);
  assert.deepEqual((await told("Arith.forbidden")).slice(0, 3), ["FORBIDDEN", "yes", "PermissionDenied"]);
  assert.deepEqual((await told("Arith.none")).slice(0, 2), ["NOT_FOUND", "no"]);
  assert.deepEqual((await told("Arith.none")).slice(0, 2), ["NOT_FOUND", "no"]);
  assert.deepEqual((await told("Arith.add", ["x"])).slice(0, 2), ["BAD_REQUEST", "no"]);
  assert.match(String((await told("Arith.add", ["x"]))[3]), /argument 'a': expected int, got str/);
  assert.deepEqual((await told("Arith.count", [3])).slice(0, 2), ["BAD_REQUEST", "no"]);
  assert.deepEqual((await told("Arith.octets", [2 ** 18])).slice(0, 2), ["RESULT_UNSENDABLE", "yes"]);
  assert.deepEqual((await told("Arith.echo", [new Uint8Array(2 ** 24)])).slice(0, 2), ["TOO_LARGE", "no"]);
  assert.deepEqual((await told("Arith.echo", [() => 1])).slice(0, 2), ["BAD_REQUEST", "no"]);
  assert.deepEqual((await told("x".repeat(300))).slice(0, 2), ["NOT_FOUND", "no"]);
  assert.equal(await client.call("Arith.add", [1]), 3);
});

test("a deadline ends the call here and the handler there", options, async () => {
  const client = join();
  const error = await failing(client.options({ timeout: 0.05 }).call("Arith.slow", ["late"]));
  assert.deepEqual([error.isTimeout, error.ran, error.method], [true, "maybe", "Arith.slow"]);
  assert.equal(await client.call("Arith.until_ended", ["late"]), true);
  assert.equal(await client.call("Arith.is_hurried"), true);
  assert.equal(await client.options({ timeout: Infinity }).call("Arith.is_hurried"), false);
  assert.equal(await client.call("Arith.is_hurried", [], { timeout: undefined }), true);
});

test("a signal gives a call up", options, async () => {
  const client = join();
  const controller = new AbortController();
  const call = failing(client.call("Arith.slow", ["aborted"], { signal: controller.signal }));
  await client.call("Arith.add", [1]);
  controller.abort(new Error("enough"));
  const error = await call;
  assert.deepEqual([error.status, (error.cause as Error).message], ["CANCELLED", "enough"]);
  assert.equal(await client.call("Arith.until_ended", ["aborted"]), true);
  const before = await failing(client.call("Arith.add", [1], { signal: controller.signal }));
  assert.deepEqual([before.status, before.ran], ["CANCELLED", "no"]);
});

test("metadata go with a call and come back", options, async () => {
  const client = join({ metadata: { user: "ann" } });
  assert.equal(await client.call("Arith.greet"), "Hello ann");
  const reply = await client.exchange("Arith.greet", [], { metadata: { user: "bob", raw: Uint8Array.of(255) } });
  assert.equal(reply.value, "Hello bob");
  assert.equal(reply.metadata.text("language"), "en");
  assert.deepEqual(reply.metadata.get("back"), Uint8Array.of(255));
});

test("notify sends and forgets", options, async () => {
  const client = join();
  client.notify("Arith.note", ["one"]);
  client.notify("Arith.none", []);
  client.notify("Arith.note", ["two"]);
  assert.deepEqual(await client.call("Arith.noted", [2]), ["one", "two"]);
});

test("the server streams", options, async () => {
  const client = join({ window: 10_000 });
  assert.deepEqual(await collect(client.stream("Arith.count", [5])), [0, 1, 2, 3, 4]);
  assert.deepEqual(await collect(client.stream("Arith.count", { until: 0 })), []);
  assert.equal((await collect(client.stream("Arith.count", [5000]))).length, 5000);
  const blobs = await collect(client.stream<Uint8Array>("Arith.blobs", [100, 3000]));
  assert.equal(blobs.reduce((sum, blob) => sum + blob.length, 0), 300_000);
  assert.equal((await collect(client.stream<Uint8Array>("Arith.blobs", [3, 100_000]))).length, 3);
});

test("leaving a stream ends its handler", options, async () => {
  const client = join();
  let seen = 0;
  for await (const item of client.stream<number>("Arith.forever", ["left"])) {
    assert.equal(item, seen);
    if (++seen === 3) break;
  }
  assert.equal(await client.call("Arith.until_ended", ["left"]), true);
  const stream = client.stream("Arith.forever", ["cancelled"]);
  for (const iterator = stream[Symbol.asyncIterator](); ; ) {
    await iterator.next();
    stream.cancel();
    break;
  }
  assert.equal(await client.call("Arith.until_ended", ["cancelled"]), true);
  const slow = client.stream("Arith.forever", ["timed"], { timeout: 0.05 });
  const error = await failing(collect(slow));
  assert.ok(error.isTimeout);
  assert.equal(await client.call("Arith.until_ended", ["timed"]), true);
});

test("errors in mid-stream come behind the items", options, async () => {
  const client = join();
  const seen: unknown[] = [];
  const reading = async (): Promise<void> => {
    for await (const item of client.stream("Arith.fragile")) seen.push(item);
  };
  const error = await failing(reading());
  assert.deepEqual([seen, (error as ApplicationError).code], [[1], 7]);
  assert.equal((await failing(collect(client.stream("Arith.add", [1])))).status, "BAD_REQUEST");
  assert.equal((await failing(collect(client.stream("Arith.none")))).status, "NOT_FOUND");
});

test("the client streams", options, async () => {
  const client = join();
  assert.equal(await client.stream("Arith.total", [], { items: upTo(1000) }).result(), 499_500);
  assert.equal(await client.stream("Arith.total", [], { items: [1, 2] }).result(), 3);
  const byHand = client.stream("Arith.total");
  await byHand.send(1);
  await byHand.send(2);
  await byHand.end();
  assert.equal(await byHand.result(), 3);
  assert.equal((await failing(byHand.send(3))).status, "CANCELLED");
  const large = Array.from({ length: 50 }, () => new Uint8Array(50_000));
  assert.equal(await client.stream("Arith.sizes", [], { items: large }).result(), 2_500_000);
  assert.equal(await client.stream("Arith.total").result(), 0);
});

test("a server may answer early", options, async () => {
  const client = join();
  let closed = false;
  async function* endless(): AsyncGenerator<number> {
    try {
      for (let number = 5; ; number++) yield number;
    } finally {
      closed = true;
    }
  }
  assert.equal(await client.stream("Arith.first", [], { items: endless() }).result(), 5);
  await client.call("Arith.add", [1]);
  assert.ok(closed);
});

test("a source that fails gives the stream up", options, async () => {
  const client = join();
  async function* broken(): AsyncGenerator<number> {
    yield 1;
    throw new Error("no more");
  }
  await assert.rejects(client.stream("Arith.total", [], { items: broken() }).result(), /no more/);
});

test("both sides stream", options, async () => {
  const client = join();
  const talk = client.stream<number>("Arith.running", { start: 100 });
  await talk.open();
  const answers = talk[Symbol.asyncIterator]();
  for (const [item, sum] of [[1, 101], [2, 103]]) {
    await talk.send(item);
    assert.deepEqual(await answers.next(), { done: false, value: sum });
  }
  await talk.end();
  assert.deepEqual(await answers.next(), { done: true, value: undefined });
  const sums = await collect(client.stream<number>("Arith.running", [0], { items: upTo(20_000) }));
  assert.deepEqual([sums.length, sums.at(-1)], [20_000, 199_990_000]);
});

test("a reader that waits holds the sender back", options, async () => {
  const client = join({ window: 10_000 });
  const stream = client.stream<Uint8Array>("Arith.blobs", [100, 3000]);
  const items = stream[Symbol.asyncIterator]();
  await items.next();
  for (let turn = 0; turn < 5; turn++) await client.call("Arith.add", [1]);
  const { core } = stream as unknown as { core: { inlet: { items: unknown[] } } };
  assert.ok(core.inlet.items.length <= 4, String(core.inlet.items.length));
  let rest = 0;
  while (!(await items.next()).done) rest++;
  assert.equal(rest, 99);
});

test("the server calls the client", options, async () => {
  const lines: string[] = [];
  const client = join();
  client.register("Screen", {
    show: (line: string) => void lines.push(line),
    ask: async (question: string) => (question.endsWith("?") ? "yes" : "what?"),
    both: (first: number, rest: { b: number }) => [first, rest.b],
    refuse: () => {
      throw new ApplicationError(409, "taken", { by: "ann" });
    },
    bug: () => {
      throw new TypeError("oh");
    },
    odd: () => () => 1,
    seen: withCall((call, text: string) => [call.method, text]),
  });
  client.register("plain", (a: number, b: number) => a * b);
  await client.call("Arith.push", [3]);
  assert.deepEqual(await client.call("Arith.call_back", ["Screen.ask", ["Ready?"]]), ["yes"]);
  assert.deepEqual(lines, ["line 0", "line 1", "line 2"]);
  assert.deepEqual(await client.call("Arith.call_back", ["plain", [6, 7]]), [42]);
  assert.deepEqual(await client.call("Arith.call_back_by_name", ["Screen.both"]), [1, 2]);
  assert.deepEqual(await client.call("Arith.call_back", ["Screen.seen", ["x"]]), [["Screen.seen", "x"]]);
  assert.deepEqual(await client.call("Arith.call_back", ["Screen.refuse", []]), {
    type: "RpcError", code: 409, text: "taken", data: { by: "ann" },
  });
  assert.deepEqual(await client.call("Arith.call_back", ["Screen.bug", []]), {
    type: "TypeError", code: 0, text: "oh", data: null,
  });
  const told = async (method: string): Promise<unknown> =>
    (await client.call<{ status: number }>("Arith.call_back", [method, []])).status;
  assert.equal(await told("Screen.none"), 44);
  assert.equal(await told("Screen.odd"), 54);
});

test("a handler hears that the server gave it up", options, async () => {
  const client = join();
  const ended: unknown[] = [];
  client.register("Slow", {
    wait: withCall((call) => new Promise((_, reject) => {
      call.signal.addEventListener("abort", () => {
        ended.push((call.signal.reason as RpcError).status);
        reject(call.signal.reason as Error);
      });
    })),
  });
  assert.equal(await client.call("Arith.give_up", ["Slow.wait"]), "late");
  await client.call("Arith.add", [1]);
  assert.equal(ended.length, 1);
  assert.ok(["CANCELLED", "DEADLINE"].includes(String(ended[0])));
});

test("the server streams from and to the client", options, async () => {
  const client = join({ window: 20_000 });
  let closed = 0;
  client.register("Flow", {
    async *ticks() {
      try {
        for (let number = 0; ; number++) yield number;
      } finally {
        closed += 1;
      }
    },
    times: streaming(async function* (call, factor: number) {
      for await (const item of call.items) yield (item as number) * factor;
    }),
    sum: streaming(async (call) => {
      let sum = 0;
      for await (const item of call.items) sum += item as number;
      return sum;
    }),
  });
  assert.deepEqual(await client.call("Arith.leave_back", ["Flow.ticks"]), [0, 1, 2]);
  assert.deepEqual(await client.call("Arith.stream_back", ["Flow.times", [1, 2, 5]]), [3, 6, 15]);
  const many = Array.from({ length: 3000 }, (_, index) => index);
  assert.equal((await client.call<number[]>("Arith.stream_back", ["Flow.times", many])).at(-1), 3 * 2999);
  assert.equal(await client.call("Arith.sum_back", ["Flow.sum"]), 4950);
  assert.equal(closed, 1);
});

interface Arith {
  add(a: number, b?: number): Promise<number>;
  only_named(args: unknown): Promise<number[]>;
  count(until: number): AsyncIterable<number>;
  total(items: AsyncIterable<number>): Promise<number>;
  running(items: AsyncIterable<number>, start?: number): AsyncIterable<number>;
  refuse(): Promise<void>;
}

test("stubs, made with and without asking the server", options, async () => {
  const client = join();
  for (const arith of [client.stub<Arith>("Arith"), await client.service<Arith>("Arith")]) {
    assert.equal(await arith.add(1), 3);
    assert.deepEqual(await Promise.all([arith.add(1, 1), arith.add(2, 2)]), [2, 4]);
    assert.equal(await arith.add(1, undefined), 3);
    assert.deepEqual(await arith.only_named(named({ left: 5 })), [5, 1]);
    assert.deepEqual(await collect(arith.count(3)), [0, 1, 2]);
    assert.equal(await arith.total(upTo(4)), 6);
    assert.deepEqual(await collect(arith.running(upTo(3), 10)), [10, 11, 13]);
    assert.equal((await failing(arith.refuse())).status, "APPLICATION");
  }
  assert.equal(await client.stub<{ shout(text: string): Promise<string> }>("").shout("a"), "A");
  assert.equal((await failing(client.service("None"))).status, "NOT_FOUND");
});

test("describe tells what is there", options, async () => {
  const told = await join().describe();
  assert.ok(told.agent.startsWith("fastrpc/"));
  assert.deepEqual(told.services.map((service) => service.name).sort(), ["Arith", "shout"]);
});

test("a lost connection comes back, and open calls hear of it", options, async () => {
  const client = join();
  const states: string[] = [];
  client.on("state", (state) => states.push(state));
  await client.open();
  const mine = sockets.at(-1)!;
  const open = failing(client.call("Arith.slow", ["lost"]));
  await client.call("Arith.add", [1]);
  mine.terminate();
  const error = await open;
  assert.deepEqual([error.status, error.ran], ["NETWORK", "maybe"]);
  assert.equal(await client.call("Arith.add", [1]), 3);
  assert.deepEqual(states, ["connecting", "open", "waiting", "connecting", "open"]);
  assert.equal(await client.call("Arith.until_ended", ["lost"]), true);
});

test("pings, and the end", options, async () => {
  const client = join();
  for (let count = 0; count < 2; count++) assert.ok((await client.ping()) >= 0);
  const open = failing(client.call("Arith.slow", ["closed"]));
  await client.call("Arith.add", [1]);
  client.close();
  assert.deepEqual([(await open).status, client.state], ["NETWORK", "closed"]);
  assert.equal((await failing(client.call("Arith.add", [1]))).ran, "no");
  assert.equal(await join().call("Arith.until_ended", ["closed"]), true);
});
