/**
 * Every instruction by mnemonic whose meaning is in arch: those of the machine's state, those that transfer control, and SSE
 * arithmetic where generated code does not know the result.
 */
import type { FloatMnemonic, SystemMnemonic } from '../isa/mnemonics.ts';
import { controlInstructions } from './control-transfer.ts';
import type { SystemInstruction } from './cpu.ts';
import { sseInstructions } from './sse.ts';
import { systemInstructions } from './system-instructions.ts';

export const instructions: Readonly<Record<SystemMnemonic | FloatMnemonic, SystemInstruction>> = {
  ...systemInstructions,
  ...controlInstructions,
  ...sseInstructions,
};
