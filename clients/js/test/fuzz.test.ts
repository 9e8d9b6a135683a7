/** Whatever a server sends, the client ends a call or the connection, and nothing else breaks. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { RpcError } from "../src/errors.js";
import { encodeFrame } from "../src/frame.js";
import { streaming } from "../src/index.js";
import { decode, encode } from "../src/payload.js";
import { Kind } from "../src/wire.js";
import { unhex } from "./hex.js";
import { joined } from "./scripted.js";

const ROUNDS = Number(process.env["ROUNDS"] ?? 600);

/** Return a source of numbers that look random and are the same each time. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    state ^= state >>> 12;
    return (state >>> 0) % sides;
  };
}

const golden = JSON.parse(readFileSync("../../tests/vectors/golden.json", "utf8")) as { good: { hex: string }[] };
const seeds = golden.good.map((vector) => unhex(vector.hex));
for (const kind of [Kind.CALL, Kind.OPEN, Kind.DATA, Kind.HALF, Kind.CREDIT, Kind.CANCEL]) {
  const name = new TextEncoder().encode("Chat.say");
  seeds.push(encodeFrame(kind, 1, { reply: true, serializer: 1, payload: encode([1, "x"]) }));
  seeds.push(encodeFrame(kind, 2, { serializer: 1, arg: 3, name, payload: encode({ a: [1], "*": [2] }) }));
}

function mutated(roll: (sides: number) => number): Uint8Array {
  const data = seeds[roll(seeds.length)]!.slice();
  for (let count = roll(4); count > 0; count--) data[roll(data.length)] = roll(256);
  return roll(8) ? data : data.subarray(0, roll(data.length));
}

test("mutated frames", async () => {
  const unhandled: unknown[] = [];
  const note = (fault: unknown): void => void unhandled.push(fault);
  process.on("unhandledRejection", note);
  const told = new Set<string>();
  let ended = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    const roll = dice(round);
    const { client, peer } = await joined({ maxBody: 5000, window: 500 }, {}, (fresh) =>
      fresh.register("Chat", { say: () => 1, flow: streaming((call) => call.items) }),
    );
    const failed = (error: unknown): void => assert.ok(error instanceof RpcError, `round ${round}: ${String(error)}`);
    const call = client.call("a").catch(failed);
    const stream = client.stream("s");
    const reading = (async () => {
      for await (const _ of stream);
    })().catch(failed);
    await Promise.resolve();
    for (let count = 1 + roll(6); count > 0 && !peer.isClosed; count--) peer.raw(mutated(roll));
    for (const frame of peer.frames.filter((one) => one.kind === Kind.GOAWAY)) {
      told.add((decode(1, frame.payload) as { message: string }).message);
    }
    ended += Number(peer.isClosed);
    client.close();
    await Promise.all([call, reading]);
  }
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", note);
  assert.deepEqual(unhandled, []);
  assert.ok(!told.has("internal error"), [...told].join("; "));
  assert.ok(ended > ROUNDS / 10 && ended < ROUNDS, `${ended} of ${ROUNDS} ended`);
  assert.ok(told.size >= 8, [...told].join("; "));
});

test("mutated payloads", () => {
  const values = [{ a: [1, 2n ** 60n, "é"], b: Uint8Array.of(1) }, [new Date(5), Float64Array.of(1, 2)], "x".repeat(300)];
  const payloads = values.map(encode);
  let read = 0;
  for (let round = 1; round <= 10 * ROUNDS; round++) {
    const roll = dice(round);
    const payload = payloads[roll(payloads.length)]!.slice();
    for (let count = 1 + roll(3); count > 0; count--) payload[roll(payload.length)] = roll(256);
    try {
      decode(1, payload);
      read += 1;
    } catch (error) {
      assert.ok(error instanceof Error && !(error instanceof RangeError && /call stack/.test(error.message)));
    }
  }
  assert.ok(read > ROUNDS && read < 10 * ROUNDS, String(read));
});
