/** Scalar SSE, FMA and F16C operations compared with the processor's own, with every rounding mode, DAZ, FTZ and mask. */
import { expect, it } from 'vitest';
import { operand } from './arithmetic.ts';
import { compare, EQUAL, GREATER, LESS, UNORDERED } from './compare.ts';
import { Environment, type Rounding } from './environment.ts';
import { F16, F32, F64, type Format } from './format.ts';
import * as lanes from './lanes.ts';
import {
  describeNative,
  generator,
  hostHas,
  IMAGE,
  initialImage,
  interestingFloat,
  type NativeCase,
} from './native.fixture.ts';

const CASES = Number(process.env.ESPFIX_FLOAT_CASES ?? 50);

interface Answer {
  /** Low bits of XMM0. */
  readonly xmm?: bigint;
  readonly rax?: bigint;
  /** CF, PF, ZF. */
  readonly rflags?: bigint;
}

interface Form {
  readonly name: string;
  readonly code: readonly number[];
  readonly feature?: string;
  readonly x: Format;
  readonly y?: Format;
  readonly z?: Format;
  readonly bits: number;
  ours(e: Environment, x: bigint, y: bigint, z: bigint, rax: bigint): Answer;
}

const forms: Form[] = [];
for (const [prefix, f, suffix] of [
  [0xf3, F32, 's'],
  [0xf2, F64, 'd'],
] as const) {
  for (const [name, opcode] of [
    ['add', 0x58],
    ['mul', 0x59],
    ['sub', 0x5c],
    ['min', 0x5d],
    ['div', 0x5e],
    ['max', 0x5f],
    ['sqrt', 0x51],
  ] as const) {
    const operation: lanes.LaneOperation = lanes.laneOperations[name];
    forms.push({
      name: `${name}s${suffix}`,
      code: [prefix, 0x0f, opcode, 0xc1],
      x: f,
      y: f,
      bits: f.bits,
      ours: (e, x, y) => ({ xmm: name === 'sqrt' ? operation(e, f, y, 0n, 0n) : operation(e, f, x, y, 0n) }),
    });
  }
  for (let predicate = 0; predicate < 32; predicate++) {
    forms.push({
      name: `${predicate < 8 ? '' : 'v'}cmps${suffix} ${predicate}`,
      code:
        predicate < 8
          ? [prefix, 0x0f, 0xc2, 0xc1, predicate]
          : [0xc5, prefix === 0xf3 ? 0xfa : 0xfb, 0xc2, 0xc1, predicate],
      ...(predicate < 8 ? {} : { feature: 'avx' }),
      x: f,
      y: f,
      bits: f.bits,
      ours: (e, x, y) => ({
        xmm: lanes.comparePredicate(e, f, x, y, predicate) ? (1n << BigInt(f.bits)) - 1n : 0n,
      }),
    });
  }
  for (const [name, opcode, signaling] of [
    ['ucomi', 0x2e, false],
    ['comi', 0x2f, true],
  ] as const) {
    forms.push({
      name: name + suffix,
      code: f === F32 ? [0x0f, opcode, 0xc1] : [0x66, 0x0f, opcode, 0xc1],
      x: f,
      y: f,
      bits: 0,
      ours: (e, x, y) => ({
        rflags: { [LESS]: 1n, [EQUAL]: 0x40n, [GREATER]: 0n, [UNORDERED]: 0x45n }[
          compare(e, operand(e, f, x), operand(e, f, y), signaling)
        ],
      }),
    });
  }
  for (const bits of [32, 64]) {
    const rex = bits === 64 ? [0x48] : [];
    forms.push({
      name: `cvtsi2s${suffix} ${bits}`,
      code: [prefix, ...rex, 0x0f, 0x2a, 0xc0],
      x: f,
      bits: f.bits,
      ours: (e, _x, _y, _z, rax) => ({ xmm: lanes.integerToLane(e, f, BigInt.asIntN(bits, rax)) }),
    });
    for (const [name, opcode] of [
      ['cvtt', 0x2c],
      ['cvt', 0x2d],
    ] as const) {
      forms.push({
        name: `${name}s${suffix}2si ${bits}`,
        code: [prefix, ...rex, 0x0f, opcode, 0xc0],
        x: f,
        bits: 0,
        ours: (e, x) => ({ rax: lanes.laneToInteger(e, f, bits, x, name === 'cvtt') }),
      });
    }
  }
  for (let control = 0; control < 16; control++) {
    forms.push({
      name: `rounds${suffix} ${control}`,
      code: [0x66, 0x0f, 0x3a, f === F32 ? 0x0a : 0x0b, 0xc1, control],
      feature: 'sse4_1',
      x: f,
      y: f,
      bits: f.bits,
      ours: (e, _x, y) => ({ xmm: lanes.roundLane(e, f, y, control) }),
    });
  }
  const w = f === F32 ? 0x71 : 0xf1;
  // Operands of the VEX forms: XMM0, XMM1 (vvvv), XMM2.
  for (const [order, base] of [
    ['132', 0x90],
    ['213', 0xa0],
    ['231', 0xb0],
  ] as const) {
    for (const [name, offset] of [
      ['fmadd', 9],
      ['fmsub', 11],
      ['fnmadd', 13],
      ['fnmsub', 15],
    ] as const) {
      forms.push({
        name: `v${name}${order}s${suffix}`,
        code: [0xc4, 0xe2, w, base + offset, 0xc2],
        feature: 'fma',
        x: f,
        y: f,
        z: f,
        bits: f.bits,
        ours: (e, x, y, z) => ({ xmm: lanes.fma(e, f, name, order, x, y, z) }),
      });
    }
  }
}
forms.push(
  {
    name: 'cvtss2sd',
    code: [0xf3, 0x0f, 0x5a, 0xc1],
    x: F64,
    y: F32,
    bits: 64,
    ours: (e, _x, y) => ({ xmm: lanes.convertLane(e, F32, F64, y) }),
  },
  {
    name: 'cvtsd2ss',
    code: [0xf2, 0x0f, 0x5a, 0xc1],
    x: F32,
    y: F64,
    bits: 32,
    ours: (e, _x, y) => ({ xmm: lanes.convertLane(e, F64, F32, y) }),
  },
  {
    name: 'vcvtph2ps',
    code: [0xc4, 0xe2, 0x79, 0x13, 0xc1],
    feature: 'f16c',
    x: F32,
    y: F16,
    bits: 32,
    ours: (e, _x, y) => ({ xmm: lanes.fromHalf(e, y) }),
  },
  ...[0, 1, 2, 3, 4, 8].map(
    (control): Form => ({
      name: `vcvtps2ph ${control}`,
      code: [0xc4, 0xe3, 0x79, 0x1d, 0xc8, control],
      feature: 'f16c',
      x: F16,
      y: F32,
      bits: 16,
      ours: (e, _x, y) => ({ xmm: lanes.toHalf(e, y, control) }),
    }),
  ),
);

