/**
 * The pairs that travel beside a call, readable without any serializer:
 * u8 key size, key, u16 value size, value, one pair after the other.
 */

import { RpcError } from "./errors.js";
import { EMPTY } from "./frame.js";
import { METADATA_MAX, METADATA_PAIRS_MAX } from "./wire.js";

/** Metadata as it is given: an object, or pairs where a key comes twice. */
export type MetadataLike =
  | Readonly<Record<string, string | Uint8Array>>
  | Iterable<readonly [string, string | Uint8Array]>
  | Metadata;

const KEY = /^[!-@[-~]{1,255}$/; // printable ASCII without capitals and spaces
const VALUE_MAX = 65_535;

/** The pairs beside a call or a reply, in order; a key may come twice. */
export class Metadata implements Iterable<[string, Uint8Array]> {
  constructor(readonly pairs: readonly (readonly [string, Uint8Array])[] = []) {}

  /** Return the first value of a key. */
  get(key: string): Uint8Array | undefined {
    return this.pairs.find(([name]) => name === key)?.[1];
  }

  /** Return the first value of a key as text; what is no UTF-8 is replaced. */
  text(key: string, missing = ""): string {
    const value = this.get(key);
    return value === undefined ? missing : new TextDecoder().decode(value);
  }

  /** Return every value of a key, in order. */
  all(key: string): Uint8Array[] {
    return this.pairs.filter(([name]) => name === key).map(([, value]) => value);
  }

  *[Symbol.iterator](): Iterator<[string, Uint8Array]> {
    for (const [key, value] of this.pairs) yield [key, value];
  }
}

/** Write pairs; throws an `RpcError` if one can't be sent. */
export function encodeMetadata(given: MetadataLike | undefined): Uint8Array {
  if (given === undefined) return EMPTY;
  const pairs = Symbol.iterator in given ? [...given] : Object.entries(given);
  if (!pairs.length) return EMPTY;
  const parts: number[] = [];
  for (const [key, value] of pairs as [string, string | Uint8Array][]) {
    if (!KEY.test(key)) throw bad(`metadata key ${JSON.stringify(key)} is not lower-case ASCII`);
    const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
    if (!(bytes instanceof Uint8Array)) throw bad(`metadata ${key} is neither text nor bytes`);
    if (bytes.length > VALUE_MAX) throw tooLarge(`metadata ${key} is over ${VALUE_MAX} bytes`);
    parts.push(key.length, ...new TextEncoder().encode(key));
    parts.push(bytes.length >> 8, bytes.length & 0xff);
    for (const byte of bytes) parts.push(byte);
  }
  if (pairs.length > METADATA_PAIRS_MAX) throw tooLarge(`over ${METADATA_PAIRS_MAX} metadata pairs`);
  if (parts.length > METADATA_MAX) throw tooLarge(`metadata is over ${METADATA_MAX} bytes`);
  return Uint8Array.from(parts);
}

/** Read pairs; throws an `RpcError` if they are none, or too many. */
export function decodeMetadata(data: Uint8Array): Metadata {
  if (data.length > METADATA_MAX) throw tooLarge(`metadata is over ${METADATA_MAX} bytes`);
  const pairs: [string, Uint8Array][] = [];
  let at = 0;
  while (at < data.length) {
    if (pairs.length === METADATA_PAIRS_MAX) throw tooLarge(`over ${METADATA_PAIRS_MAX} metadata pairs`);
    const end = at + 1 + data[at]!;
    const key = new TextDecoder("latin1").decode(data.subarray(at + 1, end));
    if (end + 2 > data.length || !KEY.test(key)) throw bad("metadata is cut off, or a key is bad");
    const size = data[end]! * 256 + data[end + 1]!;
    at = end + 2 + size;
    if (at > data.length) throw bad("metadata is cut off");
    pairs.push([key, data.slice(end + 2, at)]);
  }
  return new Metadata(pairs);
}

function bad(message: string): RpcError {
  return new RpcError(message, { status: "BAD_REQUEST" });
}

function tooLarge(message: string): RpcError {
  return new RpcError(message, { status: "TOO_LARGE" });
}
