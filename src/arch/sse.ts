/**
 * SSE, AVX, FMA and F16C arithmetic of floating-point numbers, exactly: with every rounding mode, DAZ, FTZ, NaN, flag and unmasked exception.
 * SDM vol. 1 10.2.3 (MXCSR), 11.4.1 (instructions), 11.5 (exceptions), 14.3 to 14.5 (AVX, F16C, FMA); vol. 2 by instruction.
 *
 * A VEX-encoded instruction has a destination of its own, may have 256 bits, and clears what is above its destination.
 *
 * An unmasked exception that is found before a result is computed, of any element, keeps the flags of results from being
 * set. It raises #XM, or #UD where CR4.OSXMMEXCPT is clear, and the destination keeps its value.
 */
import { readFlags, writeFlags } from '../isa/flags.ts';
import { approximateReciprocal, approximateReciprocalRoot } from '../isa/float/approximate.ts';
import { operand as asReal } from '../isa/float/arithmetic.ts';
import { compare, EQUAL, LESS, UNORDERED } from '../isa/float/compare.ts';
import { ALL_EXCEPTIONS, BEFORE_RESULT, Environment, type Rounding } from '../isa/float/environment.ts';
import { F32, F64, type Format } from '../isa/float/format.ts';
import {
  comparePredicate,
  convertLane,
  type FusedName,
  type FusedOrder,
  fma,
  fromHalf,
  integerToLane,
  type LaneOperation,
  laneOperations,
  laneToInteger,
  roundLane,
  toHalf,
} from '../isa/float/lanes.ts';
import { type Instruction, isVex } from '../isa/instruction.ts';
import {
  type FloatMnemonic,
  type FusedMnemonic,
  fusedNames,
  fusedOrders,
  type LegacyFloatMnemonic,
  vexFloatForms,
} from '../isa/mnemonics.ts';
import { type SegmentNumber, SS as STACK_SEGMENT } from '../isa/state.ts';
import { CR4_OSXMMEXCPT } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { Fault, gp, ud, XM } from './fault.ts';
import {
  type AccessSize,
  alignmentChecked,
  isCanonical,
  notCanonical,
  probeSegmentWrite,
  readSegment,
  segmentToLinear,
  writeSegment,
} from './linear.ts';
import { advance, effectiveAddress, readOperand, writeRegister } from './operands.ts';
import { checkPending } from './x87.ts';

const ONES_16 = 0xffffn;

const environment = new Environment();

/** The environment by MXCSR, with no flags raised. */
function begin(cpu: Cpu): Environment {
  const { mxcsr } = cpu;
  environment.rounding = ((mxcsr >> 13) & 3) as Rounding;
  environment.masks = (mxcsr >> 7) & ALL_EXCEPTIONS;
  environment.denormalsAreZero = (mxcsr & 0x40) !== 0;
  environment.flushToZero = (mxcsr & 0x8000) !== 0;
  environment.flags = 0;
  return environment;
}

/** Enters what elements raised; raises #XM or #UD for what is not masked. */
function report(cpu: Cpu, e: Environment): void {
  if (e.flags & BEFORE_RESULT & ~e.masks) e.flags &= BEFORE_RESULT;
  cpu.mxcsr |= e.flags;
  if (e.trapped) throw cpu.cr4 & CR4_OSXMMEXCPT ? new Fault(XM) : ud();
}

/** Elements of `bits` (16 to 64) out of quadwords. */
function split(quadwords: readonly bigint[], bits: number): bigint[] {
  if (bits === 64) return [...quadwords];
  const elements: bigint[] = [];
  for (const quadword of quadwords) {
    for (let at = 0; at < 64; at += bits) elements.push(BigInt.asUintN(bits, quadword >> BigInt(at)));
  }
  return elements;
}

function join(elements: readonly bigint[], bits: number): bigint[] {
  if (bits === 64) return [...elements];
  const each = 64 / bits;
  const quadwords: bigint[] = new Array(Math.ceil(elements.length / each)).fill(0n);
  elements.forEach((element, i) => {
    quadwords[Math.floor(i / each)] |= element << BigInt((i % each) * bits);
  });
  return quadwords;
}

