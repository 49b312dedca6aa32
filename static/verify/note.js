// Signed notes, checkpoints, cosignatures and origins, as C2SP writes them.

import { Refused, compareBytes, concat, decimal, fromStd, isSame, sha256, splitOnce, toStd, utf8 } from "./bytes.js";
import { publicKey, verifies } from "./ed25519.js";

const NOTE_BYTES_MAX = 64 * 1024;
const SIGNATURES_MAX = 100;
/** Signature types: of a note (0x01), and a witness's timestamped cosignature (0x04). */
export const ED25519 = 1;
export const COSIGNATURE = 4;

function keyName(name) {
  if (name === "" || /[+\p{White_Space}\p{Cc}]/u.test(name)) throw new Refused("note");
  return name;
}

/** `<name>+<hex key id>+<base64(type ‖ key)>`. */
export async function verifierKey(text) {
  const [name, rest] = splitOnce(text, "+") ?? [];
  const [id, typed] = splitOnce(rest ?? "", "+") ?? [];
  if (typed === undefined || !/^[0-9a-f]{8}$/.test(id)) throw new Refused("vkey");
  const bytes = fromStd(typed);
  const algorithm = bytes[0];
  if (algorithm !== ED25519 && algorithm !== COSIGNATURE) throw new Refused("vkey");
  const key = await publicKey(bytes.subarray(1));
  const digest = await sha256(utf8(`${keyName(name)}\n`), bytes);
  const keyId = Uint8Array.from(id.match(/../g), (digits) => parseInt(digits, 16));
  if (!isSame(digest.subarray(0, 4), keyId)) throw new Refused("vkey");
  return { name, algorithm, key, id: keyId, text };
}

/** A text, and the signature lines under it. */
export function parseNote(note) {
  // ASCII control characters but the line feed.
  if (utf8(note).length > NOTE_BYTES_MAX || /[\0-\x09\x0b-\x1f\x7f]/.test(note)) throw new Refused("note");
  const at = note.lastIndexOf("\n\n");
  if (at < 0 || !note.endsWith("\n") || note.length < at + 3) throw new Refused("note");
  const lines = note.slice(at + 2, -1).split("\n");
  if (lines.length > SIGNATURES_MAX) throw new Refused("note");
  return { text: note.slice(0, at + 1), lines: lines.map(signatureLine) };
}

function signatureLine(line) {
  const [name, text] = splitOnce(line.startsWith("— ") ? line.slice(2) : "", " ") ?? [];
  if (text === undefined) throw new Refused("note");
  const bytes = fromStd(text);
  if (bytes.length < 5) throw new Refused("note");
  return { name: keyName(name), id: bytes.subarray(0, 4), signature: bytes.subarray(4) };
}

export function printNote({ text, lines }) {
  const signed = lines.map(({ name, id, signature }) => `— ${name} ${toStd(concat(id, signature))}\n`);
  return `${text}\n${signed.join("")}`;
}

/** `origin\nsize\nbase64(root)\n`. */
export function parseCheckpoint(text) {
  const [origin, size, root, ...rest] = text.split("\n");
  const head = { origin, size: decimal(size ?? ""), root: fromStd(root ?? "") };
  const isOne = rest.length === 1 && rest[0] === "" && origin !== "";
  if (!isOne || head.size === null || head.root.length !== 32) throw new Refused("checkpoint");
  return head;
}

export const isBy = (line, key) => line.name === key.name && compareBytes(line.id, key.id) === 0;

/** The checkpoint that the log `key` signed: every line of the key verifies, and there is one. */
export async function openCheckpoint(note, key) {
  const head = parseCheckpoint(note.text);
  const lines = note.lines.filter((line) => isBy(line, key));
  if (head.origin !== key.name || lines.length === 0) throw new Refused("checkpoint");
  for (const line of lines) {
    if (!(await verifies(key.key, utf8(note.text), line.signature))) throw new Refused("checkpoint");
  }
  return head;
}

/** When the witness saw the note, in Unix seconds; `null` where no line is by it. */
export async function cosignedAt(note, witness) {
  let newest = null;
  for (const { signature } of note.lines.filter((line) => isBy(line, witness))) {
    if (signature.length < 8) throw new Refused("cosignature");
    const time = new DataView(signature.buffer, signature.byteOffset, 8).getBigUint64(0);
    const message = utf8(`cosignature/v1\ntime ${time}\n${note.text}`);
    if (!(await verifies(witness.key, message, signature.subarray(8)))) throw new Refused("cosignature");
    if (newest === null || time > newest) newest = time;
  }
  return newest;
}

/** `<host>/<ledger>/<year>[.n]`; `null` for anything else. */
export function parseOrigin(text) {
  const found = /^(?<host>[^]+)\/(?<ledger>[a-z][a-z0-9-]*)\/[0-9]{4}(\.(?<shard>[0-9]+))?$/.exec(text);
  if (found === null) return null;
  const { host, ledger, shard = "2" } = found.groups;
  return shard.startsWith("0") || shard === "1" ? null : { host, ledger };
}
