// The trace record: an SD-JWT around one EPCIS event or one statement about the ledger. One text has one reading, or none.

import { Refused, fromUrl, hashOf, toUrl, utf8 } from "./bytes.js";
import { process } from "./disclosures.js";
import { publicKey, verifies } from "./ed25519.js";
import { byteLength, member, parseJson, text } from "./json.js";

const RECORD_BYTES_MAX = 256 * 1024;
const REFS_MAX = 1000;
const TEXT_BYTES_MAX = 255;
const CLAIMS = new Set("iss iat jti aud profile seen refs _sd _sd_alg event statement".split(" "));
/** Members of an event that always stand in plain. */
const PLAIN = new Set("@context type eventID eventTime eventTimeZoneOffset action parentID transformationID bizStep gx:step".split(" "));
/** Lists of EPCs and quantities: a shortened list would read as a complete one. */
const LISTS = "epcList childEPCs inputEPCList outputEPCList quantityList childQuantityList inputQuantityList outputQuantityList".split(" ");
const RELATIONS = new Set(["corrects", "answers", "derived", "evidence"]);
const ROLES = new Set(["record", "pack", "log", "registrar", "derivation"]);
export const CUSTODIES = new Set(["platform", "browser", "device", "hsm"]);
const REASONS = new Set(["compromised", "lost", "superseded", "retired"]);

function require(holds, code = "record-claims") {
  if (!holds) throw new Refused(code);
}

const isU64 = (value) => typeof value === "bigint" && value >= 0n;
const isI64 = (value) => typeof value === "bigint" && value < 1n << 63n;
const isLedgerName = (name) => /^[a-z][a-z0-9-]*$/.test(name);

/** A compact JWS with the one header `alg`, `typ`, `kid`; not yet verified. */
function parseJws(compact, typ) {
  const parts = compact.split(".");
  require(parts.length === 3, "record-form");
  const [header, payload, signature] = parts.map(fromUrl);
  const stated = parseJson(header);
  const alg = text(stated, "alg", "record-form");
  require(alg === "Ed25519" || alg === "EdDSA", "record-form");
  require(text(stated, "typ", "record-form") === typ && stated.size === 3 && signature.length === 64, "record-form");
  const kid = toUrl(hashOf(text(stated, "kid", "record-form")));
  const input = compact.slice(0, compact.lastIndexOf("."));
  return { kid, payload: parseJson(payload), input, signature };
}

async function verifyJws(jws, key) {
  require(jws.kid === key.kid && (await verifies(key, utf8(jws.input), jws.signature)), "record-signature");
}

/** Parses and verifies a record, and puts back what its disclosures open. */
export async function openRecord(signed, disclosures, key) {
  require(signed.length <= RECORD_BYTES_MAX, "record-form");
  const jws = parseJws(signed, "trace-record+sd-jwt");
  const claims = parseClaims(jws.payload);
  const event = member(jws.payload, "event");
  if (event !== undefined) checkListsAreWhole(event);
  await verifyJws(jws, key);
  const stated = member(jws.payload, "statement");
  require((stated !== undefined) === claims.profile.startsWith("ledger/1#"), "record-profile");
  const processed = await process(jws.payload, disclosures);
  checkNothingOpenWasHidden(jws.payload, processed);
  const statement = stated === undefined ? null : await parseStatement(stated).catch(refusedAsNull);
  return { kid: jws.kid, claims, processed, hasStatement: stated !== undefined, statement };
}

/** A statement that is none of `ledger/1` is told of where its signer is judged. */
function refusedAsNull(error) {
  if (error instanceof Refused) return null;
  throw error;
}

function parseClaims(payload) {
  require(payload instanceof Map && [...payload.keys()].every((name) => CLAIMS.has(name)));
  const short = (name) => {
    const value = text(payload, name, "record-claims");
    require(byteLength(value) <= TEXT_BYTES_MAX);
    return value;
  };
  require(payload.get("_sd_alg") === "sha-256" && payload.has("event") !== payload.has("statement"));
  require((payload.get("event") ?? payload.get("statement")) instanceof Map);
  const [iss, jti, aud, profile] = ["iss", "jti", "aud", "profile"].map(short);
  const iat = payload.get("iat");
  require(iss.startsWith("https://id.gs1.org/") && isI64(iat) && iat >= 0n && isLedgerName(aud));
  require(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(jti));
  const named = /^[a-z][a-z0-9-]*\/(0|[1-9][0-9]{0,4})#[0-9a-f]{32}$/.exec(profile);
  require(named !== null && Number(named[1]) <= 0xffff);
  return { iss, iat, jti, aud, profile, seen: parseSeen(payload), refs: parseRefs(payload) };
}

