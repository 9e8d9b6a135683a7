/**
 * Turn bytes into frames and frames into bytes.
 *
 * Rules of the room:
 *   - no clock, no socket: bytes in, frames out;
 *   - what a peer claims is checked before memory is taken for it;
 *   - names of methods and calls are of no matter here.
 */

import { FrameError } from "./errors.js";
import * as wire from "./wire.js";

/** A message id: a number, or a bigint past 2^53 (only GOAWAY and pings have those). */
export type Id = number | bigint;

/** One frame, apart from its layout. */
export interface Frame {
  kind: number;
  id: Id;
  reply: boolean;
  oneway: boolean;
  heartbeat: boolean;
  serializer: number;
  status: number;
  /** END, ZIP, SEG, MORE. */
  bits: number;
  arg: number;
  time: number;
  name: Uint8Array;
  metadata: Uint8Array;
  payload: Uint8Array;
  /** What a segment table puts beside the payload. */
  buffers: Uint8Array[];
  /** Bytes of the whole frame: what an item costs. */
  size: number;
  /** Length of a body that was over the limit and skipped; else 0. */
  oversize: number;
}

/** Pieces of fewer bytes are put together while they wait for the rest of their frame. */
const CRUMB = 64 * 1024;

export const EMPTY = new Uint8Array(0);

/** Write a frame, with the shortest header that holds its fields. */
export function encodeFrame(kind: number, id: Id, fields: Partial<Frame> = {}): Uint8Array {
  const { name = EMPTY, metadata = EMPTY, payload = EMPTY, buffers = [] } = fields;
  const { arg = 0, time = 0, status = 0, serializer = 0, bits = 0 } = fields;
  let hsize = wire.HEADER_BASE;
  if (arg) hsize = wire.HEADER_ARG;
  if (time) hsize = wire.HEADER_TIME;
  if (name.length || metadata.length) hsize = wire.HEADER_FULL;
  const start = name.length + metadata.length;
  const layout = bits & wire.BIT_SEG ? lay(start, [payload, ...buffers]) : undefined;
  const bsize = layout ? layout.end : start + payload.length;
  const data = new Uint8Array(hsize + bsize);
  const view = new DataView(data.buffer);
  let flags = serializer;
  if (fields.reply) flags |= wire.FLAG_REPLY;
  if (fields.oneway) flags |= wire.FLAG_ONEWAY;
  if (fields.heartbeat) flags |= wire.FLAG_HEARTBEAT;
  view.setUint16(0, wire.MAGIC);
  view.setUint16(2, hsize);
  view.setUint8(4, wire.VERSION);
  view.setUint8(5, flags);
  view.setUint8(6, status);
  view.setUint8(7, bits | kind);
  if (typeof id === "bigint") {
    view.setBigUint64(8, id);
  } else {
    view.setUint32(8, Math.floor(id / 2 ** 32));
    view.setUint32(12, id % 2 ** 32);
  }
  view.setUint32(16, bsize);
  if (hsize >= wire.HEADER_ARG) view.setUint32(20, arg);
  if (hsize >= wire.HEADER_TIME) view.setUint32(24, time);
  if (hsize >= wire.HEADER_FULL) {
    view.setUint16(28, name.length);
    view.setUint16(30, metadata.length);
  }
  data.set(name, hsize);
  data.set(metadata, hsize + name.length);
  if (!layout) {
    data.set(payload, hsize + start);
    return data;
  }
  view.setUint32(hsize + start, layout.places.length);
  [payload, ...buffers].forEach((segment, index) => {
    view.setUint32(hsize + start + 4 * (index + 1), segment.length);
    data.set(segment, hsize + layout.places[index]!);
  });
  return data;
}

function lay(start: number, segments: Uint8Array[]): { places: number[]; end: number } {
  let at = start + 4 * (segments.length + 1);
  const places = segments.map((segment) => {
    const place = aligned(at);
    at = place + segment.length;
    return place;
  });
  return { places, end: at };
}

