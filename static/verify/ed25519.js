// Ed25519 as strict as the ledger's own: RFC 8032 §5.1.7 without cofactor, canonical S, R and key, no small order.
//
// WebCrypto checks the equation. What some implementations let through is refused before they are asked.

import { Refused, compareBytes, sha256, toUrl, utf8 } from "./bytes.js";

const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
/** y of the eight points of small order: 0, 1, −1, and two of order eight. */
const SMALL_ORDER = new Set([
  0n,
  1n,
  P - 1n,
  2707385501144840649318225287225658788936804267575313519463743609750303402022n,
  55188659117513257062467267217118295137698188065244968500265048394206261417927n,
]);

function littleEndian(bytes) {
  let number = 0n;
  for (let at = bytes.length - 1; at >= 0; at -= 1) number = (number << 8n) | BigInt(bytes[at]);
  return number;
}

/** y of a canonical encoding that is not of small order; `null` for any other. */
function canonicalY(bytes) {
  const y = littleEndian(bytes) & ((1n << 255n) - 1n);
  return y < P && !SMALL_ORDER.has(y) ? y : null;
}

function power(base, exponent) {
  let result = 1n;
  for (let square = base; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * square) % P;
    square = (square * square) % P;
  }
  return result;
}

/** Whether x² = (y² − 1) / (dy² + 1) has a root. */
function isOnCurve(y) {
  const square = (y * y) % P;
  const ratio = ((square - 1n + P) * (D * square + 1n)) % P;
  return power(ratio, (P - 1n) / 2n) !== P - 1n;
}

const known = new Map();

/** A public key of 32 bytes with its RFC 7638 thumbprint `kid`. */
export async function publicKey(bytes) {
  const x = toUrl(bytes);
  if (!known.has(x)) {
    const y = bytes.length === 32 ? canonicalY(bytes) : null;
    if (y === null || !isOnCurve(y)) throw new Refused("key");
    const kid = toUrl(await sha256(utf8(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`)));
    known.set(x, { bytes, text: x, kid, handle: await crypto.subtle.importKey("raw", bytes, "Ed25519", false, ["verify"]) });
  }
  return known.get(x);
}

/** Whether `signature` is that of `key` over `message`. */
export async function verifies(key, message, signature) {
  if (signature.length !== 64) return false;
  const isCanonical = canonicalY(signature.subarray(0, 32)) !== null && littleEndian(signature.subarray(32)) < L;
  return isCanonical && crypto.subtle.verify("Ed25519", key.handle, signature, message);
}

/** Whether this browser can check at all. */
export async function isSupported() {
  // The first test of RFC 8032 §7.1.
  const base = Uint8Array.from("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".match(/../g), (digits) => parseInt(digits, 16));
  try {
    return compareBytes((await publicKey(base)).bytes, base) === 0;
  } catch {
    return false;
  }
}
