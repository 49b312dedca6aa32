// What of a bundle is true, layer by layer, for a reader who trusts what the trust file names and nobody else.
//
// The same layers and verdicts as `suyuan-auditor verify` reaches offline; docs/proof.md says what each layer asks.

import { Refused, isSame } from "./bytes.js";
import { NoBundle, parseBundle } from "./bundle.js";
import { Heads } from "./heads.js";
import { KeyBook } from "./keys.js";
import { deviceOfName, openPack } from "./pack.js";
import { parseTrust } from "./policy.js";
import { openRecord } from "./record.js";
import { Findings } from "./report.js";

/** A statement whose signature verified; `place` is where it was shown to stand. */
class Checkable {
  place = null;

  constructor(item, { kid, record = null, pack = null }) {
    Object.assign(this, { item, kid, record, pack });
  }

  /** What a registrar whom the trust file names states here. */
  byRegistrar(trust) {
    return trust.registrars.has(this.kid) ? this.record?.statement ?? null : null;
  }
}

/** Checks a bundle's bytes against a trust file's text. What is no bundle is a verdict; a bad trust file is an error. */
export async function verify(bytes, trustText) {
  const trust = await parseTrust(trustText);
  try {
    return await check(await parseBundle(bytes), trust);
  } catch (error) {
    if (!(error instanceof NoBundle)) throw error;
    return { verdict: "invalid", layers: [], statements: [], noBundle: { code: error.code, where: error.where } };
  }
}

async function check(bundle, trust) {
  const findings = new Findings();
  const statements = [];
  for (const [at, item] of bundle.items.entries()) statements.push(await signed(at, item, findings));
  checkUnique(statements, findings);
  const heads = await Heads.open(bundle, trust, statements, findings);
  const order = await heads.order();
  const made = statements.map((statement, at) => (statement === null ? null : heads.made(at, statement, order)));
  const keys = await KeyBook.read(statements, trust, order, findings);
  for (const [at, statement] of statements.entries()) {
    if (statement === null) continue;
    keys.checkSigner(at, statement);
    await keys.checkRoster(at, statement, made[at]);
  }
  checkAnchors(bundle, trust, heads, findings);
  if (bundle.items.length === 0 || bundle.checkpoints.length === 0) findings.unchecked("signature", "empty");
  const read = statements.map((statement, at) => statement && readOf(statement, made[at], heads, keys));
  return { ...findings.report(), statements: read, heads: heads.held() };
}

async function signed(at, item, findings) {
  findings.count("signature");
  try {
    if (item.kind === "pack") {
      const pack = await openPack(item.bytes, item.key);
      return new Checkable(item, { kid: pack.kid, pack });
    }
    const record = await openRecord(item.signed, item.disclosures, item.key);
    return new Checkable(item, { kid: record.kid, record });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    findings.bad("signature", "signature", { at, name: error.code });
    return null;
  }
}

/** A `jti` is unique over the ledger, and so is a pack's number at its device: a second one is another story. */
function checkUnique(statements, findings) {
  const numbers = new Map();
  for (const [at, statement] of statements.entries()) {
    if (statement === null) continue;
    const { record, pack } = statement;
    const number = record === null ? `${deviceOfName(pack.readings[0].name)} ${pack.cti}` : record.claims.jti;
    if (numbers.has(number)) findings.bad("inclusion", "number-twice", { at, other: numbers.get(number) });
    numbers.set(number, at);
  }
}

/** An anchor is of a head that the bundle carries, in a contract that the trust file names. */
function checkAnchors(bundle, trust, heads, findings) {
  for (const { chain, contract, origin, size, root } of bundle.anchors) {
    findings.count("chain");
    const named = { origin, size: String(size), name: String(chain) };
    const head = heads.headOf(origin, size);
    if (head === null) findings.bad("chain", "anchor-no-head", named);
    else if (!isSame(head.root, root)) findings.bad("chain", "anchor-root", named);
    const contracts = trust.chains.filter(({ id }) => id === chain);
    if (contracts.length === 0) findings.unchecked("chain", "anchor-chain", named);
    else if (contracts.some((known) => known.contract === contract)) findings.unchecked("chain", "anchor-offline", named);
    else findings.bad("chain", "anchor-contract", named);
  }
}

function readOf({ item, kid, record, pack, place }, made, heads, keys) {
  return {
    kid,
    made,
    custody: keys.custody(kid),
    claims: record?.processed ?? null,
    readings: pack?.readings ?? null,
    isByGateway: pack !== null && keys.isGateway(kid),
    origin: place && heads.originOf(place.log),
    index: item.index,
  };
}
