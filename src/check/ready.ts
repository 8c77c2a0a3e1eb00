/** When a subject is to be watched: what it does in booting may be no matter of the check. */
import { Machine } from '../machine/machine.ts';
import type { Subject } from './subject.ts';
import { SubjectError } from './subject-error.ts';

/** Text on the serial line, an address that is executed, or so many instructions. */
export type Ready =
  | { readonly serial: string }
  | { readonly address: bigint }
  | { readonly instructions: number };

/** A machine such as a subject is for. */
export function machineFor({ cpus, memory, cpu }: Pick<Subject, 'cpus' | 'memory' | 'cpu'>): Machine {
  return Machine.create({ cpus, memory, ...(cpu !== undefined && { cpu }) });
}

/** Boots a subject on a machine such as {@link machineFor} makes, and does not run it. Throws ImageError. */
export function bootSubject(
  machine: Machine,
  { image, commandLine, initrd, booted }: Pick<Subject, 'image' | 'commandLine' | 'initrd' | 'booted'>,
): void {
  if (booted) machine.restore(booted);
  else machine.boot(image, { ...(commandLine !== undefined && { commandLine }), ...(initrd && { initrd }) });
  machine.serial.onOutput = () => {};
}

/** Instructions within which a guest must be ready. */
const PATIENCE = 1_000_000_000;

/**
 * Runs a booted machine until its guest is ready. Throws SubjectError if it is not within so many instructions or ends
 * before.
 */
export function runUntilReady(machine: Machine, ready: Ready, limit = PATIENCE): void {
  let reached = false;
  const found = () => {
    reached = true;
    machine.stop();
  };
  const { serial } = machine;
  const before = serial.onOutput;
  let budget = limit;
  if ('serial' in ready) {
    let text = '';
    serial.onOutput = (byte) => {
      text = (text + String.fromCharCode(byte)).slice(-ready.serial.length);
      if (text === ready.serial) found();
    };
  } else if ('address' in ready) {
    machine.trace = (_cpu, rip) => {
      if (rip === ready.address) found();
    };
  } else budget = Math.min(limit, ready.instructions);
  try {
    const stop = machine.run({ maxInstructions: budget });
    if (reached || ('instructions' in ready && stop.reason === 'limit' && budget === ready.instructions))
      return;
    throw new SubjectError(
      `never becomes ready (${describe(ready)}): ${stop.reason === 'limit' ? `not in ${limit} instructions` : `ended by ${stop.reason}`}`,
    );
  } finally {
    serial.onOutput = before;
    machine.trace = undefined;
  }
}

function describe(ready: Ready): string {
  if ('serial' in ready) return `${JSON.stringify(ready.serial)} on the serial line`;
  if ('address' in ready) return `0x${ready.address.toString(16)} executed`;
  return `${ready.instructions} instructions`;
}
