import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decode } from '../../isa/decode/decode.ts';
import type { CodeSize, Instruction } from '../../isa/instruction.ts';
import { systemMnemonics } from '../../isa/mnemonics.ts';
import { formKey, formNumber, formOf } from './handler-form.ts';

const system: ReadonlySet<string> = new Set(systemMnemonics);
const codeSizes: readonly CodeSize[] = [16, 32, 64];

/** An instruction with a handler of its own that the bytes begin with, if any. */
function instructionAt(bytes: Uint8Array, codeSize: CodeSize): Instruction | undefined {
  const instruction = decode(bytes, 0, bytes.length, codeSize);
  return instruction && !system.has(instruction.mnemonic) ? instruction : undefined;
}

test('instructions of one mnemonic have the same number exactly if they have the same form', () => {
  const numbers = new Map<string, string>();
  const keys = new Map<string, string>();
  let seen = 0;
  const check = (bytes: Uint8Array, codeSize: CodeSize, stackSize: CodeSize) => {
    const instruction = instructionAt(bytes, codeSize);
    const number = instruction ? formNumber(instruction, stackSize) : -1;
    if (!instruction || number < 0) return;
    seen++;
    const key = formKey(formOf(instruction, stackSize));
    const named = `${instruction.mnemonic} ${number}`;
    expect(numbers.get(named) ?? key).toBe(key);
    expect(keys.get(key) ?? named).toBe(named);
    numbers.set(named, key);
    keys.set(key, named);
  };
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 15, maxLength: 15 }),
      fc.constantFrom(...codeSizes),
      fc.constantFrom(...codeSizes),
      check,
    ),
    { numRuns: 20_000 },
  );
  expect(seen).toBeGreaterThan(5000);
});
