/** Tests of both kinds expect calls to fail. */

import assert from "node:assert/strict";
import { RpcError } from "../src/index.js";

/** Return the error that a call fails with. */
export async function failing(promise: Promise<unknown>): Promise<RpcError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof RpcError, String(error));
    return error;
  }
  throw new Error("it did not fail");
}