/** The number of the last operand that is no immediate: the source, or the second of two. */
function lastSource({ operands }: Instruction): number {
  return operands[operands.length - 1].kind === 'immediate' ? operands.length - 2 : operands.length - 1;
}

/** The number of the first source: the destination, unless there are two other operands. */
function firstSource(instruction: Instruction): number {
  return lastSource(instruction) === 2 ? 1 : 0;
}

/** Accesses of more than eight bytes, and those of F16C, raise no #AC (measured): where it is armed they go by the byte. */
function unaligned(cpu: Cpu): 1 | 8 {
  return alignmentChecked(cpu) ? 1 : 8;
}

/** Checks all of an operand in memory, by its segment or against the canonical addresses, before any of it is translated. */
function checkWhole(cpu: Cpu, segment: SegmentNumber, offset: bigint, bytes: number, write: boolean): void {
  const linear = segmentToLinear(cpu, segment, offset, bytes, write);
  const last = BigInt.asUintN(64, linear + BigInt(bytes - 1));
  if (cpu.mode64 && !(isCanonical(linear) && isCanonical(last)))
    throw notCanonical(cpu, linear, false, segment === STACK_SEGMENT);
}

/** Operand `n` as quadwords, as many as it has; memory of 128 bits must be aligned for what is not VEX-encoded. */
function readVector(cpu: Cpu, instruction: Instruction, n: number): bigint[] {
  const one = instruction.operands[n];
  switch (one?.kind) {
    case 'xmm':
    case 'ymm':
      return [...cpu.ymm.subarray(4 * one.index, 4 * one.index + one.width / 64)];
    case 'mm':
      return [cpu.x87[2 * one.index]];
    case 'memory': {
      const { segment, offset } = effectiveAddress(cpu, instruction, n);
      const bytes = one.width / 8;
      if (bytes <= 8 && instruction.mnemonic !== 'vcvtph2ps')
        return [readSegment(cpu, segment, offset, bytes as AccessSize)];
      // Alignment goes before the segment's limit (measured).
      const base = cpu.mode64 && segment < 4 ? 0n : cpu.segBase[segment];
      if (!isVex(instruction) && (base + offset) & 15n) throw gp();
      checkWhole(cpu, segment, offset, bytes, false);
      const size = unaligned(cpu);
      const quadwords: bigint[] = new Array(bytes / 8).fill(0n);
      for (let at = 0; at < bytes; at += size) {
        const part = readSegment(cpu, segment, advance(instruction, offset, at), size);
        quadwords[at >> 3] |= part << BigInt(8 * (at & 7));
      }
      return quadwords;
    }
    default:
      throw ud();
  }
}

/** Writes the low quadwords of vector register operand 0; above them a register is cleared by VEX and else stays. */
function writeVector(cpu: Cpu, instruction: Instruction, quadwords: readonly bigint[]): void {
  const to = instruction.operands[0];
  if (to.kind === 'xmm' || to.kind === 'ymm') {
    if (isVex(instruction)) cpu.ymm.fill(0n, 4 * to.index, 4 * to.index + 4);
    cpu.ymm.set(quadwords, 4 * to.index);
  } else if (to.kind === 'mm') {
    cpu.x87[2 * to.index] = quadwords[0];
    cpu.x87[2 * to.index + 1] = ONES_16;
  } else throw ud();
}

function immediate(instruction: Instruction): number {
  const last = instruction.operands[instruction.operands.length - 1];
  return last.kind === 'immediate' ? Number(last.value) : 0;
}

const formats: Readonly<Record<'s' | 'd', Format>> = { s: F32, d: F64 };

/** Writes the first element of the destination; the others of its 128 bits are those of operand `rest`. */
function writeScalar(
  cpu: Cpu,
  instruction: Instruction,
  f: Format,
  element: bigint,
  rest = firstSource(instruction),
): void {
  const [low, high] = readVector(cpu, instruction, rest);
  writeVector(cpu, instruction, [f === F64 ? element : (low & ~0xffff_ffffn) | element, high]);
}

