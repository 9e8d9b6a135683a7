/**
 * What can go wrong, and whether the call may safely be sent again.
 */

import { NOT_RUN, Status, type StatusName } from "./wire.js";

/** Did the handler start? Only "no" is safe to send again without knowing the method. */
export type Ran = "no" | "maybe" | "yes";

/** What an `RpcError` may carry beside its message. */
export interface RpcErrorFields {
  status?: StatusName;
  ran?: Ran;
  type?: string;
  code?: number;
  data?: unknown;
  method?: string;
  retryAfter?: number | undefined;
  trace?: string | undefined;
  cause?: unknown;
}

/**
 * The error of a call that did not end well, whatever the reason.
 *
 * `status` says what happened: "NOT_FOUND", "BAD_REQUEST", "DEADLINE", "CLIENT_TIMEOUT",
 * "CANCELLED", "NETWORK", ...; the names are those of the wire document.
 */
export class RpcError extends Error {
  readonly status: StatusName;
  /** Did the handler start? */
  readonly ran: Ran;
  /** Name of the exception's class at the server; "" if there was none. */
  readonly type: string;
  /** The application's own number, with status "APPLICATION". */
  readonly code: number;
  /** Whatever the handler attached. */
  readonly data: unknown;
  /** The method called. */
  readonly method: string;
  /** Seconds the server asks the caller to stay away. */
  readonly retryAfter: number | undefined;
  /** The remote traceback, if the server sends them. */
  readonly trace: string | undefined;

  constructor(message: string, fields: RpcErrorFields = {}) {
    super(message, "cause" in fields ? { cause: fields.cause } : undefined);
    this.name = "RpcError";
    this.status = fields.status ?? "SERVER_ERROR";
    this.ran = fields.ran ?? ranOf(Status[this.status]);
    this.type = fields.type ?? "";
    this.code = fields.code ?? 0;
    this.data = fields.data;
    this.method = fields.method ?? "";
    this.retryAfter = fields.retryAfter;
    this.trace = fields.trace;
  }

  /** Whether the time was up: here ("CLIENT_TIMEOUT"), or first at the server ("DEADLINE"). */
  get isTimeout(): boolean {
    return this.status === "CLIENT_TIMEOUT" || this.status === "DEADLINE";
  }

  /** The number of the status on the wire. */
  get statusCode(): number {
    return Status[this.status];
  }
}

/**
 * The handler said no on purpose, with a number of the application's own.
 *
 * Throw one in a handler of this side to answer the server with it.
 */
export class ApplicationError extends RpcError {
  constructor(code: number, message = "", data?: unknown, fields: RpcErrorFields = {}) {
    super(message, { type: "RpcError", ran: "yes", ...fields, status: "APPLICATION", code, data });
    this.name = "ApplicationError";
  }
}

/** The peer broke a rule of the protocol; the connection ends. */
export class ProtocolError extends Error {
  constructor(
    message: string,
    readonly status: number = Status.PROTOCOL,
  ) {
    super(message);
    this.name = "ProtocolError";
  }
}

/** The bytes are no frame. */
export class FrameError extends ProtocolError {
  /** Which part is wrong: "magic", "header size", "version", "body size", ... */
  constructor(
    message: string,
    readonly at: string,
  ) {
    super(message);
    this.name = "FrameError";
  }
}

const RAN: ReadonlySet<number> = new Set([
  Status.SERVER_ERROR,
  Status.RESULT_UNSENDABLE,
  Status.APPLICATION,
]);

/** Return whether the handler ran, as a status says it. */
export function ranOf(status: number): Ran {
  if (NOT_RUN.has(status)) return "no";
  return RAN.has(status) ? "yes" : "maybe";
}

/** Return what anything that was thrown says, even what can't be printed. */
export function textOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return "something that can't be printed";
  }
}

/** Return what anything that was thrown is called. */
export function typeOf(error: unknown): string {
  try {
    return error instanceof Error ? String(error.name).slice(0, 200) : typeof error;
  } catch {
    return "Error";
  }
}
