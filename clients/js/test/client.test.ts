/** What the client does, frame by frame, at a server that follows a script. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mock, test } from "node:test";
import { AGENT } from "../src/client.js";
import { encodeFrame } from "../src/frame.js";
import { ApplicationError, connect, RpcError, withCall } from "../src/index.js";
import { decode, encode } from "../src/payload.js";
import { BIT_END, BIT_ZIP, Kind } from "../src/wire.js";
import { failing } from "./failing.js";
import { FakeSocket, joined, Script, type Peer } from "./scripted.js";

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** Let everything that is ready run. */
async function turn(): Promise<void> {
  for (let count = 0; count < 20; count++) await Promise.resolve();
}

/** Return the GOAWAY that the client ended the connection with. */
async function goaway(peer: Peer): Promise<{ status: number; message: string }> {
  for (;;) {
    const frame = await peer.next();
    if (frame.kind === Kind.GOAWAY) {
      await peer.end();
      return { status: frame.status, ...(decode(1, frame.payload) as { message: string }) };
    }
  }
}

test("the agent tells the package's version", () => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  assert.equal(AGENT, `fastrpc-js/${version}`);
});

test("HELLO tells what this side takes", async () => {
  const { client, peer } = await joined({ auth: "secret", maxBody: 1000, window: 5000, maxCalls: 7 });
  const { nonce, ...told } = peer.hello;
  assert.match(String(nonce), /^[0-9a-f]{32}$/);
  assert.deepEqual(told, {
    agent: AGENT, auth: "secret", codecs: { raw: 0, msgpack: 1, json: 2 }, magic: 64087, max_body: 1000,
    max_calls: 7, methods: 4096, ping_ms: 1000, versions: [1], window: 5000,
  });
  assert.deepEqual(peer.socket.protocols, ["fastrpc.1"]);
  assert.equal(peer.socket.binaryType, "arraybuffer");
  client.close();
});

const ANSWERS: [told: Record<string, unknown>, said: RegExp][] = [
  [{ nonce: "another" }, /nonce/],
  [{ magic: 1 }, /magic/],
  [{ version: 2 }, /version/],
  [{ version: undefined }, /version is missing/],
  [{ zip: "zlib" }, /zip/],
  [{ codecs: { json: 2 } }, /codecs/],
  [{ codecs: [] }, /codecs/],
  [{ max_body: 0 }, /max_body/],
  [{ max_body: "1" }, /max_body/],
  [{ window: null }, /window/],
  [{ max_calls: 1.5 }, /max_calls/],
  [{ agent: 5 }, /agent/],
  [{ agent: "x".repeat(300) }, /agent/],
  [{ pad: "x".repeat(20_000) }, /HELLO is over/],
];

for (const [told, said] of ANSWERS) {
  test(`a wrong answer to HELLO: ${String(said)}`, async () => {
    const script = new Script();
    const client = script.client();
    const call = failing(client.call("a"));
    const peer = await script.accept();
    peer.welcome(told);
    const error = await call;
    assert.match(error.message, said);
    assert.deepEqual([error.status, error.ran], ["NETWORK", "no"]);
    assert.ok(peer.isClosed);
    client.close();
  });
}

test("a server that refuses says why, and when to come back", async () => {
  const script = new Script();
  const client = script.client();
  const call = failing(client.call("a"));
  const payload = new TextEncoder().encode('{"magic":64087,"message":"who are you?","retry_ms":1500}');
  (await script.accept()).send(Kind.HELLO, 0, { reply: true, serializer: 2, status: 43, payload });
  const error = await call;
  assert.deepEqual([error.status, error.ran, error.retryAfter], ["UNAUTHENTICATED", "no", 1.5]);
  assert.match(error.message, /who are you\?/);
  client.close();
});

