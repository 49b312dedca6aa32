// The reading pack: COSE_Sign1 (RFC 9052) around a SenML pack, in one accepted encoding, and whom its key may speak for.

import { Refused, concat, isSame, toUrl, utf8 } from "./bytes.js";
import { verifies } from "./ed25519.js";
import { readings } from "./senml.js";

const PACK_BYTES_MAX = 16 * 1024;
const CTI_BYTES_MAX = 32;
/** `{1: alg, 3: 112, 4: kid` under both names of Ed25519, and `15: {7:` of the CWT claims. */
const PROTECTED = [[0xa4, 0x01, 0x27], [0xa4, 0x01, 0x32]].map((alg) => Uint8Array.of(...alg, 0x03, 0x18, 0x70, 0x04, 0x58, 0x20));
const CWT_CLAIMS = Uint8Array.of(0x0f, 0xa1, 0x07);

function require(holds, code = "pack-form") {
  if (!holds) throw new Refused(code);
}

class Frame {
  constructor(bytes) {
    this.rest = bytes;
  }

  take(count) {
    require(count <= this.rest.length);
    const taken = this.rest.subarray(0, count);
    this.rest = this.rest.subarray(count);
    return taken;
  }

  expect(bytes) {
    require(isSame(this.take(bytes.length), bytes));
  }

  /** A byte string of definite length, in the shortest form. */
  bytes() {
    const [first] = this.take(1);
    if (first >= 0x40 && first <= 0x57) return this.take(first - 0x40);
    require(first === 0x58 || first === 0x59);
    const length = this.take(first - 0x57).reduce((number, byte) => number * 256 + byte, 0);
    require(first === 0x58 ? length >= 24 : length > 0xff);
    return this.take(length);
  }
}

function byteString(bytes) {
  const { length } = bytes;
  const head = length < 24 ? [0x40 | length] : length < 256 ? [0x58, length] : [0x59, length >> 8, length & 0xff];
  return concat(Uint8Array.from(head), bytes);
}

/** Parses and verifies a pack. */
export async function openPack(bytes, key) {
  require(bytes.length <= PACK_BYTES_MAX);
  const frame = new Frame(bytes);
  frame.expect(Uint8Array.of(0x84));
  const header = frame.bytes();
  frame.expect(Uint8Array.of(0xa0));
  const payload = frame.bytes();
  const signature = frame.bytes();
  require(frame.rest.length === 0 && signature.length === 64);
  const { kid, cti } = parseProtected(header);
  const context = concat(Uint8Array.of(0x84, 0x6a), utf8("Signature1"));
  const signed = concat(context, byteString(header), Uint8Array.of(0x40), byteString(payload));
  require(key.kid === kid && (await verifies(key, signed, signature)), "pack-signature");
  return { kid, cti: toUrl(cti), readings: readings(payload) };
}

function parseProtected(header) {
  const frame = new Frame(header);
  const start = frame.take(PROTECTED[0].length);
  require(PROTECTED.some((known) => isSame(start, known)));
  const kid = toUrl(frame.take(32));
  frame.expect(CWT_CLAIMS);
  const cti = frame.bytes();
  require(frame.rest.length === 0 && cti.length >= 1 && cti.length <= CTI_BYTES_MAX);
  return { kid, cti };
}

/** `urn:dev:org:{PEN}-{party}:{device}` of a SenML name; empty where it is none. */
export const deviceOfName = (name) => /^((?:[^:]*:){4}[^:]*):/.exec(name)?.[1] ?? "";

/** Whom a key for packs signs for, by its enrolled base name: `null` for what is no device, party or gateway. */
export function parseScope(baseName) {
  const found = /^urn:dev:org:(0|[1-9][0-9]*)-(?:([a-z0-9][a-z0-9.]{0,31}):(?:([a-z0-9][a-z0-9.]{0,31}):)?)?$/.exec(baseName);
  if (found === null || BigInt(found[1]) >= 1n << 32n) return null;
  return { baseName, isDevice: found[3] !== undefined };
}

/** The base name of the device that a reading is of; `null` where the scope does not hold it. */
export function deviceIn(scope, name) {
  if (!name.startsWith(scope.baseName)) return null;
  return /^urn:dev:org:[^-]*-[a-z0-9][a-z0-9.]{0,31}:[a-z0-9][a-z0-9.]{0,31}:/.exec(name)?.[0] ?? null;
}
