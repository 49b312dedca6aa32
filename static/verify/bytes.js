// Bytes, hashes and the two dialects of base64: canonical only, stray bits and wrong padding are refused.

/** What is not what it should be; `code` names the reason in the words of the page. */
export class Refused extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

const URL_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STD_ALPHABET = URL_ALPHABET.slice(0, 62) + "+/";
const VALUES = new Map([...URL_ALPHABET, ..."+/"].map((char, at) => [char, at < 64 ? at : at - 2]));

/** Bytes of a text in UTF-8. */
export const utf8 = (text) => new TextEncoder().encode(text);

/** The text of bytes in UTF-8; a byte order mark stays. */
export function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused("not-text");
  }
}

/** RFC 4648 §5 without padding. */
export const toUrl = (bytes) => encode(bytes, URL_ALPHABET);

/** RFC 4648 §4 with padding. */
export function toStd(bytes) {
  const text = encode(bytes, STD_ALPHABET);
  return text + "=".repeat((4 - (text.length % 4)) % 4);
}

function encode(bytes, alphabet) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 3) {
    const word = (bytes[at] << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    const digits = Math.min(bytes.length - at, 3) + 1;
    for (let digit = 0; digit < digits; digit += 1) text += alphabet[(word >> (18 - 6 * digit)) & 63];
  }
  return text;
}

/** Strict inverse of `toUrl`. */
export function fromUrl(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) throw new Refused("base64");
  return decode(text);
}

/** Strict inverse of `toStd`. */
export function fromStd(text) {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) throw new Refused("base64");
  return decode(text.replace(/=+$/, ""));
}

function decode(text) {
  if (text.length % 4 === 1) throw new Refused("base64");
  const bytes = new Uint8Array(Math.floor((text.length * 3) / 4));
  let word = 0;
  let bits = 0;
  let length = 0;
  for (const char of text) {
    word = ((word << 6) | VALUES.get(char)) & 0xfff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes[length] = (word >> bits) & 0xff;
      length += 1;
    }
  }
  if ((word & ((1 << bits) - 1)) !== 0) throw new Refused("base64");
  return bytes;
}

/** 32 bytes in unpadded base64url. */
export function hashOf(text) {
  const bytes = typeof text === "string" ? fromUrl(text) : [];
  if (bytes.length !== 32) throw new Refused("hash");
  return bytes;
}

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Less than, equal to or greater than 0, byte by byte. */
export function compareBytes(one, other) {
  for (let at = 0; at < Math.min(one.length, other.length); at += 1) {
    if (one[at] !== other[at]) return one[at] - other[at];
  }
  return one.length - other.length;
}

/** Texts in the order of their bytes, which is not that of UTF-16. */
export const compareTexts = (one, other) => compareBytes(utf8(one), utf8(other));

export const isSame = (one, other) => compareBytes(one, other) === 0;

export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)));
}

/** A decimal number below 2^64 without sign, leading zeros or white space; `null` for anything else. */
export function decimal(text) {
  if (!/^(0|[1-9][0-9]{0,19})$/.test(text)) return null;
  const number = BigInt(text);
  return number < 1n << 64n ? number : null;
}

/** What stands before and after the first `mark`; `null` where there is none. */
export function splitOnce(text, mark) {
  const at = text.indexOf(mark);
  return at < 0 ? null : [text.slice(0, at), text.slice(at + mark.length)];
}
