/** Models of processors: what they lack does not run, in hot code as well; and snapshots keep them. */
import { describe, expect, it } from 'vitest';
import { Interpreter } from '../engine/interpreter/interpreter.ts';
import { type Assembler, dx, eax, ebx, ecx } from '../kernel/assembler.ts';
import { debugExit, flatImage } from '../peers/flat-image.fixture.ts';
import { Machine, type Stop } from './machine.ts';
import { encodeSnapshot } from './snapshot-file.ts';

function outcome(cpu: string, body: (a: Assembler) => void): Stop {
  const machine = Machine.create({ memory: 16, cpu });
  machine.boot(flatImage(body).elf);
  return machine.run({ maxInstructions: 1_000_000 });
}

/** Whether code of one instruction runs; there is no IDT, so that #UD is a triple fault. */
function runs(cpu: string, ...code: number[]): boolean {
  const { reason } = outcome(cpu, (a) => {
    a.mov(eax, 0x11_0000);
    a.db(...code);
    debugExit(a, 0);
  });
  expect(['exit', 'triple-fault']).toContain(reason);
  return reason === 'exit';
}

describe('what a model lacks is #UD', () => {
  it.each<[string, string, string, number[]]>([
    ['POPCNT ECX, EDX', 'core2', 'nehalem', [0xf3, 0x0f, 0xb8, 0xca]],
    ['CRC32 ECX, DL', 'core2', 'nehalem', [0xf2, 0x0f, 0x38, 0xf0, 0xca]],
    ['RDTSCP', 'core2', 'nehalem', [0x0f, 0x01, 0xf9]],
    ['RDRAND ECX', 'sandybridge', 'ivybridge', [0x0f, 0xc7, 0xf1]],
    ['MOVBE ECX, [EAX]', 'ivybridge', 'haswell', [0x0f, 0x38, 0xf0, 0x08]],
    ['ANDN ECX, EDX, EBX', 'haswell,-bmi1', 'haswell', [0xc4, 0xe2, 0x68, 0xf2, 0xcb]],
    ['CLFLUSHOPT [EAX]', 'broadwell', 'skylake', [0x66, 0x0f, 0xae, 0x38]],
    ['CLWB [EAX]', 'skylake', 'skylake,+clwb', [0x66, 0x0f, 0xae, 0x30]],
    ['FNINIT; FLDZ; FISTTP word [EAX]', 'x86-64-v1', 'core2', [0xdb, 0xe3, 0xd9, 0xee, 0xdf, 0x08]],
    ['CLFLUSH [EAX]', '', 'x86-64-v1', [0x0f, 0xae, 0x38]],
  ])('%s', (_, without, having, code) => {
    if (without) expect(runs(without, ...code)).toBe(false);
    expect(runs(having, ...code)).toBe(true);
  });

  it('and so is what none has, where a model is lesser than the default', () => {
    const vmovdqu64 = [0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x00];
    expect(runs('haswell', ...vmovdqu64)).toBe(false);
    expect(outcome('default', (a) => a.db(...vmovdqu64)).reason).toBe('unimplemented');
  });
});

it('LZCNT is BSR on older models, in code that machines of one process have in common', () => {
  const turns = 1000;
  const usual = Interpreter.hotAfter;
  Interpreter.hotAfter = 3;
  const sum = (cpu: string) =>
    outcome(cpu, (a) => {
      a.mov(ecx, turns);
      a.mov(eax, 0);
      a.label('again');
      a.mov(ebx, 0x10);
      a.db(0xf3, 0x0f, 0xbd, 0xdb);
      a.add(eax, ebx);
      a.db(0x49);
      a.jnz('again');
      a.mov(dx, 0xf4);
      a.out(dx, eax);
    });
  try {
    expect(sum('haswell')).toMatchObject({ value: 27 * turns });
    expect(sum('nehalem')).toMatchObject({ value: 4 * turns });
    expect(sum('default')).toMatchObject({ value: 27 * turns });
  } finally {
    Interpreter.hotAfter = usual;
  }
});

describe('snapshots', () => {
  it('keep the model', () => {
    const machine = Machine.create({ memory: 1, cpu: 'Haswell,+sha,-avx2' });
    const again = Machine.from(Machine.readSnapshot(encodeSnapshot(machine.snapshot())));
    expect(again.configuration.cpu).toBe('haswell,-avx2,+sha');
    expect(again.cpus[0].processor).toEqual(machine.cpus[0].processor);
  });

  it('do not fit a machine of another', () => {
    const snapshot = Machine.create({ memory: 1, cpu: 'core2' }).snapshot();
    expect(() => Machine.create({ memory: 1 }).restore(snapshot)).toThrow(
      /^cpu: core2 in the snapshot, expected default/,
    );
  });
});

it('a model that there is not is refused', () => {
  expect(() => Machine.create({ cpu: 'pentium' })).toThrow(
    /^cpu: no model "pentium": expected one of default/,
  );
});
