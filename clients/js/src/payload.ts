/**
 * Turn values into payloads and payloads into values.
 *
 * msgpack is read and written by @msgpack/msgpack; here is what fastrpc adds: integers
 * past 2^53 are bigints, arrays of numbers are typed arrays (ext 0x51), and what comes
 * is measured before it is decoded.
 *
 * Rules of the room:
 *   - nothing is lost in silence: what can't be carried throws.
 */

import { Decoder, Encoder, ExtData, ExtensionCodec } from "@msgpack/msgpack";
import type { ExtensionCodecType } from "@msgpack/msgpack";
import { arrayParts, EXT_ARRAY, isArrayValue, readArray } from "./arrays.js";
import { RpcError } from "./errors.js";
import { EMPTY } from "./frame.js";
import { measure, type Measured } from "./measure.js";
import { Serializer } from "./wire.js";

/** How deep and how large a payload may be. */
export interface PayloadLimits {
  maxDepth: number;
  maxItems: number;
}

export const PAYLOAD_LIMITS: PayloadLimits = { maxDepth: 64, maxItems: 100_000 };

/** An error's body is small talk: it has no need of more. */
export const ERROR_LIMITS: PayloadLimits = { maxDepth: 64, maxItems: 10_000 };

/** Thrown out of the library where a value holds something that it has no form for. */
const OTHER = Symbol("other");

const timestamps = new ExtensionCodec();

const extensions: ExtensionCodecType<undefined> = {
  tryToEncode(value: unknown): ExtData | null {
    if (isArrayValue(value)) return new ExtData(EXT_ARRAY, plain.encode(arrayParts(value)));
    if (value instanceof Date && Number.isNaN(value.getTime())) {
      throw new TypeError("an invalid Date can't be sent");
    }
    if (isOther(value)) throw OTHER;
    return timestamps.tryToEncode(value, undefined);
  },
  decode(data: Uint8Array, type: number): unknown {
    if (type === EXT_ARRAY) {
      measure(data, { maxDepth: 2, maxItems: 40 });
      return readArray(decodePlain(data));
    }
    if (type === -1) return timestamps.decode(data, type, undefined);
    throw new Error(`msgpack extension type ${type} is not known here`);
  },
};

function isOther(value: unknown): boolean {
  return (
    typeof value === "bigint" ||
    value instanceof Map ||
    value instanceof Set ||
    value instanceof ArrayBuffer
  );
}

const MAX_DEPTH = 64;
const plain = new Encoder();
const encoder = new Encoder({
  extensionCodec: extensions,
  ignoreUndefined: true,
  maxDepth: MAX_DEPTH,
});

const keys = { mapKeyConverter: (key: unknown) => keyOf(key) };
const decoder = new Decoder({ extensionCodec: extensions, ...keys });
const wideDecoder = new Decoder({ extensionCodec: extensions, useBigInt64: true, ...keys });

function keyOf(key: unknown): string | number {
  if (typeof key === "string" || typeof key === "number") return key;
  if (typeof key === "bigint" || typeof key === "boolean" || key === null) return String(key);
  throw new Error("a map has a key that is no single value");
}

/** Write a value as msgpack. Throws a TypeError or an Error if it can't be carried. */
export function encode(value: unknown): Uint8Array {
  if (value instanceof Uint8Array || !isOther(value)) {
    try {
      return encoder.encode(value);
    } catch (error) {
      if (error !== OTHER) throw error;
    }
  }
  const parts: Uint8Array[] = [];
  compose(value, parts, 1);
  const data = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return data;
}