function aligned(at: number): number {
  return Math.ceil(at / wire.SEGMENT_ALIGN) * wire.SEGMENT_ALIGN;
}

/** The numbers of a header. */
interface Header {
  hsize: number;
  bsize: number;
  view: DataView;
}

/**
 * Take frames out of a stream of bytes, however it is cut.
 *
 * Past a broken frame nothing can be trusted: `feed` throws, and the reader is of no
 * more use.
 */
export class FrameReader {
  private waiting: Uint8Array[] = [];
  private length = 0;
  private skipping = 0;

  constructor(
    private readonly maxBody: number = wire.DEFAULTS.maxBody,
    private readonly magic: number = wire.MAGIC,
  ) {}

  /** Whether part of a frame has come and the rest has not. */
  get isPartial(): boolean {
    return this.length > 0 || this.skipping > 0;
  }

  /**
   * Take bytes that came, and give each frame that is whole now to `take`.
   *
   * Frames before a broken one are given out before the error is thrown.
   */
  feed(chunk: Uint8Array, take: (frame: Frame) => void): void {
    if (this.skipping) {
      const skipped = Math.min(this.skipping, chunk.length);
      this.skipping -= skipped;
      chunk = chunk.subarray(skipped);
    }
    if (!chunk.length) return;
    this.keep(chunk);
    for (;;) {
      const header = this.header();
      if (!header) return;
      const size = header.hsize + header.bsize;
      if (header.bsize > this.maxBody) {
        if (this.length < header.hsize) return;
        const frame = this.start(header);
        const rest = size - this.length;
        if (rest > 0) {
          this.take(this.length);
          this.skipping = rest;
        } else {
          this.take(size);
        }
        frame.oversize = header.bsize;
        take(frame);
        if (rest > 0) return;
        continue;
      }
      if (this.length < size) return;
      take(this.whole(header, this.take(size)));
    }
  }

  /** Let bytes wait; crumbs are put together, or each of them would cost an object. */
  private keep(chunk: Uint8Array): void {
    const { waiting } = this;
    this.length += chunk.length;
    waiting.push(chunk);
    while (waiting.length > 1 && chunk.length < CRUMB) {
      const before = waiting[waiting.length - 2]!;
      if (before.length > chunk.length) break;
      waiting.length -= 2;
      chunk = joined([before, chunk], before.length + chunk.length);
      waiting.push(chunk);
    }
  }

  /** Return the header in front, checked; undefined if it is not all there. */
  private header(): Header | undefined {
    const first = this.peek(2);
    if (first.length && first[0] !== this.magic >> 8) this.noMagic();
    if (first.length < 2) return undefined;
    if (first[1] !== (this.magic & 0xff)) this.noMagic();
    const data = this.peek(wire.HEADER_FULL);
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    if (data.length < 4) return undefined;
    const hsize = view.getUint16(2);
    if (hsize < wire.HEADER_BASE || hsize > wire.HEADER_MAX || hsize % 4) {
      throw new FrameError(`a header size of ${hsize}`, "header size");
    }
    if (data.length < wire.HEADER_BASE) return undefined;
    if (view.getUint8(4) !== wire.VERSION) {
      throw new FrameError(`version ${view.getUint8(4)}`, "version");
    }
    const bsize = view.getUint32(16);
    if (bsize > this.maxBody && bsize > wire.SKIP_MAX) {
      throw new FrameError(`a body of ${bsize} bytes`, "body size");
    }
    if (data.length < Math.min(hsize, wire.HEADER_FULL)) return undefined;
    return { hsize, bsize, view };
  }

  private noMagic(): never {
    const shown = new TextDecoder("latin1").decode(this.peek(64)).split("\r\n")[0]!;
    throw new FrameError(`no frame: it says ${JSON.stringify(shown)}`, "magic");
  }

