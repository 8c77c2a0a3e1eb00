/** PCMPESTRI PCMPESTRM PCMPISTRI PCMPISTRM (SDM vol. 1 12.10.3, vol. 2B 4.1 "Imm8 control byte operation"). */
import type { Builder, Semantic, Value } from '../../builder.ts';
import { RAX, RCX, RDX } from '../../state.ts';
import { blend, lanesToBytes, zero } from './forms.ts';

/** What the immediate asks for. */
interface Control {
  readonly lane: 8 | 16;
  readonly signed: boolean;
  readonly aggregation: 'equal any' | 'ranges' | 'equal each' | 'equal ordered';
  readonly negated: boolean;
  /** Only what is valid is negated. */
  readonly masked: boolean;
  /** The most significant index, or a mask of lanes. */
  readonly high: boolean;
}

function controlOf(immediate: number): Control {
  const aggregations = ['equal any', 'ranges', 'equal each', 'equal ordered'] as const;
  return {
    lane: immediate & 1 ? 16 : 8,
    signed: (immediate & 2) !== 0,
    aggregation: aggregations[(immediate >> 2) & 3],
    negated: (immediate & 0x10) !== 0,
    masked: (immediate & 0x20) !== 0,
    high: (immediate & 0x40) !== 0,
  };
}

/** A string: its elements, how many are valid, and which, as a mask of lanes. */
interface Text {
  readonly elements: Value;
  readonly length: Value;
  readonly valid: Value;
}

/** `length` is of width 32 and at most the number of lanes. */
function textOf(b: Builder, lane: 8 | 16, elements: Value, length: Value): Text {
  let positions = 0n;
  for (let i = 128 / lane - 1; i >= 0; i--) positions = (positions << BigInt(lane)) | BigInt(i);
  const limit = b.splat(b.truncate(length, lane));
  return { elements, length, valid: b.lanes('gtSigned', lane, limit, b.constant(128, positions)) };
}

/** The string up to its first zero. */
function implicit(b: Builder, lane: 8 | 16, elements: Value): Text {
  const zeros = b.signMask(lane, b.lanes('eq', lane, elements, zero(b)));
  const end = b.constant(32, 1 << (128 / lane));
  return textOf(b, lane, elements, b.countTrailingZeros(b.or(zeros, end)));
}

/** The string whose length is the magnitude of a register, saturated. */
function explicit(b: Builder, lane: 8 | 16, elements: Value, register: number): Text {
  const value = b.getRegister(register, b.form.operandSize === 64 ? 64 : 32);
  const magnitude = b.select(b.ltSigned(value, b.constant(value.width, 0)), b.neg(value), value);
  const most = b.constant(value.width, 128 / lane);
  const length = b.select(b.ltUnsigned(most, magnitude), most, magnitude);
  return textOf(b, lane, elements, b.truncate(length, 32));
}

/** Lane `index` of `x` in every lane. */
function broadcast(b: Builder, lane: 8 | 16, x: Value, index: number): Value {
  return b.shuffle(x, x, lanesToBytes(lane, new Array(128 / lane).fill(index)));
}

/** A mask of the lanes of the second string: what the comparisons with the first come to. */
function aggregate(b: Builder, { lane, signed, aggregation }: Control, first: Text, second: Text): Value {
  const count = 128 / lane;
  const atMost = (x: Value, y: Value) =>
    b.lanes('eq', lane, b.lanes(signed ? 'maxSigned' : 'maxUnsigned', lane, x, y), y);
  let result = zero(b);
  switch (aggregation) {
    case 'equal any':
      for (let j = 0; j < count; j++) {
        const same = b.lanes('eq', lane, broadcast(b, lane, first.elements, j), second.elements);
        result = b.or(result, b.and(same, broadcast(b, lane, first.valid, j)));
      }
      return b.and(result, second.valid);
    case 'ranges':
      for (let j = 0; j < count; j += 2) {
        const least = broadcast(b, lane, first.elements, j);
        const most = broadcast(b, lane, first.elements, j + 1);
        const within = b.and(atMost(least, second.elements), atMost(second.elements, most));
        // Validity ends once: the upper bound's tells both.
        result = b.or(result, b.and(within, broadcast(b, lane, first.valid, j + 1)));
      }
      return b.and(result, second.valid);
    case 'equal each': {
      const same = b.lanes('eq', lane, first.elements, second.elements);
      const both = b.and(first.valid, second.valid);
      return b.or(b.and(same, both), b.not(b.or(first.valid, second.valid)));
    }
    case 'equal ordered':
      result = b.not(result);
      for (let j = 0; j < count; j++) {
        // Lane i is compared with what stands j lanes further; what would lie beyond is not compared.
        const further = Array.from({ length: 16 }, (_, i) => Math.min(i + (j * lane) / 8, 16));
        const moved = (x: Value, beyond: Value) => b.shuffle(x, beyond, further);
        const same = b.lanes(
          'eq',
          lane,
          broadcast(b, lane, first.elements, j),
          moved(second.elements, zero(b)),
        );
        const matches = b.and(same, moved(second.valid, zero(b)));
        const outside = moved(zero(b), b.not(zero(b)));
        const unconstrained = b.or(outside, b.not(broadcast(b, lane, first.valid, j)));
        result = b.and(result, b.or(matches, unconstrained));
      }
      return result;
  }
}

function compare(isExplicit: boolean, output: 'index' | 'mask'): Semantic {
  return (b) => {
    const control = controlOf(b.form.immediate);
    const { lane } = control;
    const count = 128 / lane;
    const [source] = b.readVector(1);
    const [destination] = b.readVector(0);
    const first = isExplicit ? explicit(b, lane, destination, RAX) : implicit(b, lane, destination);
    const second = isExplicit ? explicit(b, lane, source, RDX) : implicit(b, lane, source);
    let lanes = aggregate(b, control, first, second);
    if (control.negated) lanes = control.masked ? blend(b, second.valid, b.not(lanes), lanes) : b.not(lanes);
    const bits = b.signMask(lane, lanes);
    const nothing = b.constant(32, 0);
    const all = b.constant(32, count);
    b.setFlags({
      cf: b.ne(bits, nothing),
      zf: b.ltUnsigned(second.length, all),
      sf: b.ltUnsigned(first.length, all),
      of: b.truncate(bits, 1),
      af: b.constant(1, 0),
      pf: b.constant(1, 0),
    });
    if (output === 'mask') {
      b.setXmm(0, control.high ? lanes : b.zeroExtend(bits, 128));
      return;
    }
    const index = control.high
      ? b.sub(b.constant(32, 31), b.countLeadingZeros(bits))
      : b.countTrailingZeros(bits);
    b.setRegister(RCX, b.select(b.eq(bits, nothing), all, index));
  };
}

export const stringCompare = {
  pcmpestri: compare(true, 'index'),
  pcmpestrm: compare(true, 'mask'),
  pcmpistri: compare(false, 'index'),
  pcmpistrm: compare(false, 'mask'),
} satisfies Record<string, Semantic>;
