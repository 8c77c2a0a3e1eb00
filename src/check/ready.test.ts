/** A guest is ready when its plan says so, to the instruction, or never. */
import { describe, expect, it } from 'vitest';
import { buildImage } from '../kernel/image.ts';
import { Machine } from '../machine/machine.ts';
import { machineFor, type Ready, runUntilReady } from './ready.ts';
import { SubjectError } from './subject-error.ts';

const { elf, symbols } = buildImage('linux', { cpus: 1, seed: 1, only: () => false });
const booted = () => {
  const machine = Machine.create({ cpus: 1, memory: 64 });
  machine.boot(elf);
  let text = '';
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
  };
  return { machine, text: () => text };
};
const entry = symbols.get('syscall_entry') ?? 0n;

it('a machine is as its subject says', () => {
  const { cpus, configuration } = machineFor({ cpus: 2, memory: 32, cpu: 'haswell,-fsgsbase' });
  expect([cpus.length, configuration.ramBytes]).toEqual([2, 32 << 20]);
  expect(cpus.map((cpu) => [cpu.has('avx2'), cpu.has('fsgsbase'), cpu.has('sha')])).toEqual([
    [true, false, false],
    [true, false, false],
  ]);
});

describe('a guest', () => {
  it('is ready when it has written a text', () => {
    const { machine } = booted();
    runUntilReady(machine, { serial: 'espfix' });
    const { instructions } = machine;
    // The very instruction that wrote the last letter.
    const again = booted();
    again.machine.run({ maxInstructions: instructions - 1 });
    expect(again.text()).not.toContain('espfix');
    again.machine.run({ maxInstructions: 1 });
    expect(again.text()).toMatch(/espfix$/);
  });

  it('is ready when it comes to an address', () => {
    const { machine } = booted();
    runUntilReady(machine, { address: entry });
    expect(machine.trace).toBe(undefined);
    const came: bigint[] = [];
    const again = booted().machine;
    again.trace = (_cpu, rip) => {
      came.push(rip);
    };
    again.run({ maxInstructions: machine.instructions });
    expect(came.filter((rip) => rip === entry).length).toBe(1);
    expect(came.slice(-2)).toContain(entry);
  });

  it('is ready after so many instructions', () => {
    const { machine } = booted();
    runUntilReady(machine, { instructions: 1234 });
    expect(machine.instructions).toBe(1234);
  });

  it.each<[Ready, number | undefined, RegExp]>([
    [{ serial: 'login:' }, undefined, /^never becomes ready \("login:" on the serial line\): ended by exit$/],
    [{ serial: 'login:' }, 100, /: not in 100 instructions$/],
    [{ address: 1n }, 2000, /^never becomes ready \(0x1 executed\): not in 2000 instructions$/],
    [{ instructions: 1e11 }, undefined, /\(100000000000 instructions\): ended by exit/],
  ])('is never ready: case %#', (ready, limit, line) => {
    const never = () => runUntilReady(booted().machine, ready, limit);
    expect(never).toThrow(SubjectError);
    expect(never).toThrow(line);
  });
});
