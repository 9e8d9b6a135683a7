/**
 * The numbers of the wire document: layout, kinds, flags, status, limits.
 *
 * docs/spec/wire.md says the same in words; nothing here does anything.
 */

export const MAGIC = 0xfa57;
export const VERSION = 1;

export const HEADER_BASE = 20;
export const HEADER_ARG = 24;
export const HEADER_TIME = 28;
export const HEADER_FULL = 32;
export const HEADER_MAX = 256;

/** Byte 5: direction, delivery and serializer. */
export const FLAG_REPLY = 0x80;
export const FLAG_ONEWAY = 0x40;
export const FLAG_HEARTBEAT = 0x20;
export const MASK_SERIALIZER = 0x1f;

/** Byte 7: bits and kind. */
export const BIT_END = 0x10;
export const BIT_ZIP = 0x20;
export const BIT_SEG = 0x40;
export const BIT_MORE = 0x80;
export const MASK_KIND = 0x0f;

export const Kind = {
  CALL: 0,
  HELLO: 1,
  OPEN: 2,
  DATA: 3,
  HALF: 4,
  CREDIT: 5,
  CANCEL: 6,
  GOAWAY: 7,
} as const;

export const Serializer = { RAW: 0, MSGPACK: 1, JSON: 2 } as const;

/** Status by name, as the wire document has them. */
export const Status = {
  OK: 0,
  NETWORK: 10,
  BAD_REQUEST: 40,
  CLIENT_TIMEOUT: 41,
  CANCELLED: 42,
  UNAUTHENTICATED: 43,
  NOT_FOUND: 44,
  FORBIDDEN: 45,
  TOO_LARGE: 46,
  UNSUPPORTED: 47,
  SERVER_ERROR: 50,
  DEADLINE: 51,
  OVERLOADED: 52,
  UNAVAILABLE: 53,
  RESULT_UNSENDABLE: 54,
  APPLICATION: 60,
  PROTOCOL: 70,
  FLOOD: 71,
} as const;

export type StatusName = keyof typeof Status;

/** The handler was surely not started: safe to send again. */
export const NOT_RUN: ReadonlySet<number> = new Set([40, 43, 44, 45, 46, 47, 52, 53]);

export const SEGMENTS_MAX = 1024;
export const SEGMENT_ALIGN = 8;
export const PING_BODY_MAX = 64;
export const NAME_MAX = 255;
export const METADATA_MAX = 16 * 1024;
export const METADATA_PAIRS_MAX = 64;
export const HELLO_MAX = 16 * 1024;
export const CREDIT_MAX = 2 ** 31 - 1;
export const BODY_MAX = 2 ** 31 - 1;
export const METHODS_MAX = 65_535;
export const U32_MAX = 2 ** 32 - 1;
/** Too large a body is skipped up to here, else the connection ends. */
export const SKIP_MAX = 64 * 2 ** 20;
/** What a HELLO without the key means. */
export const DEFAULTS = {
  maxBody: 16 * 2 ** 20,
  maxCalls: 1024,
  methods: 4096,
  window: 256 * 1024,
  pingMs: 1000,
} as const;

/** Return the name of a status; one that is not known is read as 50. */
export function statusName(status: number): StatusName {
  for (const [name, number] of Object.entries(Status)) {
    if (number === status) return name as StatusName;
  }
  return "SERVER_ERROR";
}
