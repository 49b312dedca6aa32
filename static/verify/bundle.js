// The proof bundle's text: docs/proof.md names its layers. Parsed, and printed again: other bytes are no bundle.

import { Refused, compareBytes, compareTexts, decimal, fromUrl, hashOf, sha256, splitOnce, textOf, toUrl, utf8 } from "./bytes.js";
import { DISCLOSURES_MAX } from "./disclosures.js";
import { publicKey } from "./ed25519.js";
import { parseCheckpoint, parseNote, printNote } from "./note.js";
import { CUSTODIES } from "./record.js";

const BYTES_MAX = 16 * 1024 * 1024;
const FIRST_LINE = "suyuan-bundle v1";
const MAX = { checkpoints: 32, seen: 10_000, items: 10_000, anchors: 256 };
const NOTE_LINES_MAX = 110n;
const PATH_HASHES_MAX = 126;
const ROSTER_LINE = /^(?<kid>\S+) (?<party>[^ ]+) (?<custody>[a-z]+) (?<state>good|rotated|revoked) (?<since>0|-?[1-9][0-9]*)$/;

/** The text is no bundle: `where` is the line, if there is one. */
export class NoBundle extends Error {
  constructor(code, where = null) {
    super(code);
    this.code = code;
    this.where = where;
  }
}

/** Parses the bytes of a file. */
export async function parseBundle(bytes) {
  if (bytes.length > BYTES_MAX) throw new NoBundle("too-long");
  let text;
  try {
    text = textOf(bytes);
  } catch {
    throw new NoBundle("not-text");
  }
  const at = text.endsWith("\n") ? text.lastIndexOf("\n", text.length - 2) : -1;
  const body = text.slice(0, at + 1);
  if (at < 0 || text.slice(at + 1) !== `sha256 ${toUrl(await sha256(utf8(body)))}\n`) throw new NoBundle("damaged");
  const reader = new Reader(body.split("\n"));
  try {
    const bundle = await reader.bundle();
    if (printBody(bundle) !== body) throw new NoBundle("not-canonical");
    for (const item of bundle.items) item.entry = await sha256(item.kind === "record" ? utf8(item.signed) : item.bytes);
    return bundle;
  } catch (error) {
    if (error instanceof Refused) throw new NoBundle("line", reader.number);
    throw error;
  }
}

function require(holds) {
  if (!holds) throw new Refused("bundle");
}

/** The first difference decides. */
const inOrder = (...comparisons) => (comparisons.find((difference) => difference !== 0) ?? 0) < 0;
const compareNumbers = (one, other) => (one < other ? -1 : Number(one > other));

class Reader {
  number = 0;

  constructor(lines) {
    this.lines = lines;
    this.parsed = { checkpoints: [], seen: [], items: [], anchors: [] };
  }

  line() {
    this.number += 1;
    require(this.number <= this.lines.length);
    return this.lines[this.number - 1];
  }

  async bundle() {
    require(this.line() === FIRST_LINE);
    for (;;) {
      const line = this.line();
      if (line === "") return this.parsed;
      const parts = splitOnce(line, " ");
      require(parts !== null);
      await this.part(...parts);
    }
  }

  push(list, added, ascends) {
    const known = this.parsed[list];
    require(known.length < MAX[list] && (known.length === 0 || ascends(known.at(-1), added)));
    known.push(added);
  }

  async part(word, rest) {
    const item = this.parsed.items.at(-1);
    if (word === "checkpoint") {
      this.push("checkpoints", this.note(rest), (one, next) => compareTexts(one.head.origin, next.head.origin) < 0);
    } else if (word === "seen") {
      const [lines, path] = splitOnce(rest, " ") ?? [];
      require(path !== undefined);
      const seen = { ...this.note(lines), path: parsePath(path) };
      this.push("seen", seen, ({ head: one }, { head: next }) => inOrder(compareTexts(one.origin, next.origin), compareNumbers(one.size, next.size)));
    } else if (word === "record" || word === "pack") {
      const signed = this.line();
      require(signed.startsWith("signed "));
      const added = await parseItem(word, rest, signed.slice("signed ".length));
      this.push("items", added, (one, next) => inOrder(compareNumbers(one.checkpoint, next.checkpoint), compareNumbers(one.index, next.index)));
    } else if (word === "disclosure") {
      require(item?.kind === "record" && item.disclosures.length < DISCLOSURES_MAX);
      require(item.disclosures.length === 0 || compareTexts(item.disclosures.at(-1), rest) < 0);
      item.disclosures.push(rest);
    } else if (word === "roster") {
      require(item !== undefined && item.roster === null);
      item.roster = parseRoster(rest);
    } else {
      require(word === "anchor");
      this.push("anchors", parseAnchor(rest), anchorsAscend);
    }
  }

