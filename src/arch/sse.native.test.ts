/**
 * SSE, AVX, FMA and F16C arithmetic, packed and scalar, compared with the processor's own from random states: registers, MXCSR, flags, x87 state of
 * conversions from and to MM registers, and exceptions.
 */
import { expect, it } from 'vitest';
import { F16, F32, F64 } from '../isa/float/format.ts';
import {
  describeNative,
  generator,
  hex,
  hostHas,
  IMAGE,
  initialImage,
  interestingFloat,
  MEMORY_BYTES,
  type NativeCase,
  type NativeState,
  type Picker,
} from '../isa/float/native.fixture.ts';
import {
  type FloatMnemonic,
  floatMnemonics,
  type LegacyFloatMnemonic,
  vexFloatMnemonics,
} from '../isa/mnemonics.ts';
import { ours, processor } from './native.fixture.ts';

const CASES = Number(process.env.ESPFIX_FLOAT_CASES ?? 10);

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
const WITH_IMMEDIATE = /^v?(cmp|round|dp)|2ph$/;

/** Prefix and opcode of a mnemonic that is not VEX-encoded. */
function opcodeOf(name: LegacyFloatMnemonic): readonly number[] {
  const other = OTHERS[name];
  if (other) return other;
  return [...PREFIX[name.slice(-2)], 0x0f, OPCODE[name.slice(0, -2)]];
}

/** Two sources and a destination of its own; others have one source. */
const ONE_SOURCE = /^v(sqrtp|rsqrtp|rcpp|roundp|u?comi|cvt(?!s[sdi].*2s[sd]|si2))/;
const SCALAR = /s[sd]$|^vu?comi|2si$|^vcvts/;

interface VexForm {
  /** pp, mmmmm, opcode, W. */
  readonly pp: number;
  readonly map: number;
  readonly opcode: number;
  readonly w: number;
}

function vexOf(name: string): VexForm {
  if (name === 'vcvtph2ps') return { pp: 1, map: 2, opcode: 0x13, w: 0 };
  if (name === 'vcvtps2ph') return { pp: 1, map: 3, opcode: 0x1d, w: 0 };
  const fma = /^v(fmaddsub|fmsubadd|fmadd|fmsub|fnmadd|fnmsub)(132|213|231)([ps])([sd])$/.exec(name);
  if (fma) {
    const [, operation, order, packed, type] = fma;
    const row = ['132', '213', '231'].indexOf(order) * 0x10 + 0x90;
    const column = { fmaddsub: 6, fmsubadd: 7, fmadd: 8, fmsub: 10, fnmadd: 12, fnmsub: 14 }[operation] ?? 0;
    return { pp: 1, map: 2, opcode: row + column + (packed === 's' ? 1 : 0), w: type === 'd' ? 1 : 0 };
  }
  const legacy = [...opcodeOf(name.slice(1) as LegacyFloatMnemonic)];
  const at = legacy.indexOf(0x0f);
  const pp = at === 0 ? 0 : ({ 102: 1, 243: 2, 242: 3 }[legacy[0]] ?? 0);
  const map = legacy[at + 1] === 0x3a ? 3 : 1;
  return { pp, map, opcode: legacy[legacy.length - 1], w: 0 };
}