test("strangers are told from servers", async () => {
  for (const stranger of ["HTTP/1.1 400 Bad Request\r\n\r\n", "text"]) {
    const script = new Script();
    const client = script.client();
    const call = failing(client.call("a"));
    const peer = await script.accept();
    peer.raw(stranger === "text" ? stranger : new TextEncoder().encode(stranger));
    assert.match((await call).message, stranger === "text" ? /text message/ : /no fastrpc server.*400 Bad Request/);
    assert.deepEqual(peer.frames, []); // no GOAWAY to a stranger
    client.close();
  }
  const script = new Script();
  script.protocol = "";
  const client = script.client();
  assert.match((await failing(client.call("a"))).message, /does not speak fastrpc\.1/);
  client.close();
});

test("a method has a number after its first call, and its name again if the server forgot it", async () => {
  const { client, peer } = await joined();
  const ask = async (): Promise<[string, number]> => {
    const frame = await peer.next();
    peer.reply(frame.id, 1);
    return [text(frame.name), frame.arg];
  };
  const calls = [client.call("A.a"), client.call("A.a"), client.call("B.b"), client.call("A.a")];
  assert.deepEqual([await ask(), await ask(), await ask(), await ask()], [["A.a", 1], ["", 1], ["B.b", 2], ["", 1]]);
  await Promise.all(calls);
  const lost = client.call("A.a");
  peer.send(Kind.CALL, (await peer.next()).id, { reply: true, status: 44 });
  assert.deepEqual(await ask(), ["A.a", 1]);
  assert.equal(await lost, 1);
  const missing = failing(client.call("C.c"));
  peer.send(Kind.CALL, (await peer.next()).id, { reply: true, status: 44 });
  assert.equal((await missing).status, "NOT_FOUND");
  const again = client.call("C.c");
  assert.deepEqual(await ask(), ["C.c", 3]);
  await again;
  client.close();
});

test("what can't be made good is sent by name until the server knows it", async () => {
  const { client, peer } = await joined();
  const names = async (): Promise<string> => text((await peer.next()).name);
  client.notify("A.a");
  client.notify("A.a");
  assert.deepEqual([await names(), await names()], ["A.a", "A.a"]);
  const call = client.call("A.a");
  const frame = await peer.next();
  peer.reply(frame.id, 1);
  await call;
  client.notify("A.a");
  assert.equal(await names(), "");
  client.close();
});

test("a server with few numbers gets names", async () => {
  const { client, peer } = await joined({}, { methods: 1 });
  void client.call("a").catch(() => 0);
  void client.call("b").catch(() => 0);
  void client.call("b").catch(() => 0);
  const sent = [await peer.next(), await peer.next(), await peer.next()];
  assert.deepEqual(sent.map((frame) => [text(frame.name), frame.arg]), [["a", 1], ["b", 0], ["b", 0]]);
  client.close();
});

test("frames of one turn go in one message, large ones in their own", async () => {
  const { client, peer } = await joined();
  peer.messages.length = 0;
  void client.call("a").catch(() => 0);
  void client.call("a", [new Uint8Array(100_000)]).catch(() => 0);
  void client.call("a").catch(() => 0);
  void client.call("a").catch(() => 0);
  await turn();
  assert.equal(peer.frames.length, 4);
  assert.deepEqual(peer.messages.map((size) => size > 90_000), [false, true, false]);
  client.close();
});

test("more calls than the server takes wait in line", async () => {
  const { client, peer } = await joined({}, { max_calls: 2 });
  const calls = [1, 2, 3, 4].map((number) => client.call("a", [number]));
  await turn();
  assert.equal(peer.frames.length, 2);
  for (let number = 1; number <= 4; number++) {
    const frame = await peer.next();
    peer.reply(frame.id, decode(1, frame.payload));
    await turn();
    assert.ok(peer.frames.length <= 2);
  }
  assert.deepEqual(await Promise.all(calls), [[1], [2], [3], [4]]);
  const none = await joined({}, { max_calls: 0 });
  assert.equal((await failing(none.client.call("a"))).status, "UNAVAILABLE");
  client.close();
  none.client.close();
});