  /** Return up to `count` bytes in front. */
  private peek(count: number): Uint8Array {
    const front = this.waiting[0] ?? EMPTY;
    if (front.length >= count || this.waiting.length < 2) return front.subarray(0, count);
    return joined(this.waiting, Math.min(count, this.length));
  }

  /** Take `count` bytes, all of which are there. */
  private take(count: number): Uint8Array {
    const front = this.waiting[0] ?? EMPTY;
    this.length -= count;
    if (front.length > count) {
      this.waiting[0] = front.subarray(count);
      return front.subarray(0, count);
    }
    const taken = joined(this.waiting, count);
    let left = count;
    while (left > 0) {
      const next = this.waiting[0]!;
      if (next.length > left) {
        this.waiting[0] = next.subarray(left);
        break;
      }
      left -= next.length;
      this.waiting.shift();
    }
    return taken;
  }

  private start({ hsize, bsize, view }: Header): Frame {
    const flags = view.getUint8(5);
    const kind = view.getUint8(7);
    const high = view.getUint32(8);
    const safe = high < 2 ** 21;
    return {
      kind: kind & wire.MASK_KIND,
      id: safe ? high * 2 ** 32 + view.getUint32(12) : view.getBigUint64(8),
      reply: (flags & wire.FLAG_REPLY) !== 0,
      oneway: (flags & wire.FLAG_ONEWAY) !== 0,
      heartbeat: (flags & wire.FLAG_HEARTBEAT) !== 0,
      serializer: flags & wire.MASK_SERIALIZER,
      status: view.getUint8(6),
      bits: kind & ~wire.MASK_KIND,
      arg: hsize >= wire.HEADER_ARG ? view.getUint32(20) : 0,
      time: hsize >= wire.HEADER_TIME ? view.getUint32(24) : 0,
      name: EMPTY,
      metadata: EMPTY,
      payload: EMPTY,
      buffers: [],
      size: hsize + bsize,
      oversize: 0,
    };
  }

  private whole(header: Header, data: Uint8Array): Frame {
    const { hsize, view } = header;
    const frame = this.start(header);
    const body = data.subarray(hsize);
    const full = hsize >= wire.HEADER_FULL;
    const nsize = full ? view.getUint16(28) : 0;
    const msize = full ? view.getUint16(30) : 0;
    const start = nsize + msize;
    if (start > body.length) {
      throw new FrameError(`name and metadata are longer than their body`, "name and meta");
    }
    frame.name = body.subarray(0, nsize);
    frame.metadata = body.subarray(nsize, start);
    if (frame.bits & wire.BIT_SEG) {
      [frame.payload = EMPTY, ...frame.buffers] = segments(body, start);
    } else {
      frame.payload = body.subarray(start);
    }
    return frame;
  }
}

function segments(body: Uint8Array, start: number): Uint8Array[] {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const count = start + 4 <= body.length ? view.getUint32(start) : 0;
  if (count < 1 || count > wire.SEGMENTS_MAX || start + 4 * (count + 1) > body.length) {
    throw new FrameError(`a segment table of ${count} segments`, "segment table");
  }
  const found: Uint8Array[] = [];
  let at = start + 4 * (count + 1);
  for (let index = 1; index <= count; index++) {
    const size = view.getUint32(start + 4 * index);
    const place = aligned(at);
    at = place + size;
    if (at > body.length) throw new FrameError("a segment is past its body", "segment table");
    found.push(body.subarray(place, at));
  }
  if (at !== body.length) {
    throw new FrameError("bytes are left over after the last segment", "segment table");
  }
  return found;
}

function joined(chunks: Uint8Array[], count: number): Uint8Array {
  if (chunks.length === 1) return chunks[0]!.subarray(0, count);
  const data = new Uint8Array(count);
  let at = 0;
  for (const chunk of chunks) {
    if (at >= count) break;
    data.set(chunk.subarray(0, count - at), at);
    at += chunk.length;
  }
  return data;
}
