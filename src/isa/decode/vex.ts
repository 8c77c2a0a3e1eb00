/**
 * VEX- and EVEX-encoded instructions. SDM vol. 2A 2.3 (VEX), 2.7 (EVEX), vol. 2D tables A-3 to A-6 (the rows with
 * a `v` prefix).
 *
 * The general-purpose instructions (BMI1, BMI2) are decoded; SIMD ones are only known to exist, by prefix column and
 * opcode. Real-address and virtual-8086 mode do not recognize VEX: there {@link vexMnemonics} are #UD, which the
 * decoder cannot know.
 */
import type { Mnemonic } from '../mnemonics.ts';
import { asInvalid, type Cell, type Opcode, parseCell } from './notation.ts';
import { reserved3AMap } from './three-byte-3a.ts';
import { reserved38Map } from './three-byte-38.ts';
import { twoByteMap } from './two-byte.ts';

/** Which opcodes a SIMD map has, by column: ranges of hexadecimal opcodes. */
type Existing = Readonly<Partial<Record<'NP' | '66' | 'F3' | 'F2', string>>>;

function opcodesOf(ranges: string): number[] {
  return ranges.split(' ').flatMap((range) => {
    const [first, last = first] = range.split('-').map((digits) => Number.parseInt(digits, 16));
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** Opcodes of map 1 that an immediate byte follows; in map 3 it follows all. */
const immediateInMap1 = new Set([0x70, 0x71, 0x72, 0x73, 0xc2, 0xc4, 0xc5, 0xc6]);

/** An undefined opcode of map 1 is as long as the legacy 0F xx; but 3DNow! has no place here. */
const undefinedInMap1 = twoByteMap.map((cell, opcode): Cell => {
  if (opcode === 0x0f) return parseCell('invalid');
  return new Array<Opcode>(12).fill(asInvalid(cell[4]));
});

/** Maps 5 and 6 are laid out for length as maps 1 and 2 are. */
function simdMap(number: number, existing: Existing): Cell[] {
  const map = number & 3;
  const texts = new Array<string[]>(256).fill([]);
  for (const [column, ranges] of Object.entries(existing)) {
    for (const opcode of opcodesOf(ranges)) texts[opcode] = [...texts[opcode], column];
  }
  return texts.map((columns, opcode) => {
    if (columns.length === 0 && map === 1) return undefinedInMap1[opcode];
    const immediate = map === 3 || (map === 1 && immediateInMap1.has(opcode));
    // VZEROUPPER and VZEROALL have no ModR/M byte.
    const operands = map === 1 && opcode === 0x77 ? '' : immediate ? ' W,Ib' : ' W';
    return parseCell(columns.length === 0 ? `invalid${operands}` : `${columns.join(' ')} *${operands}`);
  });
}

const vex38 = simdMap(2, {
  NP: '49 50-51 5e 6c b0 d2-d3 da',
  '66': '00-0f 13 16-1a 1c-1e 20-25 28-41 45-47 49 4b 50-53 58-5a 5e 6c 78-79 8c 8e 90-93 96-9f a6-b1 b4-bf cf d2-d3 da-df',
  F3: '4b 50-51 5c 5e 72 b0-b1 d2-d3 da',
  F2: '49 4b 50-51 5c 5e b0 cb-cd da',
});
vex38[0xf2] = parseCell('NP andn Gy,By,Ey');
vex38[0xf3] = parseCell('NP grp17 By,Ey', {
  '17': ['', 'blsr', 'blsmsk', 'blsi', '', '', '', ''],
});
vex38[0xf5] = parseCell('NP bzhi Gy,Ey,By | F3 pext Gy,By,Ey | F2 pdep Gy,By,Ey');
vex38[0xf6] = parseCell('F2 mulx Gy,By,Ey');
vex38[0xf7] = parseCell('NP bextr Gy,Ey,By | 66 shlx Gy,Ey,By | F3 sarx Gy,Ey,By | F2 shrx Gy,Ey,By');

const vex3A = simdMap(3, {
  '66': '00-02 04-06 08-0f 14-19 1d 20-22 30-33 38-39 40-42 44 46 4a-4c 60-63 ce-cf de-df',
});
vex3A[0xf0] = parseCell('F2 rorx Gy,Ey,Ib');

/** VEX maps by mmmmm (0F, 0F 38, 0F 3A). */
const vexMaps: readonly (readonly Cell[] | undefined)[] = [
  undefined,
  simdMap(1, {
    NP: '10-17 28-29 2b 2e-2f 41-42 44-47 4a-4b 50-5f 77 90-93 98-99 ae c2 c6',
    '66': '10-17 28-29 2b 2e-2f 41-42 44-47 4a-4b 50-51 54-76 7c-7f 90-93 98-99 c2 c4-c6 d0-ef f1-fe',
    F3: '10-12 16 2a 2c-2d 51-53 58-5f 6f-70 7e-7f c2 e6',
    F2: '10-12 2a 2c-2d 51 58-5a 5c-5f 70 7c-7d 92-93 c2 d0 e6 f0',
  }),
  vex38,
  vex3A,
];

/** EVEX maps by mmm. */
const evexMaps: readonly (readonly Cell[] | undefined)[] = [
  undefined,
  simdMap(1, {
    NP: '10-17 28-29 2b 2e-2f 51 54-5f 78-79 c2 c6',
    '66': '10-17 28-29 2b 2e-2f 51 54-76 78-7b 7e-7f c2 c4-c6 d1-d6 d8-ef f1-f6 f8-fe',
    F3: '10-12 16 2a 2c-2d 51 58-5f 6f-70 78-7b 7e-7f c2 e6',
    F2: '10-12 2a 2c-2d 51 58-5a 5c-5f 6f-70 78-7b 7f c2 e6',
  }),
  simdMap(2, {
    '66': '00 04 0b-0d 10-16 18-2d 30-40 42-47 4c-55 58-5b 62-66 70-73 75-7f 83 88-8b 8d 8f-93 96-a3 a6-af b4-bf c4 c6-c8 ca-cd cf dc-df',
    F3: '10-15 20-2a 30-35 38-3a 52 72',
    F2: '52-53 68 72 9a-9b aa-ab',
  }),
  simdMap(3, {
    NP: '08 0a 26-27 56-57 66-67 c2',
    '66': '00-01 03-05 08-0b 0f 14-1b 1d-23 25-27 38-3b 3e-3f 42-44 50-51 54-57 66-67 70-73 ce-cf',
    F3: 'c2',
  }),
  undefined,
  simdMap(5, {
    NP: '1d 2e-2f 51 58-5f 78-79 7c-7d',
    '66': '1d 5a-5b 6e 78-7e',
    F3: '10-11 2a 2c-2d 51 58-5f 78-79 7b 7d',
    F2: '5a 7a 7d',
  }),
  simdMap(6, {
    NP: '13',
    '66': '13 2c-2d 42-43 4c-4f 96-9f a6-af b6-bf',
    F3: '56-57 d6-d7',
    F2: '56-57 d6-d7',
  }),
  undefined,
];

/**
 * By the low two bits of a reserved map's number: its instructions are as long as those of maps 1 to 3 (as processors
 * have it). The number is never a multiple of four.
 */
const reservedMaps: readonly (readonly Cell[])[] = [[], simdMap(1, {}), reserved38Map, reserved3AMap];

/** The map of a VEX prefix's mmmmm. */
export function vexMap(number: number): readonly Cell[] {
  return vexMaps[number] ?? reservedMaps[number & 3];
}

/** The map of an EVEX prefix's mmm, or of mmmm, whose top bit is reserved. */
export function evexMap(number: number): readonly Cell[] {
  return evexMaps[number] ?? reservedMaps[number & 3];
}

/** Instructions that only a VEX prefix encodes: #UD in real-address and virtual-8086 mode (SDM vol. 2A 2.6.1). */
export const vexMnemonics: ReadonlySet<Mnemonic> = new Set<Mnemonic>([
  'andn',
  'bextr',
  'blsi',
  'blsmsk',
  'blsr',
  'bzhi',
  'mulx',
  'pdep',
  'pext',
  'rorx',
  'sarx',
  'shlx',
  'shrx',
]);
