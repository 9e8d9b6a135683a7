/**
 * Keep one connection to a server: dial, notice its end, dial again.
 *
 * Rules of the room:
 *   - one attempt at a time, with growing, jittered waits between failed ones;
 *   - whoever waits is told of the end of every attempt.
 */

import type { Job } from "./call.js";
import { Connection, type Owner } from "./connection.js";
import { RpcError } from "./errors.js";
import type { Offer } from "./hello.js";
import type { PayloadLimits } from "./payload.js";
import type { Registry } from "./registry.js";
import { openSocket, type Socket, type WebSocketClass } from "./socket.js";

/** Where a client stands. */
export type State = "idle" | "connecting" | "open" | "waiting" | "closed";

const FIRST = 100;
const FACTOR = 1.6;
const JITTER = 0.2;
/** One target has no other to go to, so it shall be found within seconds of its return. */
const CAP = 4000;
/** A connection that ends sooner counts as a failed attempt. */
const STEADY = 1000;

const TICK = 1000;
const IDLE_PING = 15_000;
const PING_TIMEOUT = 20_000;
const FRAME_TIMEOUT = 30_000;
const FRAME_RATE = 1024; // bytes per second

export interface LinkOptions {
  url: string;
  webSocket: WebSocketClass;
  connectTimeout: number;
  offer: Omit<Offer, "nonce">;
  registry: Registry;
  limits: PayloadLimits;
  changed(state: State, error: RpcError | undefined): void;
}

const clock = (): number => performance.now();

export class Link implements Owner {
  state: State = "idle";
  connection: Connection | undefined;
  offer: Offer;
  /** Connections whose server said goodbye, until their calls have ended. */
  private readonly leaving = new Set<Connection>();
  private waiting: Job[] = [];
  private attempt: { socket: Socket; timer: ReturnType<typeof setTimeout> } | undefined;
  private opening: Connection | undefined;
  private pause = FIRST;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private openedAt = 0;

  constructor(private readonly options: LinkOptions) {
    this.offer = { ...options.offer, nonce: "" };
  }

  get address(): string {
    return this.options.url;
  }

  get registry(): Registry {
    return this.options.registry;
  }

  get limits(): PayloadLimits {
    return this.options.limits;
  }

  /** Let a job go on the connection, or wait for one. */
  dispatch(job: Job): void {
    if (this.state === "closed") {
      job.fail(this.closed());
    } else if (this.connection) {
      job.start(this.connection);
    } else {
      this.waiting = this.waiting.filter((other) => !other.isDone);
      this.waiting.push(job);
      if (this.state === "idle") this.dial();
    }
  }

  close(): void {
    if (this.state === "closed") return;
    clearTimeout(this.retry);
    const error = this.closed();
    this.become("closed", undefined);
    const connections = [...this.leaving, this.opening, this.connection];
    this.connection = this.opening = undefined;
    this.leaving.clear();
    this.abandon();
    for (const connection of connections) connection?.close(error);
    this.failWaiting(error);
  }

  private closed(): RpcError {
    return new RpcError(`${this.address}: the client is closed`, { status: "NETWORK", ran: "no" });
  }

  // Dialling

  private dial(): void {
    this.become("connecting", undefined);
    this.offer = { ...this.options.offer, nonce: nonce() };
    const { url, webSocket, connectTimeout } = this.options;
    let connection: Connection | undefined;
    let socket: Socket;
    try {
      socket = openSocket(webSocket, url, {
        opened: (pipe) => {
          connection = this.opening = new Connection(this, pipe, clock);
        },
        received: (data) => connection?.feed(data),
        closed: (why) => {
          const error = new RpcError(`${url}: ${why}`, { status: "NETWORK", ran: "no" });
          if (connection) connection.end(error);
          else this.failed(error);
        },
      });
    } catch (cause) {
      const text = `${url} can't be dialled: ${String(cause)}`;
      queueMicrotask(() => this.failed(new RpcError(text, { status: "NETWORK", ran: "no", cause })));
      return;
    }
    const timer = setTimeout(() => {
      const text = `${url}: no connection within ${connectTimeout} s`;
      const error = new RpcError(text, { status: "NETWORK", ran: "no" });
      if (connection) connection.end(error);
      else {
        this.failed(error);
        socket.close();
      }
    }, connectTimeout * 1000);
    this.attempt = { socket, timer };
  }