function randomCase(pick: Picker, name: FloatMnemonic): NativeCase {
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
    const double = kind < 3 ? /d$|pd|sd/.test(name) : pick(2) === 1;
    if (name === 'vcvtph2ps' && kind < 4) {
      for (let i = 0; i < 8; i += 2) to.setUint16(at + i, Number(interestingFloat(pick, F16)), true);
    } else if (kind === 5) to.setBigUint64(at, (BigInt(pick(2 ** 32)) << 32n) | BigInt(pick(2 ** 32)), true);
    else if (double) to.setBigUint64(at, interestingFloat(pick, F64), true);
    else for (const i of [0, 4]) to.setUint32(at + i, Number(interestingFloat(pick, F32)), true);
  };
  for (let i = 0; i < 48; i += 8) put(view, IMAGE.xmm + i);
  for (let i = 0; i < 8; i++) put(view, IMAGE.st + 16 * i);
  for (let i = 0; i < 32; i += 8) put(source, i);
  const fromMemory = pick(3) === 0;
  const rax = (BigInt(pick(2 ** 32)) << 32n) | BigInt(pick(2 ** 32));
  const general = /2si$|cvtsi/.test(name);
  const wide = general && pick(2) === 1;
  const immediate = WITH_IMMEDIATE.test(name) ? [pick(256)] : [];
  if (!name.startsWith('v')) {
    // XMM0 and XMM1, or memory at [RSI]; EAX or RAX of conversions from and to general registers.
    const modrm = fromMemory ? 0x06 : /^cvtsi/.test(name) ? 0xc0 : 0xc1;
    const code = [...opcodeOf(name as LegacyFloatMnemonic), modrm, ...immediate];
    if (wide) code.splice(code.indexOf(0x0f), 0, 0x48);
    return { code, image: bytes, memory, rax };
  }
  const { pp, map, opcode, w } = vexOf(name);
  const long = SCALAR.test(name) || name === 'vdppd' ? 0 : pick(2);
  // A destination of its own: XMM0; sources XMM1 and XMM2 (or EAX, or memory).
  const second = ONE_SOURCE.test(name) || /2si$|2p[hs]$|2dq$|2pd$/.test(name) ? 0 : 1;
  let modrm = fromMemory ? 0x06 : /cvtsi/.test(name) ? 0xc0 : 0xc2;
  if (name === 'vcvtps2ph') modrm = fromMemory ? 0x0e : 0xc8;
  const code = [
    0xc4,
    0xe0 | map,
    ((wide ? 1 : w) << 7) | ((~second & 15) << 3) | (long << 2) | pp,
    opcode,
    modrm,
    ...immediate,
  ];
  const upper = new Uint8Array(48);
  const upperView = new DataView(upper.buffer);
  for (let i = 0; i < 48; i += 8) put(upperView, i);
  return { code, image: bytes, memory, rax, upper };
}

function outcome(state: NativeState): Readonly<Record<string, string>> {
  return {
    trap: state.trap.toString(),
    mxcsr: hex(state.image.subarray(24, 28)),
    xmm0: hex(state.image.subarray(160, 176)),
    // Not recorded of a fault.
    upper: state.trap < 0 ? hex(state.upper) : '',
    memory: hex(state.memory.subarray(0, 32)),
    rax: state.rax.toString(16),
    rflags: (state.rflags & 0x8d5n).toString(16),
    x87: hex(state.image.subarray(0, 160)).replace(/^(.{48}).{16}/, '$1'),
  };
}

describeNative('SSE arithmetic is that of the processor', (native) => {
  const f = processor();
  const avx = hostHas('avx', 'fma', 'f16c');
  const vex: ReadonlySet<string> = new Set(vexFloatMnemonics);
  it.each(floatMnemonics.filter((name) => avx || !vex.has(name)))('%s', (name) => {
    const pick = generator([...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 0));
    const cases = Array.from({ length: CASES }, () => randomCase(pick, name));
    const results = native.run(cases);
    expect(results.filter(({ trap }) => trap < 0).length).toBeGreaterThan(cases.length / 3);
    const wrong = cases.flatMap((one, i) => {
      const mine = outcome(ours(f, one));
      const theirs = outcome(results[i]);
      const keys = Object.keys(theirs).filter((key) => mine[key] !== theirs[key]);
      if (keys.length === 0) return [];
      const before = outcome({ ...results[i], image: one.image });
      const state = `${hex(one.code)} mxcsr ${before.mxcsr} ${before.xmm0} ${hex(one.image.subarray(176, 192))} [${hex((one.memory as Uint8Array).subarray(0, 32))}] ${hex(one.upper ?? [])} rax ${one.rax?.toString(16)}`;
      return [[state, ...keys.map((key) => `${key} ${mine[key]}, silicon ${theirs[key]}`)]];
    });
    expect(wrong.slice(0, 2), `${wrong.length} of ${cases.length}`).toEqual([]);
  });
});