test("a server that says goodbye: calls it did not take go to the next connection", async () => {
  const { client, peer, script } = await joined();
  const taken = client.call("a", [1]);
  const moved = client.call("a", [2]);
  const first = await peer.next();
  const second = await peer.next();
  peer.send(Kind.GOAWAY, 2n ** 63n - 1n, { status: 53 });
  assert.equal(client.state, "waiting"); // it was open for a moment only
  const third = client.call("a", [3]);
  peer.send(Kind.GOAWAY, first.id, { status: 53 });
  const next = (await script.accept()).welcome();
  const values = [await next.next(), await next.next()];
  for (const frame of values) next.reply(frame.id, decode(1, frame.payload));
  assert.deepEqual(await Promise.all([moved, third]), [[2], [3]].sort());
  assert.equal(peer.isClosed, false); // a call is still open there
  peer.reply(first.id, "done");
  peer.reply(second.id, "too late");
  assert.equal(await taken, "done");
  await peer.end();
  client.close();
});

test("a call that crossed the goodbye is sent elsewhere", async () => {
  const { client, peer, script } = await joined();
  const call = client.call("a");
  const stream = failing(client.stream("s").result());
  const frame = await peer.next();
  const opened = await peer.next();
  peer.send(Kind.GOAWAY, 2n ** 63n - 1n, { status: 53 });
  peer.send(Kind.CALL, frame.id, { reply: true, status: 53 });
  const next = (await script.accept()).welcome();
  next.reply((await next.next()).id, "here");
  assert.equal(await call, "here");
  peer.send(Kind.GOAWAY, Number(opened.id) - 1, { status: 53 });
  assert.deepEqual([(await stream).status, (await stream).ran], ["UNAVAILABLE", "no"]);
  await peer.end();
  client.close();
});

test("a goodbye with a reproach ends the connection", async () => {
  const { client, peer } = await joined();
  const calls = [failing(client.call("a")), failing(client.call("a"))];
  const { id } = await peer.next();
  peer.send(Kind.GOAWAY, id, { status: 70, serializer: 1, payload: encode({ message: "bad manners" }) });
  const [below, above] = await Promise.all(calls);
  assert.match(below!.message, /bad manners/);
  assert.deepEqual([below!.ran, above!.ran, above!.status], ["maybe", "no", "NETWORK"]);
  assert.ok(peer.isClosed);
  client.close();
});

const BROKEN: [what: string, act: (peer: Peer) => void, status: number, said: RegExp][] = [
  ["no frame", (peer) => peer.raw(new TextEncoder().encode("\xfaoops")), 70, /magic/],
  ["version 2", (peer) => peer.raw(encodeFrame(0, 1).map((byte, at) => (at === 4 ? 2 : byte))), 70, /version/],
  ["a second HELLO", (peer) => peer.welcome(), 70, /second HELLO/],
  ["a kind that must be known", (peer) => peer.send(8, 1), 70, /kind 8/],
  ["MORE", (peer) => peer.send(Kind.DATA, 1, { bits: 0x80 }), 70, /MORE/],
  ["OPEN with rp", (peer) => peer.send(Kind.OPEN, 1, { reply: true }), 70, /OPEN/],
  ["HALF with rp", (peer) => peer.send(Kind.HALF, 1, { reply: true }), 70, /HALF/],
  ["CANCEL with rp", (peer) => peer.send(Kind.CANCEL, 1, { reply: true }), 70, /CANCEL/],
  ["GOAWAY with rp", (peer) => peer.send(Kind.GOAWAY, 1, { reply: true }), 70, /GOAWAY/],
  ["a long ping", (peer) => peer.send(Kind.CALL, 1, { heartbeat: true, payload: new Uint8Array(65) }), 70, /ping/],
  ["ids that don't rise", (peer) => [1, 2, 2].forEach((id) => peer.send(Kind.CALL, id)), 70, /rise/],
  ["pings", (peer) => [1, 2, 3, 4].forEach((id) => peer.send(Kind.CALL, id, { heartbeat: true })), 71, /pings/],
  ["cancels", (peer) => { for (let n = 0; n < 2100; n++) peer.send(Kind.CANCEL, n); }, 71, /cancels/],
  ["strays", (peer) => { for (let n = 0; n < 1100; n++) peer.reply(n + 5, 1); }, 71, /replies/],
  ["two names", (peer) => ["Chat.say", "Chat.ask"].forEach((name, at) =>
    peer.send(Kind.CALL, at + 1, { arg: 1, name: new TextEncoder().encode(name), serializer: 1, payload: encode([]) })),
  70, /another name/],
];