function parseSeen(payload) {
  if (!payload.has("seen")) return null;
  const seen = payload.get("seen");
  require(seen instanceof Map && seen.size === 3 && isU64(seen.get("size")));
  const origin = text(seen, "origin", "record-claims");
  require(byteLength(origin) <= TEXT_BYTES_MAX);
  return { origin, size: seen.get("size"), root: hashOf(seen.get("root")) };
}

function parseRefs(payload) {
  const refs = payload.has("refs") ? payload.get("refs") : [];
  require(Array.isArray(refs) && refs.length <= REFS_MAX);
  return refs.map((ref) => {
    require(ref instanceof Map && ref.size === 2 && RELATIONS.has(ref.get("rel")));
    return { rel: ref.get("rel"), leaf: toUrl(hashOf(ref.get("leaf"))) };
  });
}

function isNeverConcealed(name) {
  return PLAIN.has(name) || LISTS.includes(name);
}

/** No element of a list is a digest, and within one only `quantity` and `uom` are, together. */
function checkListsAreWhole(event) {
  for (const name of LISTS.filter((list) => event.has(list))) {
    require(Array.isArray(event.get(name)), "record-concealed");
    for (const element of event.get(name)) {
      const digests = member(element, "_sd");
      const count = Array.isArray(digests) ? digests.length : 0;
      const isPlain = member(element, "quantity") !== undefined || member(element, "uom") !== undefined;
      require(member(element, "...") === undefined && count <= 2 && !(count > 0 && isPlain), "record-concealed");
    }
  }
}

/** What disclosures put back are not the parts that must always stand in plain. */
function checkNothingOpenWasHidden(signed, processed) {
  const appeared = (...path) => {
    const [before, after] = [signed, processed].map((value) => path.reduce(step, value));
    return before instanceof Map && after instanceof Map ? [...after.keys()].filter((name) => !before.has(name)) : [];
  };
  const allow = (names, mayBe) => require(names.every(mayBe), "record-concealed");
  allow(appeared(), (name) => name === "act" || name === "event_hash");
  allow(appeared("event"), (name) => !isNeverConcealed(name));
  allow(appeared("statement"), () => false);
  for (const list of LISTS) {
    const elements = member(member(processed, "event"), list);
    for (const at of Array.isArray(elements) ? elements.keys() : []) {
      allow(appeared("event", list, at), (name) => name === "quantity" || name === "uom");
    }
  }
}

const step = (value, token) => (Array.isArray(value) ? value[token] : member(value, token));

const isText = (value) => typeof value === "string";
const isHash = (value) => {
  try {
    return hashOf(value).length === 32;
  } catch {
    return false;
  }
};
const oneOf = (words) => (value) => words.has(value);
const optional = (isValue) => (value) => value === undefined || isValue(value);
const KEY = { kid: isHash, key: isHash, role: oneOf(ROLES), party: isText, custody: oneOf(CUSTODIES), base_name: optional(isText), pop: isText };
/** What a statement of each type is made of, and of nothing else. */
const STATEMENTS = {
  enrol: KEY,
  rotate: { replaces: isHash, ...KEY },
  revoke: { kid: isHash, party: isText, since: isI64, reason: oneOf(REASONS) },
  roster: { root: isHash, lines: isU64 },
  "code-run": { gtin: isText, epoch: (value) => isText(value) && [...value].length === 1, first: isU64, count: isU64, key_hash: isHash },
  "new-log": { origin: isText, vkey: isText, closed: optional(isText) },
};

async function parseStatement(stated) {
  const type = text(stated, "type", "statement");
  require(Object.hasOwn(STATEMENTS, type), "statement");
  const fields = STATEMENTS[type];
  require([...stated.keys()].every((name) => name === "type" || Object.hasOwn(fields, name)), "statement");
  require(Object.entries(fields).every(([name, isValue]) => isValue(stated.get(name))), "statement");
  const statement = Object.fromEntries(stated);
  if (fields.pop !== undefined) {
    statement.publicKey = await publicKey(hashOf(statement.key));
    require(statement.publicKey.kid === statement.kid, "statement");
    require((statement.role === "pack") === (statement.base_name !== undefined), "statement");
  }
  return statement;
}

/** Whether the key that a statement brings was held by who asked for it: nobody enrols what they do not hold. */
export async function isPossessed(statement, { aud, jti }) {
  const { pop, party, custody, publicKey: key } = statement;
  const wanted = { aud, jti, kid: key.kid, party, custody };
  try {
    const jws = parseJws(pop, "trace-pop");
    await verifyJws(jws, key);
    const isMap = jws.payload instanceof Map && jws.payload.size === 5;
    return isMap && Object.entries(wanted).every(([name, value]) => jws.payload.get(name) === value);
  } catch (error) {
    if (error instanceof Refused) return false;
    throw error;
  }
}
