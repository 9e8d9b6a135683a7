/** Frames are written and read byte for byte as the project's golden vectors have them. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { FrameError } from "../src/errors.js";
import { encodeFrame, FrameReader, type Frame } from "../src/frame.js";
import { hex, unhex } from "./hex.js";

interface Vector {
  name: string;
  hex: string;
  at?: string;
  fields?: Record<string, number | string | string[]>;
}

const golden = JSON.parse(readFileSync("../../tests/vectors/golden.json", "utf8")) as Record<
  "good" | "bad" | "seed",
  Vector[]
>;
const SEED_MAGIC = 0xcaf6;

function read(data: Uint8Array, reader = new FrameReader()): Frame[] {
  const frames: Frame[] = [];
  reader.feed(data, (frame) => frames.push(frame));
  return frames;
}

function told(frame: Frame): Record<string, unknown> {
  return {
    st: frame.serializer,
    hb: Number(frame.heartbeat),
    ow: Number(frame.oneway),
    rp: Number(frame.reply),
    status: frame.status,
    kind: frame.kind,
    bits: frame.bits,
    id: Number(frame.id),
    arg: frame.arg,
    time: frame.time,
    name: hex(frame.name),
    meta: hex(frame.metadata),
    payload: hex(frame.payload),
    buffers: frame.buffers.map(hex),
  };
}

test("there are vectors of each kind", () => {
  assert.ok(golden.good.length >= 28 && golden.bad.length >= 13 && golden.seed.length >= 4);
});

for (const vector of golden.good) {
  test(`good: ${vector.name}`, () => {
    const data = unhex(vector.hex);
    const [frame, ...rest] = read(data);
    assert.ok(frame);
    assert.equal(rest.length, 0);
    const { hsize, bsize, ...fields } = vector.fields!;
    assert.deepEqual(told(frame), fields);
    assert.equal(frame.size, Number(hsize) + Number(bsize));
    if (vector.name !== "unknown_ext") {
      assert.equal(hex(encodeFrame(frame.kind, frame.id, frame)), vector.hex);
    }
  });
}

for (const vector of golden.bad) {
  test(`bad: ${vector.name}`, () => {
    const isIt = (error: unknown): boolean => error instanceof FrameError && error.at === vector.at;
    assert.throws(() => read(unhex(vector.hex)), isIt);
    assert.throws(() => {
      const reader = new FrameReader();
      for (const byte of unhex(vector.hex)) read(Uint8Array.of(byte), reader);
    }, isIt);
  });
}

for (const vector of golden.seed) {
  test(`seed: ${vector.name}`, () => {
    const [frame] = read(unhex(vector.hex), new FrameReader(2 ** 24, SEED_MAGIC));
    const fields = told(frame!);
    for (const [name, value] of Object.entries(vector.fields!)) assert.deepEqual(fields[name], value, name);
    const id = new DataView(unhex(vector.hex).buffer).getBigUint64(8);
    assert.equal(BigInt(frame!.id), id);
    assert.equal(hex(encodeFrame(0, frame!.id, frame)).slice(4), vector.hex.slice(4));
  });
}

test("frames come out however the stream is cut", () => {
  const stream = unhex(golden.good.map((vector) => vector.hex).join(""));
  const whole = read(stream).map(told);
  assert.equal(whole.length, golden.good.length);
  for (const size of [1, 2, 7, 19, 20, 33, 64]) {
    const reader = new FrameReader();
    const frames: Frame[] = [];
    for (let at = 0; at < stream.length; at += size) frames.push(...read(stream.slice(at, at + size), reader));
    assert.deepEqual(frames.map(told), whole, `cut by ${size}`);
    assert.equal(reader.isPartial, false);
  }
});

test("frames before a broken one are given out", () => {
  const frames: Frame[] = [];
  const stream = unhex(golden.good[5]!.hex + golden.bad[0]!.hex);
  assert.throws(() => new FrameReader().feed(stream, (frame) => frames.push(frame)), FrameError);
  assert.equal(frames.length, 1);
});

test("a body over the limit is skipped, and the next frame is read", () => {
  const large = encodeFrame(0, 7, { reply: true, payload: new Uint8Array(5000) });
  const small = encodeFrame(0, 8, { reply: true, payload: Uint8Array.of(5) });
  const stream = new Uint8Array([...large, ...small, ...large]);
  for (const size of [1, 100, 5050, stream.length]) {
    const reader = new FrameReader(1000);
    const frames: Frame[] = [];
    for (let at = 0; at < stream.length; at += size) frames.push(...read(stream.slice(at, at + size), reader));
    assert.deepEqual(
      frames.map((frame) => [frame.id, frame.oversize, frame.payload.length, frame.size]),
      [[7, 5000, 0, 5020], [8, 0, 1, 21], [7, 5000, 0, 5020]],
    );
  }
});

test("many small pieces are put together, not kept one by one", () => {
  const reader = new FrameReader();
  const frame = encodeFrame(0, 1, { payload: new Uint8Array(100_000) });
  const frames: Frame[] = [];
  for (const byte of frame.subarray(0, -1)) reader.feed(Uint8Array.of(byte), (one) => frames.push(one));
  const { waiting } = reader as unknown as { waiting: unknown[] };
  assert.ok(waiting.length < 20, String(waiting.length));
  reader.feed(frame.subarray(-1), (one) => frames.push(one));
  assert.equal(frames[0]!.payload.length, 100_000);
});

test("ids past 2^53 keep their value", () => {
  const id = 2n ** 63n - 1n;
  const [frame] = read(encodeFrame(7, id, { status: 53 }));
  assert.equal(frame!.id, id);
  const [last] = read(encodeFrame(0, Number.MAX_SAFE_INTEGER, { heartbeat: true }));
  assert.equal(last!.id, Number.MAX_SAFE_INTEGER);
});
