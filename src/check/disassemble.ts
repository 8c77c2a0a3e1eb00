/** The text of an instruction of a machine. */
import { Decoder, Formatter, FormatterSyntax } from 'iced-x86';
import { CS } from '../isa/state.ts';
import type { Machine } from '../machine/machine.ts';

const LONGEST = 15;

/** Code bytes at a linear address; fewer than 15 where a page ends that no other follows. */
function codeBytes(machine: Machine, linear: bigint, cpu: number): Uint8Array {
  const inPage = 0x1000 - Number(linear & 0xfffn);
  for (const size of [LONGEST, Math.min(LONGEST, inPage)]) {
    try {
      return machine.readMemory(linear, size, cpu);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  return new Uint8Array();
}

let formatter: Formatter | undefined;

/** The instruction at `rip` in the code segment that processor `cpu` has: Intel syntax. */
export function disassemble(machine: Machine, cpu: number, rip: bigint): { text: string; length: number } {
  const { codeSize, mode64, segBase } = machine.cpus[cpu];
  const linear = mode64 ? rip : (segBase[CS] + rip) & 0xffff_ffffn;
  const bytes = codeBytes(machine, linear, cpu);
  if (bytes.length === 0) return { text: '(not mapped)', length: 0 };
  const decoder = new Decoder(codeSize, bytes, 0);
  decoder.ip = rip;
  const instruction = decoder.decode();
  formatter ??= new Formatter(FormatterSyntax.Intel);
  const text = formatter.format(instruction);
  const { length } = instruction;
  instruction.free();
  decoder.free();
  return { text, length };
}
