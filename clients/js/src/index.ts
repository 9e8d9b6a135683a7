/**
 * Call fastrpc servers from browsers and Node.
 */

export { connect, Caller, Client } from "./client.js";
export type { Arguments, CallOptions, ClientOptions, StreamOptions } from "./client.js";
export { ApplicationError, FrameError, ProtocolError, RpcError } from "./errors.js";
export type { Ran, RpcErrorFields } from "./errors.js";
export { NdArray } from "./arrays.js";
export type { TypedArray } from "./arrays.js";
export { Metadata } from "./metadata.js";
export type { MetadataLike } from "./metadata.js";
export { streaming, withCall } from "./registry.js";
export type { CallContext } from "./registry.js";
export type { Reply } from "./call.js";
export type { State } from "./link.js";
export type { RpcStream, Items } from "./stream.js";
export { Named, named } from "./stub.js";
export type { DescribedMethod, DescribedService, Description, ServiceOptions } from "./stub.js";
export type { StatusName } from "./wire.js";
