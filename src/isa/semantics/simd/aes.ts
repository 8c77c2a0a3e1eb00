/** AESENC AESENCLAST AESDEC AESDECLAST AESIMC AESKEYGENASSIST (SDM vol. 1 12.13, vol. 2A; FIPS 197). */
import type { Builder, Semantic, Value } from '../../builder.ts';
import { binary, every, unary, zero } from './forms.ts';

/** Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, 4.2). */
function product(x: number, y: number): number {
  let sum = 0;
  for (let bit = 7; bit >= 0; bit--) {
    sum = (sum << 1) ^ (sum & 0x80 ? 0x11b : 0);
    if ((y >> bit) & 1) sum ^= x;
  }
  return sum;
}

/** FIPS 197, 5.1.1: the inverse, x^254, and an affine transformation. */
function substitute(x: number): number {
  let inverse = 1;
  for (let i = 0; i < 254; i++) inverse = product(inverse, x);
  let result = 0x63;
  for (let turn = 0; turn < 5; turn++) result ^= ((inverse << turn) | (inverse >> (8 - turn))) & 0xff;
  return result;
}

/** A table of 256 bytes in sixteen vectors. */
type Table = readonly bigint[];

function tableOf(bytes: readonly number[]): Table {
  return Array.from({ length: 16 }, (_, row) =>
    bytes.slice(16 * row, 16 * row + 16).reduceRight((vector, byte) => (vector << 8n) | BigInt(byte), 0n),
  );
}

/** Made when code with such instructions is first met. */
let tables: { readonly forward: Table; readonly inverse: Table } | undefined;
function substitutions(): { readonly forward: Table; readonly inverse: Table } {
  if (!tables) {
    const forward = Array.from({ length: 256 }, (_, x) => substitute(x));
    const inverse = new Array<number>(256).fill(0);
    for (const [x, y] of forward.entries()) inverse[y] = x;
    tables = { forward: tableOf(forward), inverse: tableOf(inverse) };
  }
  return tables;
}

/** Each byte replaced by what the table has for it: in each of the rows it is found if it is below 16 there. */
function lookUp(b: Builder, table: Table, x: Value): Value {
  return table.reduce(
    (found, row, i) => b.or(found, b.swizzle(b.constant(128, row), b.xor(x, every(b, 8, 16 * i)))),
    zero(b),
  );
}

/** The state's bytes are columns of four rows; row r is rotated by r columns (FIPS 197, 5.1.2 and 5.3.1). */
function shiftRows(b: Builder, x: Value, direction: 1 | -1): Value {
  const bytes = Array.from({ length: 16 }, (_, i) => (i + 4 * direction * (i % 4) + 16) % 16);
  return b.shuffle(x, x, bytes);
}

/** Each byte is the one `rows` further in its column. */
function rotateColumns(b: Builder, x: Value, rows: number): Value {
  const bytes = Array.from({ length: 16 }, (_, i) => (i & 12) | ((i + rows) & 3));
  return b.shuffle(x, x, bytes);
}

/** Each byte times x. */
function double(b: Builder, x: Value): Value {
  const overflow = b.lanes('gtSigned', 8, zero(b), x);
  return b.xor(b.lanes('add', 8, x, x), b.and(overflow, every(b, 8, 0x1b)));
}

/** FIPS 197, 5.1.3: 2a + 3b + c + d for each byte and those after it in its column. */
function mixColumns(b: Builder, x: Value): Value {
  const next = rotateColumns(b, x, 1);
  const rest = b.xor(rotateColumns(b, x, 2), rotateColumns(b, x, 3));
  return b.xor(b.xor(double(b, b.xor(x, next)), next), rest);
}

/** FIPS 197, 5.3.3: its matrix is that of {@link mixColumns} times 5a + 4c. */
function inverseMixColumns(b: Builder, x: Value): Value {
  const opposite = b.xor(x, rotateColumns(b, x, 2));
  return mixColumns(b, b.xor(x, double(b, double(b, opposite))));
}

function encrypt(last: boolean): Semantic {
  return binary((b, x, key) => {
    const state = lookUp(b, substitutions().forward, shiftRows(b, x, 1));
    return b.xor(last ? state : mixColumns(b, state), key);
  });
}

function decrypt(last: boolean): Semantic {
  return binary((b, x, key) => {
    const state = lookUp(b, substitutions().inverse, shiftRows(b, x, -1));
    return b.xor(last ? state : inverseMixColumns(b, state), key);
  });
}

/** Of doublewords 1 and 3 of the source: substituted, and the same rotated by a byte and with the round constant. */
const keyGenerationAssist = unary((b, x) => {
  const substituted = lookUp(b, substitutions().forward, x);
  const words = b.shuffle(
    substituted,
    substituted,
    [4, 12].flatMap((at) => [at, at + 1, at + 2, at + 3, at + 1, at + 2, at + 3, at]),
  );
  const constant = BigInt(b.form.immediate);
  return b.xor(words, b.constant(128, (constant << 32n) | (constant << 96n)));
});

export const aes = {
  aesenc: encrypt(false),
  aesenclast: encrypt(true),
  aesdec: decrypt(false),
  aesdeclast: decrypt(true),
  aesimc: unary(inverseMixColumns),
  aeskeygenassist: keyGenerationAssist,
} satisfies Record<string, Semantic>;
