// The heads of a bundle: whose log they are of, who cosigned them when, and which statements stand under them.

import { Refused, isSame, toUrl } from "./bytes.js";
import { isConsistent, isIncluded, leafHash } from "./merkle.js";
import { ED25519, openCheckpoint, parseNote, parseOrigin, verifierKey } from "./note.js";
import { Order, isSamePlace } from "./order.js";

/** `null` where what is tried is refused. */
async function orNull(tried) {
  try {
    return await tried;
  } catch (error) {
    if (error instanceof Refused) return null;
    throw error;
  }
}

const nameOf = ({ origin, size }) => ({ origin, size: String(size) });

export class Heads {
  /** Opens every head whose log the trust file names, or a registrar's `new-log` in such a log, and places the statements. */
  static async open(bundle, trust, statements, findings) {
    const heads = new Heads(bundle, trust, statements, findings);
    heads.#checkOneLedger();
    const keys = new Map(trust.logs.map((log) => [log.name, log]));
    let waiting = [...bundle.checkpoints.keys()];
    for (let before = -1; waiting.length !== before; ) {
      before = waiting.length;
      const left = [];
      for (const log of waiting) if (!(await heads.#openOne(log, keys))) left.push(log);
      waiting = left;
    }
    heads.#reportUnopened(waiting);
    await heads.#openSeen();
    return heads;
  }

  constructor(bundle, trust, statements, findings) {
    Object.assign(this, { bundle, trust, statements, findings });
    this.opened = bundle.checkpoints.map(() => null);
    this.seen = [];
    this.newLogs = [];
  }

  #checkOneLedger() {
    let first = null;
    for (const { head } of this.bundle.checkpoints) {
      const origin = parseOrigin(head.origin);
      if (origin === null) {
        this.findings.bad("log", "log-origin", nameOf(head));
        continue;
      }
      first ??= origin;
      if (first.host !== origin.host || first.ledger !== origin.ledger) this.findings.bad("log", "log-other-ledger", nameOf(head));
    }
  }

  /** `false`: nobody vouches for a key of this log, yet. */
  async #openOne(log, keys) {
    const { note, head } = this.bundle.checkpoints[log];
    const key = keys.get(head.origin);
    if (key === undefined) return false;
    this.findings.count("log");
    this.findings.count("witnesses");
    if ((await orNull(openCheckpoint(note, key))) === null) {
      this.findings.bad("log", "log-signature", nameOf(head));
      return true;
    }
    const times = (await this.#cosigned(note, head, key, "witnesses")) ?? { firstAt: null, enoughAt: null };
    await this.#placeStatements(log, head);
    this.opened[log] = { ...head, key, ...times };
    await this.#readNewLogs(log, keys);
    return true;
  }

  /** When the note was cosigned first, and when enough; `null` where the quorum is not met. */
  async #cosigned(note, head, key, layer) {
    for (const line of note.lines.filter((line) => !this.trust.knowsLine(key, line))) {
      this.findings.unchecked(layer, "line-unknown", { ...nameOf(head), name: line.name });
    }
    const witnessed = await orNull(this.trust.witnessed(note));
    if (witnessed === null) this.findings.bad(layer, "cosignature", nameOf(head));
    else if (!witnessed.isEnough) this.findings.unchecked(layer, "cosigned-too-few", { ...nameOf(head), name: witnessed.names.join(", ") || "–" });
    else return { firstAt: witnessed.firstAt, enoughAt: witnessed.enoughAt };
    return null;
  }

