/** The semantics against what silicon made of the same instructions, case by case. */
import { describe, expect, test } from 'vitest';
import { integerMnemonics } from '../mnemonics.ts';
import { evaluate } from './evaluate.fixture.ts';
import { undefinedFlags } from './undefined-flags.ts';
import {
  instructionOf,
  parseCase,
  readVectors,
  type VectorGroup,
  type VectorGuest,
  vectorNames,
} from './vectors.fixture.ts';

const FLAG_BITS = { cf: 1n, pf: 4n, af: 0x10n, zf: 0x40n, sf: 0x80n, of: 0x800n };

function title({ mnemonic, operandSize, operands, repeat, codeSize = 64, condition }: VectorGroup): string {
  return [repeat ?? '', mnemonic, condition, operandSize, `(${operands})`, `code ${codeSize}`].join(' ');
}

/** Hexadecimal state, so that a difference is legible. */
function legible({ registers, flags, rip, memory }: VectorGuest, mask: bigint) {
  return {
    registers: registers.map((value) => value.toString(16)).join(' '),
    flags: (flags & mask).toString(16),
    rip: rip.toString(16),
    memory: Buffer.from(memory.bytes).toString('hex'),
  };
}

for (const name of vectorNames()) {
  describe(name, () => {
    const groups = readVectors(name);
    test.each(groups.map((group) => [title(group), group] as const))('%s', (_, group) => {
      const instruction = instructionOf(group);
      const excluded = undefinedFlags[group.mnemonic]?.flags ?? [];
      const mask = ~excluded.reduce((bits, flag) => bits | FLAG_BITS[flag], 0n);
      for (const text of group.cases) {
        const { start, end, fault } = parseCase(group, text);
        let outcome = evaluate(instruction, start, group.stackSize);
        while (outcome.kind === 'again') outcome = evaluate(instruction, start, group.stackSize);
        expect(
          {
            ...legible(start, mask),
            fault: outcome.kind === 'fault' ? outcome.vector : undefined,
          },
          text,
        ).toEqual({ ...legible(end, mask), fault });
      }
    });
  });
}

test('every integer instruction with something to compute has vectors', () => {
  const covered = new Set(vectorNames().flatMap((name) => readVectors(name).map(({ mnemonic }) => mnemonic)));
  const rest = integerMnemonics.filter((mnemonic) => !covered.has(mnemonic));
  expect(rest).toEqual([
    'cld',
    'std',
    'nop',
    'endbr',
    'fence',
    'clflush',
    'clflushopt',
    'clwb',
    'prefetch',
    'ud',
  ]);
});