for (const [what, act, status, said] of BROKEN) {
  test(`a broken rule ends the connection: ${what}`, async () => {
    const { client, peer } = await joined({}, {}, (fresh) => fresh.register("Chat", { say() {}, ask() {} }));
    act(peer);
    const told = await goaway(peer);
    assert.equal(told.status, status);
    assert.match(told.message, said);
    client.close();
  });
}

test("kinds that may be skipped are, and so is what crossed an end", async () => {
  const { client, peer } = await joined();
  peer.send(12, 1);
  peer.send(Kind.DATA, 9, { reply: true, serializer: 1, payload: encode(1) });
  peer.send(Kind.CREDIT, 9, { arg: 0 });
  peer.send(Kind.CREDIT, 9, { reply: true, arg: 0 });
  peer.send(Kind.HALF, 9);
  peer.send(Kind.CANCEL, 9, { status: 42 });
  peer.reply(99, "nobody's");
  const call = client.call("a");
  peer.reply((await peer.next()).id, "fine");
  assert.equal(await call, "fine");
  client.close();
});

test("pings are answered with the same token and body", async () => {
  const { client, peer } = await joined();
  const payload = Uint8Array.of(1, 2, 3);
  peer.send(Kind.CALL, 2n ** 60n, { heartbeat: true, payload });
  const pong = await peer.next();
  assert.deepEqual([pong.id, pong.reply, pong.heartbeat, pong.payload], [2n ** 60n, true, true, payload]);
  client.close();
});

test("replies that can't be taken fail their call only", async () => {
  const { client, peer } = await joined({ maxBody: 1000 });
  const bad: [status: string, fields: object][] = [
    ["TOO_LARGE", { payload: new Uint8Array(2000) }],
    ["UNSUPPORTED", { bits: BIT_ZIP, payload: new Uint8Array(8) }],
    ["UNSUPPORTED", { serializer: 5 }],
    ["BAD_REQUEST", { payload: Uint8Array.of(0x91) }],
    ["TOO_LARGE", { payload: new Uint8Array(100).fill(0x91) }],
  ];
  for (const [status, fields] of bad) {
    const call = failing(client.call("a"));
    peer.reply((await peer.next()).id, 1, fields);
    const error = await call;
    assert.deepEqual([error.status, error.ran], [status, "yes"]);
  }
  const fine = client.call("a");
  peer.reply((await peer.next()).id, 1);
  assert.equal(await fine, 1);
  client.close();
});

