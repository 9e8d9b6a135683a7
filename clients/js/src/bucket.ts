/** Count what a peer may do only so often: a bucket that flows full again. */
export class Bucket {
  private left: number;
  private filled: number;

  /**
   * @param size how much may come at once
   * @param perSecond how much flows back
   */
  constructor(
    private readonly size: number,
    private readonly perSecond: number,
    now: number,
  ) {
    this.left = size;
    this.filled = now;
  }

  /** Take one, at a time in milliseconds; false if there is none. */
  take(now: number): boolean {
    this.left = Math.min(this.size, this.left + ((now - this.filled) / 1000) * this.perSecond);
    this.filled = now;
    if (this.left < 1) return false;
    this.left -= 1;
    return true;
  }

  /** Put one back. */
  give(): void {
    this.left = Math.min(this.size, this.left + 1);
  }
}
