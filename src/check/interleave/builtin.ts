/** Windows of the built-in kernels: set-up of ministacks, returns to 16-bit stacks, and both at once. */
import type { Cpu } from '../../arch/cpu.ts';
import { buildImage, type KernelImage } from '../../kernel/image.ts';
import { KERNEL_BASE, percpu } from '../../kernel/layout.ts';
import type { ImageName } from '../../kernel/variants/gallery/names.ts';
import type { Tasks } from '../../kernel/variants/variant.ts';
import { Machine } from '../../machine/machine.ts';
import type { Snapshot } from '../../machine/snapshot.ts';
import { symbolAt } from '../check-variant.ts';
import type { Interleaved } from './judge.ts';
import type { MinistackPlan } from './ministacks.ts';

export const windowNames = ['set-up', 'set-up-and-return', 'returns', 'threads'] as const;
/**
 * - `set-up`: every processor's task is about to call modify_ldt for the first time; it fills its LDT and returns to a
 *   16-bit stack.
 * - `set-up-and-return`: so are all but processor 0's, whose task has filled its LDT and is about to enter the kernel from
 *   a 16-bit stack.
 * - `returns`: every task has filled its LDT and is about to enter the kernel from a 16-bit stack, with registers of its own.
 * - `threads`: the tasks are threads of one process; the first is about to call modify_ldt, the others wait until the LDT
 *   is filled and return to a 16-bit stack.
 */
export type WindowName = (typeof windowNames)[number];

/** What processors do in each window, in a few words. */
export const windowTitles: Readonly<Record<WindowName, string>> = {
  'set-up': 'all call modify_ldt for the first time, and return to a 16-bit stack',
  'set-up-and-return': 'CPU 0 returns to a 16-bit stack while the others call modify_ldt for the first time',
  returns: 'all return to a 16-bit stack',
  threads: 'threads of one process: CPU 0 calls modify_ldt, and all return to a 16-bit stack',
};

const tasks: Readonly<Record<WindowName, Tasks>> = {
  'set-up': { returnEarly: true, sharedLdt: false },
  'set-up-and-return': { returnEarly: true, sharedLdt: false },
  returns: { returnEarly: true, sharedLdt: false },
  threads: { returnEarly: true, sharedLdt: true },
};

/** Instructions that no way to a window takes. */
const PATIENCE = 10_000_000;
/** INT 80H. */
const INT_LENGTH = 2n;
const USER = 3;

export interface WindowOptions {
  /** Default 2. */
  readonly cpus?: number;
  /** Moves the kernel's stacks and ministacks; default 1. */
  readonly seed?: number;
}

/** Boots a kernel and brings its processors to where a window begins. */
export function builtinWindow(
  name: ImageName,
  kind: WindowName,
  options: WindowOptions = {},
): Interleaved & { readonly image: KernelImage } {
  const { cpus = 2, seed = 1 } = options;
  const image = buildImage(name, { cpus, seed, only: () => false, tasks: tasks[kind] });
  const machine = Machine.create({ cpus });
  const at = (label: string) => {
    const address = image.symbols.get(label);
    if (address === undefined) throw new Error(`${name} has no ${label}`);
    return address;
  };
  const leader = new Leader(machine, name);
  leader.boot(image.elf);
  const call = at('user_start.ldt');
  const entry = at('early_return');
  for (const cpu of machine.cpus) {
    const first = cpu.index === 0;
    if (kind === 'threads' && !first) continue;
    if (kind === 'returns' || (kind === 'set-up-and-return' && first)) leader.lead(cpu, entry);
    else leader.lead(cpu, call);
    if (kind === 'returns') ownRegisters(machine, cpu.index);
  }
  const end = entry + INT_LENGTH;
  const start: Snapshot = machine.snapshot();
  return {
    name,
    image,
    window: {
      title: windowTitles[kind],
      machine,
      start,
      cpus: machine.cpus.map(({ index }) => index),
      isEnd: (cpu) => cpu.cpl === USER && cpu.rip === end,
      stacks: image.stacks,
      mayFault: [],
    },
    describe: (address) => symbolAt(address, image.symbols),
    mayDiffer: [],
    ministacks: ministackPlans(image),
    pool: image.symbols.has('page_pool')
      ? { start: at('page_pool') - KERNEL_BASE, next: at('next_page') }
      : undefined,
  };
}

function ministackPlans({ facts }: KernelImage): MinistackPlan[] {
  return (facts?.cpus ?? []).flatMap(({ ministack, gsBase }, cpu) =>
    ministack
      ? [
          {
            cpu,
            address: ministack.address,
            size: ministack.size,
            aliasPointer: gsBase + BigInt(percpu.espfixStack),
            writePointer: gsBase + BigInt(percpu.espfixWrite),
          },
        ]
      : [],
  );
}

/** Values by which one task's registers can be told from another's. */
function ownRegisters(machine: Machine, cpu: number): void {
  const own = BigInt(cpu + 1) * 0x0101_0101n;
  for (const name of ['rbx', 'rcx', 'rdx', 'rbp', 'rdi']) machine.setRegister(name, own, cpu);
  machine.setRegister('rsp', 0x5aad_0000n + own, cpu);
}

/** Brings processors to places, one at a time. */
class Leader {
  readonly #machine: Machine;
  readonly #name: string;

  constructor(machine: Machine, name: string) {
    this.#machine = machine;
    this.#name = name;
  }

  /** Boots until every processor is in user mode for the first time. */
  boot(image: Uint8Array): void {
    const machine = this.#machine;
    machine.boot(image);
    machine.serial.onOutput = () => {};
    const there = new Set<number>();
    const off = machine.on('privilege-change', (cpu, _from, to) => {
      if (to !== USER) return;
      there.add(cpu);
      machine.stop();
    });
    machine.run({ maxInstructions: PATIENCE });
    for (const { index } of machine.cpus) if (!there.has(index)) machine.runAlone(index, PATIENCE);
    off();
    for (const { index } of machine.cpus)
      if (!there.has(index)) throw new Error(`${this.#name}: CPU ${index} never comes to user mode`);
  }

  /** Runs a processor alone to an address. */
  lead(cpu: Cpu, address: bigint): void {
    for (let i = 0; cpu.rip !== address; i++) {
      if (i > PATIENCE)
        throw new Error(`${this.#name}: CPU ${cpu.index} never comes to 0x${address.toString(16)}`);
      this.#machine.runAlone(cpu.index, 1);
    }
  }
}