test("errors hold what the server said", async () => {
  const { client, peer } = await joined();
  const told = async (status: number, body: unknown, arg = 0): Promise<RpcError> => {
    const call = failing(client.call("a"));
    peer.reply((await peer.next()).id, body, { status, arg });
    return call;
  };
  const causes = [{ type: "A", message: "first" }, { type: "B", message: "second" }];
  const error = await told(50, { type: "T", message: "m", data: [1], retry_ms: 20, trace: "t", causes });
  assert.deepEqual([error.type, error.message, error.data, error.retryAfter, error.trace], ["T", "m", [1], 0.02, "t"]);
  assert.equal((error.cause as RpcError).message, "first");
  assert.equal(((error.cause as RpcError).cause as RpcError).type, "B");
  const application = await told(60, { message: "no" }, 7);
  assert.ok(application instanceof ApplicationError && application.code === 7);
  const refusal = await told(60, { type: "fastrpc.PermissionDenied", message: "no" }, 45);
  assert.deepEqual([refusal.status, refusal.ran, refusal.type], ["FORBIDDEN", "yes", "PermissionDenied"]);
  assert.deepEqual([(await told(99, {})).status, (await told(99, {})).ran], ["SERVER_ERROR", "maybe"]);
  assert.match((await told(52, 5)).message, /a: status 52/);
  client.close();
});

test("an item too many, and credit that is none", async () => {
  for (const act of ["item", "none", "much"]) {
    const { client, peer } = await joined({ window: 100 });
    const stream = client.stream("s");
    const opened = stream.open();
    const { id } = await peer.next();
    await opened;
    if (act === "item") {
      for (let n = 0; n < 3; n++) peer.send(Kind.DATA, id, { reply: true, serializer: 0, payload: new Uint8Array(60) });
    } else {
      peer.send(Kind.CREDIT, id, { reply: true, arg: act === "none" ? 0 : 2 ** 31 - 1 });
    }
    assert.match((await goaway(peer)).message, /credit/);
    assert.equal((await failing(stream.result())).ran, "maybe");
    client.close();
  }
});

test("items go as far as the credit reaches, in order", async () => {
  const { client, peer } = await joined({}, { window: 100 });
  const stream = client.stream("s");
  const sent = [1, 2, 3, 4].map((n) => stream.send(new Uint8Array(60).fill(n)));
  const { id, bits } = await peer.next();
  assert.equal(bits & BIT_END, 0);
  await turn();
  assert.equal(peer.frames.length, 2); // the second went below zero
  peer.send(Kind.CREDIT, id, { reply: true, arg: 1 }); // still below
  await turn();
  assert.equal(peer.frames.length, 2);
  peer.send(Kind.CREDIT, id, { reply: true, arg: 70 });
  await turn();
  assert.equal(peer.frames.length, 3);
  peer.send(Kind.CREDIT, id, { reply: true, arg: 1000 });
  await Promise.all(sent);
  await stream.end();
  const frames = [await peer.next(), await peer.next(), await peer.next(), await peer.next()];
  assert.deepEqual(frames.map((frame) => (decode(1, frame.payload) as Uint8Array)[0]), [1, 2, 3, 4]);
  assert.equal((await peer.next()).kind, Kind.HALF);
  peer.reply(id, "end");
  assert.equal(await stream.result(), "end");
  client.close();
});

test("an item does not keep the message alive that it came in", async () => {
  const { client, peer } = await joined();
  const stream = client.stream("s");
  const items = stream[Symbol.asyncIterator]();
  const first = items.next();
  const { id } = await peer.next();
  const item = encodeFrame(Kind.DATA, id, { reply: true, serializer: 1, payload: encode(1) });
  const junk = encodeFrame(12, 1, { payload: new Uint8Array(100_000) });
  peer.raw(new Uint8Array([...item, ...item, ...junk]));
  await first;
  const { core } = stream as unknown as { core: { inlet: { items: { payload: Uint8Array }[] } } };
  assert.ok(core.inlet.items[0]!.payload.buffer.byteLength < 100);
  client.close();
});

test("a source that fails gives the stream up, by hand as well", async () => {
  const { client, peer } = await joined();
  const stream = client.stream("s");
  const feeding = stream.feed((function* () {
    yield 1;
    throw new Error("no more");
  })());
  await assert.rejects(feeding, /no more/);
  await assert.rejects(stream.result(), /no more/);
  await turn();
  assert.deepEqual(peer.frames.map((frame) => frame.kind), [Kind.OPEN, Kind.DATA, Kind.CANCEL]);
  client.close();
});

