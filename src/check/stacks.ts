/**
 * A kernel's stacks, found by looking: what its task-state segments name, and where RSP is seen in kernel mode.
 *
 * SDM vol. 3A 7.7 (64-bit TSS: RSP0 to RSP2, IST1 to IST7), 7.2.1 (32-bit TSS: ESP0 to ESP2).
 */
import type { Cpu } from '../arch/cpu.ts';
import { inspectPage } from '../arch/paging.ts';
import { RSP, TR } from '../isa/state.ts';
import type { Machine } from '../machine/machine.ts';
import type { Snapshot } from '../machine/snapshot.ts';
import { deliverable, inject, type ScheduledEvent } from './event.ts';
import { trigger, type Visit } from './explore/visit.ts';
import type { AddressRange, KernelStack, Subject } from './subject.ts';

const PAGE = 4096n;
/** A stack is taken to reach down as far as pages are mapped like its top, but no further than this. */
const LARGEST = 64n << 10n;

/** Pages below `top` that are supervisor's and writable, as far as they go on. */
function below(cpu: Cpu, top: bigint): { start: bigint; end: bigint } | undefined {
  let start = top;
  while (top - start < LARGEST) {
    const page = (start - 1n) & ~(PAGE - 1n);
    const view = inspectPage(cpu, BigInt.asUintN(64, page));
    if (!view || view.user || !view.writable) break;
    start = page;
  }
  return start === top ? undefined : { start, end: top };
}

function read(machine: Machine, cpu: number, linear: bigint, bytes: 4 | 8): bigint {
  try {
    const raw = machine.readMemory(linear, bytes, cpu);
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    return bytes === 8 ? view.getBigUint64(0, true) : BigInt(view.getUint32(0, true));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return 0n;
  }
}

/** The stacks that a processor's TSS names. */
function namedStacks(machine: Machine, cpu: Cpu): { name: string; top: bigint }[] {
  const base = cpu.segBase[TR];
  if (!cpu.longMode)
    return [{ name: 'ESP0', top: read(machine, cpu.index, base + 4n, 4) }].filter(({ top }) => top !== 0n);
  const stacks: { name: string; top: bigint }[] = [];
  for (let i = 0; i < 3; i++)
    stacks.push({ name: `RSP${i}`, top: read(machine, cpu.index, base + BigInt(4 + 8 * i), 8) });
  for (let i = 1; i <= 7; i++)
    stacks.push({ name: `IST${i}`, top: read(machine, cpu.index, base + BigInt(28 + 8 * i), 8) });
  return stacks.filter(({ top }) => top !== 0n);
}

/** Instructions of an event's handler that are watched. */
const LONGEST_HANDLER = 3_000;

/**
 * The stacks in use at the visits' beginnings, and those that RSP is on in each visit's kernel part; and how far down each was
 * seen in use, there and by handlers of events that come where the kernel is entered and half way. The machine is left anywhere.
 * @param events to try, interrupts with each of `vectors`
 */
export function watchStacks(
  machine: Machine,
  visits: readonly Visit[],
  { events, vectors }: Pick<Subject, 'events' | 'vectors'>,
): KernelStack[] {
  const stacks: { cpu: number; name: string; range: AddressRange; lowest: bigint }[] = [];
  const add = (cpu: Cpu, name: string, top: bigint) => {
    if (stacks.some(({ range }) => top > range.start && top <= range.end)) return;
    const range = below(cpu, top);
    if (range) stacks.push({ cpu: cpu.index, name, range, lowest: range.end });
  };
  let last = 0n;
  const note = (cpu: Cpu) => {
    const rsp = cpu.gpr[RSP];
    if (cpu.cpl === 3 || (rsp >> 47n === 0n && cpu.longMode)) return;
    if (rsp >> 12n !== last) {
      last = rsp >> 12n;
      add(cpu, 'seen', (rsp & ~(PAGE - 1n)) + PAGE);
    }
    for (const stack of stacks)
      if (rsp > stack.range.start && rsp <= stack.range.end && rsp < stack.lowest) stack.lowest = rsp;
  };
  const tried: readonly Omit<ScheduledEvent, 'at'>[] = events
    .filter((kind) => kind !== 'fault')
    .flatMap<Omit<ScheduledEvent, 'at'>>((kind) =>
      kind === 'irq' ? vectors.map((vector) => ({ kind, vector })) : [{ kind }],
    );
  const handlers = ({ cpu: index }: Visit, from: Snapshot) => {
    const cpu = machine.cpus[index];
    for (const event of tried) {
      machine.restore(from);
      if (!deliverable(cpu, event.kind) || !inject(machine, index, event)) continue;
      const { rip } = cpu;
      const rsp = cpu.gpr[RSP];
      for (
        let i = 0;
        i < LONGEST_HANDLER && machine.runAlone(index, 1).reason === 'limit' && cpu.cpl !== 3;
        i++
      ) {
        note(cpu);
        if (cpu.rip === rip && cpu.gpr[RSP] === rsp) break;
      }
    }
    machine.restore(from);
  };
  for (const visit of visits) {
    machine.restore(visit.begin);
    const cpu = machine.cpus[visit.cpu];
    for (const { name, top } of namedStacks(machine, cpu)) add(cpu, name, top);
    last = 0n;
    let entered = false;
    for (let i = 0; i < visit.boundaries + 2; i++) {
      trigger(machine, visit, i);
      if (machine.runAlone(visit.cpu, 1).reason !== 'limit') break;
      note(cpu);
      const entry = !entered && cpu.cpl !== 3;
      if (entry) entered = true;
      if (cpu.cpl !== 3 && (entry || i === visit.boundaries >> 1)) handlers(visit, machine.snapshot());
    }
  }
  return stacks;
}
