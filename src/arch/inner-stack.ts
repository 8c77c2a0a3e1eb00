/**
 * The stack of a more privileged level, from the current TSS. SDM vol. 3A 5.8.5, 5.8.5.1 (64-bit mode), 6.12.1,
 * 6.14.5 (IST), 7.2.1, 7.7 (64-bit TSS); the order of the checks: vol. 2A "CALL", "INT n".
 */
import { TR } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { type Descriptor, readDescriptor, setAccessed, TYPE_CODE, TYPE_WRITABLE } from './descriptors.ts';
import { ss, TS, ts } from './fault.ts';
import { type AccessSize, readLinear, SYSTEM } from './linear.ts';

function readTss(cpu: Cpu, offset: number, size: AccessSize): bigint {
  return readLinear(cpu, cpu.segBase[TR] + BigInt(offset), size, SYSTEM);
}

/** Raises #TS(TR) unless the current TSS reaches to offset `last`. */
function requireTss(cpu: Cpu, last: number): void {
  if (last > cpu.segLimit[TR]) throw ts(cpu.segSelector[TR] & 0xfffc);
}

export interface InnerStack {
  readonly segment: Descriptor;
  readonly pointer: bigint;
}

/**
 * SS and ESP for `level` outside IA-32e mode, checked, the accessed bit of the stack segment set. Raises #TS(TR),
 * #TS(SS), #SS(SS), #PF.
 */
export function innerStack(cpu: Cpu, level: number): InnerStack {
  const wide = (cpu.segAttributes[TR] & 8) !== 0;
  const at = wide ? level * 8 + 4 : level * 4 + 2;
  requireTss(cpu, at + (wide ? 5 : 3));
  const pointer = readTss(cpu, at, wide ? 4 : 2);
  const selector = Number(readTss(cpu, at + (wide ? 4 : 2), 2));
  const index = selector & 0xfffc;
  if (index === 0) throw ts(0);
  const segment = readDescriptor(cpu, selector, TS);
  const writableData =
    !segment.system && (segment.type & TYPE_CODE) === 0 && (segment.type & TYPE_WRITABLE) !== 0;
  if ((selector & 3) !== level || segment.dpl !== level || !writableData) throw ts(index);
  if (!segment.present) throw ss(index);
  setAccessed(cpu, segment);
  return { segment, pointer };
}

/** RSP for `level` in IA-32e mode. Raises #TS(TR), #PF. */
export function innerRsp(cpu: Cpu, level: number): bigint {
  const at = level * 8 + 4;
  requireTss(cpu, at + 7);
  return readTss(cpu, at, 8);
}

/** RSP from entry `index`, 1 to 7, of the interrupt stack table. Raises #TS(TR), #PF. */
export function interruptStackRsp(cpu: Cpu, index: number): bigint {
  const at = index * 8 + 28;
  requireTss(cpu, at + 7);
  return readTss(cpu, at, 8);
}
