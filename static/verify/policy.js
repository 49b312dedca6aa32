// Whom to believe: C2SP tlog-policy, and the trust file that adds registrars and chains to it.

import { Refused, compareTexts, decimal, hashOf, toUrl } from "./bytes.js";
import { COSIGNATURE, ED25519, cosignedAt, isBy, verifierKey } from "./note.js";

const LINES_MAX = 1000;

/** The trust file is not in its format. */
export class BadTrust extends Error {}

export async function parseTrust(text) {
  const policy = new Policy();
  for (const [at, line] of text.replace(/\n+$/, "").split("\n").entries()) {
    try {
      if (at >= LINES_MAX) throw new Refused("trust");
      await policy.add(line);
    } catch (error) {
      if (error instanceof Refused) throw new BadTrust(String(at + 1));
      throw error;
    }
  }
  if (policy.quorum === undefined) throw new BadTrust(String(text.split("\n").length));
  return policy;
}

function require(holds) {
  if (!holds) throw new Refused("trust");
}

class Policy {
  logs = [];
  witnesses = new Map();
  groups = new Map();
  /** `null`: nobody's cosignature is asked for. */
  quorum = undefined;
  registrars = new Set();
  chains = [];

  async add(line) {
    require(!/[\0-\x08\x0a-\x1f\x7f]/.test(line));
    const [word = "#", ...rest] = line.split(/[ \t]+/).filter((part) => part !== "");
    if (word.startsWith("#")) return;
    if (word === "log") await this.addLog(rest);
    else if (word === "witness") await this.addWitness(rest);
    else if (word === "group") this.addGroup(rest);
    else if (word === "quorum") this.addQuorum(rest);
    else if (word === "registrar") {
      require(rest.length === 1);
      this.registrars.add(toUrl(hashOf(rest[0])));
    } else if (word === "chain") {
      const [id, contract] = rest;
      require(rest.length === 2 && decimal(id) !== null && /^0x[0-9a-f]{40}$/.test(contract));
      this.chains.push({ id: decimal(id), contract });
    } else require(false);
  }

  async addLog([text, ...url]) {
    require(text !== undefined && url.length <= 1);
    const log = await verifierKey(text);
    const isKnown = this.logs.some((other) => other.key.text === log.key.text || other.name === log.name);
    require(log.algorithm === ED25519 && !isKnown);
    this.logs.push(log);
  }

  async addWitness([name, text, ...url]) {
    require(text !== undefined && url.length <= 1);
    const witness = await verifierKey(text);
    require(witness.algorithm === COSIGNATURE && !this.isTaken(name));
    require(![...this.witnesses.values()].some((other) => other.key.text === witness.key.text));
    this.witnesses.set(name, witness);
  }

  addGroup([name, threshold, ...members]) {
    const grouped = new Set([...this.groups.values()].flatMap((group) => group.members));
    require(members.length > 0 && new Set(members).size === members.length);
    require(members.every((member) => this.knows(member) && !grouped.has(member)));
    const counts = { any: 1n, all: BigInt(members.length) };
    const needed = Object.hasOwn(counts, threshold) ? counts[threshold] : decimal(threshold);
    require(needed !== null && needed > 0n && needed <= BigInt(members.length) && !this.isTaken(name));
    this.groups.set(name, { threshold: Number(needed), members });
  }

  addQuorum([name, ...rest]) {
    require(name !== undefined && rest.length === 0 && this.quorum === undefined);
    require(name === "none" || this.knows(name));
    this.quorum = name === "none" ? null : name;
  }

  knows(name) {
    return this.witnesses.has(name) || this.groups.has(name);
  }

  isTaken(name) {
    return name === "none" || this.knows(name);
  }

  isMet(name, by) {
    const group = this.groups.get(name);
    if (group === undefined) return by.has(name);
    return group.members.filter((member) => this.isMet(member, by)).length >= group.threshold;
  }

  /** Which witnesses cosigned, the first one's second, and that in which there were enough. */
  async witnessed(note) {
    const by = new Map();
    for (const [name, witness] of this.witnesses) {
      const time = await cosignedAt(note, witness);
      if (time !== null) by.set(name, time);
    }
    const times = [...by.values()].sort((one, other) => (one < other ? -1 : Number(one > other)));
    const isMetAt = (now) => this.isMet(this.quorum, new Map([...by].filter(([, time]) => time <= now)));
    const enoughAt = this.quorum === null ? null : times.find(isMetAt) ?? null;
    return {
      names: [...by.keys()].sort(compareTexts),
      isEnough: this.quorum === null || this.isMet(this.quorum, by),
      firstAt: times[0] ?? null,
      enoughAt,
    };
  }

  knowsLine(log, line) {
    return isBy(line, log) || [...this.witnesses.values()].some((witness) => isBy(line, witness));
  }
}
