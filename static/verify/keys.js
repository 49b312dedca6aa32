// Who may sign: enrolments, replacements and revocations by registrars, and the roster that confirms a key afterwards.

import { hashOf, utf8 } from "./bytes.js";
import { isIncluded, leafHash } from "./merkle.js";
import { isSamePlace } from "./order.js";
import { deviceIn, parseScope } from "./pack.js";
import { isPossessed } from "./record.js";

export class KeyBook {
  enrolled = new Map();
  ended = new Map();

  constructor(statements, trust, order, findings) {
    Object.assign(this, { statements, trust, order, findings });
  }

  /** Reads what stands under a head that holds; the rest counts for nothing. */
  static async read(statements, trust, order, findings) {
    const book = new KeyBook(statements, trust, order, findings);
    for (const [at, checkable] of statements.entries()) {
      const statement = checkable?.place ? checkable.byRegistrar(trust) : null;
      if (statement === null) continue;
      const { place } = checkable;
      if (statement.type === "rotate") book.#end(statement.replaces, { at, place, revocation: null });
      if (statement.type === "revoke") book.#end(statement.kid, { at, place, revocation: statement });
      await book.#enrol(at, checkable, statement);
    }
    return book;
  }

  #end(kid, end) {
    this.ended.set(kid, [...this.#endsOf(kid), end]);
  }

  #endsOf(kid) {
    return this.ended.get(kid) ?? [];
  }

