// The committed artefact is what these sources compile to: `node artefact.mjs` compares, `--write` replaces it.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const built = JSON.parse(readFileSync(new URL("build/out/TraceLog.sol/TraceLog.json", import.meta.url)));
const text = `${JSON.stringify({ abi: built.abi, bytecode: built.bytecode.object }, null, 1)}\n`;
const file = new URL("artefacts/TraceLog.json", import.meta.url);
if (process.argv.includes("--write")) {
  mkdirSync(new URL("artefacts/", import.meta.url), { recursive: true });
  writeFileSync(file, text);
} else if (readFileSync(file, "utf8") !== text) {
  console.error("contracts/artefacts/TraceLog.json is not what TraceLog.sol compiles to: node artefact.mjs --write");
  process.exit(1);
}
