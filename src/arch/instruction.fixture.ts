/** Decoded instructions made by hand, for tests of arch. */
import type { Instruction, Operand, OperandWidth } from '../isa/instruction.ts';
import type { SystemMnemonic } from '../isa/mnemonics.ts';
import { DS, type SegmentNumber } from '../isa/state.ts';

export const register = (index: number, width: OperandWidth = 64, high = false): Operand => ({
  kind: 'register',
  width,
  index,
  high,
});

/** Memory at a displacement alone. */
export const memory = (
  displacement: bigint,
  segment: SegmentNumber = DS,
  width: OperandWidth | 0 = 0,
): Operand => ({
  kind: 'memory',
  width,
  segment,
  base: -1,
  index: -1,
  scale: 0,
  displacement,
  ripRelative: false,
});

export const immediate = (value: bigint, width: OperandWidth = 8): Operand => ({
  kind: 'immediate',
  width,
  value,
});

export const segmentRegister = (index: number): Operand => ({ kind: 'segment', index });
export const controlRegister = (index: number): Operand => ({ kind: 'control', index });

/** An instruction of 64-bit code with a 32-bit operand size, three bytes long, but for what `more` says. */
export function instruction(
  mnemonic: SystemMnemonic,
  operands: readonly Operand[] = [],
  more: Partial<Instruction> = {},
): Instruction {
  return {
    mnemonic,
    length: 3,
    codeSize: 64,
    operandSize: 32,
    addressSize: 64,
    operands,
    condition: 0,
    repeat: '',
    lock: false,
    segment: DS,
    ...more,
  };
}
