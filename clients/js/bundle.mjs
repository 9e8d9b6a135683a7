/** Write the one file that pages load, with the licence of what is in it. */

import { readFileSync } from "node:fs";
import { build } from "esbuild";

const licence = readFileSync("node_modules/@msgpack/msgpack/LICENSE", "utf8").trim();
const { version, license } = JSON.parse(readFileSync("package.json", "utf8"));

await build({
  entryPoints: ["src/index.ts"],
  outfile: "dist/fastrpc.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  banner: { js: `/*! fastrpc-client ${version}, ${license}. With @msgpack/msgpack:\n\n${licence}\n*/` },
  logLevel: "warning",
});