/** Elements of the first and the second source give the destination's; of a scalar the first alone. */
function elementwise(
  f: Format,
  scalar: boolean,
  operation: (e: Environment, x: bigint, y: bigint, instruction: Instruction) => bigint,
): SystemInstruction {
  return (cpu, instruction) => {
    const ys = split(readVector(cpu, instruction, lastSource(instruction)), f.bits);
    const xs = split(readVector(cpu, instruction, firstSource(instruction)), f.bits);
    const e = begin(cpu);
    if (scalar) {
      const result = operation(e, xs[0], ys[0], instruction);
      report(cpu, e);
      writeScalar(cpu, instruction, f, result);
      return;
    }
    const results = ys.map((y, i) => operation(e, xs[i], y, instruction));
    report(cpu, e);
    writeVector(cpu, instruction, join(results, f.bits));
  };
}

/** The four forms of an operation: ps, pd, ss, sd. */
function four<const Name extends string>(
  name: Name,
  operation: (f: Format) => (e: Environment, x: bigint, y: bigint, instruction: Instruction) => bigint,
): Record<`${Name}${'p' | 's'}${'s' | 'd'}`, SystemInstruction> {
  const forms: Record<string, SystemInstruction> = {};
  for (const type of ['s', 'd'] as const) {
    const f = formats[type];
    forms[`${name}p${type}`] = elementwise(f, false, operation(f));
    forms[`${name}s${type}`] = elementwise(f, true, operation(f));
  }
  return forms;
}

const lane = (operation: LaneOperation) => (f: Format) => (e: Environment, x: bigint, y: bigint) =>
  operation(e, f, x, y, 0n);

/** COMISS and UCOMISS (`signaling` or not): ZF, PF, CF; OF, SF and AF are cleared. */
function compareToFlags(f: Format, signaling: boolean): SystemInstruction {
  return (cpu, instruction) => {
    const [y] = split(readVector(cpu, instruction, 1), f.bits);
    const [x] = split(readVector(cpu, instruction, 0), f.bits);
    const e = begin(cpu);
    const relation = compare(e, asReal(e, f, x), asReal(e, f, y), signaling);
    report(cpu, e);
    const flags = relation === UNORDERED ? 0x45n : relation === EQUAL ? 0x40n : relation === LESS ? 1n : 0n;
    writeFlags(cpu, (readFlags(cpu) & ~0x8d5n) | flags);
  };
}

/** ADDSUBPx, HADDPx, HSUBPx: results of elements by number, each 128 bits for themselves. */
function rearranged(
  f: Format,
  result: (e: Environment, xs: readonly bigint[], ys: readonly bigint[], i: number) => bigint,
): SystemInstruction {
  return (cpu, instruction) => {
    const ys = readVector(cpu, instruction, lastSource(instruction));
    const xs = readVector(cpu, instruction, firstSource(instruction));
    const e = begin(cpu);
    const results: bigint[] = [];
    for (let at = 0; at < xs.length; at += 2) {
      const x = split(xs.slice(at, at + 2), f.bits);
      const y = split(ys.slice(at, at + 2), f.bits);
      results.push(...x.map((_, i) => result(e, x, y, i)));
    }
    report(cpu, e);
    writeVector(cpu, instruction, join(results, f.bits));
  };
}

const { add, sub, mul } = laneOperations;

function addSub(f: Format): SystemInstruction {
  return rearranged(f, (e, xs, ys, i) => (i & 1 ? add : sub)(e, f, xs[i], ys[i]));
}

function horizontal(f: Format, operation: LaneOperation): SystemInstruction {
  return rearranged(f, (e, xs, ys, i) => {
    const half = xs.length / 2;
    const from = i < half ? xs : ys;
    const at = 2 * (i % half);
    return operation(e, f, from[at], from[at + 1], 0n);
  });
}

