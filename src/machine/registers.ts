/**
 * Registers by name, for users of the library: general-purpose, instruction pointer, flags, segments with their hidden
 * parts, control, debug and descriptor-table registers, and the MSRs that are plain fields.
 */
import type { Cpu } from '../arch/cpu.ts';
import { updateAllRanges, updateRanges } from '../arch/segmentation.ts';
import { readFlags, writeFlags } from '../isa/flags.ts';
import type { SegmentNumber } from '../isa/state.ts';

interface Accessor {
  get(cpu: Cpu): bigint;
  set(cpu: Cpu, value: bigint): void;
}

const GENERAL = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'] as const;
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr'] as const;
/** Scalar fields of the state that are registers as they stand. */
const PLAIN = [
  'cr2',
  'xcr0',
  'efer',
  'star',
  'lstar',
  'cstar',
  'sfmask',
  'kernelGsBase',
  'sysenterCs',
  'sysenterEsp',
  'sysenterEip',
  'tscAux',
  'apicBase',
  'pat',
] as const;

const accessors = new Map<string, Accessor>();

for (let i = 0; i < 16; i++) {
  accessors.set(GENERAL[i] ?? `r${i}`, {
    get: (cpu) => cpu.gpr[i],
    set: (cpu, value) => {
      cpu.gpr[i] = value;
    },
  });
}
accessors.set('rip', {
  get: (cpu) => cpu.rip,
  set: (cpu, value) => {
    cpu.rip = value;
  },
});
accessors.set('rflags', { get: readFlags, set: writeFlags });
accessors.set('cpl', {
  get: (cpu) => BigInt(cpu.cpl),
  set: (cpu, value) => {
    cpu.cpl = Number(value & 3n);
  },
});
SEGMENTS.forEach((name, n) => {
  const segment = n as SegmentNumber;
  const part = (field: 'segSelector' | 'segLimit' | 'segAttributes' | 'segUsable'): Accessor => ({
    get: (cpu) => BigInt(cpu[field][segment]),
    set: (cpu, value) => {
      cpu[field][segment] = Number(value & 0xffff_ffffn);
      updateRanges(cpu, segment);
    },
  });
  accessors.set(name, part('segSelector'));
  accessors.set(`${name}.base`, {
    get: (cpu) => cpu.segBase[segment],
    set: (cpu, value) => {
      cpu.segBase[segment] = value;
    },
  });
  accessors.set(`${name}.limit`, part('segLimit'));
  accessors.set(`${name}.attributes`, part('segAttributes'));
  accessors.set(`${name}.usable`, part('segUsable'));
});
for (const table of ['gdtr', 'idtr'] as const) {
  accessors.set(`${table}.base`, {
    get: (cpu) => cpu[`${table}Base`],
    set: (cpu, value) => {
      cpu[`${table}Base`] = value;
    },
  });
  accessors.set(`${table}.limit`, {
    get: (cpu) => BigInt(cpu[`${table}Limit`]),
    set: (cpu, value) => {
      cpu[`${table}Limit`] = Number(value & 0xffffn);
    },
  });
}
for (const name of ['cr0', 'cr3', 'cr4'] as const) {
  accessors.set(name, {
    get: (cpu) => cpu[name],
    set: (cpu, value) => {
      cpu[name] = value;
      // What MOV CR would invalidate, and more: nothing cached can be right by accident.
      cpu.tlb.invalidateContext(-1, true);
      updateAllRanges(cpu);
    },
  });
}
accessors.set('cr8', {
  get: (cpu) => BigInt(cpu.interrupts.taskPriority),
  set: (cpu, value) => {
    cpu.interrupts.taskPriority = Number(value & 15n);
  },
});
for (const n of [0, 1, 2, 3, 6, 7]) {
  accessors.set(`dr${n}`, {
    get: (cpu) => cpu.dr[n],
    set: (cpu, value) => {
      cpu.dr[n] = value;
    },
  });
}
for (const name of PLAIN) {
  accessors.set(name.toLowerCase(), {
    get: (cpu) => cpu[name],
    set: (cpu, value) => {
      cpu[name] = value;
    },
  });
}

/** Names that `readRegister` and `writeRegister` know, in the order of a dump. */
export const registerNames: readonly string[] = [...accessors.keys()];

/** Every register by name. */
export function readRegisters(cpu: Cpu): Record<string, bigint> {
  const dump: Record<string, bigint> = {};
  for (const [name, accessor] of accessors) dump[name] = accessor.get(cpu);
  return dump;
}

/** Throws RangeError for a name that is not in `registerNames`. */
export function readRegister(cpu: Cpu, name: string): bigint {
  return accessorOf(name).get(cpu);
}

/**
 * Sets a register as a debugger does, without the checks and effects of an instruction: a segment's selector does not
 * load its hidden parts. Throws RangeError for a name that is not in `registerNames`.
 */
export function writeRegister(cpu: Cpu, name: string, value: bigint): void {
  accessorOf(name).set(cpu, BigInt.asUintN(64, value));
}

function accessorOf(name: string): Accessor {
  const accessor = accessors.get(name);
  if (!accessor) throw new RangeError(`no register is named ${name}`);
  return accessor;
}
