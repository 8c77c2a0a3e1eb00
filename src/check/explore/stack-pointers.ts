/**
 * Returns to a 16-bit stack with stack pointers of every kind: IRET takes bits 15:0 of ESP only, and a kernel that cures this
 * goes through one of 65,536 aliases of a ministack, which bits 31:16 choose. Each of these bits alone, all, none, and those of
 * the kernel's own stacks, which an unwary kernel may take for a sign of where it is.
 *
 * SDM vol. 2A IRET; measured on silicon: a stack segment with B = 0 outside 64-bit mode loads SP alone.
 */
import { RSP, SS } from '../../isa/state.ts';
import type { Violation } from '../finding.ts';
import { differences, generalRegister } from '../user-state.ts';
import type { Experiment } from './experiment.ts';

const ATTRIBUTE_DB = 0x4000;

/** Bits 31:16 to try, as they stand in ESP. */
export function upperHalves(experiment: Experiment): number[] {
  const halves = [0, 0xffff_0000];
  for (let bit = 16; bit < 32; bit++) halves.push((1 << bit) >>> 0);
  for (const { cpu, range } of experiment.stacks)
    if (cpu === experiment.visit.cpu) halves.push(Number((range.end - 1n) & 0xffff_0000n));
  return [...new Set(halves)];
}

/** Whether the kernel is entered from a 16-bit stack and comes back to it with the same stack pointer. */
export function keeps16BitStack({ machine, cpu, baseline }: Experiment): boolean {
  machine.restore(baseline.entry.snapshot);
  const narrow = !cpu.mode64 && (cpu.segAttributes[SS] & ATTRIBUTE_DB) === 0;
  const { state } = baseline.back;
  return narrow && state !== undefined && generalRegister(state, RSP) === cpu.gpr[RSP];
}

/**
 * Goes through the visit with each of these stack pointers.
 * @returns what user mode found, where it was not its own
 */
export function tryStackPointers(experiment: Experiment): { runs: number; violations: Violation[] } {
  if (!keeps16BitStack(experiment)) return { runs: 0, violations: [] };
  const { baseline, cpu, machine } = experiment;
  const violations: Violation[] = [];
  let runs = 0;
  for (const half of upperHalves(experiment)) {
    machine.restore(baseline.entry.snapshot);
    const set = (cpu.gpr[RSP] & 0xffffn) | BigInt(half);
    const outcome = experiment.withStackPointer(set);
    runs++;
    const expected = baseline.back.state;
    if (outcome.state && expected) {
      const wrong = differences(expected, outcome.state).filter(
        ({ name, found }) => name !== 'rsp' || found !== set,
      );
      if (wrong.length === 0) continue;
    }
    violations.push({
      property: outcome.ending === 'user' ? 'transparent' : 'progress',
      what: 'a return to a 16-bit stack depends on bits 31:16 of the stack pointer',
      details: [
        `with ESP 0x${set.toString(16).padStart(8, '0')} user mode ${outcome.state ? `finds RSP 0x${generalRegister(outcome.state, RSP).toString(16)}` : `is not reached (${outcome.ending})`}`,
      ],
    });
  }
  return { runs, violations };
}