test("a service with a method called then is no promise", async () => {
  const { client, peer } = await joined();
  const asked = client.service("A");
  const names = ["A.then", "A.go"];
  const methods = names.map((name) => ({ name, mode: "sync", parameters: [] }));
  peer.reply((await peer.next()).id, { services: [{ name: "A", version: "", group: "", methods }] });
  assert.deepEqual(Object.keys(await asked), ["go"]);
  assert.deepEqual(peer.frames, []);
  client.close();
});

test("what a handler throws is told, whatever it is", async () => {
  const thrown: unknown[] = [new TypeError("t"), "text", null, Object.create(null), undefined];
  const odd = new Error("odd");
  Object.defineProperty(odd, "name", { get: () => { throw new Error("no name"); } });
  thrown.push(odd);
  const { client, peer } = await joined({}, {}, (fresh) => fresh.register("fail", (at: number) => {
    throw thrown[at];
  }));
  for (let at = 0; at < thrown.length; at++) {
    peer.send(Kind.CALL, at + 1, { name: new TextEncoder().encode("fail"), serializer: 1, payload: encode([at]) });
    const { status, payload } = await peer.next();
    assert.equal(status, 50);
    assert.equal(typeof (decode(1, payload) as { message: unknown }).message, "string");
  }
  client.close();
});

test("a listener that throws does not stop the client", async () => {
  const faults: unknown[] = [];
  const catcher = (fault: unknown): void => void faults.push(fault);
  process.setUncaughtExceptionCaptureCallback(catcher);
  try {
    const { client } = await joined({}, {}, (fresh) => fresh.on("state", () => {
      throw new Error("listener");
    }));
    assert.equal(client.state, "open");
    client.close();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(faults.length, 3);
  } finally {
    process.setUncaughtExceptionCaptureCallback(null);
  }
});

test("credit is given back when half a window was taken", async () => {
  const { client, peer } = await joined({ window: 100 });
  const items = client.stream("s")[Symbol.asyncIterator]();
  const first = items.next();
  const { id, bits } = await peer.next();
  assert.equal(bits & BIT_END, BIT_END);
  const item = { reply: true, serializer: 1, payload: encode(1) }; // 21 bytes each
  for (let n = 0; n < 4; n++) peer.send(Kind.DATA, id, item);
  await first;
  await items.next();
  await turn();
  assert.equal(peer.frames.length, 0);
  await items.next();
  const credit = await peer.next();
  assert.deepEqual([credit.kind, credit.id, credit.arg, credit.reply], [Kind.CREDIT, id, 63, false]);
  await items.return!();
  const cancel = await peer.next();
  assert.deepEqual([cancel.kind, cancel.id, cancel.status], [Kind.CANCEL, id, 42]);
  client.close();
});