/**
 * DPPS, DPPD: products where the immediate's high half says so, their sum where its low half does. Each element has a sum of its
 * own, which shows in the order of the operands, and so in which of several NaNs it is (measured).
 */
function dotProduct(f: Format): SystemInstruction {
  return (cpu, instruction) => {
    const control = immediate(instruction);
    const ys = split(readVector(cpu, instruction, lastSource(instruction)), f.bits);
    const xs = split(readVector(cpu, instruction, firstSource(instruction)), f.bits);
    const per = 128 / f.bits;
    // Exceptions of each step are reported before the next.
    const step = (values: (e: Environment) => bigint[]): bigint[] => {
      const e = begin(cpu);
      const results = values(e);
      report(cpu, e);
      return results;
    };
    const products = step((e) =>
      xs.map((x, i) => ((control >> (4 + (i % per))) & 1 ? mul(e, f, x, ys[i]) : 0n)),
    );
    let sums: bigint[];
    if (f === F64) sums = step((e) => products.map((x, i) => add(e, f, x, products[i ^ 1])));
    else {
      const pairs = step((e) => products.map((x, i) => add(e, f, products[i ^ 1], x)));
      sums = step((e) => pairs.map((x, i) => add(e, f, x, pairs[i ^ 2])));
    }
    const results = sums.map((sum, i) => ((control >> (i % per)) & 1 ? sum : 0n));
    writeVector(cpu, instruction, join(results, f.bits));
  };
}

/** RCPxS, RSQRTxS. */
function approximate(scalar: boolean, operation: (x: number) => number): SystemInstruction {
  return (cpu, instruction) => {
    const results = split(readVector(cpu, instruction, lastSource(instruction)), 32).map((x) =>
      BigInt(operation(Number(x))),
    );
    if (scalar) writeScalar(cpu, instruction, F32, results[0]);
    else writeVector(cpu, instruction, join(results, 32));
  };
}

type Convert = (e: Environment, x: bigint) => bigint;

/** The width of an operation: that of its widest operand. */
function vectorLength({ operands }: Instruction): number {
  let widest = 128;
  for (const one of operands) if ('width' in one && one.width === 256) widest = 256;
  return widest;
}

/**
 * Elements of `from` bits to elements of `to` bits, as many as the wider ones that a vector has; an XMM register is filled with
 * zeros, but for conversions from MM registers.
 */
function convertVector(from: number, to: number, convert: Convert): SystemInstruction {
  return (cpu, instruction) => {
    const [destination, source] = instruction.operands;
    const mmx = destination.kind === 'mm' || source.kind === 'mm';
    if (mmx) checkPending(cpu);
    const between = mmx || isMmxSource(instruction);
    const count = between ? 2 : vectorLength(instruction) / Math.max(from, to);
    const xs = split(readVector(cpu, instruction, 1), from).slice(0, count);
    // As an instruction on MM registers does: TOP is 0, and no register empty.
    if (mmx) enterMmx(cpu);
    const e = begin(cpu);
    const results = join(
      xs.map((x) => convert(e, x)),
      to,
    );
    report(cpu, e);
    if (!between) while (results.length < 2) results.push(0n);
    writeVector(cpu, instruction, results);
  };
}

/** CVTPI2PS and CVTPI2PD with memory: what they leave alone is the same as with a register. */
function isMmxSource({ mnemonic }: Instruction): boolean {
  return mnemonic === 'cvtpi2ps' || mnemonic === 'cvtpi2pd';
}

function enterMmx(cpu: Cpu): void {
  cpu.fsw &= ~0x3800;
  cpu.ftw = 0;
}

/** A scalar of one format to another: CVTSS2SD, CVTSD2SS. */
function convertScalar(from: Format, to: Format): SystemInstruction {
  return (cpu, instruction) => {
    const [x] = split(readVector(cpu, instruction, lastSource(instruction)), from.bits);
    const e = begin(cpu);
    const result = convertLane(e, from, to, x);
    report(cpu, e);
    writeScalar(cpu, instruction, to, result);
  };
}