  note(lines) {
    const count = decimal(lines);
    require(count !== null && count <= NOTE_LINES_MAX);
    const note = parseNote(Array.from({ length: Number(count) }, () => `${this.line()}\n`).join(""));
    const head = parseCheckpoint(note.text);
    const [first, ...others] = note.lines;
    const ascends = (next, at) => at === 0 || inOrder(compareTexts(others[at - 1].name, next.name), compareBytes(others[at - 1].id, next.id));
    require(first.name === head.origin && others.every(ascends));
    return { note, head };
  }
}

function parsePath(text) {
  if (text === "-") return [];
  const path = text.split(",").map(hashOf);
  require(path.length <= PATH_HASHES_MAX);
  return path;
}

async function parseItem(kind, place, signed) {
  const words = place.split(" ");
  const [checkpoint, index, key, path] = words;
  require(words.length === 4 && decimal(checkpoint) !== null && decimal(index) !== null);
  const item = { kind, checkpoint: decimal(checkpoint), index: decimal(index), path: parsePath(path), roster: null, disclosures: [] };
  item.key = await publicKey(fromUrl(key));
  if (kind === "record") item.signed = signed;
  else item.bytes = fromUrl(signed);
  return item;
}

function parseRoster(text) {
  const [, number, index, path, line] = /^([^ ]*) ([^ ]*) ([^ ]*) (.*)$/s.exec(text) ?? [];
  const stated = ROSTER_LINE.exec(line ?? "")?.groups;
  require(stated !== undefined && CUSTODIES.has(stated.custody) && decimal(number) !== null && decimal(index) !== null);
  const since = BigInt(stated.since);
  require(since >= -(1n << 63n) && since < 1n << 63n && hashOf(stated.kid).length === 32);
  return { number: decimal(number), index: decimal(index), path: parsePath(path), line, ...stated };
}

function parseAnchor(text) {
  const words = text.split(" ");
  const [chain, contract, origin, size, root, transaction] = words;
  require(words.length === 6 && /^0x[0-9a-f]{40}$/.test(contract) && /^0x[0-9a-f]{64}$/.test(transaction));
  require(decimal(chain) !== null && decimal(size) !== null);
  return { chain: decimal(chain), contract, origin, size: decimal(size), root: hashOf(root), transaction };
}

function anchorsAscend(one, next) {
  return inOrder(
    compareNumbers(one.chain, next.chain),
    compareTexts(one.contract, next.contract),
    compareTexts(one.origin, next.origin),
    compareNumbers(one.size, next.size),
    compareBytes(one.root, next.root),
    compareTexts(one.transaction, next.transaction),
  );
}

const pathText = (path) => (path.length === 0 ? "-" : path.map(toUrl).join(","));
const linesOf = (note) => note.split("\n").length - 1;

function printBody({ checkpoints, seen, items, anchors }) {
  const parts = [`${FIRST_LINE}\n`];
  for (const { note } of checkpoints) {
    const text = printNote(note);
    parts.push(`checkpoint ${linesOf(text)}\n${text}`);
  }
  for (const { note, path } of seen) {
    const text = printNote(note);
    parts.push(`seen ${linesOf(text)} ${pathText(path)}\n${text}`);
  }
  for (const item of items) parts.push(...printItem(item));
  for (const { chain, contract, origin, size, root, transaction } of anchors) {
    parts.push(`anchor ${chain} ${contract} ${origin} ${size} ${toUrl(root)} ${transaction}\n`);
  }
  return parts.join("");
}

function printItem({ kind, checkpoint, index, key, path, signed, bytes, disclosures, roster }) {
  const parts = [`${kind} ${checkpoint} ${index} ${key.text} ${pathText(path)}\nsigned ${signed ?? toUrl(bytes)}\n`];
  parts.push(...disclosures.map((text) => `disclosure ${text}\n`));
  if (roster !== null) parts.push(`roster ${roster.number} ${roster.index} ${pathText(roster.path)} ${roster.line}\n`);
  return parts;
}

