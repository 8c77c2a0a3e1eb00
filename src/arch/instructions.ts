/** Every system instruction by mnemonic: those of the machine's state, and those that transfer control. */
import type { SystemMnemonic } from '../isa/mnemonics.ts';
import { controlInstructions } from './control-transfer.ts';
import type { SystemInstruction } from './cpu.ts';
import { systemInstructions } from './system-instructions.ts';

export const instructions: Readonly<Record<SystemMnemonic, SystemInstruction>> = {
  ...systemInstructions,
  ...controlInstructions,
};