const MASKS = [0x3f, 0x3f, 0x3f, 0x3f, 0x3e, 0x3d, 0x3b, 0x37, 0x2f, 0x1f, 0];
const RFLAGS = 0x45n;

describeNative('scalar operations are those of the processor', (native) => {
  for (const form of forms) {
    it.skipIf(form.feature !== undefined && !hostHas(form.feature))(form.name, () => {
      const pick = generator(form.name.length * 7919 + form.code[form.code.length - 1] * 31 + form.code[2]);
      const made = Array.from({ length: CASES }, () => {
        const { bytes, view } = initialImage();
        const x = interestingFloat(pick, form.x);
        let y = form.y ? interestingFloat(pick, form.y) : 0n;
        let z = form.z ? interestingFloat(pick, form.z) : 0n;
        // Near one another, so that sums cancel and comparisons are close.
        if (form.y === form.x && pick(4) === 0) y = BigInt.asUintN(form.x.bits, x ^ BigInt(pick(4)));
        if (form.z === form.x && pick(4) === 0) z = x ^ (1n << BigInt(form.x.bits - 1));
        let mxcsr = MASKS[pick(MASKS.length)] << 7;
        mxcsr |= pick(4) << 13;
        if (pick(3) === 0) mxcsr |= 0x40;
        if (pick(3) === 0) mxcsr |= 0x8000;
        view.setUint32(IMAGE.mxcsr, mxcsr, true);
        for (const [n, value] of [x, y, z].entries()) view.setBigUint64(IMAGE.xmm + n * 16, value, true);
        const rax = pick(2) ? (BigInt(pick(2 ** 32)) << 32n) | BigInt(pick(2 ** 32)) : BigInt(pick(100));
        const one: NativeCase = { code: form.code, image: bytes, rax };
        return { one, x, y, z, rax, mxcsr };
      });
      const results = native.run(made.map(({ one }) => one));
      made.forEach(({ x, y, z, rax, mxcsr }, i) => {
        const e = new Environment();
        e.rounding = ((mxcsr >> 13) & 3) as Rounding;
        e.masks = (mxcsr >> 7) & 0x3f;
        e.denormalsAreZero = (mxcsr & 0x40) !== 0;
        e.flushToZero = (mxcsr & 0x8000) !== 0;
        const ours = form.ours(e, x, y, z, rax);
        const theirs = results[i];
        const view = new DataView(theirs.image.buffer);
        const hex = (value: bigint | undefined) => value?.toString(16);
        const say = (flags: number, trapped: boolean, value: Answer) =>
          trapped
            ? { flags, trapped }
            : { flags, trapped, xmm: hex(value.xmm), rax: hex(value.rax), rflags: hex(value.rflags) };
        const answer: Answer = {
          ...(ours.xmm === undefined
            ? {}
            : { xmm: BigInt.asUintN(form.bits, view.getBigUint64(IMAGE.xmm, true)) }),
          ...(ours.rax === undefined ? {} : { rax: theirs.rax }),
          ...(ours.rflags === undefined ? {} : { rflags: theirs.rflags & RFLAGS }),
        };
        const context = `x=${hex(x)} y=${hex(y)} z=${hex(z)} rax=${hex(rax)} mxcsr=${mxcsr.toString(16)}`;
        expect(say(e.flags, e.trapped, ours), context).toEqual(
          say(view.getUint32(IMAGE.mxcsr, true) & 0x3f, theirs.trap === 19, answer),
        );
      });
    });
  }
});
