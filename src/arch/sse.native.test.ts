/**
 * SSE arithmetic, packed and scalar, compared with the processor's own from random states: registers, MXCSR, flags, x87 state of
 * conversions from and to MM registers, and exceptions.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { F32, F64 } from '../isa/float/format.ts';
import {
  generator,
  IMAGE,
  initialImage,
  interestingFloat,
  MEMORY_BYTES,
  type NativeCase,
  NativeInstructions,
  type NativeState,
  nativeInstructionsHere,
} from '../isa/float/native.fixture.ts';
import { type FloatMnemonic, floatMnemonics } from '../isa/mnemonics.ts';
import { ours, processor } from './native.fixture.ts';

const CASES = Number(process.env.ESPFIX_FLOAT_CASES ?? 25);

type Pick = (bound: number) => number;

const PREFIX: Readonly<Record<string, readonly number[]>> = { ps: [], pd: [0x66], ss: [0xf3], sd: [0xf2] };
const OPCODE: Readonly<Record<string, number>> = {
  sqrt: 0x51,
  rsqrt: 0x52,
  rcp: 0x53,
  add: 0x58,
  mul: 0x59,
  sub: 0x5c,
  min: 0x5d,
  div: 0x5e,
  max: 0x5f,
  cmp: 0xc2,
};
const OTHERS: Readonly<Record<string, readonly number[]>> = {
  addsubps: [0xf2, 0x0f, 0xd0],
  addsubpd: [0x66, 0x0f, 0xd0],
  haddps: [0xf2, 0x0f, 0x7c],
  haddpd: [0x66, 0x0f, 0x7c],
  hsubps: [0xf2, 0x0f, 0x7d],
  hsubpd: [0x66, 0x0f, 0x7d],
  dpps: [0x66, 0x0f, 0x3a, 0x40],
  dppd: [0x66, 0x0f, 0x3a, 0x41],
  roundps: [0x66, 0x0f, 0x3a, 0x08],
  roundpd: [0x66, 0x0f, 0x3a, 0x09],
  roundss: [0x66, 0x0f, 0x3a, 0x0a],
  roundsd: [0x66, 0x0f, 0x3a, 0x0b],
  comiss: [0x0f, 0x2f],
  comisd: [0x66, 0x0f, 0x2f],
  ucomiss: [0x0f, 0x2e],
  ucomisd: [0x66, 0x0f, 0x2e],
  cvtpi2ps: [0x0f, 0x2a],
  cvtpi2pd: [0x66, 0x0f, 0x2a],
  cvtps2pi: [0x0f, 0x2d],
  cvtpd2pi: [0x66, 0x0f, 0x2d],
  cvttps2pi: [0x0f, 0x2c],
  cvttpd2pi: [0x66, 0x0f, 0x2c],
  cvtsi2ss: [0xf3, 0x0f, 0x2a],
  cvtsi2sd: [0xf2, 0x0f, 0x2a],
  cvtss2si: [0xf3, 0x0f, 0x2d],
  cvtsd2si: [0xf2, 0x0f, 0x2d],
  cvttss2si: [0xf3, 0x0f, 0x2c],
  cvttsd2si: [0xf2, 0x0f, 0x2c],
  cvtps2pd: [0x0f, 0x5a],
  cvtpd2ps: [0x66, 0x0f, 0x5a],
  cvtss2sd: [0xf3, 0x0f, 0x5a],
  cvtsd2ss: [0xf2, 0x0f, 0x5a],
  cvtdq2ps: [0x0f, 0x5b],
  cvtps2dq: [0x66, 0x0f, 0x5b],
  cvttps2dq: [0xf3, 0x0f, 0x5b],
  cvttpd2dq: [0x66, 0x0f, 0xe6],
  cvtdq2pd: [0xf3, 0x0f, 0xe6],
  cvtpd2dq: [0xf2, 0x0f, 0xe6],
};
const WITH_IMMEDIATE = /^(cmp|round|dp)/;

/** Prefix and opcode of a mnemonic. */
function opcodeOf(name: FloatMnemonic): readonly number[] {
  const other = OTHERS[name];
  if (other) return other;
  return [...PREFIX[name.slice(-2)], 0x0f, OPCODE[name.slice(0, -2)]];
}

