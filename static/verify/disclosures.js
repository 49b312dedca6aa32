// RFC 9901: what disclosures open is put back, every digest that stays closed is dropped.
//
// Stricter than other verifiers on purpose: an unreferenced disclosure, a reserved name in another place, and stray
// base64 bits are errors.

import { Refused, fromUrl, hashOf, sha256, toUrl, utf8 } from "./bytes.js";
import { DEPTH_MAX, member, parseJson } from "./json.js";

const TEXT_BYTES_MAX = 256 * 1024;
export const DISCLOSURES_MAX = 2000;
const RESERVED = new Set(["_sd", "_sd_alg", "..."]);

function require(holds) {
  if (!holds) throw new Refused("disclosure");
}

/** All claims with what the disclosures open. */
export async function process(payload, disclosures) {
  require(disclosures.reduce((sum, text) => sum + text.length, 0) <= TEXT_BYTES_MAX);
  require(disclosures.length <= DISCLOSURES_MAX);
  const open = new Map();
  for (const text of disclosures) {
    const parts = parseJson(fromUrl(text));
    require(Array.isArray(parts) && (parts.length === 2 || parts.length === 3) && typeof parts[0] === "string");
    const name = parts.length === 3 ? parts[1] : null;
    require(name === null || (typeof name === "string" && !RESERVED.has(name)));
    const digest = toUrl(await sha256(utf8(text)));
    require(!open.has(digest));
    open.set(digest, { name, value: parts.at(-1) });
  }
  const processed = new Processing(open).value(payload, DEPTH_MAX, true);
  require(open.size === 0);
  return processed;
}

class Processing {
  seen = new Set();

  constructor(open) {
    this.open = open;
  }

  value(value, depthLeft, isTop = false) {
    if (!(value instanceof Map) && !Array.isArray(value)) return value;
    // Disclosures nest, so that the depth of the result is bounded here and not only in each text.
    require(depthLeft > 0);
    return value instanceof Map ? this.object(value, depthLeft - 1, isTop) : this.array(value, depthLeft - 1);
  }

  object(members, depthLeft, isTop) {
    const processed = new Map();
    for (const [name, value] of members) {
      if (name === "_sd") continue;
      if (name === "_sd_alg" && isTop && value === "sha-256") continue;
      require(!RESERVED.has(name));
      processed.set(name, this.value(value, depthLeft));
    }
    const digests = members.has("_sd") ? members.get("_sd") : [];
    require(Array.isArray(digests));
    for (const digest of digests) {
      const opened = this.take(digest);
      if (opened === undefined) continue;
      require(opened.name !== null && !processed.has(opened.name));
      processed.set(opened.name, this.value(opened.value, depthLeft));
    }
    return processed;
  }

  array(elements, depthLeft) {
    const processed = [];
    for (const element of elements) {
      const digest = member(element, "...");
      if (digest === undefined) {
        processed.push(this.value(element, depthLeft));
        continue;
      }
      require(element.size === 1);
      const opened = this.take(digest);
      if (opened === undefined) continue;
      require(opened.name === null);
      processed.push(this.value(opened.value, depthLeft));
    }
    return processed;
  }

  /** What a digest refers to, if it was handed out; each digest may stand once. */
  take(digest) {
    const text = toUrl(hashOf(digest));
    require(!this.seen.has(text));
    this.seen.add(text);
    const opened = this.open.get(text);
    this.open.delete(text);
    return opened;
  }
}
