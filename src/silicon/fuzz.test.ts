/** A quick batch of the differential fuzzer, and its parts. `npm run fuzz:silicon` runs as many as one likes. */
import { describe, expect, test } from 'vitest';
import { decode } from '../isa/decode/decode.ts';
import { floatMnemonics, integerMnemonics, simdMnemonics, systemMnemonics } from '../isa/mnemonics.ts';
import { CASE, decodeCase, encodeCase } from './batch.ts';
import { allForms } from './forms.ts';
import { BATCH_CASES, Fuzzer } from './fuzz.ts';
import { Generator, makePattern, STATES } from './generate.ts';
import { CODE_BYTES, SLOTS } from './layout.ts';
import { NativeRunner } from './native.node.ts';
import { describeFinding } from './report.ts';
import { nativeHere } from './require-native.fixture.ts';
import { faultsOnly, unreachable } from './unreachable.ts';

describe('generation', () => {
  test('a program depends on seed and number alone', () => {
    const make = (generator: Generator, number: number) => {
      const code = new Uint8Array(CODE_BYTES).fill(0xcc);
      const cases = new Uint8Array(STATES * CASE.size);
      const { bytes } = generator.make(number, code, new DataView(cases.buffer), 0);
      return { bytes, code, cases };
    };
    const one = new Generator(7);
    make(one, 12);
    make(one, 99);
    const again = make(one, 1234);
    expect(make(new Generator(7), 1234)).toEqual(again);
    expect(make(new Generator(8), 1234)).not.toEqual(again);
  });

  test('cases survive encoding', () => {
    const cases = new Uint8Array(STATES * CASE.size);
    const view = new DataView(cases.buffer);
    new Generator(3).make(5, new Uint8Array(CODE_BYTES), view, 0);
    const copy = new Uint8Array(STATES * CASE.size);
    for (let i = 0; i < STATES; i++)
      encodeCase(new DataView(copy.buffer), i * CASE.size, decodeCase(view, i * CASE.size));
    expect(copy).toEqual(cases);
  });

  test('every form comes up, and with them every instruction that is not listed as unreachable', () => {
    const generator = new Generator(1);
    const code = new Uint8Array(CODE_BYTES);
    const cases = new DataView(new ArrayBuffer(STATES * CASE.size));
    const forms = new Set<string>();
    const mnemonics = new Set<string>();
    for (let number = 0; number < 90_000 && forms.size < allForms().length; number++) {
      const { bytes, bits, pieces } = generator.make(number, code, cases, 0);
      for (const { form, offset } of pieces) {
        forms.add(form);
        const mnemonic = decode(bytes, offset, bytes.length, bits)?.mnemonic;
        if (mnemonic) mnemonics.add(mnemonic);
      }
    }
    expect(allForms().filter(({ name }) => !forms.has(name))).toEqual([]);
    const known: readonly string[] = [
      ...integerMnemonics,
      ...systemMnemonics,
      ...simdMnemonics,
      ...floatMnemonics,
    ];
    expect(known.filter((name) => !mnemonics.has(name) && !(name in unreachable))).toEqual([]);
    expect(Object.keys(unreachable).filter((name) => !known.includes(name))).toEqual([]);
    expect(faultsOnly.filter((name) => !mnemonics.has(name))).toEqual([]);
  });
});

describe.runIf(nativeHere())('against this processor', () => {
  test('a quick batch does not differ', async () => {
    const seed = Number(process.env.FUZZ_SEED ?? 1);
    const native = await NativeRunner.start(makePattern(seed));
    try {
      const fuzzer = new Fuzzer(native, seed);
      const summary = await fuzzer.run({ seed, cases: 4 * BATCH_CASES, maxFindings: 3 });
      expect(summary.findings.map(describeFinding).join('\n\n'), `seed ${seed}`).toBe('');
      // Nearly everything is compared: a harness that leaves cases out would prove nothing.
      expect(summary.compared).toBeGreaterThan(summary.cases * 0.97);
      expect(summary.vectors.get(3) ?? 0).toBeGreaterThan(summary.cases * 0.3);
    } finally {
      native.close();
    }
  });

  test('a wrong answer is found, shown and shrunk', async () => {
    const seed = 4;
    const native = await NativeRunner.start(makePattern(seed));
    // A processor that adds one to RBX in every result.
    const wrong = {
      info: native.info,
      async run(
        code: Uint8Array,
        cases: Uint8Array,
        count: number,
        images?: Uint8Array,
      ): Promise<Uint8Array> {
        const results = await native.run(code, cases, count, images);
        for (let i = 0; i < count; i++) results[i * 256 + 24] ^= 1;
        return results;
      },
    };
    try {
      const fuzzer = new Fuzzer(wrong, seed);
      const { findings } = await fuzzer.run({ seed, cases: SLOTS * STATES, maxFindings: 1 });
      expect(findings).toHaveLength(1);
      expect(findings[0].differences.map(({ field }) => field)).toEqual(['rbx']);
      const shrunk = await fuzzer.shrink(findings[0]);
      expect(shrunk.differences.map(({ field }) => field)).toEqual(['rbx']);
      const text = describeFinding(shrunk);
      expect(text).toContain(`--seed ${seed} --case ${shrunk.number}`);
      expect(text).toContain('rbx: silicon');
    } finally {
      native.close();
    }
  });
});
