/** `espfix silicon`, and the IRETQ program on the machine. SDM vol. 2A "IRET". */
import { describe, expect, test } from 'vitest';
import { siliconCommand } from './command.ts';
import { buildIretProgram, experiments, readOutcomes, refusals, returns } from './iret-program.ts';
import { compareOutcomes, describeReturn } from './iret-table.ts';
import { ProgramError, runProgram } from './personality.ts';
import { nativeHere } from './require-native.fixture.ts';

const { image, iret } = buildIretProgram();

function onMachine() {
  const { status, output } = runProgram(image);
  expect(status).toBe(0);
  return readOutcomes(output, iret);
}

describe('the program on the machine', () => {
  test('restores SP alone exactly where the target is not 64-bit code and SS is a 16-bit segment', () => {
    const outcomes = onMachine();
    returns.forEach((experiment, i) => {
      const leftOver = experiment.cs !== 0x33 && experiment.ss === 0x07;
      const wanted = leftOver
        ? 'SP from the frame, ESP[31:16] LEFT OVER'
        : experiment.cs === 0x33
          ? 'RSP from the frame'
          : 'ESP from the frame';
      expect(describeReturn(experiment, outcomes[i]), `${experiment.code} ${experiment.stack}`).toBe(wanted);
      // Back in 64-bit code bits 63:32 are zero, unless the return was to 64-bit code.
      expect((outcomes[i].after ?? 0n) >> 32n === 0n).toBe(experiment.cs !== 0x33);
    });
  });

  test('refuses each frame that is out of order at the IRETQ itself', () => {
    const outcomes = onMachine();
    const cases = refusals.map((experiment, k) => [experiment, outcomes[returns.length + k]] as const);
    for (const [{ fault, ss, cs }, { vector, error, atIret }] of cases) {
      if (fault === 'SS not present') expect([vector, error, atIret], fault).toEqual([12, ss & ~3, true]);
      if (fault?.startsWith('CS and SS not') || fault === 'CS not present')
        expect([vector, error, atIret], fault).toEqual([11, cs & ~3, true]);
      if (fault === 'SS null' || fault === 'RIP not canonical')
        expect([vector, error, atIret], fault).toEqual([13, 0, true]);
    }
  });

  test('a table with a changed answer counts it', () => {
    const outcomes = onMachine();
    const changed = outcomes.map((outcome, i) => (i === 3 ? { ...outcome, atTarget: 1n } : outcome));
    expect(compareOutcomes(outcomes, outcomes).different).toBe(0);
    const { different, text } = compareOutcomes(changed, outcomes);
    expect(different).toBe(1);
    expect(text).toMatch(/32-bit GDT 23.*16-bit LDT 07.*DIFFERENT/);
  });
});

describe('the loader', () => {
  test.each([
    ['an empty file', new Uint8Array(0), /not an ELF64/],
    ['a truncated header', image.slice(0, 40), /not an ELF64/],
    ['program headers beyond the end', image.slice(0, 70), /program headers/],
    ['a segment beyond the end', image.slice(0, 0x1010), /segment 0 lies beyond/],
    ['an object file', image.map((byte, i) => (i === 16 ? 1 : byte)), /ET_EXEC/],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => runProgram(bytes)).toThrow(ProgramError);
    expect(() => runProgram(bytes)).toThrow(message);
  });
});

describe.runIf(nativeHere())('on this processor', () => {
  test('every answer is the same as on the machine', async () => {
    const out: string[] = [];
    const err: string[] = [];
    const status = await siliconCommand({
      stdout: { write: (text) => out.push(text) },
      stderr: { write: (text) => err.push(text) },
    });
    expect(err).toEqual([]);
    expect(out.join('')).toContain(`All ${experiments.length} answers are the same.`);
    expect(status).toBe(0);
  });
});
