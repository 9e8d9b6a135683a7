/**
 * Walk over a msgpack payload before it is decoded: how deep, how much, which kinds.
 *
 * A count that a peer claims costs it no bytes; here the bytes that are there are counted.
 */

import { RpcError } from "./errors.js";

/** What was seen on the way. */
export interface Measured {
  /** There is an integer past 2^53. */
  isWide: boolean;
  /** There is binary data. */
  hasBytes: boolean;
}

/** Bytes behind the first one, by type: of the value, or of its length. */
const FIXED: Readonly<Record<number, number>> = {
  0xc0: 0, 0xc2: 0, 0xc3: 0, 0xca: 4, 0xcb: 8, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8,
  0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8, 0xd4: 2, 0xd5: 3, 0xd6: 5, 0xd7: 9, 0xd8: 17,
};

/** Walk over one value. Throws an `RpcError` past the limits, an Error if it is cut off. */
export function measure(
  data: Uint8Array,
  { maxDepth, maxItems }: { maxDepth: number; maxItems: number },
): Measured {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const seen: Measured = { isWide: false, hasBytes: false };
  const left: number[] = [1]; // values that are still to come, by depth
  let at = 0;
  let items = 0;
  const size = (bytes: number): number => {
    if (at + bytes > data.length) throw new Error("the payload is cut off");
    const value = bytes === 1 ? view.getUint8(at) : bytes === 2 ? view.getUint16(at) : view.getUint32(at);
    at += bytes;
    return value;
  };
  const pass = (bytes: number): void => {
    at += bytes;
  };
  const enter = (count: number): void => {
    items += count;
    if (items > maxItems) throw tooLarge(`more than ${maxItems} elements`);
    if (!count) return;
    if (left.length > maxDepth) throw tooLarge(`nested more than ${maxDepth} deep`);
    left.push(count);
  };
  while (left.length) {
    if (left[left.length - 1] === 0) {
      left.pop();
      continue;
    }
    left[left.length - 1]! -= 1;
    const type = size(1);
    if (type <= 0x7f || type >= 0xe0) continue;
    if (type <= 0x8f) enter(2 * (type & 0x0f));
    else if (type <= 0x9f) enter(type & 0x0f);
    else if (type <= 0xbf) at += type & 0x1f;
    else if (type in FIXED) {
      if (type === 0xcf || type === 0xd3) seen.isWide ||= isWide(view, at, type);
      if (type >= 0xd4) seen.hasBytes = true;
      at += FIXED[type]!;
    } else if (type >= 0xc4 && type <= 0xc6) {
      seen.hasBytes = true;
      pass(size(1 << (type - 0xc4)));
    } else if (type >= 0xc7 && type <= 0xc9) {
      seen.hasBytes = true;
      pass(size(1 << (type - 0xc7)) + 1);
    } else if (type >= 0xd9 && type <= 0xdb) pass(size(1 << (type - 0xd9)));
    else if (type === 0xdc || type === 0xdd) enter(size(type === 0xdc ? 2 : 4));
    else if (type === 0xde || type === 0xdf) enter(2 * size(type === 0xde ? 2 : 4));
    else throw new Error("the payload is no msgpack");
    if (at > data.length) throw new Error("the payload is cut off");
  }
  if (at !== data.length) throw new Error("bytes are left over behind the payload");
  return seen;
}

function isWide(view: DataView, at: number, type: number): boolean {
  if (at + 8 > view.byteLength) throw new Error("the payload is cut off");
  const high = type === 0xcf ? view.getUint32(at) : view.getInt32(at);
  return high >= 2 ** 21 || high < -(2 ** 21);
}

function tooLarge(what: string): RpcError {
  return new RpcError(`the payload is ${what}`.replace("is more", "has more"), {
    status: "TOO_LARGE",
  });
}