function randomCase(pick: Pick, name: FloatMnemonic): NativeCase {
  const { bytes, view } = initialImage();
  const masks = pick(3) ? 0x3f : [0x3e, 0x3d, 0x3b, 0x37, 0x2f, 0x1f, 0, 0x0f, 0x3c][pick(9)];
  const daz = pick(3) === 0 ? 0x40 : 0;
  const ftz = pick(3) === 0 ? 0x8000 : 0;
  const sticky = pick(2) ? 0 : pick(64);
  view.setUint32(IMAGE.mxcsr, (masks << 7) | (pick(4) << 13) | daz | ftz | sticky, true);
  view.setUint8(IMAGE.ftw, pick(256));
  view.setUint16(IMAGE.fsw, pick(8) << 11, true);
  const memory = new Uint8Array(MEMORY_BYTES);
  const source = new DataView(memory.buffer);
  // Integers now and then; one lane that differs among ordinary ones.
  const kind = pick(6);
  const put = (to: DataView, at: number): void => {
    const double = kind < 3 ? /d$|pd/.test(name) : pick(2) === 1;
    if (kind === 5) to.setBigUint64(at, (BigInt(pick(2 ** 32)) << 32n) | BigInt(pick(2 ** 32)), true);
    else if (double) to.setBigUint64(at, interestingFloat(pick, F64), true);
    else for (const i of [0, 4]) to.setUint32(at + i, Number(interestingFloat(pick, F32)), true);
  };
  for (let i = 0; i < 48; i += 8) put(view, IMAGE.xmm + i);
  for (let i = 0; i < 8; i++) put(view, IMAGE.st + 16 * i);
  for (let i = 0; i < 16; i += 8) put(source, i);
  const fromMemory = pick(3) === 0;
  const opcode = opcodeOf(name);
  // XMM0 and XMM1, or memory at [RSI]; EAX or RAX of conversions from and to general registers.
  const general = /2si$/.test(name) ? 0xc1 : /^cvtsi/.test(name) ? 0xc0 : 0xc1;
  const modrm = fromMemory ? 0x06 : general;
  const wide = /2si$|^cvtsi/.test(name) && pick(2) === 1;
  const code = [...opcode, modrm, ...(WITH_IMMEDIATE.test(name) ? [pick(256)] : [])];
  if (wide) code.splice(code.indexOf(0x0f), 0, 0x48);
  return { code, image: bytes, memory, rax: (BigInt(pick(2 ** 32)) << 32n) | BigInt(pick(2 ** 32)) };
}

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

function outcome(state: NativeState): Readonly<Record<string, string>> {
  return {
    trap: state.trap.toString(),
    mxcsr: hex(state.image.subarray(24, 28)),
    xmm0: hex(state.image.subarray(160, 176)),
    rax: state.rax.toString(16),
    rflags: (state.rflags & 0x8d5n).toString(16),
    x87: hex(state.image.subarray(0, 160)).replace(/^(.{48}).{16}/, '$1'),
  };
}

describe.skipIf(!nativeInstructionsHere())('SSE arithmetic is that of the processor', () => {
  let native: NativeInstructions;
  const f = processor();
  beforeAll(() => {
    native = new NativeInstructions();
  });
  afterAll(() => native?.close());

  it.each(floatMnemonics)('%s', (name) => {
    const pick = generator(name.length * 37 + opcodeOf(name).reduce((sum, byte) => sum * 3 + byte, 0));
    const cases = Array.from({ length: CASES }, () => randomCase(pick, name));
    const results = native.run(cases);
    const wrong = cases.flatMap((one, i) => {
      const mine = outcome(ours(f, one));
      const theirs = outcome(results[i]);
      const keys = Object.keys(theirs).filter((key) => mine[key] !== theirs[key]);
      if (keys.length === 0) return [];
      const before = outcome({ ...results[i], image: one.image });
      const state = `${hex(Uint8Array.from(one.code))} mxcsr ${before.mxcsr} ${before.xmm0} ${hex(one.image.subarray(176, 192))} [${hex((one.memory as Uint8Array).subarray(0, 16))}] rax ${one.rax?.toString(16)}`;
      return [[state, ...keys.map((key) => `${key} ${mine[key]}, silicon ${theirs[key]}`)]];
    });
    expect(wrong.slice(0, 2), `${wrong.length} of ${cases.length}`).toEqual([]);
  });
});
