// Asks the scan page's script: a line of JSON in, a line of JSON out. { bundle (base64url), trust } is checked whole,
// { key, message, signature } (hex) is one signature.
import { createInterface } from "node:readline";
import { Refused } from "../../../../static/verify/bytes.js";
import { publicKey, verifies } from "../../../../static/verify/ed25519.js";
import { verify } from "../../../../static/verify/verify.js";

for await (const line of createInterface({ input: process.stdin })) {
  const { bundle, trust, ...one } = JSON.parse(line);
  if (bundle === undefined) {
    console.log(await verifiesOne(one));
    continue;
  }
  const { verdict, layers, noBundle } = await verify(Buffer.from(bundle, "base64url"), trust);
  const told = layers.map(({ layer, count, outcome, reasons, more }) => {
    const numbers = reasons.filter(({ at }) => at !== undefined).map(({ at }) => String(at));
    return { layer, count, outcome, reasons: reasons.length + (more > 0 ? 1 : 0), statements: numbers.sort() };
  });
  console.log(JSON.stringify({ verdict, layers: told, isBundle: noBundle === undefined }));
}

async function verifiesOne({ key, message, signature }) {
  const [bytes, signed, by] = [key, message, signature].map((hex) => Uint8Array.from(Buffer.from(hex, "hex")));
  try {
    return await verifies(await publicKey(bytes), signed, by);
  } catch (error) {
    if (error instanceof Refused) return false;
    throw error;
  }
}
