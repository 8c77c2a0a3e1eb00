/**
 * Gates that user mode may use: an exception whose frame holds an error code must not be among them, as INT brings none and the
 * handler would take the next word for it. SDM vol. 3A 6.12.1.2 (DPL of gates), 6.13 (error codes), 6.14.1.
 */
import type { Experiment } from '../explore/experiment.ts';

/** SDM vol. 3A table 6-1. */
const withErrorCode = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];
const PRESENT = 1n << 47n;

/** Vectors with an error code that INT n of user mode may raise. */
export function openGates({ machine, cpu, visit }: Experiment): number[] {
  const size = cpu.longMode ? 16 : 8;
  return withErrorCode.filter((vector) => {
    if (size * vector + size - 1 > cpu.idtrLimit) return false;
    try {
      const bytes = machine.readMemory(cpu.idtrBase + BigInt(size * vector), 8, visit.cpu);
      const gate = new DataView(bytes.buffer).getBigUint64(0, true);
      return (gate & PRESENT) !== 0n && ((gate >> 45n) & 3n) === 3n;
    } catch (error) {
      if (error instanceof RangeError) return false;
      throw error;
    }
  });
}
