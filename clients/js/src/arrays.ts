/**
 * Arrays of numbers, as numpy has them: msgpack ext 0x51 around [dtype, shape, bytes].
 *
 * One dimension is a typed array here; more are an `NdArray`.
 */

export const EXT_ARRAY = 0x51;

const DIMENSIONS_MAX = 32;

/** What holds the numbers of an array. */
export type TypedArray =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float32Array
  | Float64Array;

/** An array in any number of dimensions, its items in C order. */
export class NdArray<T extends TypedArray = TypedArray> {
  constructor(
    readonly data: T,
    readonly shape: readonly number[],
  ) {
    if (data.length !== product(shape) || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      throw new RangeError(`${data.length} items have another shape than [${shape.join(", ")}]`);
    }
  }
}

type Maker = new (buffer: ArrayBuffer) => TypedArray;

const MAKERS: ReadonlyMap<string, Maker> = new Map<string, Maker>([
  ["b1", Uint8Array],
  ["i1", Int8Array],
  ["u1", Uint8Array],
  ["i2", Int16Array],
  ["u2", Uint16Array],
  ["i4", Int32Array],
  ["u4", Uint32Array],
  ["i8", BigInt64Array],
  ["u8", BigUint64Array],
  ["f4", Float32Array],
  ["f8", Float64Array],
]);

const IS_LITTLE = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** Whether a value travels as an array; a Uint8Array is bytes. */
export function isArrayValue(value: unknown): value is NdArray | TypedArray {
  if (value instanceof NdArray) return true;
  return (
    ArrayBuffer.isView(value) &&
    !(value instanceof Uint8Array) &&
    !(value instanceof Uint8ClampedArray) &&
    dtypeOf(value) !== undefined
  );
}

function dtypeOf(value: ArrayBufferView): string | undefined {
  for (const [dtype, maker] of MAKERS) {
    if (dtype !== "b1" && value instanceof maker) return dtype;
  }
  return undefined;
}

/** Return what is inside the extension. */
export function arrayParts(value: NdArray | TypedArray): unknown[] {
  const [data, shape] = value instanceof NdArray ? [value.data, value.shape] : [value, [value.length]];
  const dtype = dtypeOf(data);
  if (dtype === undefined) throw new TypeError("an array of this kind can't be sent");
  const order = data.BYTES_PER_ELEMENT === 1 ? "|" : IS_LITTLE ? "<" : ">";
  return [order + dtype, [...shape], new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}

/** Return the array that a peer describes. */
export function readArray(parts: unknown): NdArray | TypedArray {
  if (!Array.isArray(parts) || parts.length !== 3) throw new Error("an array is not made of three parts");
  const [dtype, shape, bytes] = parts as [unknown, unknown, unknown];
  if (typeof dtype !== "string" || !Array.isArray(shape) || !(bytes instanceof Uint8Array)) {
    throw new Error("an array is not made of dtype, shape and bytes");
  }
  const [, order = "", kind = ""] = /^([<>|=]?)([a-z]\d)$/.exec(dtype) ?? [];
  const maker = MAKERS.get(kind);
  if (maker === undefined) {
    throw new Error(`an array of dtype ${JSON.stringify(dtype.slice(0, 20))} has no form here`);
  }
  if (shape.length > DIMENSIONS_MAX || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw new Error(`an array has a shape that is none, or over ${DIMENSIONS_MAX} dimensions`);
  }
  const width = Number(kind[1]) || 1;
  const sizes = shape as number[];
  if (product(sizes) * width !== bytes.length) {
    throw new Error(`an array of ${bytes.length} bytes has another dtype and shape`);
  }
  const own = bytes.slice(); // aligned, and nobody else's
  if (width > 1 && order === (IS_LITTLE ? ">" : "<")) swap(own, width);
  const data = new maker(own.buffer);
  return sizes.length === 1 ? data : new NdArray(data, sizes);
}

function product(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function swap(bytes: Uint8Array, width: number): void {
  for (let at = 0; at < bytes.length; at += width) bytes.subarray(at, at + width).reverse();
}
