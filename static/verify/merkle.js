// Proofs of RFC 9162 §2.1. Leaves are known by their leaf hashes, sizes and indices are bigints.

import { isSame, sha256 } from "./bytes.js";

const SIZE_MAX = 1n << 62n;
const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** SHA-256(0x00 ‖ bytes). */
export const leafHash = (bytes) => sha256(LEAF, bytes);
const nodeHash = (left, right) => sha256(NODE, left, right);

/** The largest power of two below `width`, which is at least 2. */
const split = (width) => 1n << BigInt((width - 1n).toString(2).length - 1);
const isPowerOfTwo = (number) => (number & (number - 1n)) === 0n;

/** Whether `leaf` stands at `index` in the tree of `size` leaves with this root (§2.1.3.2). */
export async function isIncluded(root, size, index, leaf, path) {
  if (size > SIZE_MAX || index >= size) return false;
  const isLeft = [];
  let [low, high] = [0n, size];
  while (high - low > 1n) {
    const middle = low + split(high - low);
    isLeft.push(index >= middle);
    if (index < middle) high = middle;
    else low = middle;
  }
  if (isLeft.length !== path.length) return false;
  let hash = leaf;
  for (const [at, left] of isLeft.reverse().entries()) {
    hash = left ? await nodeHash(path[at], hash) : await nodeHash(hash, path[at]);
  }
  return isSame(hash, root);
}

/** Whether the second tree extends the first (§2.1.4.2). */
export async function isConsistent(oldSize, oldRoot, newSize, newRoot, path) {
  if (newSize > SIZE_MAX || oldSize > newSize) return false;
  if (oldSize === 0n || oldSize === newSize) {
    const oldIsRight = oldSize > 0n || isSame(oldRoot, await sha256());
    return path.length === 0 && oldIsRight && (oldSize < newSize || isSame(oldRoot, newRoot));
  }
  const ends = consistencyEnds(oldSize, newSize);
  if (ends.length !== path.length) return false;
  const isKnown = isPowerOfTwo(oldSize);
  let old = isKnown ? oldRoot : path[0];
  let grown = old;
  for (let at = isKnown ? 0 : 1; at < path.length; at += 1) {
    if (ends[at] <= oldSize) {
      old = await nodeHash(path[at], old);
      grown = await nodeHash(path[at], grown);
    } else {
      grown = await nodeHash(grown, path[at]);
    }
  }
  return isSame(old, oldRoot) && isSame(grown, newRoot);
}

/** Where the subtrees end whose roots make the proof, from the old tree's right edge upwards. */
function consistencyEnds(oldSize, newSize) {
  const ends = [];
  let [low, high] = [0n, newSize];
  while (oldSize < high) {
    const middle = low + split(high - low);
    if (oldSize <= middle) {
      ends.push(high);
      high = middle;
    } else {
      ends.push(middle);
      low = middle;
    }
  }
  if (low > 0n) ends.push(high);
  return ends.reverse();
}