  /** A key is one party's: of two enrolments the first in the log counts, and a rival's second does not. */
  async #enrol(at, checkable, statement) {
    if (statement.pop === undefined || !(await isPossessed(statement, checkable.record.claims))) return;
    const { kid, role, party, custody, base_name: baseName = "" } = statement;
    const added = { at, place: checkable.place, role, party, custody, baseName, isAmbiguous: false };
    const known = this.enrolled.get(kid);
    if (known === undefined) this.enrolled.set(kid, added);
    else if (this.order.precedes(added.place, known.place)) this.enrolled.set(kid, { ...added, isAmbiguous: known.isAmbiguous });
    else if (!this.order.precedes(known.place, added.place)) known.isAmbiguous = true;
  }

  /** Who holds the key's secret, as its enrolment says; `null` where none does. */
  custody(kid) {
    return this.enrolled.get(kid)?.custody ?? null;
  }

  /** Whether the key is enrolled for a whole party's devices, or everybody's, and not for one device. */
  isGateway(kid) {
    return !(parseScope(this.enrolled.get(kid)?.baseName ?? "")?.isDevice ?? false);
  }

  /** The signer was enrolled before the statement, for that party or device, and neither replaced nor revoked before it. */
  checkSigner(at, statement) {
    this.findings.count("enrolment");
    const { kid, place, record, pack } = statement;
    if (this.trust.registrars.has(kid)) {
      if (!record?.hasStatement) this.findings.bad("enrolment", "registrar-goods", { at });
      return;
    }
    const key = this.enrolled.get(kid);
    if (key === undefined) {
      this.findings.unchecked("enrolment", "not-enrolled", { at, name: kid });
      return;
    }
    const wrong = record === null ? whyNotOfDevice(key, pack) : whyNotOfAuthor(key, record);
    if (wrong !== null) this.findings.bad("enrolment", wrong, { at, name: key.party });
    if (key.isAmbiguous) this.findings.unchecked("enrolment", "enrolled-twice", { at });
    if (place === null) return;
    this.#expectOrder(key.place, place, "enrolled-later", { at, other: key.at });
    for (const end of this.#endsOf(kid)) this.#expectOrder(place, end.place, end.revocation === null ? "replaced-before" : "revoked-before", { at, other: end.at });
  }

  /** Bad if `later` is shown to come first, unchecked if nothing is shown. */
  #expectOrder(earlier, later, code, named) {
    if (this.order.precedes(earlier, later)) return;
    const isContradicted = isSamePlace(earlier, later) || this.order.precedes(later, earlier);
    if (isContradicted) this.findings.bad("enrolment", code, named);
    else this.findings.unchecked("enrolment", "order-unknown", named);
  }

  /** The first roster after a statement shows that its key was not revoked; that, and only that. */
  async checkRoster(at, statement, made) {
    const { roster } = statement.item;
    if (this.trust.registrars.has(statement.kid)) {
      if (roster !== null) this.findings.bad("roster", "registrar-roster", { at });
      return;
    }
    this.findings.count("roster");
    if (roster === null) {
      this.findings.unchecked("roster", "not-confirmed", { at });
      return;
    }
    const { code, place = null } = await this.#lineIn(statement, roster);
    if (code !== undefined) this.findings.bad("roster", code, { at, other: Number(roster.number) });
    else if (statement.place === null || place === null) this.findings.unchecked("roster", "roster-no-place", { at });
    else this.#judge(at, statement, made, roster.state, place);
  }

  /** Where the roster stands in which the line is proved, or why it is not. */
  async #lineIn(statement, line) {
    const checkable = line.number < BigInt(this.statements.length) ? this.statements[Number(line.number)] : null;
    const stated = checkable?.byRegistrar(this.trust) ?? null;
    if (stated?.type !== "roster") return { code: "no-roster" };
    const leaf = await leafHash(utf8(line.line));
    if (!(await isIncluded(hashOf(stated.root), stated.lines, line.index, leaf, line.path))) return { code: "roster-line" };
    const enrolled = this.enrolled.get(statement.kid);
    const party = statement.record?.claims.iss ?? enrolled?.party ?? line.party;
    const isTheirs = line.kid === statement.kid && line.party === party;
    if (!isTheirs || (enrolled !== undefined && enrolled.custody !== line.custody)) return { code: "roster-other" };
    return { place: checkable.place };
  }

  #judge(at, statement, made, state, roster) {
    const bad = (code) => this.findings.bad("roster", code, { at });
    const open = (code) => this.findings.unchecked("roster", code, { at });
    if (this.order.precedes(statement.place, roster)) this.#judgeLater(this.#endsOf(statement.kid), made, state, bad, open);
    else if (!this.order.precedes(roster, statement.place)) open("roster-order-unknown");
    else if (state === "good") open("not-confirmed");
    else bad(state === "rotated" ? "replaced-in-roster" : "revoked-in-roster");
  }

  /** A roster after the statement says `state`. Where the key ended in between, the ending's own place decides. */
  #judgeLater(ends, made, state, bad, open) {
    // A revocation that came after the roster may reach back, and whoever knows of one may add it.
    const revocation = ends.find((end) => end.revocation !== null)?.revocation ?? null;
    if (state === "rotated") {
      if (!ends.some((end) => end.revocation === null)) open("replaced-when");
    } else if (revocation !== null) checkRevocation(made, revocation, bad);
    else if (state === "revoked") bad("revoked-when");
  }
}

/** The revocation was stated after the statement. It may reach back: what a thief had signed by then does not count. */
function checkRevocation({ after, before }, { since: stated, reason }, bad) {
  const since = stated < 0n ? 0n : stated;
  if (before !== null && before <= since) return;
  if (after !== null && after >= since) bad("made-after-revocation");
  else if (reason === "compromised" || reason === "lost") bad("perhaps-stolen");
}

function whyNotOfAuthor(key, { claims, hasStatement, statement }) {
  if (key.role !== "record" && key.role !== "derivation") return "key-role";
  if (key.party !== claims.iss) return "key-party";
  if (!hasStatement) return null;
  if (statement === null) return "statement";
  return statement.type === "code-run" ? null : "registrar-only";
}

/** Every name starts with the enrolled base name; one pack is one device's; a device that signs for itself knows the time. */
function whyNotOfDevice(key, { readings }) {
  if (key.role !== "pack") return "key-role";
  const scope = parseScope(key.baseName);
  if (scope === null) return "key-device";
  const devices = new Set(readings.map(({ name }) => deviceIn(scope, name)));
  if (devices.has(null) || devices.size > 1) return "key-device";
  return scope.isDevice && readings.some((reading) => !reading.isAbsolute) ? "device-clock" : null;
}