test("an item that can't be read ends the stream", async () => {
  const { client, peer } = await joined();
  const items = client.stream("s")[Symbol.asyncIterator]();
  const first = items.next();
  const { id } = await peer.next();
  peer.send(Kind.DATA, id, { reply: true, serializer: 1, payload: Uint8Array.of(0xc1) });
  assert.match((await failing(first)).message, /item 1 can't be read/);
  assert.equal((await peer.next()).kind, Kind.CANCEL);
  client.close();
});

test("the server's calls: what is refused, and how", async () => {
  const ran: string[] = [];
  const { client, peer } = await joined({ maxBody: 1000, maxCalls: 1 }, { max_body: 200 }, (fresh) =>
    fresh.register("Chat", {
      say: (line: string) => void ran.push(line),
      wait: withCall((call) => new Promise((resolve) => call.signal.addEventListener("abort", resolve))),
      long: () => "x".repeat(500),
      fail: () => {
        throw new ApplicationError(5, "no", "y".repeat(500));
      },
    }),
  );
  let id = 0;
  const ask = async (name: string, fields: object = {}, kind: number = Kind.CALL): Promise<[number, string]> => {
    peer.send(kind, ++id, { name: new TextEncoder().encode(name), serializer: 1, payload: encode(["x"]), ...fields });
    const frame = await peer.next();
    assert.deepEqual([frame.kind, frame.id, frame.reply], [Kind.CALL, id, true]);
    const told = frame.status && frame.payload.length ? (decode(1, frame.payload) as { message: string }) : { message: "" };
    return [frame.status, told.message];
  };
  assert.deepEqual(await ask("Chat.say"), [0, ""]);
  assert.equal((await ask("Chat.none"))[0], 44);
  assert.deepEqual(await ask("", { arg: 9 }), [44, ""]);
  assert.equal((await ask("Chat.say", {}, Kind.OPEN))[0], 40);
  assert.equal((await ask("Chat.say", { payload: encode(5) }))[0], 40);
  assert.equal((await ask("Chat.say", { payload: Uint8Array.of(0xc1) }))[0], 40);
  assert.equal((await ask("Chat.say", { payload: new Uint8Array(100).fill(0x91) }))[0], 46);
  assert.equal((await ask("Chat.say", { payload: new Uint8Array(2000) }))[0], 46);
  assert.equal((await ask("Chat.say", { bits: BIT_ZIP }))[0], 47);
  assert.equal((await ask("Chat.say", { serializer: 5 }))[0], 47);
  assert.equal((await ask("Chat.say", { metadata: Uint8Array.of(9) }))[0], 40);
  assert.equal((await ask("Chat.long"))[0], 54);
  assert.deepEqual(await ask("Chat.fail"), [60, "no"]);
  assert.equal((await ask("Chat.wait", { time: 5 }))[0], 51);
  await turn();
  peer.send(Kind.CALL, ++id, { name: new TextEncoder().encode("Chat.wait"), serializer: 1, payload: encode([]) });
  const waiting = id;
  assert.equal((await ask("Chat.say"))[0], 52);
  peer.send(Kind.CANCEL, waiting, { status: 42 });
  await turn();
  assert.deepEqual(peer.frames, []); // nothing more for that id
  peer.send(Kind.CALL, ++id, { oneway: true, name: new TextEncoder().encode("Chat.none") });
  peer.send(Kind.CALL, ++id, { oneway: true, name: new TextEncoder().encode("Chat.say"), serializer: 1, payload: encode(["last"]) });
  await turn();
  assert.deepEqual(await ask("Chat.say"), [0, ""]);
  assert.deepEqual(ran, ["x", "last", "x"]);
  client.close();
  assert.equal((await peer.next()).kind, Kind.GOAWAY);
});

test("calls fail when the attempt they wait for fails; waits grow and are jittered", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const random = mock.method(Math, "random", () => 0.5);
  try {
    const script = new Script();
    script.refuses = true;
    const client = script.client();
    const states: string[] = [];
    const stop = client.on("state", (state, error) => states.push(error ? `${state}!` : state));
    const error = await failing(client.call("a"));
    assert.deepEqual([error.status, error.ran], ["NETWORK", "no"]);
    assert.match(error.message, /could not be made: refused \(1006\)/);
    for (const pause of [100, 160, 256, 409.6]) {
      const { attempts } = script;
      mock.timers.tick(Math.floor(pause) - 1);
      assert.equal(script.attempts, attempts, `before ${pause}`);
      mock.timers.tick(2);
      assert.equal(script.attempts, attempts + 1, `after ${pause}`);
      await turn();
    }
    for (let count = 0; count < 10; count++) {
      mock.timers.tick(4001);
      await turn();
    }
    const { attempts } = script;
    mock.timers.tick(3999);
    assert.equal(script.attempts, attempts); // 4 s is the longest wait
    script.refuses = false;
    const call = client.call("a");
    mock.timers.tick(2);
    const peer = (await script.accept()).welcome();
    peer.reply((await peer.next()).id, 1);
    assert.equal(await call, 1);
    assert.deepEqual(states.slice(0, 3), ["connecting", "waiting!", "connecting"]);
    stop();
    client.close();
    assert.equal(states.at(-1), "open");
  } finally {
    mock.timers.reset();
    random.mock.restore();
  }
});

