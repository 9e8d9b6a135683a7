/**
 * The HELLO pair that opens every connection: what we say, and what the answer may say.
 */

import { ProtocolError } from "./errors.js";
import * as wire from "./wire.js";

/** What either side says of itself. */
interface Terms {
  agent: string;
  nonce: string;
  maxBody: number;
  maxCalls: number;
  methods: number;
  window: number;
  pingMs: number;
}

/** What this side speaks and accepts. */
export interface Offer extends Terms {
  auth: string;
}

/** What the server accepts. */
export interface Answer extends Terms {
  instance: string;
}

const CODECS = { raw: 0, msgpack: 1, json: 2 };

/** Return the body of the client's HELLO. */
export function encodeHello(offer: Offer): Uint8Array {
  const told: Record<string, unknown> = {
    agent: offer.agent,
    codecs: CODECS,
    magic: wire.MAGIC,
    max_body: offer.maxBody,
    max_calls: offer.maxCalls,
    methods: offer.methods,
    nonce: offer.nonce,
    ping_ms: offer.pingMs,
    versions: [wire.VERSION],
    window: offer.window,
  };
  if (offer.auth) told["auth"] = offer.auth;
  return new TextEncoder().encode(JSON.stringify(told));
}

/** Read the server's answer; throws a `ProtocolError` that names the key that is wrong. */
export function decodeHello(body: Uint8Array): Answer {
  const told = readObject(body);
  if (told["magic"] !== wire.MAGIC) throw new ProtocolError(`HELLO: magic must be ${wire.MAGIC}`);
  if (told["version"] === undefined) throw new ProtocolError("HELLO: version is missing");
  whole(told, "version", wire.VERSION, wire.VERSION, wire.VERSION);
  if (told["zip"] !== undefined) throw new ProtocolError("HELLO: zip was not asked for");
  const { codecs = CODECS } = told;
  if (typeof codecs !== "object" || codecs === null || Array.isArray(codecs)) {
    throw new ProtocolError("HELLO: codecs must be an object");
  }
  if ((codecs as Record<string, unknown>)["msgpack"] !== wire.Serializer.MSGPACK) {
    throw new ProtocolError("HELLO: codecs has no msgpack", wire.Status.UNSUPPORTED);
  }
  const { DEFAULTS, U32_MAX, BODY_MAX, CREDIT_MAX } = wire;
  whole(told, "handle_ms", 0, U32_MAX, 0);
  return {
    agent: text(told, "agent", 256),
    instance: text(told, "instance", 128),
    nonce: text(told, "nonce", 128),
    maxBody: whole(told, "max_body", 1, BODY_MAX, DEFAULTS.maxBody),
    maxCalls: whole(told, "max_calls", 0, CREDIT_MAX, DEFAULTS.maxCalls),
    methods: whole(told, "methods", 0, wire.METHODS_MAX, DEFAULTS.methods),
    window: whole(told, "window", 1, CREDIT_MAX, DEFAULTS.window),
    pingMs: whole(told, "ping_ms", 0, U32_MAX, DEFAULTS.pingMs),
  };
}

/** Read why a server refused. */
export function decodeRefusal(body: Uint8Array): { message: string; retryAfter: number | undefined } {
  let told: Record<string, unknown> = {};
  try {
    told = readObject(body);
  } catch {
    // The status alone tells enough.
  }
  const { message, retry_ms: retry } = told;
  return {
    message: typeof message === "string" ? message.slice(0, 500) : "",
    retryAfter: Number.isSafeInteger(retry) && (retry as number) >= 0 ? (retry as number) / 1000 : undefined,
  };
}

function readObject(body: Uint8Array): Record<string, unknown> {
  if (body.length > wire.HELLO_MAX) throw new ProtocolError(`HELLO is over ${wire.HELLO_MAX} bytes`);
  let told: unknown;
  try {
    told = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw new ProtocolError("HELLO is no JSON");
  }
  if (typeof told !== "object" || told === null || Array.isArray(told)) {
    throw new ProtocolError("HELLO is no JSON object");
  }
  return told as Record<string, unknown>;
}

function whole(told: Record<string, unknown>, key: string, low: number, high: number, missing: number): number {
  const value = told[key] ?? missing;
  if (told[key] === null || !Number.isSafeInteger(value)) {
    throw new ProtocolError(`HELLO: ${key} must be a whole number`);
  }
  if ((value as number) < low || (value as number) > high) {
    throw new ProtocolError(`HELLO: ${key} must be ${low} to ${high}`);
  }
  return value as number;
}

function text(told: Record<string, unknown>, key: string, longest: number): string {
  const value = told[key] ?? "";
  if (told[key] === null || typeof value !== "string") throw new ProtocolError(`HELLO: ${key} must be text`);
  if (value.length > longest) throw new ProtocolError(`HELLO: ${key} must have at most ${longest} characters`);
  return value;
}
