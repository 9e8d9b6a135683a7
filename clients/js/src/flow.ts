/**
 * The two halves of a stream: items that come, items that go, and their credit.
 *
 * Credit is bytes of whole frames. A sender may send while it has any, and so goes below
 * zero by one frame at most: what a slow reader holds is its window and one frame.
 */

import { ProtocolError } from "./errors.js";
import type { Frame } from "./frame.js";
import { CREDIT_MAX } from "./wire.js";

/** How much larger than an item the memory it stands in may be. */
const SLACK = 4;

/** The receiving half: items wait here, encoded, until they are taken. */
export class Inlet {
  private items: Frame[] = [];
  private credit: number;
  private freed = 0;
  private error: unknown;
  private waiter: (() => void) | undefined;
  /** No more will come. */
  isOver = false;
  /** Items taken so far. */
  count = 0;

  /**
   * @param window credit that the peer has at the start
   * @param grant lets the peer send so many bytes more
   * @param read makes a value of an item; throws if it can't
   */
  constructor(
    private readonly window: number,
    private readonly grant: (bytes: number) => void,
    private readonly read: (frame: Frame, count: number) => unknown,
  ) {
    this.credit = window;
  }

  /** Take an item that came. */
  push(frame: Frame): void {
    if (this.isOver) return;
    if (this.credit <= 0) throw new ProtocolError(`stream ${frame.id}: an item came without credit`);
    this.credit -= frame.size;
    // It may be a crumb of a large message, which would live as long as the item waits.
    const { payload } = frame;
    if (payload.buffer.byteLength > SLACK * frame.size) frame.payload = payload.slice();
    this.items.push(frame);
    this.wake();
  }

  /** Let no more come; what waits can still be taken, then `error` is thrown, once. */
  end(error?: unknown): void {
    if (this.isOver) return;
    this.isOver = true;
    this.error = error;
    this.wake();
  }

  /** Let no more come, and forget what waits. */
  drop(): void {
    this.end();
    this.error = undefined;
    this.items = [];
  }

  /** Wait for the next item. */
  async next(): Promise<IteratorResult<unknown, undefined>> {
    while (!this.items.length) {
      if (this.isOver) {
        const { error } = this;
        this.error = undefined;
        if (error !== undefined) throw error;
        return { done: true, value: undefined };
      }
      if (this.waiter) throw new Error("a stream can be read by one reader at a time");
      await new Promise<void>((wake) => (this.waiter = wake));
    }
    const frame = this.items.shift()!;
    this.count += 1;
    this.freed += frame.size;
    if (this.freed * 2 >= this.window && !this.isOver) {
      this.credit += this.freed;
      this.grant(this.freed);
      this.freed = 0;
    }
    return { done: false, value: this.read(frame, this.count) };
  }

  private wake(): void {
    const { waiter } = this;
    this.waiter = undefined;
    waiter?.();
  }
}

/** The sending half: items leave here in order, while there is credit. */
export class Outlet {
  private line: (() => void)[] = [];
  /** Somebody was let go and has not sent yet. */
  private isTaken = false;
  private error: unknown;
  /** No more can be sent. */
  isOver = false;

  /**
   * @param credit what the peer lets us send at the start
   * @param put writes an encoded item and returns what it cost
   */
  constructor(
    private credit: number,
    private readonly id: number,
    private readonly put: (serializer: number, payload: Uint8Array) => number,
  ) {}

  /** Take credit that the peer gave. */
  grant(bytes: number): void {
    if (this.isOver) return;
    if (bytes === 0 || this.credit + bytes > CREDIT_MAX) {
      throw new ProtocolError(`stream ${this.id}: a credit of ${bytes} is not allowed`);
    }
    this.credit += bytes;
    this.next();
  }

  /** Let no more be sent; `error` is thrown to whoever tries. */
  close(error: unknown): void {
    if (this.isOver) return;
    this.isOver = true;
    this.error = error;
    for (const go of this.line.splice(0)) go();
  }

  /** Send an encoded item as soon as there is credit, behind all who came before. */
  async send(serializer: number, payload: Uint8Array): Promise<void> {
    if (this.isOver) throw this.error;
    if (this.credit <= 0 || this.isTaken || this.line.length) {
      await new Promise<void>((go) => this.line.push(go));
    }
    this.isTaken = false;
    if (this.isOver) throw this.error;
    this.credit -= this.put(serializer, payload);
    this.next();
  }

  private next(): void {
    if (this.isTaken || this.credit <= 0) return;
    const go = this.line.shift();
    if (go) {
      this.isTaken = true;
      go();
    }
  }
}