/** CVTSI2SS, CVTSI2SD, of 32 or 64 bits. */
function fromGeneral(f: Format): SystemInstruction {
  return (cpu, instruction) => {
    const n = lastSource(instruction);
    const source = instruction.operands[n];
    const bits = source.kind === 'register' || source.kind === 'memory' ? source.width : 32;
    const value = BigInt.asIntN(bits, readOperand(cpu, instruction, n));
    const e = begin(cpu);
    const result = integerToLane(e, f, value);
    report(cpu, e);
    writeScalar(cpu, instruction, f, result);
  };
}

/** CVTSS2SI, CVTTSS2SI and of doubles. */
function toGeneral(f: Format, truncate: boolean): SystemInstruction {
  return (cpu, instruction) => {
    const to = instruction.operands[0];
    if (to.kind !== 'register') throw ud();
    const [x] = split(readVector(cpu, instruction, 1), f.bits);
    const e = begin(cpu);
    const result = laneToInteger(e, f, to.width, x, truncate);
    report(cpu, e);
    writeRegister(cpu, to.index, to.width, result);
  };
}

const toInteger = (f: Format, truncate: boolean): Convert => {
  return (e, x) => laneToInteger(e, f, 32, x, truncate);
};
const fromInteger = (f: Format): Convert => {
  return (e, x) => integerToLane(e, f, BigInt.asIntN(32, x));
};

const predicate = (f: Format) => (e: Environment, x: bigint, y: bigint, instruction: Instruction) =>
  comparePredicate(e, f, x, y, immediate(instruction) & (isVex(instruction) ? 31 : 7))
    ? (1n << BigInt(f.bits)) - 1n
    : 0n;

const rounded = (f: Format) => (e: Environment, _: bigint, y: bigint, instruction: Instruction) =>
  roundLane(e, f, y, immediate(instruction));

const legacy: Readonly<Record<LegacyFloatMnemonic, SystemInstruction>> = {
  ...four('add', lane(add)),
  ...four('sub', lane(sub)),
  ...four('mul', lane(mul)),
  ...four('div', lane(laneOperations.div)),
  ...four('min', lane(laneOperations.min)),
  ...four('max', lane(laneOperations.max)),
  ...four('sqrt', (f) => (e, _, y) => laneOperations.sqrt(e, f, y)),
  ...four('cmp', predicate),
  ...four('round', rounded),
  rcpps: approximate(false, approximateReciprocal),
  rcpss: approximate(true, approximateReciprocal),
  rsqrtps: approximate(false, approximateReciprocalRoot),
  rsqrtss: approximate(true, approximateReciprocalRoot),
  addsubps: addSub(F32),
  addsubpd: addSub(F64),
  haddps: horizontal(F32, add),
  haddpd: horizontal(F64, add),
  hsubps: horizontal(F32, sub),
  hsubpd: horizontal(F64, sub),
  dpps: dotProduct(F32),
  dppd: dotProduct(F64),
  comiss: compareToFlags(F32, true),
  comisd: compareToFlags(F64, true),
  ucomiss: compareToFlags(F32, false),
  ucomisd: compareToFlags(F64, false),
  cvtpi2ps: convertVector(32, 32, fromInteger(F32)),
  cvtpi2pd: convertVector(32, 64, fromInteger(F64)),
  cvtps2pi: convertVector(32, 32, toInteger(F32, false)),
  cvtpd2pi: convertVector(64, 32, toInteger(F64, false)),
  cvttps2pi: convertVector(32, 32, toInteger(F32, true)),
  cvttpd2pi: convertVector(64, 32, toInteger(F64, true)),
  cvtsi2ss: fromGeneral(F32),
  cvtsi2sd: fromGeneral(F64),
  cvtss2si: toGeneral(F32, false),
  cvtsd2si: toGeneral(F64, false),
  cvttss2si: toGeneral(F32, true),
  cvttsd2si: toGeneral(F64, true),
  cvtps2pd: convertVector(32, 64, (e, x) => convertLane(e, F32, F64, x)),
  cvtpd2ps: convertVector(64, 32, (e, x) => convertLane(e, F64, F32, x)),
  cvtss2sd: convertScalar(F32, F64),
  cvtsd2ss: convertScalar(F64, F32),
  cvtdq2ps: convertVector(32, 32, fromInteger(F32)),
  cvtps2dq: convertVector(32, 32, toInteger(F32, false)),
  cvttps2dq: convertVector(32, 32, toInteger(F32, true)),
  cvttpd2dq: convertVector(64, 32, toInteger(F64, true)),
  cvtdq2pd: convertVector(32, 64, fromInteger(F64)),
  cvtpd2dq: convertVector(64, 32, toInteger(F64, false)),
};