  private abandon(): void {
    if (!this.attempt) return;
    clearTimeout(this.attempt.timer);
    this.attempt.socket.close();
    this.attempt = undefined;
  }

  private failed(error: RpcError): void {
    if (this.state !== "connecting") return;
    clearTimeout(this.attempt?.timer);
    this.attempt = this.opening = undefined;
    this.wait(error);
    this.failWaiting(error);
  }

  private wait(error: RpcError): void {
    this.become("waiting", error);
    const asked = (error.retryAfter ?? 0) * 1000;
    const pause = Math.max(this.pause * (1 + JITTER * (2 * Math.random() - 1)), Math.min(asked, 60_000));
    this.pause = Math.min(this.pause * FACTOR, CAP);
    this.retry = setTimeout(() => this.dial(), pause);
  }

  private failWaiting(error: RpcError): void {
    for (const job of this.waiting.splice(0)) {
      if (!job.isDone) job.fail(again(error));
    }
  }

  // What connections report

  opened(connection: Connection): void {
    if (connection !== this.opening) return;
    clearTimeout(this.attempt?.timer);
    this.attempt = this.opening = undefined;
    this.connection = connection;
    this.openedAt = clock();
    this.watch(connection);
    this.become("open", undefined);
    for (const job of this.waiting.splice(0)) {
      if (!job.isDone) this.dispatch(job);
    }
  }

  draining(connection: Connection): void {
    this.leaving.add(connection);
    this.leave(connection, new RpcError(`${this.address} is shutting down`, { status: "UNAVAILABLE" }));
  }

  ended(connection: Connection, error: RpcError): void {
    this.leaving.delete(connection);
    if (connection === this.opening) this.failed(error);
    else this.leave(connection, error);
  }

  private leave(connection: Connection, error: RpcError): void {
    if (connection !== this.connection) return;
    this.connection = undefined;
    if (this.state !== "open") return;
    if (clock() - this.openedAt < STEADY) {
      this.wait(error);
    } else {
      this.pause = FIRST;
      this.dial();
    }
  }

  /** Look after a connection once a second: is the server there, and does it keep going? */
  private watch(connection: Connection): void {
    let last = clock();
    let pinged = 0;
    let slow = { since: 0, heard: 0 };
    const tick = setInterval(() => {
      const now = clock();
      const late = now - last > 3 * TICK; // this side slept: first read what has come
      last = now;
      if (connection.isEnded) {
        clearInterval(tick);
        return;
      }
      const silence = now - connection.heardAt;
      if (silence < IDLE_PING) pinged = 0;
      else if (!pinged || late) {
        pinged = now;
        connection.ping(
          () => undefined,
          () => undefined,
        );
      } else if (now - pinged > PING_TIMEOUT) {
        connection.end(this.lost("nothing was heard for too long"));
      }
      if (!connection.isPartial || late) slow = { since: now, heard: connection.heard };
      else if (now - slow.since > FRAME_TIMEOUT) {
        const rate = ((connection.heard - slow.heard) * 1000) / (now - slow.since);
        if (rate < FRAME_RATE) connection.end(this.lost("a frame came too slowly"));
      }
    }, TICK);
    (tick as { unref?(): void }).unref?.();
  }

  private lost(why: string): RpcError {
    return new RpcError(`${this.address}: ${why}`, { status: "NETWORK", ran: "maybe" });
  }

  private become(state: State, error: RpcError | undefined): void {
    if (this.state === state) return;
    this.state = state;
    this.options.changed(state, error);
  }
}

/** Return an error of its own for each who waits: traces must not be shared. */
function again(error: RpcError): RpcError {
  const { status, retryAfter } = error;
  return new RpcError(error.message, { status, ran: "no", retryAfter });
}

function nonce(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
