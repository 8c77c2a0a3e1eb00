/**
 * What the delivery of an interrupt or exception does to shadows: the frame holds the interrupted registers', and the new
 * stack pointer is a secret. SDM vol. 3A 6.12 to 6.14, 20.3.
 */
import { ATTRIBUTE_DB } from '../../arch/descriptors.ts';
import { sub } from '../../engine/taint/propagate.ts';
import { extract, insert, type Shadow, within } from '../../engine/taint/shadow.ts';
import { IF, NT, RF, TF, VM } from '../../isa/flags.ts';
import { CS, DS, ES, FS, GS, RSP, type SegmentNumber, SS, TR } from '../../isa/state.ts';
import { peekLinear } from './memory-view.ts';
import type { SystemStep } from './system-step.ts';
import { switchTask } from './task-switch.ts';
import { innerStackName } from './transfer-rules.ts';

/** A delivery, as the processor's hook told of it. */
export interface Delivery {
  readonly vector: number;
  readonly errorCode: number | undefined;
}

/** A slot of the frame: its shadow, and what must be in it if that is to be checked. */
interface Slot {
  readonly name: string;
  readonly shadow: Shadow | null;
  readonly bits?: bigint;
}

const TASK_GATE = 5;

/** Gate type and IST index; undefined where the IDT cannot be read. */
function gateOf(x: SystemStep, vector: number): { type: number; ist: number } | undefined {
  const { cpu, before } = x;
  const size = before.longMode ? 16 : 8;
  const bits = peekLinear(cpu, cpu.idtrBase + BigInt(vector * size), 8);
  if (bits === undefined) return undefined;
  const high = Number(bits >> 32n);
  return { type: (high >>> 8) & 0xf, ist: before.longMode ? high & 7 : 0 };
}

/**
 * Applies a delivery that has come about: `x.cpu` is at the handler's first instruction.
 * @param returnAddress shadow and value of RIP as it was pushed
 * @returns what does not agree with the frame in memory, if anything
 */
export function deliver(
  x: SystemStep,
  delivery: Delivery,
  returnAddress: { readonly shadow: Shadow | null; readonly bits: bigint },
): string | undefined {
  const { cpu, before } = x;
  const gate = gateOf(x, delivery.vector);
  const real = before.realAddressing && !before.virtual8086;
  if (!real && !before.longMode && gate?.type === TASK_GATE) {
    switchTask(x, returnAddress.shadow, delivery.errorCode !== undefined);
    return undefined;
  }
  const size = real ? 2 : before.longMode ? 8 : (gate?.type ?? 0) & 8 ? 4 : 2;
  const inner = cpu.cpl < before.cpl;
  const switched = inner || (gate?.ist ?? 0) !== 0;
  const selector = (segment: SegmentNumber) => x.read({ kind: 'selector', segment });
  const slots: Slot[] = [];
  if (delivery.errorCode !== undefined && !real) slots.push({ name: 'error code', shadow: null });
  slots.push({ name: 'RIP', ...returnAddress });
  slots.push({ name: 'CS', shadow: selector(CS) });
  slots.push({ name: 'RFLAGS', shadow: x.read({ kind: 'flags' }) });
  const old = x.read({ kind: 'register', index: RSP });
  if (before.longMode || inner) {
    slots.push({ name: 'RSP', shadow: old, bits: before.gpr[RSP] });
    slots.push({ name: 'SS', shadow: selector(SS) });
  }
  if (before.virtual8086 && inner)
    for (const segment of [ES, DS, FS, GS] as const)
      slots.push({ name: 'segment', shadow: selector(segment) });

  const big = (cpu.segAttributes[SS] & ATTRIBUTE_DB) !== 0;
  const width = cpu.mode64 ? 64 : big ? 32 : 16;
  const bottom = BigInt.asUintN(width, cpu.gpr[RSP]);
  const base = cpu.mode64 ? 0n : cpu.segBase[SS];
  let wrong: string | undefined;
  for (const [n, { name, shadow, bits }] of slots.entries()) {
    const linear = BigInt.asUintN(cpu.longMode ? 64 : 32, base + bottom + BigInt(n * size));
    x.set({ kind: 'memory', linear, bytes: size }, extract(shadow, 0, 8 * size));
    if (bits !== undefined && peekLinear(cpu, linear, size) !== BigInt.asUintN(8 * size, bits))
      wrong = `${name} in the frame`;
  }

  const length = BigInt(slots.length * size);
  const top = BigInt.asUintN(64, cpu.gpr[RSP] + length);
  const pointer = switched
    ? x.born('stack-pointer', innerStackName(x, gate?.ist), before.longMode ? 64 : 32)
    : old;
  // IA-32e mode aligns the stack to 16 bytes first.
  const aligned = before.longMode && pointer !== null ? within(pointer, ~0xfn) : pointer;
  const moved = sub(64, top, aligned, length, null);
  x.set(
    { kind: 'register', index: RSP },
    width === 64
      ? moved
      : width === 32
        ? extract(moved, 0, 32)
        : insert(extract(old, 0, 32), extract(moved, 0, 16), 0, 16),
  );
  const flags = x.shadows.flags;
  x.set({ kind: 'flags' }, flags && within(flags, ~(TF | NT | RF | VM | IF)));
  x.set({ kind: 'rip' }, null);
  x.set({ kind: 'selector', segment: CS }, null);
  if (inner) x.set({ kind: 'selector', segment: SS }, null);
  if (before.virtual8086 && inner)
    for (const segment of [ES, DS, FS, GS] as const) x.set({ kind: 'selector', segment }, null);
  return wrong;
}

/** The stack that a delivery, which failed, was to push onto. */
export interface AttemptedStack {
  /** Its pointer before the first push. */
  readonly pointer: bigint;
  /** It is another than the one in use. */
  readonly switched: boolean;
}

/** The stack of a delivery that failed in IA-32e mode; undefined in others, or where none is known. */
export function attemptedStack(x: SystemStep, { vector }: Delivery): AttemptedStack | undefined {
  const { cpu, before } = x;
  const gate = gateOf(x, vector);
  if (!before.longMode || gate === undefined) return undefined;
  const switched = gate.ist !== 0 || before.cpl === 3;
  const entry = gate.ist !== 0 ? gate.ist * 8 + 28 : 4;
  const pointer = switched ? peekLinear(cpu, cpu.segBase[TR] + BigInt(entry), 8) : before.gpr[RSP];
  return pointer === undefined ? undefined : { pointer: pointer & ~0xfn, switched };
}

/**
 * The shadow of CR2 after a page fault that came up while `delivery` was being delivered: an address on the stack that it was
 * to push onto, or of a structure of the processor's.
 */
export function faultAddressOf(x: SystemStep, delivery: Delivery): Shadow | null {
  const { cr2 } = x.cpu;
  const stack = attemptedStack(x, delivery);
  if (!stack || cr2 >= stack.pointer || cr2 < stack.pointer - 64n)
    return x.born('system-register', 'address of a structure of the processor', 64);
  const pointer = stack.switched
    ? x.born('stack-pointer', `kernel stack pointer for vector ${delivery.vector}`, 64)
    : x.read({ kind: 'register', index: RSP });
  return sub(64, stack.pointer, pointer && within(pointer, ~0xfn), stack.pointer - cr2, null);
}