/** Write what the library has no form for: bigints, maps with any keys, sets. */
function compose(value: unknown, parts: Uint8Array[], depth: number): void {
  if (depth > MAX_DEPTH) throw new Error(`a value is over ${MAX_DEPTH} deep`);
  if (typeof value === "bigint") {
    parts.push(bigint(value));
  } else if (value instanceof ArrayBuffer) {
    parts.push(encoder.encode(new Uint8Array(value)));
  } else if (Array.isArray(value) || value instanceof Set) {
    const items = Array.isArray(value) ? value : [...value];
    parts.push(head(0x90, 0xdc, items.length));
    for (const item of items) compose(item, parts, depth + 1);
  } else if (value instanceof Map) {
    parts.push(head(0x80, 0xde, value.size));
    for (const [key, item] of value) {
      compose(key, parts, depth + 1);
      compose(item, parts, depth + 1);
    }
  } else if (isPlainObject(value)) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    parts.push(head(0x80, 0xde, entries.length));
    for (const [key, item] of entries) {
      parts.push(encoder.encode(key));
      compose(item, parts, depth + 1);
    }
  } else {
    parts.push(encoder.encode(value));
  }
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    !ArrayBuffer.isView(value) &&
    !(value instanceof Date) &&
    !isArrayValue(value)
  );
}

function head(short: number, long: number, count: number): Uint8Array {
  if (count < 16) return Uint8Array.of(short + count);
  if (count < 2 ** 16) return Uint8Array.of(long, count >> 8, count & 0xff);
  const data = new Uint8Array(5);
  data[0] = long + 1;
  new DataView(data.buffer).setUint32(1, count);
  return data;
}

function bigint(value: bigint): Uint8Array {
  if (value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER) {
    return encoder.encode(Number(value));
  }
  if (value >= 2n ** 64n || value < -(2n ** 63n)) throw new RangeError("a bigint is over 64 bits");
  const data = new Uint8Array(9);
  const view = new DataView(data.buffer);
  data[0] = value < 0 ? 0xd3 : 0xcf;
  if (value < 0) view.setBigInt64(1, value);
  else view.setBigUint64(1, value);
  return data;
}

/** Read a payload. Throws an `RpcError` if it is too much, an Error if it makes no sense. */
export function decode(
  serializer: number,
  payload: Uint8Array,
  limits: PayloadLimits = PAYLOAD_LIMITS,
): unknown {
  switch (serializer) {
    case Serializer.RAW:
      return payload.slice();
    case Serializer.MSGPACK:
      return decodeMsgpack(payload, limits);
    case Serializer.JSON:
      return decodeJson(payload);
    default:
      throw new RpcError(`serializer ${serializer} was not agreed on`, {
        status: "UNSUPPORTED",
        ran: "yes",
      });
  }
}

function decodeMsgpack(payload: Uint8Array, limits: PayloadLimits): unknown {
  const measured: Measured = measure(payload, limits);
  // Bytes are given out as views; of a copy, if there are any, which nobody else holds.
  const data = measured.hasBytes ? payload.slice() : payload;
  return measured.isWide ? narrowed(wideDecoder.decode(data)) : decoder.decode(data);
}

function decodePlain(payload: Uint8Array): unknown {
  return decoder.decode(payload);
}

function decodeJson(payload: Uint8Array): unknown {
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
}

/** Turn bigints that fit into numbers; the library can only have all of 64 bits as bigints. */
function narrowed(value: unknown): unknown {
  if (typeof value === "bigint") {
    const fits = value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER;
    return fits ? Number(value) : value;
  }
  if (Array.isArray(value)) return value.map(narrowed);
  if (isPlainObject(value)) {
    for (const key of Object.keys(value)) value[key] = narrowed(value[key]);
  }
  return value;
}

/** Return a payload of arguments: an array, or an object with names. */
export function encodeArguments(args: unknown): Uint8Array {
  if (args === undefined) return Uint8Array.of(0x90);
  if (!Array.isArray(args) && (!isPlainObject(args) || args instanceof Map || args instanceof Set)) {
    throw new TypeError("arguments are an array, or an object with names");
  }
  return encode(args);
}

/** Return a value as serializer and payload: bytes go as they are. */
export function encodeValue(value: unknown): [serializer: number, payload: Uint8Array] {
  if (value === undefined) return [Serializer.MSGPACK, Uint8Array.of(0xc0)];
  return [Serializer.MSGPACK, encode(value)];
}

export { EMPTY };
