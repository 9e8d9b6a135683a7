/** Values survive the way there and back; what is too much or makes no sense is refused. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { NdArray } from "../src/arrays.js";
import { RpcError } from "../src/errors.js";
import { decodeMetadata, encodeMetadata, Metadata } from "../src/metadata.js";
import { decode, encode, encodeArguments } from "../src/payload.js";
import { hex, unhex } from "./hex.js";

function back(value: unknown): unknown {
  return decode(1, encode(value));
}

const SAME: unknown[] = [
  null, true, false, 0, -1, 127, 128, -33, 65_536, 2 ** 32, -(2 ** 33), 2 ** 53 - 1, -(2 ** 53) + 1,
  1.5, NaN, Infinity, "", "é☃😀", "x".repeat(70_000), [], [1, [2, [3]]], {}, { a: { b: [null] } },
  Uint8Array.of(0, 255), new Date(0), new Date(1_700_000_000_123),
  2n ** 53n, 2n ** 63n, 2n ** 64n - 1n, -(2n ** 63n), { id: 2n ** 60n, small: [1] },
  Float64Array.of(1, -2.5), Float32Array.of(0.5), Int8Array.of(-1), Uint16Array.of(1, 65_535),
  BigInt64Array.of(-1n), new NdArray(Int32Array.of(1, 2, 3, 4, 5, 6), [2, 3]),
];

test("values come back as they were", () => {
  for (const value of SAME) assert.deepEqual(back(value), value);
});

test("values that have another form come back in it", () => {
  assert.equal(back(5n), 5);
  assert.equal(back(undefined), null);
  assert.deepEqual(back({ a: undefined, b: 1 }), { b: 1 });
  assert.deepEqual(back(new Set([1, 2])), [1, 2]);
  assert.deepEqual(back(Uint8Array.of(7).buffer), Uint8Array.of(7));
  assert.deepEqual(back(new Map<unknown, unknown>([[1, "a"], ["b", 2n ** 60n]])), { 1: "a", b: 2n ** 60n });
});

test("a map with numbers as keys is written with numbers", () => {
  assert.equal(hex(encode(new Map([[1, "a"]]))), "8101a161");
  assert.equal(hex(encode({ 1: "a" })), "81a131a161");
});

test("large containers with a bigint inside are written whole", () => {
  const items = Array.from({ length: 70_000 }, (_, index) => index);
  assert.deepEqual(back([2n ** 60n, items]), [2n ** 60n, items]);
  assert.deepEqual(back(new Set(items)), items);
  const map = new Map(items.map((item) => [item, 2n ** 60n] as const));
  assert.equal(hex(encode(map).subarray(0, 5)), "df00011170");
});

test("bytes that are given out belong to nobody else", () => {
  const payload = encode({ a: Uint8Array.of(1, 2) });
  const { a } = decode(1, payload) as { a: Uint8Array };
  payload.fill(0);
  assert.deepEqual(a, Uint8Array.of(1, 2));
});

test("what can't be carried throws", () => {
  let deep: unknown = 1;
  for (let depth = 0; depth < 70; depth++) deep = [deep];
  let deepBig: unknown = 1n;
  for (let depth = 0; depth < 70; depth++) deepBig = [deepBig];
  for (const value of [2n ** 64n, () => 1, Symbol("x"), new Date(NaN), deep, deepBig, [() => 1]]) {
    assert.throws(() => encode(value), String(typeof value));
  }
});

test("arguments are an array, or an object with names", () => {
  assert.equal(hex(encodeArguments(undefined)), "90");
  assert.equal(hex(encodeArguments([1])), "9101");
  assert.equal(hex(encodeArguments({ a: 1 })), "81a16101");
  for (const args of ["text", 5, null, new Map(), Uint8Array.of(1)]) {
    assert.throws(() => encodeArguments(args), TypeError);
  }
});

test("arrays of numbers: other byte orders, and what is refused", () => {
  // [">i2", [2], 0001 0002]
  const big = unhex("c70d51" + "93a33e6932" + "9102" + "c40400010002");
  assert.deepEqual(decode(1, big), Int16Array.of(1, 2));
  const refused = ["93a33e6932" + "9103" + "c40400010002", "93a34f3800" + "9102" + "c400", "90", "92a33c6638"];
  for (const parts of refused) {
    const body = unhex(parts);
    assert.throws(() => decode(1, new Uint8Array([0xc7, body.length, 0x51, ...body])), parts);
  }
  assert.throws(() => new NdArray(Int8Array.of(1, 2), [3]), RangeError);
});

test("what a payload claims is not believed", () => {
  const nested = new Uint8Array(65).fill(0x91);
  nested[64] = 0x01;
  assert.ok(decode(1, nested));
  const tooDeep = new Uint8Array(66).fill(0x91);
  tooDeep[65] = 0x01;
  const tooMuch = encode(Array.from({ length: 100_001 }, () => 0));
  for (const payload of [tooDeep, tooMuch, unhex("ddffffffff")]) {
    assert.throws(
      () => decode(1, payload),
      (error) => error instanceof RpcError && error.status === "TOO_LARGE",
    );
  }
  for (const cut of ["", "91", "a5aa", "c1", "c4", "cf00", "d8", "dc00", "0101", "c7055100"]) {
    assert.throws(() => decode(1, unhex(cut)), cut);
  }
  assert.throws(() => decode(1, unhex("d45005")), /extension type 80/);
  assert.throws(() => decode(9, unhex("01")), (error) => error instanceof RpcError && error.status === "UNSUPPORTED");
  assert.throws(() => decode(1, unhex("81a95f5f70726f746f5f5f01")), /__proto__/);
});

test("the other serializers", () => {
  assert.deepEqual(decode(0, Uint8Array.of(1, 2)), Uint8Array.of(1, 2));
  assert.deepEqual(decode(2, new TextEncoder().encode('{"a":[1]}')), { a: [1] });
  assert.throws(() => decode(2, Uint8Array.of(0xff)));
});

test("metadata, there and back", () => {
  const packed = encodeMetadata([["a", "x"], ["a", Uint8Array.of(255)], ["b-c", ""]]);
  assert.equal(hex(packed), "0161000178" + "01610001ff" + "03622d630000");
  const read = decodeMetadata(packed);
  assert.equal(read.text("a"), "x");
  assert.deepEqual(read.all("a"), [Uint8Array.of(0x78), Uint8Array.of(255)]);
  assert.equal(read.text("none", "-"), "-");
  assert.deepEqual([...new Metadata()], []);
  assert.deepEqual(encodeMetadata(read), packed);
});

test("metadata that is refused", () => {
  const statusOf = (act: () => unknown): string => {
    try {
      act();
    } catch (error) {
      return (error as RpcError).status;
    }
    return "OK";
  };
  assert.equal(statusOf(() => encodeMetadata({ Upper: "" })), "BAD_REQUEST");
  assert.equal(statusOf(() => encodeMetadata({ "a b": "" })), "BAD_REQUEST");
  assert.equal(statusOf(() => encodeMetadata({ a: 5 as unknown as string })), "BAD_REQUEST");
  assert.equal(statusOf(() => encodeMetadata({ a: "x".repeat(16_385) })), "TOO_LARGE");
  const many = Array.from({ length: 65 }, () => ["a", ""] as const);
  assert.equal(statusOf(() => encodeMetadata(many)), "TOO_LARGE");
  for (const bytes of ["0161", "01610005aa", "01410000", "00"]) {
    assert.equal(statusOf(() => decodeMetadata(unhex(bytes))), "BAD_REQUEST", bytes);
  }
});