/** FMA: `even` is the operation of elements with even numbers; the rest of a scalar's destination stays. */
function fused(
  f: Format,
  scalar: boolean,
  order: FusedOrder,
  even: FusedName,
  odd: FusedName,
): SystemInstruction {
  return (cpu, instruction) => {
    const zs = split(readVector(cpu, instruction, 2), f.bits);
    const ys = split(readVector(cpu, instruction, 1), f.bits);
    const xs = split(readVector(cpu, instruction, 0), f.bits);
    const e = begin(cpu);
    if (scalar) {
      const result = fma(e, f, even, order, xs[0], ys[0], zs[0]);
      report(cpu, e);
      writeScalar(cpu, instruction, f, result, 0);
      return;
    }
    const results = xs.map((x, i) => fma(e, f, i & 1 ? odd : even, order, x, ys[i], zs[i]));
    report(cpu, e);
    writeVector(cpu, instruction, join(results, f.bits));
  };
}

function fusedForms(): Record<FusedMnemonic, SystemInstruction> {
  const forms: Record<string, SystemInstruction> = {};
  for (const order of fusedOrders) {
    for (const type of ['s', 'd'] as const) {
      const f = formats[type];
      for (const name of fusedNames) {
        forms[`v${name}${order}p${type}`] = fused(f, false, order, name, name);
        forms[`v${name}${order}s${type}`] = fused(f, true, order, name, name);
      }
      forms[`vfmaddsub${order}p${type}`] = fused(f, false, order, 'fmsub', 'fmadd');
      forms[`vfmsubadd${order}p${type}`] = fused(f, false, order, 'fmadd', 'fmsub');
    }
  }
  return forms;
}

/** VCVTPS2PH: to a register or to memory. What was raised stays in MXCSR even if the store then faults (measured). */
const toHalves: SystemInstruction = (cpu, instruction) => {
  const xs = split(readVector(cpu, instruction, 1), 32);
  const control = immediate(instruction);
  const e = begin(cpu);
  const results = join(
    xs.map((x) => toHalf(e, x, control)),
    16,
  );
  report(cpu, e);
  if (instruction.operands[0].kind === 'memory') {
    const { segment, offset } = effectiveAddress(cpu, instruction, 0);
    const size = unaligned(cpu);
    const bytes = 8 * results.length;
    checkWhole(cpu, segment, offset, bytes, true);
    for (let at = 0; at < bytes; at += size)
      probeSegmentWrite(cpu, segment, advance(instruction, offset, at), size);
    for (let at = 0; at < bytes; at += size) {
      const part = BigInt.asUintN(8 * size, results[at >> 3] >> BigInt(8 * (at & 7)));
      writeSegment(cpu, segment, advance(instruction, offset, at), size, part);
    }
    return;
  }
  while (results.length < 2) results.push(0n);
  writeVector(cpu, instruction, results);
};

const vex = Object.fromEntries(vexFloatForms.map((name) => [`v${name}`, legacy[name]])) as Record<
  `v${(typeof vexFloatForms)[number]}`,
  SystemInstruction
>;

export const sseInstructions: Readonly<Record<FloatMnemonic, SystemInstruction>> = {
  ...legacy,
  ...vex,
  ...fusedForms(),
  vcvtph2ps: convertVector(16, 32, fromHalf),
  vcvtps2ph: toHalves,
};
