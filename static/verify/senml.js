// SenML in CBOR (RFC 8428) of definite lengths, resolved as the ledger resolves it: exact where the sender was.

import { Refused, textOf } from "./bytes.js";

const RECORDS_MAX = 1000n;
const NAME = /^[A-Za-z0-9][A-Za-z0-9\-:./_]{0,254}$/;
const TEXT_BYTES_MAX = 4096;
const UNIT_BYTES_MAX = 32;
const EXPONENT_MAX = 18n;
/** Below 2^28 s a time is relative (RFC 8428 §4.5.3). */
const ABSOLUTE_US_MIN = (1n << 28n) * 1_000_000n;

function require(holds) {
  if (!holds) throw new Refused("pack-readings");
}

const isI64 = (number) => number >= -(1n << 63n) && number < 1n << 63n;

/** The readings of a pack: name, unit, time in µs, value, and whether the time is absolute. */
export function readings(bytes) {
  const reader = new Cbor(bytes);
  const count = reader.length(4);
  require(count >= 1n && count <= RECORDS_MAX);
  const base = { name: "", time: null, unit: null, value: null, sum: null };
  const found = [];
  for (let at = 0n; at < count; at += 1n) found.push(resolve(readRecord(reader), base));
  require(reader.at === bytes.length);
  return found;
}

const LABELS = new Map([
  [-2n, ["bn", "text"]], [-3n, ["bt", "number"]], [-4n, ["bu", "text"]], [-5n, ["bv", "number"]],
  [-6n, ["bs", "number"]], [-1n, ["bver", "i64"]], [0n, ["n", "text"]], [1n, ["u", "text"]], [2n, ["v", "number"]],
  [3n, ["vs", "text"]], [4n, ["vb", "bool"]], [5n, ["s", "number"]], [6n, ["t", "number"]], [7n, ["ut", "number"]],
  [8n, ["vd", "data"]],
]);

function readRecord(reader) {
  const record = {};
  const seen = new Set();
  for (let left = reader.length(5); left > 0n; left -= 1n) {
    if (reader.isText()) {
      // A label that ends so must be understood, any other may be passed over (RFC 8428 §4.4).
      require(!reader.text().endsWith("_"));
      reader.skip();
      continue;
    }
    const label = reader.i64();
    require(!seen.has(label));
    seen.add(label);
    const [name, type] = LABELS.get(label) ?? [];
    if (name === undefined) reader.skip();
    else record[name] = reader[type]();
  }
  return record;
}

function resolve(record, base) {
  require(record.bver === undefined || (record.bver >= 1n && record.bver <= 10n));
  base.name = record.bn ?? base.name;
  base.time = record.bt ?? base.time;
  base.unit = record.bu ?? base.unit;
  base.value = record.bv ?? base.value;
  base.sum = record.bs ?? base.sum;
  const others = [record.vs, record.vb, record.vd].filter((value) => value !== undefined);
  const value = sum(others.length === 0 ? base.value : null, record.v ?? null);
  const total = sum(base.sum, record.s ?? null);
  const time = sum(base.time, record.t ?? null);
  const timeUs = time === null ? 0n : microseconds(time);
  const values = value === null ? others : [value, ...others];
  require(values.length <= 1 && (values.length === 1 || total !== null));
  require(typeof record.vs !== "string" || bytesOf(record.vs) <= TEXT_BYTES_MAX);
  const name = base.name + (record.n ?? "");
  const unit = record.u ?? base.unit;
  require(NAME.test(name) && (unit === null || (unit !== "" && bytesOf(unit) <= UNIT_BYTES_MAX)));
  return { name, unit, timeUs, value: values[0] ?? total, isAbsolute: timeUs >= ABSOLUTE_US_MIN };
}

const bytesOf = (text) => new TextEncoder().encode(text).length;

/** A decimal is `{ mantissa, exponent }` of bigints, a float a number. */
function decimalOf(mantissa, exponent) {
  require(isI64(mantissa) && exponent >= -EXPONENT_MAX && exponent <= EXPONENT_MAX);
  return { mantissa, exponent };
}

function float(value) {
  require(Number.isFinite(value));
  return value;
}

