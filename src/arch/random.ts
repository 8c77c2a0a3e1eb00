/** RDRAND and RDSEED: the run's seeded sequence, always ready. SDM vol. 1 7.3.17; vol. 2B "RDRAND", "RDSEED". */
import { CF, readFlags, STATUS_FLAGS, writeFlags } from '../isa/flags.ts';
import type { SystemInstruction } from './cpu.ts';
import { writeOperand } from './operands.ts';

/** CF is set: a value was delivered. OF, SF, ZF, AF and PF are cleared. */
export const random: SystemInstruction = (cpu, instruction) => {
  writeOperand(cpu, instruction, 0, cpu.bus.random());
  writeFlags(cpu, (readFlags(cpu) & ~STATUS_FLAGS) | CF);
};
