/**
 * Turn replies and refusals into values and errors.
 */

import { ApplicationError, ranOf, RpcError, textOf, type RpcErrorFields } from "./errors.js";
import type { Frame } from "./frame.js";
import { decode, ERROR_LIMITS, type PayloadLimits } from "./payload.js";
import { BIT_SEG, BIT_ZIP, Serializer, Status, statusName } from "./wire.js";

const TEXT_MAX = 16_000;
const TYPE_MAX = 200;
const CAUSES_MAX = 5;

/** The refusals of a handler name their class so. */
const OURS = "fastrpc.";

/** Return the value of a payload; throws an `RpcError` if this side can't take it in. */
export function valueOf(frame: Frame, what: string, maxBody: number, limits: PayloadLimits): unknown {
  if (frame.oversize) {
    const text = `${what}: ${frame.oversize} bytes are over this client's maxBody of ${maxBody}`;
    throw new RpcError(text, { status: "TOO_LARGE", ran: "yes" });
  }
  if (frame.bits & (BIT_ZIP | BIT_SEG)) {
    const text = `${what}: compression and segments were not agreed on`;
    throw new RpcError(text, { status: "UNSUPPORTED", ran: "yes" });
  }
  try {
    return decode(frame.serializer, frame.payload, limits);
  } catch (error) {
    const status = error instanceof RpcError ? error.status : "BAD_REQUEST";
    const text = `${what} can't be read: ${textOf(error)}`;
    throw new RpcError(text, { status, ran: "yes", cause: error });
  }
}

/** Return what an error reply or GOAWAY says; {} if it says nothing readable. */
export function errorMap(frame: Frame): Record<string, unknown> {
  if (!frame.payload.length || frame.serializer !== Serializer.MSGPACK) return {};
  if (frame.bits & (BIT_ZIP | BIT_SEG)) return {};
  try {
    const told = decode(frame.serializer, frame.payload, ERROR_LIMITS);
    const isMap = typeof told === "object" && told !== null && !Array.isArray(told);
    return isMap ? (told as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Return the error of a reply whose status is not ok. */
export function errorOf(frame: Frame, method: string): RpcError {
  const told = errorMap(frame);
  const message = textIn(told, "message", TEXT_MAX) || `${method}: status ${frame.status}`;
  const retry = told["retry_ms"];
  const fields: RpcErrorFields = {
    method,
    type: textIn(told, "type", TYPE_MAX),
    data: told["data"],
    retryAfter: Number.isSafeInteger(retry) && (retry as number) >= 0 ? (retry as number) / 1000 : undefined,
    trace: textIn(told, "trace", TEXT_MAX) || undefined,
  };
  const cause = causeOf(told["causes"], method);
  if (cause) fields.cause = cause;
  if (frame.status !== Status.APPLICATION) {
    const status = statusName(frame.status);
    return new RpcError(message, { ...fields, status, ran: ranOf(frame.status) });
  }
  if (fields.type!.startsWith(OURS) && frame.arg && statusName(frame.arg) !== "SERVER_ERROR") {
    // A handler's own words: the status, but not its promise that nothing ran.
    const type = fields.type!.slice(OURS.length);
    return new RpcError(message, { ...fields, type, status: statusName(frame.arg), ran: "yes" });
  }
  return new ApplicationError(frame.arg, message, told["data"], fields);
}

function causeOf(causes: unknown, method: string): RpcError | undefined {
  if (!Array.isArray(causes)) return undefined;
  let cause: RpcError | undefined;
  for (const told of causes.slice(0, CAUSES_MAX).reverse() as unknown[]) {
    if (typeof told !== "object" || told === null) continue;
    const map = told as Record<string, unknown>;
    const fields: RpcErrorFields = { method, type: textIn(map, "type", TYPE_MAX) };
    if (cause) fields.cause = cause;
    cause = new RpcError(textIn(map, "message", TEXT_MAX), fields);
  }
  return cause;
}

function textIn(told: Record<string, unknown>, key: string, most: number): string {
  const value = told[key];
  return typeof value === "string" ? value.slice(0, most) : "";
}
