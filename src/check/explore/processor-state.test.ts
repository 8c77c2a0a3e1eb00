/** What tells states of a processor from one another, and what does not: for the comparison and for the hash alike. */
import { expect, it } from 'vitest';
import { changeTiles } from '../../arch/tile-state.ts';
import { RF, readFlags, writeFlags } from '../../isa/flags.ts';
import { CS, DS, RAX } from '../../isa/state.ts';
import { Machine } from '../../machine/machine.ts';
import { builtinSubject } from '../builtin.ts';
import { openSubject } from '../check-subject.ts';
import { Experiment } from './experiment.ts';
import { ProcessorState } from './processor-state.ts';
import { hashState } from './state-hash.ts';
import { visitOf } from './visit.fixture.ts';

const { experiment } = visitOf('linux');
const { machine, baseline } = experiment;
const inKernel = baseline.boundaries[baseline.entry.at + 8].snapshot;

type Cpu = Machine['cpus'][number];
const GRANULARITY = 0x8000;
const LONG = 0x2000;

function codeLimit(cpu: Cpu): void {
  cpu.segLimit[CS] ^= 0xffff_f000;
  cpu.segReadHigh[CS] ^= 0xffff_f000;
  cpu.segAttributes[CS] ^= GRANULARITY;
}

it.each([
  { text: 'CS.limit and G in 64-bit mode', change: codeLimit, same: true },
  { text: 'CS.limit and G in compatibility mode', long: false, change: codeLimit, same: false },
  {
    text: 'DS.limit in 64-bit mode',
    change: (cpu: Cpu) => {
      cpu.segLimit[DS] ^= 0x1000;
    },
    same: false,
  },
  {
    text: 'L of CS',
    change: (cpu: Cpu) => {
      cpu.segAttributes[CS] ^= LONG;
    },
    same: false,
  },
  {
    text: 'a register',
    change: (cpu: Cpu) => {
      cpu.gpr[RAX] ^= 1n;
    },
    same: false,
  },
  {
    text: 'CR2',
    change: (cpu: Cpu) => {
      cpu.cr2 ^= 8n;
    },
    same: false,
  },
  {
    text: 'a configuration of tiles',
    change: (cpu: Cpu) =>
      changeTiles(cpu, { config: cpu.tiles.config.map((byte, i) => (i === 0 ? byte ^ 1 : byte)) }),
    same: false,
  },
  {
    text: 'a byte of a tile',
    change: (cpu: Cpu) =>
      changeTiles(cpu, { data: cpu.tiles.data.map((byte, i) => (i === 8191 ? byte ^ 1 : byte)) }),
    same: false,
  },
  {
    text: 'IA32_XFD',
    change: (cpu: Cpu) => changeTiles(cpu, { xfd: cpu.tiles.xfd ^ 0x4_0000n }),
    same: false,
  },
])('$text: the same state $same', ({ long = true, change, same }) => {
  const cpu = machine.cpus[0];
  const state = new ProcessorState();
  const hash = () => hashState(machine, cpu, [], new Map(), () => ({ start: 0, end: 0 }));
  machine.restore(inKernel);
  if (!long) cpu.segAttributes[CS] &= ~LONG;
  state.take(machine, cpu);
  const before = hash();
  change(cpu);
  expect(state.same(machine, cpu)).toBe(same);
  expect(hash() === before).toBe(same);
  change(cpu);
  expect(state.same(machine, cpu)).toBe(true);
  expect(hash()).toBe(before);
});

it('RF is not told', () => {
  const cpu = machine.cpus[0];
  const state = new ProcessorState();
  machine.restore(inKernel);
  state.take(machine, cpu);
  writeFlags(cpu, readFlags(cpu) ^ RF);
  expect(state.same(machine, cpu)).toBe(true);
});

it('after SYSCALL, whose CS is not the descriptor’s, handlers that return by IRET come back to where the event struck', () => {
  const subject = builtinSubject('linux', {
    only: ({ path, cs, ss, set }) =>
      path === 'syscall' && cs === 'cs64' && ss === 'flat' && set === 0x5aad_c0de,
  });
  const open = openSubject(subject);
  const visit = open.recording.visits.find(({ entry }) => entry === 'SYSCALL');
  if (!visit) throw new Error('the image makes no SYSCALL');
  const syscall = new Experiment(Machine.create(), subject, visit, open.stacks);
  const inKernel = syscall.baseline.boundaries.filter(({ cpl }) => cpl === 0);
  expect(inKernel.length).toBeGreaterThan(50);
  for (const { rip, snapshot } of inKernel) {
    const again = () => syscall.strike(snapshot, { kind: 'nmi' });
    syscall.restore(snapshot);
    // An NMI ends the shadow of STI.
    const shadow = syscall.cpu.shadow !== 0;
    again();
    const ending = syscall.runBack(snapshot, 'nmi', again);
    expect(`${rip.toString(16)} ${ending}`).toBe(`${rip.toString(16)} ${shadow ? 'user' : 'back'}`);
  }
});
