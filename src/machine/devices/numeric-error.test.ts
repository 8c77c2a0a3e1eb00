/** x87 errors as a PC reports them: FERR#, interrupt 13, port F0H and IGNNE#. SDM vol. 1 8.7.2, D.2.1.2. */
import { describe, expect, it } from 'vitest';
import { numericErrorImage } from '../guests.fixture.ts';
import { Machine } from '../machine.ts';
import { encodeSnapshot } from '../snapshot-file.ts';
import { NumericError } from './numeric-error.ts';

function boot(options: Parameters<typeof numericErrorImage>[0]) {
  const machine = Machine.create({ memory: 16 });
  machine.boot(numericErrorImage(options));
  return { machine, output: listen(machine) };
}

function listen(machine: Machine): { text: string } {
  const output = { text: '' };
  machine.serial.onOutput = (byte) => {
    output.text += String.fromCharCode(byte);
  };
  return output;
}

describe('an instruction that waits for x87', () => {
  it('is held up until interrupt 13 has cleared the error; port F0H lets others pass', () => {
    const { machine, output } = boot({ interrupts: true, native: false });
    expect(machine.run({ maxInstructions: 10_000 })).toMatchObject({ reason: 'exit', value: 9 });
    expect(output.text).toBe('aeiw');
  });

  it('is held up for ever with interrupts off', () => {
    const { machine, output } = boot({ interrupts: false, native: false });
    expect(machine.run({ maxInstructions: 10_000 }).reason).toBe('deadlock');
    expect(output.text).toBe('a');
  });

  it('raises #MF with CR0.NE set', () => {
    const { machine, output } = boot({ interrupts: true, native: true });
    expect(machine.run({ maxInstructions: 10_000 })).toMatchObject({ reason: 'exit', value: 9 });
    expect(output.text).toBe('amw');
  });

  it.each(['a', 'ae', 'aei'])('goes on from a snapshot taken after %s', (said) => {
    const { machine, output } = boot({ interrupts: true, native: false });
    for (let i = 0; i < 1000 && output.text !== said; i++) machine.step();
    const again = Machine.from(Machine.readSnapshot(encodeSnapshot(machine.snapshot())));
    const rest = listen(again);
    expect(again.run({ maxInstructions: 10_000 })).toMatchObject({ reason: 'exit', value: 9 });
    expect(said + rest.text).toBe('aeiw');
  });
});

describe('the pins', () => {
  const wired = () => {
    const line: boolean[] = [];
    return { line, error: new NumericError((asserted) => line.push(asserted)) };
  };

  it('FERR# asks once; port F0H takes it back and asserts IGNNE#, which goes with FERR#', () => {
    const { line, error } = wired();
    error.report(true);
    error.report(true);
    expect([line, error.ignored]).toEqual([[true], false]);
    error.portWrite();
    expect([line, error.ignored]).toEqual([[true, false], true]);
    error.report(false);
    expect([error.reported, error.ignored]).toEqual([false, false]);
  });

  it('a request stays until port F0H is written, and IGNNE# is not asserted without FERR#', () => {
    const { line, error } = wired();
    error.report(true);
    error.report(false);
    expect(line).toEqual([true]);
    error.portWrite();
    expect([line, error.ignored]).toEqual([[true, false], false]);
  });
});
