/** SHA1RNDS4 SHA1NEXTE SHA1MSG1 SHA1MSG2 SHA256RNDS2 SHA256MSG1 SHA256MSG2 (SDM vol. 1 5.23, vol. 2B; FIPS 180-4). */
import type { Builder, Semantic, Value } from '../../builder.ts';
import { binary } from './forms.ts';

/** The doublewords, lowest first. */
function words(b: Builder, x: Value): Value[] {
  return [0, 1, 2, 3].map((index) => b.extractLane(32, x, index));
}

function fromWords(b: Builder, values: readonly Value[]): Value {
  let result = b.constant(128, 0);
  for (const [index, value] of values.entries()) result = b.insertLane(32, result, index, value);
  return result;
}

function rotateLeft(b: Builder, x: Value, count: number): Value {
  return b.rotl(x, b.constant(8, count));
}

function sum(b: Builder, ...values: readonly Value[]): Value {
  return values.reduce((x, y) => b.add(x, y));
}

/** Two rotations to the right, and a third or a shift. */
function sigma(b: Builder, x: Value, first: number, second: number, third: number, shifts = false): Value {
  const rotated = (count: number) => b.rotr(x, b.constant(8, count));
  const last = shifts ? b.shr(x, b.constant(8, third)) : rotated(third);
  return b.xor(b.xor(rotated(first), rotated(second)), last);
}

function choose(b: Builder, x: Value, y: Value, z: Value): Value {
  return b.xor(b.and(x, y), b.and(b.not(x), z));
}
function majority(b: Builder, x: Value, y: Value, z: Value): Value {
  return b.xor(b.xor(b.and(x, y), b.and(x, z)), b.and(y, z));
}
function parity(b: Builder, x: Value, y: Value, z: Value): Value {
  return b.xor(b.xor(x, y), z);
}

/** Function and constant of each twenty rounds of SHA-1. */
const ROUNDS = [
  { mix: choose, constant: 0x5a827999 },
  { mix: parity, constant: 0x6ed9eba1 },
  { mix: majority, constant: 0x8f1bbcdc },
  { mix: parity, constant: 0xca62c1d6 },
] as const;

/** A stands highest; the first of the four words of the source has E added. */
const sha1Rounds = binary((b, x, y) => {
  const { mix, constant } = ROUNDS[b.form.immediate & 3];
  let [d, c, bb, a] = words(b, x);
  let e: Value = b.constant(32, 0);
  for (const word of words(b, y).reverse()) {
    const next = sum(b, mix(b, bb, c, d), rotateLeft(b, a, 5), word, e, b.constant(32, constant));
    [a, bb, c, d, e] = [next, a, rotateLeft(b, bb, 30), c, d];
  }
  return fromWords(b, [d, c, bb, a]);
});

const sha1NextE = binary((b, x, y) => {
  const e = rotateLeft(b, b.extractLane(32, x, 3), 30);
  return b.insertLane(32, y, 3, b.add(b.extractLane(32, y, 3), e));
});

const sha1Message1 = binary((b, x, y) =>
  b.xor(x, b.shuffle(y, x, [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23])),
);

const sha1Message2 = binary((b, x, y) => {
  const [x3, x2, x1, x0] = words(b, x);
  const [w15, w14, w13] = words(b, y);
  const w16 = rotateLeft(b, b.xor(x0, w13), 1);
  const w17 = rotateLeft(b, b.xor(x1, w14), 1);
  const w18 = rotateLeft(b, b.xor(x2, w15), 1);
  const w19 = rotateLeft(b, b.xor(x3, w16), 1);
  return fromWords(b, [w19, w18, w17, w16]);
});

/** The first operand is C, D, G, H from the top, the second A, B, E, F; XMM0 has the words with their constants. */
const sha256Rounds = binary((b, x, y) => {
  let [h, g, d, c] = words(b, x);
  let [f, e, bb, a] = words(b, y);
  for (const word of words(b, b.getXmm(0)).slice(0, 2)) {
    const first = sum(b, choose(b, e, f, g), sigma(b, e, 6, 11, 25), word, h);
    const second = sum(b, majority(b, a, bb, c), sigma(b, a, 2, 13, 22));
    [a, bb, c, d, e, f, g, h] = [b.add(first, second), a, bb, c, b.add(first, d), e, f, g];
  }
  return fromWords(b, [f, e, bb, a]);
});

const sha256Message1 = binary((b, x, y) => {
  const known = [...words(b, x), b.extractLane(32, y, 0)];
  return fromWords(
    b,
    [0, 1, 2, 3].map((i) => b.add(known[i], sigma(b, known[i + 1], 7, 18, 3, true))),
  );
});

const sha256Message2 = binary((b, x, y) => {
  const all = [b.extractLane(32, y, 2), b.extractLane(32, y, 3)];
  for (const [i, word] of words(b, x).entries()) all.push(b.add(word, sigma(b, all[i], 17, 19, 10, true)));
  return fromWords(b, all.slice(2));
});

export const sha = {
  sha1rnds4: sha1Rounds,
  sha1nexte: sha1NextE,
  sha1msg1: sha1Message1,
  sha1msg2: sha1Message2,
  sha256rnds2: sha256Rounds,
  sha256msg1: sha256Message1,
  sha256msg2: sha256Message2,
} satisfies Record<string, Semantic>;
