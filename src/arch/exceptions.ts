/**
 * Exceptions, and exceptions while one is being delivered: the double fault and shutdown.
 * SDM vol. 3A 6.5, 6.15 "Interrupt 8", table 6-4 (classes) and table 6-5 (which pairs make a double fault).
 */
import { SHUTDOWN } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { DE, DF, Fault, GP, PF, TripleFault, TS } from './fault.ts';
import { deliver } from './interrupts.ts';

/** #DE, #TS, #NP, #SS, #GP. */
function isContributory(vector: number): boolean {
  return vector === DE || (vector >= TS && vector <= GP);
}

/** Exception `second`, raised while `first` was being delivered, makes a double fault. */
export function makesDoubleFault(first: number, second: number): boolean {
  if (isContributory(first)) return isContributory(second);
  return first === PF && (isContributory(second) || second === PF);
}

/** The processor stops (SDM vol. 3A 6.15 "Interrupt 8"): INIT or NMI alone would wake it. */
export function shutDown(cpu: Cpu): never {
  cpu.activity = SHUTDOWN;
  throw new TripleFault(cpu.rip);
}

/**
 * Delivers an exception of the instruction at RIP, which has had no effect; debug traps pending from a MOV SS before it
 * are lost, as on Intel processors. Exceptions on the way are delivered in its place, or turn into #DF;
 * throws TripleFault when #DF cannot be delivered.
 */
export function deliverFault(cpu: Cpu, fault: Fault): void {
  cpu.pendingDebug = 0;
  deliverException(cpu, fault.vector, fault.errorCode);
}

/** As {@link deliverFault}, with pending debug traps left alone. */
export function deliverException(cpu: Cpu, vector: number, errorCode: number | undefined): void {
  let current = vector;
  let code = errorCode;
  for (;;) {
    try {
      deliver(cpu, current, 'exception', code);
      return;
    } catch (second) {
      if (!(second instanceof Fault)) throw second;
      if (current === DF && (isContributory(second.vector) || second.vector === PF)) shutDown(cpu);
      if (makesDoubleFault(current, second.vector)) {
        current = DF;
        code = 0;
      } else {
        current = second.vector;
        code = second.errorCode;
      }
    }
  }
}
