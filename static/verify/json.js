// Strict JSON (RFC 8259): what two readers could understand differently is refused.
//
// Objects become maps, integers within 64 bits become bigints, other numbers numbers.

import { Refused, textOf, utf8 } from "./bytes.js";

const BYTES_MAX = 256 * 1024;
export const DEPTH_MAX = 32;
const DIGITS_MAX = 15;
const EXPONENT_MAX = 250;
const NUMBER = /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"/y;
const SPACE = /[ \t\n\r]*/y;

/** Parses bytes of at most 256 kB, 32 levels, no member twice, no number of more digits than a double carries. */
export function parseJson(bytes) {
  if (bytes.length > BYTES_MAX) throw new Refused("json");
  const reader = new Reader(textOf(bytes));
  const value = reader.value(DEPTH_MAX);
  reader.skip(SPACE);
  if (reader.at !== reader.text.length) throw new Refused("json");
  return value;
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  skip(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) throw new Refused("json");
    this.at = pattern.lastIndex;
    return found;
  }

  /** The next character that is no white space; taken if it is `mark`. */
  takes(mark) {
    this.skip(SPACE);
    const isIt = this.text[this.at] === mark;
    if (isIt) this.at += 1;
    return isIt;
  }

  needs(mark) {
    if (!this.takes(mark)) throw new Refused("json");
  }

  value(depthLeft) {
    if (this.takes("{")) return this.object(depthLeft - 1);
    if (this.takes("[")) return this.array(depthLeft - 1);
    for (const [word, value] of [["true", true], ["false", false], ["null", null]]) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.text[this.at] === '"' ? this.string() : this.number();
  }

  object(depthLeft) {
    if (depthLeft < 0) throw new Refused("json");
    const members = new Map();
    if (this.takes("}")) return members;
    do {
      this.skip(SPACE);
      const name = this.string();
      if (members.has(name)) throw new Refused("json");
      this.needs(":");
      members.set(name, this.value(depthLeft));
    } while (this.takes(","));
    this.needs("}");
    return members;
  }

  array(depthLeft) {
    if (depthLeft < 0) throw new Refused("json");
    const elements = [];
    if (this.takes("]")) return elements;
    do elements.push(this.value(depthLeft));
    while (this.takes(","));
    this.needs("]");
    return elements;
  }

  string() {
    const text = JSON.parse(this.skip(STRING)[0]);
    // Half a surrogate pair is no character.
    if (/\p{Surrogate}/u.test(text)) throw new Refused("json");
    return text;
  }

  number() {
    const [token, whole, fraction = "", exponent = ""] = this.skip(NUMBER);
    const digits = (whole + fraction.slice(1)).replace(/^0+/, "").replace(/0+$/, "");
    const power = Number(exponent.replace(/^[eE][+-]?/, "") || 0);
    if (digits.length > DIGITS_MAX || power > EXPONENT_MAX || whole.length + fraction.length > 64) throw new Refused("json");
    if (fraction === "" && exponent === "" && token !== "-0") {
      const integer = BigInt(token);
      if (integer >= -(1n << 63n) && integer < 1n << 64n) return integer;
    }
    const number = Number(token);
    if (!Number.isFinite(number)) throw new Refused("json");
    return number;
  }
}

/** The member of an object; `undefined` where there is none, or no object. */
export const member = (value, name) => (value instanceof Map ? value.get(name) : undefined);

/** The text that a member is; refused where it is anything else. */
export function text(value, name, code) {
  const found = member(value, name);
  if (typeof found !== "string") throw new Refused(code);
  return found;
}

export const byteLength = (text) => utf8(text).length;
