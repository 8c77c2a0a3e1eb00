/**
 * What a hardware task switch does to shadows: the registers of the task that is left go to its TSS, those of the new one
 * come from its own. SDM vol. 3A 7.2.1 (the 32-bit TSS), 7.3.
 */
import { sub } from '../../engine/taint/propagate.ts';
import type { Shadow } from '../../engine/taint/shadow.ts';
import { CS, DS, ES, FS, GS, RSP, SS, TR } from '../../isa/state.ts';
import type { Place, SystemStep } from './system-step.ts';

/** Type bit that tells a 32-bit TSS from a 16-bit one. */
const WIDE = 8;
const EIP = 32;

interface Field {
  readonly offset: number;
  readonly register: Exclude<Place, { kind: 'memory' }>;
  readonly bytes: number;
}

/** Fields of the TSS but EIP. */
const fields: readonly Field[] = [
  { offset: 36, register: { kind: 'flags' }, bytes: 4 },
  ...[0, 1, 2, 3, 4, 5, 6, 7].map(
    (index): Field => ({ offset: 40 + 4 * index, register: { kind: 'register', index }, bytes: 4 }),
  ),
  ...([ES, CS, SS, DS, FS, GS] as const).map(
    (segment, i): Field => ({ offset: 72 + 4 * i, register: { kind: 'selector', segment }, bytes: 2 }),
  ),
];

/** Whether the instruction, which has completed, has switched tasks. */
export function switchedTask({ cpu, before }: SystemStep): boolean {
  return cpu.segBase[TR] !== before.bases[TR];
}

/**
 * Applies a task switch that has come about.
 * @param returnAddress the shadow of the old task's EIP
 * @param errorCode whether one was pushed onto the new task's stack
 */
export function switchTask(x: SystemStep, returnAddress: Shadow | null, errorCode: boolean): void {
  const { cpu, before } = x;
  if ((cpu.segAttributes[TR] & WIDE) === 0) {
    x.giveUp('task switch to a 16-bit TSS');
    return;
  }
  const at = (base: bigint, offset: number, bytes: number): Place => ({
    kind: 'memory',
    linear: BigInt.asUintN(32, base + BigInt(offset)),
    bytes,
  });
  x.set(at(before.bases[TR], EIP, 4), returnAddress);
  for (const { offset, register, bytes } of fields)
    x.set(at(before.bases[TR], offset, bytes), x.read(register));
  const load = (offset: number, bytes: number) =>
    x.load(BigInt.asUintN(32, cpu.segBase[TR] + BigInt(offset)), bytes);
  x.set({ kind: 'rip' }, load(EIP, 4));
  for (const { offset, register, bytes } of fields) {
    const shadow = load(offset, bytes);
    const stack = register.kind === 'register' && register.index === RSP && errorCode;
    x.set(register, stack ? sub(32, (cpu.gpr[RSP] + 4n) & 0xffff_ffffn, shadow, 4n, null) : shadow);
  }
  if (errorCode) x.set(at(cpu.segBase[SS], Number(cpu.gpr[RSP]), 4), null);
}
