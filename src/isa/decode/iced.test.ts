/**
 * The decoder against iced-x86 on random bytes, in all three code sizes: length, mnemonic, operands, sizes; and that it
 * asks for more bytes exactly when it lacks some. ESPFIX_SEED replays, ESPFIX_CASES (a code size) enlarges.
 */
import { describe, expect, it } from 'vitest';
import { decode } from './decode.ts';
import { compare } from './iced.fixture.ts';

const seed = Number(process.env.ESPFIX_SEED ?? Math.floor(Math.random() * 0x7fffffff));
const cases = Number(process.env.ESPFIX_CASES ?? 70_000);

describe('decode and iced-x86', () => {
  it.each([64, 32, 16] as const)(
    'agree in %i-bit code',
    (size) => {
      const { differences } = compare(decode, size, cases, seed ^ size);
      console.log(`${size}-bit: ${cases} cases, ESPFIX_SEED=${seed}`);
      expect(differences, `ESPFIX_SEED=${seed}`).toEqual([]);
    },
    600_000,
  );

  it('would notice a difference', () => {
    const wrong: typeof decode = (bytes, start, end, size) => {
      const instruction = decode(bytes, start, end, size);
      return instruction?.mnemonic === 'sbb'
        ? { ...instruction, length: instruction.length + 1 }
        : instruction;
    };
    expect(compare(wrong, 64, 20_000, seed).differences.length).toBeGreaterThan(0);
  });
});
