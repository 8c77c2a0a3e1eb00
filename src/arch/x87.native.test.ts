/**
 * x87 instructions compared with the processor's own: the whole state that FXSAVE shows, memory, flags and faults, from random
 * states. Forms by opcode and ModR/M byte, all of them.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { F32, F64, F80 } from '../isa/float/format.ts';
import {
  generator,
  IMAGE,
  initialImage,
  interestingFloat,
  type NativeCase,
  NativeInstructions,
  type NativeState,
  nativeInstructionsHere,
} from '../isa/float/native.fixture.ts';
import { ours, processor } from './native.fixture.ts';

const CASES = Number(process.env.ESPFIX_FLOAT_CASES ?? 6);
/** Results of these are not promised to the last bit; see the test of their accuracy. */
const TRANSCENDENTAL = new Set([0x1f0, 0x1f1, 0x1f2, 0x1f3, 0x1f9, 0x1fb, 0x1fe, 0x1ff]);

type Pick = (bound: number) => number;

function randomImage(pick: Pick): Uint8Array {
  const { bytes, view } = initialImage();
  const masks = pick(3) ? 0x3f : [0, 0x3e, 0x3d, 0x3b, 0x37, 0x2f, 0x1f][pick(7)];
  const control = masks | (pick(4) << 10) | ([3, 3, 3, 0, 2, 1][pick(6)] << 8);
  view.setUint16(IMAGE.fcw, control | 0x40, true);
  // Conditions, top of the stack, and flags that are masked.
  view.setUint16(
    IMAGE.fsw,
    (pick(2) ? pick(0x80) << 8 : pick(0x40) << 8) | (pick(3) ? 0 : pick(64) & masks),
    true,
  );
  view.setUint8(IMAGE.ftw, pick(3) ? 0xff : [pick(256), 0, 0x7f, 0xfe][pick(4)]);
  view.setUint16(IMAGE.fop, pick(0x800), true);
  view.setBigUint64(IMAGE.fip, BigInt(pick(2 ** 32)), true);
  view.setBigUint64(IMAGE.fdp, BigInt(pick(2 ** 32)), true);
  for (let i = 0; i < 8; i++) {
    const value = interestingFloat(pick, F80);
    view.setBigUint64(IMAGE.st + 16 * i, BigInt.asUintN(64, value), true);
    view.setBigUint64(IMAGE.st + 16 * i + 8, value >> 64n, true);
  }
  // Sums that cancel, comparisons that are close.
  if (pick(4) === 0) {
    view.setBigUint64(IMAGE.st + 16, view.getBigUint64(IMAGE.st, true) ^ BigInt(pick(4)), true);
    view.setBigUint64(IMAGE.st + 24, view.getBigUint64(IMAGE.st + 8, true) ^ BigInt(pick(2) << 15), true);
  }
  return bytes;
}

/** What stands at [RSI], as a form of `bits` and kind would like it. */
function randomMemory(pick: Pick, fop: number): Uint8Array {
  const bytes = new Uint8Array(1024);
  for (let i = 0; i < 128; i++) bytes[i] = pick(256);
  const view = new DataView(bytes.buffer);
  const opcode = fop >> 8;
  const reg = (fop >> 3) & 7;
  const put = (value: bigint): void => {
    view.setBigUint64(0, BigInt.asUintN(64, value), true);
    view.setUint16(8, Number((value >> 64n) & 0xffffn), true);
  };
  if (opcode === 3 && reg === 5) put(interestingFloat(pick, F80));
  else if (opcode === 0 || (opcode === 1 && reg === 0)) put(interestingFloat(pick, F32));
  else if (opcode === 4 || (opcode === 5 && reg === 0)) put(interestingFloat(pick, F64));
  else if (opcode === 2 || opcode === 6)
    put(BigInt([0, 1, pick(2 ** 32), 0x8000_0000, 0x7fff_8000][pick(5)]));
  else if (opcode === 7 && reg === 4) {
    for (let i = 0; i < 9; i++) bytes[i] = pick(10) * 16 + pick(10);
    bytes[9] = pick(2) << 7;
  } else if (opcode === 1 && reg === 5) view.setUint16(0, pick(0x10000), true);
  else if ((opcode === 1 && reg === 4) || (opcode === 5 && reg === 4)) {
    view.setUint16(0, pick(2) ? 0x37f : pick(0x10000), true);
  }
  return bytes;
}

interface Outcome {
  readonly trap: number;
  readonly memory: string;
  readonly rax: bigint;
  readonly flags: bigint;
  readonly control: string;
  readonly pointers: string;
  readonly registers: string;
}

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

function outcome(state: NativeState): Outcome {
  return {
    trap: state.trap,
    memory: hex(state.memory.subarray(0, 128)),
    rax: state.rax,
    flags: state.rflags & 0x8d5n,
    control: hex(state.image.subarray(0, 6)),
    pointers: hex(state.image.subarray(6, 24)),
    registers: Array.from({ length: 8 }, (_, i) => {
      const view = new DataView(state.image.buffer, state.image.byteOffset);
      const at = IMAGE.st + 16 * i;
      return `${view.getUint16(at + 8, true).toString(16)}:${view.getBigUint64(at, true).toString(16)}`;
    }).join(' '),
  };
}

function casesOf(fop: number, prefix: readonly number[], count: number): NativeCase[] {
  const pick = generator(fop * 131 + prefix.length);
  return Array.from({ length: count }, () => ({
    code: [...prefix, 0xd8 | (fop >> 8), fop & 0xff],
    image: randomImage(pick),
    memory: randomMemory(pick, fop),
    rax: BigInt(pick(2 ** 32)),
  }));
}

/** Every opcode and reg with memory at [RSI], and every register form. */
const fops: number[] = [];
for (let opcode = 0; opcode < 8; opcode++) {
  for (let reg = 0; reg < 8; reg++) fops.push((opcode << 8) | (reg << 3) | 6);
  for (let modrm = 0xc0; modrm < 0x100; modrm++) fops.push((opcode << 8) | modrm);
}

describe.skipIf(!nativeInstructionsHere())('x87 instructions are those of the processor', () => {
  let native: NativeInstructions;
  const f = processor();
  beforeAll(() => {
    native = new NativeInstructions();
  });
  afterAll(() => native?.close());

  for (let opcode = 0; opcode < 8; opcode++) {
    it(`of D${(8 + opcode).toString(16).toUpperCase()}`, () => {
      const here = fops.filter((fop) => fop >> 8 === opcode && !TRANSCENDENTAL.has(fop));
      const differences: string[] = [];
      for (const fop of here) {
        const cases = casesOf(fop, [], CASES);
        const results = native.run(cases);
        let told = 0;
        cases.forEach((one, i) => {
          const mine = outcome(ours(f, one));
          const theirs = outcome(results[i]);
          const wrong = (Object.keys(theirs) as (keyof Outcome)[]).filter((key) => mine[key] !== theirs[key]);
          if (wrong.length === 0 || told++ > 0) return;
          const before = outcome({ ...results[i], image: one.image, memory: one.memory ?? new Uint8Array() });
          const name = `d${(8 + opcode).toString(16)} ${(fop & 0xff).toString(16)}`;
          differences.push(
            `${name}: before ${before.control} ${before.pointers} ${before.registers} [${before.memory.slice(0, 20)}]`,
            ...wrong.map((key) => `${name}: ${key} ${mine[key]}, silicon ${theirs[key]}`),
          );
        });
        if (told > 0) differences.push(`${told} of ${cases.length}`);
      }
      expect(differences).toEqual([]);
    });
  }
});