test("a server that says nothing is given up", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  try {
    const script = new Script();
    const client = script.client({ connectTimeout: 2 });
    const call = failing(client.call("a"));
    const peer = await script.accept();
    mock.timers.tick(2001);
    assert.match((await call).message, /no connection within 2 s/);
    assert.ok(peer.isClosed);
    client.close();
  } finally {
    mock.timers.reset();
  }
});

test("an attempt that leads nowhere is given up", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  try {
    const script = new Script();
    script.isSilent = true;
    const client = script.client({ connectTimeout: 2 });
    const call = failing(client.call("a"));
    mock.timers.tick(2001);
    assert.match((await call).message, /no connection within 2 s/);
    assert.equal(client.state, "waiting");
    client.close();
    assert.equal(script.attempts, 1);
  } finally {
    mock.timers.reset();
  }
});

test("a silent server is pinged, and given up if it stays silent", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  let now = 0;
  const clock = mock.method(performance, "now", () => now);
  const pass = async (seconds: number): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      now += 1000;
      mock.timers.tick(1000);
      await turn();
    }
  };
  try {
    const { client, peer } = await joined();
    const call = failing(client.call("a"));
    await peer.next();
    await pass(16);
    const ping = await peer.next();
    assert.ok(ping.heartbeat && !ping.reply);
    peer.send(Kind.CALL, ping.id, { heartbeat: true, reply: true });
    await pass(14);
    assert.deepEqual(peer.frames, []);
    await pass(2);
    assert.ok((await peer.next()).heartbeat);
    await pass(19);
    assert.equal(peer.isClosed, false);
    await pass(3);
    assert.ok(peer.isClosed);
    assert.deepEqual([(await call).status, (await call).ran], ["NETWORK", "maybe"]);
    client.close();
  } finally {
    clock.mock.restore();
    mock.timers.reset();
  }
});

test("a frame that comes too slowly ends the connection", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  let now = 0;
  const clock = mock.method(performance, "now", () => now);
  try {
    const { client, peer } = await joined();
    const frame = encodeFrame(Kind.DATA, 1, { reply: true, payload: new Uint8Array(1000) });
    for (let second = 0; second < 33 && !peer.isClosed; second++) {
      peer.raw(frame.subarray(second * 10, second * 10 + 10));
      now += 1000;
      mock.timers.tick(1000);
      await turn();
    }
    assert.ok(peer.isClosed);
    client.close();
  } finally {
    clock.mock.restore();
    mock.timers.reset();
  }
});

test("wrong use is told at once", async () => {
  assert.throws(() => connect("http://a/", { WebSocket: FakeSocket }), /no ws: or wss:/);
  assert.throws(() => connect("ws://a/", { WebSocket: 5 }), /package ws/);
  assert.throws(() => connect("ws://a/", { WebSocket: FakeSocket, maxBody: 0 }), RangeError);
  assert.throws(() => connect("ws://a/", { WebSocket: FakeSocket, timeout: -1 }), RangeError);
  const client = new Script().client();
  for (const timeout of [0, -1, NaN]) assert.throws(() => client.options({ timeout }), RangeError);
  assert.throws(() => client.on("stat" as "state", () => undefined), TypeError);
  assert.throws(() => client.register("a", {}), TypeError);
  client.register("a", () => 1);
  assert.throws(() => client.register("a", () => 2), /there already/);
  assert.throws(() => client.stream("a", 5 as unknown as []), RpcError);
  client.close();
  client.close();
  assert.equal((await failing(client.call("a"))).ran, "no");
});
