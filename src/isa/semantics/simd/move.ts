/**
 * Moves of vectors and of parts of them: MOVD MOVQ MOVAPS MOVUPS MOVSS MOVSD MOVLPS MOVHPS MOVHLPS MOVDDUP MOVNTx LDDQU
 * MASKMOVx MOVMSKx PMOVMSKB EMMS and their like (SDM vol. 2B chapter 4).
 */
import type { Builder, Semantic } from '../../builder.ts';
import { RDI } from '../../state.ts';
import { firstOperand, isMmx, lanesToBytes, sourceOperand, unary, withX87 } from './forms.ts';

/** `meaning`, a move, with what instructions on MM registers do beside. A store clears TOP even if it faults (measured on Intel silicon). */
function moving(b: Builder, meaning: () => void): void {
  withX87(b, () => {
    if (isMmx(b) && b.form.operands[0].kind === 'memory') b.setX87('kept');
    meaning();
  });
}

/** The whole operand; memory need or need not be aligned. */
function move(aligned: boolean): Semantic {
  return (b) => moving(b, () => b.writeVector(0, b.readVector(1, aligned), aligned));
}
const aligned = move(true);
const unaligned = move(false);

/** MOVD, and MOVQ: what is moved of an operand stands in the low bits, a register is filled with zeros. */
const movdq: Semantic = (b) =>
  moving(b, () => {
    const [to, from] = b.form.operands;
    const general = from.kind === 'register';
    const value = general ? b.read(1) : b.truncate(b.readVector(1)[0], widthOfMove(b));
    if (to.kind === 'register') b.write(0, value);
    else b.writeVector(0, [b.zeroExtend(value, 128)]);
  });

/** The smaller of the two operands. */
function widthOfMove(b: Builder): 32 | 64 {
  return b.form.operands.some(({ width }) => width === 32) ? 32 : 64;
}

/** MOVSS, MOVSD: a load clears the rest of the register, a move between registers keeps it. */
function moveScalar(lane: 32 | 64): Semantic {
  return (b) => {
    const [to, from] = b.form.operands;
    const value = b.extractLane(lane, b.readVector(sourceOperand(b))[0], 0);
    if (to.kind === 'xmm' && from.kind === 'xmm')
      b.writeVector(0, [b.insertLane(lane, b.readVector(firstOperand(b))[0], 0, value)]);
    else b.writeVector(0, [b.zeroExtend(value, 128)]);
  };
}

/** A quadword between memory and one half of a register: MOVLPS, MOVHPS; from one half to another: MOVHLPS, MOVLHPS. */
function moveHalf(to: 0 | 1, from: 0 | 1): Semantic {
  return (b) => {
    const source = b.readVector(sourceOperand(b))[0];
    if (b.form.operands[0].kind === 'memory') {
      b.writeVector(0, [b.zeroExtend(b.extractLane(64, source, to), 128)]);
      return;
    }
    const half = b.extractLane(64, source, from);
    b.writeVector(0, [b.insertLane(64, b.readVector(firstOperand(b))[0], to, half)]);
  };
}
const moveLow = moveHalf(0, 0);
const moveHigh = moveHalf(1, 0);

/** Lanes of the source by number. */
function duplicate(lane: 32 | 64, lanes: readonly number[]): Semantic {
  return unary((b, x) => b.shuffle(x, x, lanesToBytes(lane, lanes)));
}

/** MOVQ2DQ, MOVDQ2Q. */
const between: Semantic = (b) =>
  withX87(b, () => b.writeVector(0, [b.zeroExtend(b.truncate(b.readVector(1)[0], 64), 128)]));

/**
 * MASKMOVQ, MASKMOVDQU: bytes of the first operand whose byte of the second has its top bit set, to memory at rDI. Faults are those
 * of stores of whole quadwords, the higher first, whatever the mask (measured on Intel silicon; the manual leaves it open).
 */
const maskMove: Semantic = (b) => {
  const mmx = isMmx(b);
  if (mmx) {
    b.checkX87();
    b.setX87('valid');
  }
  const [value] = b.readVector(0);
  const mask = b.signMask(8, b.readVector(1)[0]);
  const start = b.getRegister(RDI, b.form.addressSize);
  const at = (byte: number) => (byte === 0 ? start : b.add(start, b.constant(start.width, byte)));
  if (!mmx) b.probeWrite('operand', at(8), 64);
  b.probeWrite('operand', start, 64);
  for (let byte = 0; byte < (mmx ? 8 : 16); byte++) {
    const chosen = b.truncate(b.shr(mask, b.constant(8, byte)), 1);
    b.when(chosen, () => b.store('operand', at(byte), b.extractLane(8, value, byte)));
  }
};

/** The sign bits of the lanes, to a general register. */
function signs(lane: 8 | 32 | 64): Semantic {
  return (b) =>
    withX87(b, () => {
      const [low, high] = b.readVector(1).map((x) => b.signMask(lane, x));
      const bits = high ? b.or(low, b.shl(high, b.constant(8, 128 / lane))) : low;
      b.write(0, b.zeroExtend(bits, b.form.operands[0].width === 64 ? 64 : 32));
    });
}

const emms: Semantic = (b) => {
  b.checkX87();
  b.setX87('empty');
};

export const move128 = {
  movd: movdq,
  movq: movdq,
  movaps: aligned,
  movapd: aligned,
  movdqa: aligned,
  movups: unaligned,
  movupd: unaligned,
  movdqu: unaligned,
  lddqu: unaligned,
  movntps: aligned,
  movntpd: aligned,
  movntdq: aligned,
  movntdqa: aligned,
  movntq: unaligned,
  movnti: (b: Builder) => b.write(0, b.read(1)),
  movss: moveScalar(32),
  movsd: moveScalar(64),
  movlps: moveLow,
  movlpd: moveLow,
  movhps: moveHigh,
  movhpd: moveHigh,
  movhlps: moveHalf(0, 1),
  movlhps: moveHigh,
  movsldup: duplicate(32, [0, 0, 2, 2]),
  movshdup: duplicate(32, [1, 1, 3, 3]),
  movddup: duplicate(64, [0, 0]),
  movq2dq: between,
  movdq2q: between,
  maskmovq: maskMove,
  maskmovdqu: maskMove,
  movmskps: signs(32),
  movmskpd: signs(64),
  pmovmskb: signs(8),
  emms,
} satisfies Record<string, Semantic>;