export const asNumber = (number) => (typeof number === "number" ? number : Number(`${number.mantissa}e${number.exponent}`));

/** `mantissa` in units of a smaller power of ten; `null` where 64 bits do not hold it, or the factor. */
function scaled(mantissa, from, to) {
  const factor = 10n ** (from - to);
  const product = mantissa * factor;
  return isI64(factor) && isI64(product) ? product : null;
}

function sum(base, own) {
  if (base === null || own === null) return own ?? base;
  if (typeof base === "number" || typeof own === "number") return float(asNumber(base) + asNumber(own));
  const exponent = base.exponent < own.exponent ? base.exponent : own.exponent;
  const parts = [base, own].map((part) => scaled(part.mantissa, part.exponent, exponent));
  require(!parts.includes(null));
  return decimalOf(parts[0] + parts[1], exponent);
}

function microseconds(time) {
  if (typeof time !== "number") {
    const { mantissa, exponent } = time;
    const factor = exponent < -6n ? 10n ** (-6n - exponent) : 1n;
    const exact = exponent >= -6n ? scaled(mantissa, exponent, -6n) : mantissa % factor === 0n ? mantissa / factor : null;
    if (exact !== null) return exact;
  }
  const float = asNumber(time) * 1e6;
  let rounded = Math.trunc(float);
  // Half a microsecond is rounded away from zero.
  if (Math.abs(float - rounded) >= 0.5) rounded += Math.sign(float);
  require(Number.isFinite(rounded) && isI64(BigInt(rounded)));
  return BigInt(rounded);
}

class Cbor {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
  }

  peek() {
    require(this.at < this.bytes.length);
    return this.bytes[this.at];
  }

  take(count) {
    const start = this.at;
    require(BigInt(count) <= BigInt(this.bytes.length - start));
    this.at += Number(count);
    return this.bytes.subarray(start, this.at);
  }

  /** The argument of the item's head (RFC 8949 §3). */
  argument() {
    const info = this.take(1)[0] & 31;
    if (info < 24) return BigInt(info);
    require(info <= 27);
    return this.take(1 << (info - 24)).reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
  }

  length(major) {
    require(this.peek() >> 5 === major);
    return this.argument();
  }

  isText() {
    return this.peek() >> 5 === 3 && (this.peek() & 31) <= 27;
  }

  i64() {
    const major = this.peek() >> 5;
    require(major <= 1);
    const number = this.argument();
    require(number < 1n << 63n);
    return major === 0 ? number : -1n - number;
  }

  text() {
    return textOf(this.take(this.length(3)));
  }

  data() {
    return this.take(this.length(2));
  }

  bool() {
    const byte = this.take(1)[0];
    require(byte === 0xf4 || byte === 0xf5);
    return byte === 0xf5;
  }

  /** An integer, a decimal fraction (tag 4) or a float. */
  number() {
    const byte = this.peek();
    if (byte >= 0xf9 && byte <= 0xfb) return this.float(byte);
    if (byte >> 5 !== 6) return decimalOf(this.i64(), 0n);
    require(this.argument() === 4n && this.length(4) === 2n);
    const exponent = this.i64();
    return decimalOf(this.i64(), exponent);
  }

  float(byte) {
    const at = this.at + 1;
    this.take(1 + (1 << (byte - 0xf8)));
    if (byte === 0xfa) return float(this.view.getFloat32(at));
    if (byte === 0xfb) return float(this.view.getFloat64(at));
    const bits = this.view.getUint16(at);
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    require(exponent !== 31);
    const size = exponent === 0 ? fraction * 2 ** -24 : (fraction + 1024) * 2 ** (exponent - 25);
    return bits >> 15 === 0 ? size : -size;
  }

  /** Passes over a scalar. */
  skip() {
    const byte = this.peek();
    const major = byte >> 5;
    require(major < 4 || major === 7);
    if (byte === 0xff) this.take(1);
    else if (byte === 0x5f || byte === 0x7f) this.chunks(major);
    else if (major === 2) this.data();
    else if (major === 3) this.text();
    else this.argument();
  }

  chunks(major) {
    this.take(1);
    while (this.peek() !== 0xff) {
      if (major === 2) this.data();
      else this.text();
    }
    this.take(1);
  }
}