  async #placeStatements(log, head) {
    const ledger = parseOrigin(head.origin)?.ledger;
    for (const [at, item] of this.bundle.items.entries()) {
      if (item.checkpoint !== BigInt(log)) continue;
      this.findings.count("inclusion");
      if (!(await isIncluded(head.root, head.size, item.index, await leafHash(item.entry), item.path))) {
        this.findings.bad("inclusion", "inclusion", { at, ...nameOf(head) });
        continue;
      }
      const statement = this.statements[at];
      if (statement === null) continue;
      if (statement.record !== null && statement.record.claims.aud !== ledger) {
        this.findings.bad("inclusion", "other-ledger", { at, name: statement.record.claims.aud });
        continue;
      }
      statement.place = { log, index: item.index };
    }
  }

  /** A registrar's `new-log` in this log names the next one, or what came before this one. */
  async #readNewLogs(log, keys) {
    for (const [at, statement] of this.statements.entries()) {
      const stated = statement?.place?.log === log ? statement.byRegistrar(this.trust) : null;
      if (stated?.type !== "new-log") continue;
      const key = await orNull(verifierKey(stated.vkey));
      if (key === null || key.name !== stated.origin || key.algorithm !== ED25519) {
        this.findings.bad("log", "log-vkey", { at });
        continue;
      }
      if (!keys.has(stated.origin)) keys.set(stated.origin, key);
      if (keys.get(stated.origin).text !== key.text) {
        this.findings.bad("log", "log-two-keys", { at, origin: stated.origin });
        continue;
      }
      this.newLogs.push({ at, place: statement.place, stated });
    }
  }

  #reportUnopened(waiting) {
    for (const log of waiting) {
      this.findings.count("log");
      this.findings.unchecked("log", "log-not-named", nameOf(this.bundle.checkpoints[log].head));
    }
    for (const [at, { checkpoint }] of this.bundle.items.entries()) {
      if (checkpoint >= BigInt(this.opened.length)) this.findings.bad("inclusion", "no-checkpoint", { at });
      else if (this.opened[Number(checkpoint)] === null) this.findings.unchecked("inclusion", "under-open", { at });
    }
  }

  async #openSeen() {
    for (const { note, head: old, path } of this.bundle.seen) {
      this.findings.count("seen");
      const head = this.opened.find((head) => head?.origin === old.origin);
      if (head === undefined) {
        this.findings.unchecked("seen", "seen-no-log", nameOf(old));
      } else if ((await orNull(openCheckpoint(note, head.key))) === null) {
        this.findings.bad("seen", "log-signature", nameOf(old));
      } else if (!(await isConsistent(old.size, old.root, head.size, head.root, path))) {
        this.findings.bad("seen", "seen-consistency", nameOf(old));
      } else {
        const times = await this.#cosigned(note, old, head.key, "seen");
        if (times !== null) this.seen.push({ ...old, key: head.key, ...times });
      }
    }
  }

  /** A head of the bundle, cosigned or not. */
  held() {
    return [...this.opened.filter((head) => head !== null), ...this.seen];
  }

  headOf(origin, size) {
    return this.held().find((head) => head.origin === origin && head.size === size) ?? null;
  }

  numberOf(origin) {
    return this.opened.findIndex((head) => head?.origin === origin);
  }

  originOf(log) {
    return this.bundle.checkpoints[log].head.origin;
  }

  /** What `new-log` statements show of the order between logs. */
  async order() {
    const links = [];
    const announced = new Set();
    for (const { at, place, stated } of this.newLogs) {
      if (this.originOf(place.log) === stated.origin) {
        const link = await this.#linkFromClosed(at, place, stated);
        if (link !== null) links.push(link);
        continue;
      }
      const to = this.numberOf(stated.origin);
      // The first such statement came before the new log was opened, and with it all that is not younger.
      if (to < 0 || announced.has(`${place.log} ${to}`)) continue;
      announced.add(`${place.log} ${to}`);
      links.push({ from: place.log, to, before: place.index + 1n, after: 0n });
    }
    return new Order(links);
  }

  /** A new log's first entry holds the last head of the old one: what stands under it came before. */
  async #linkFromClosed(at, place, { closed: text }) {
    const note = text === undefined ? null : await orNull((async () => parseNote(text))());
    if (note === null) return null;
    const from = this.numberOf(note.text.split("\n")[0]);
    if (from < 0) return null;
    const closed = await orNull(openCheckpoint(note, this.opened[from].key));
    if (closed === null) {
      this.findings.bad("log", "log-closed", { at });
      return null;
    }
    const held = this.headOf(closed.origin, closed.size);
    if (held === null) return null;
    if (!isSame(held.root, closed.root)) {
      this.findings.bad("log", "log-two-histories", { at, ...nameOf(closed) });
      return null;
    }
    return { from, to: place.log, before: closed.size, after: place.index };
  }

  /** Between which moments a statement was made, as far as others than its author tell; in Unix seconds or `null`. */
  made(at, statement, order) {
    const { place } = statement;
    if (place === null) return { after: null, before: null };
    const seen = statement.record?.claims.seen ?? null;
    let after = seen === null ? null : this.#seenAt(at, place, seen, order);
    const origin = this.originOf(place.log);
    const covering = this.held().filter((head) => head.origin === origin && head.size > place.index && head.enoughAt !== null);
    const before = covering.map((head) => head.enoughAt).reduce((least, time) => (least === null || time < least ? time : least), null);
    // Two witnesses' clocks differ by seconds: an interval does not end before it begins.
    if (after !== null && before !== null && before < after) after = before;
    return { after, before };
  }

  #seenAt(at, place, { origin, size, root }, order) {
    const named = { at, ...nameOf({ origin, size }) };
    const head = this.headOf(origin, size);
    if (head === null) {
      this.findings.unchecked("seen", "seen-missing", named);
      return null;
    }
    if (!isSame(head.root, root)) {
      this.findings.bad("seen", "seen-root", { ...named, name: toUrl(root) });
      return null;
    }
    if (size === 0n) return head.firstAt;
    const last = { log: this.numberOf(origin), index: size - 1n };
    if (order.precedes(last, place)) return head.firstAt;
    const isContradicted = order.precedes(place, last) || isSamePlace(place, last);
    if (isContradicted) this.findings.bad("seen", "seen-order", named);
    else this.findings.unchecked("seen", "seen-order", named);
    return null;
  }
}
