/** A few mutants of each kind with known verdicts, on two visits; what mutants of an instruction are; and the document. */
import { beforeAll, describe, expect, it } from 'vitest';
import { codeMutants } from './code.ts';
import type { Mutant } from './mutant.ts';
import { mutationReport } from './report.ts';
import { explain } from './survivors.ts';
import { TestBed, type Verdict } from './test-bed.ts';

/** Two system calls: one that returns by IRETQ, and one by SYSRET. */
const visits = [3, 4];

describe('mutants of the sound kernel', () => {
  let bed: TestBed;
  beforeAll(() => {
    bed = new TestBed(undefined, visits);
  });

  it('have different keys', () => {
    expect(new Set(bed.mutants.map(({ key }) => key)).size).toBe(bed.mutants.length);
    expect(bed.mutants.length).toBeGreaterThan(2500);
  });

  it.each([
    ['interrupt_entry+0x8: delete', 'report'],
    ['interrupt_entry+0x6: other condition', 'report'],
    ['interrupt_entry.save: swap with next', 'report'],
    ['return_to_user+0x1b: delete', 'report'],
    ['return_to_ldt+0x34: delete', 'report'],
    ['espfix_map.pte_fill+0x3: immediate ^1', 'report'],
    ['espfix_set_up+0x25: delete', 'report'],
    ['gate of vector 128: DPL 0', 'report'],
    ['RSP0: null', 'report'],
    ['PT entry of main stack, upper page: R/W', 'report'],
    ['gate of vector 13: DPL 3', 'stack'],
    ['PT entry of IDT: U/S', 'kernel-bits'],
    ['paranoid_entry+0x31: always', 'report'],
    ['interrupt_entry.save+0x9: to r8', 'transparent'],
    ['gate of vector 1: no IST', 'progress'],
    ['paranoid_entry+0x2f: delete', 'progress'],
    ['end_machine_check+0x12: delete', 'progress'],
    ['handle_debug.kernel: delete', 'progress'],
    ['espfix_map.pgd_there+0xd: immediate ^0x100', 'report'],
  ])('%s is caught by %s', (key, by) => {
    expect(bed.try(key)).toMatchObject({ caught: true, by });
  });

  it.each([
    'return_from_interrupt: delete',
    'interrupt_entry.dispatch: swap with next',
    'RSP0: 8 bytes up',
    'descriptor of kernel code: base',
    'espfix PT entry of ministack at alias 0x5aad: R/W',
  ])('%s survives, and is harmless', (key) => {
    expect(bed.try(key)).toMatchObject({ caught: false });
    const mutant = bed.mutants.find((each) => each.key === key) as Mutant;
    expect(explain(mutant)).toMatchObject({ harmless: true });
  });

  it('are known by their keys', () => {
    expect(() => bed.try('nothing: delete')).toThrow(RangeError);
  });
});

describe('mutants of code', () => {
  const names = { describe: (linear: bigint) => `at ${linear}`, physical: Number };
  const of = (...bytes: number[]) => {
    const code = { start: 0n, bytes: Uint8Array.from(bytes) };
    return Object.fromEntries(codeMutants(code, names).map(({ key, bytes: b }) => [key, [...b]]));
  };

  it.each([
    {
      name: 'JE',
      bytes: [0x74, 5],
      mutants: { delete: [0x90, 0x90], 'other condition': [0x75, 5], always: [0xeb, 5] },
    },
    { name: 'SWAPGS', bytes: [0x0f, 0x01, 0xf8], mutants: { delete: [0x90, 0x90, 0x90] } },
    { name: 'PUSH RCX', bytes: [0x51], mutants: { delete: [0x90], 'to rax': [0x50] } },
    {
      name: 'MOV RAX, GS:[8]',
      bytes: [0x65, 0x48, 0x8b, 0x04, 0x25, 8, 0, 0, 0],
      mutants: {
        delete: Array(9).fill(0x90),
        'the other way': [0x65, 0x48, 0x89, 0x04, 0x25, 8, 0, 0, 0],
        '32 bits': [0x65, 0x40, 0x8b, 0x04, 0x25, 8, 0, 0, 0],
        'no gs': [0x3e, 0x48, 0x8b, 0x04, 0x25, 8, 0, 0, 0],
        fs: [0x64, 0x48, 0x8b, 0x04, 0x25, 8, 0, 0, 0],
        'displacement +8': [0x65, 0x48, 0x8b, 0x04, 0x25, 16, 0, 0, 0],
        'displacement -8': [0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0],
        'to rcx': [0x65, 0x48, 0x8b, 0x0c, 0x25, 8, 0, 0, 0],
      },
    },
  ])('$name', ({ bytes, mutants }) => {
    const expected = Object.entries(mutants).map(([what, changed]) => [`at 0: ${what}`, changed]);
    expect(of(...bytes)).toEqual(Object.fromEntries(expected));
  });

  it('exchanges neighbours, with branches to the same target', () => {
    // INC EBX; JE +0x10: the branch moves up by 2 bytes.
    expect(of(0xff, 0xc3, 0x74, 0x10)).toMatchObject({
      'at 0: swap with next': [0x74, 0x12, 0xff, 0xc3],
    });
  });
});

describe('the document', () => {
  const mutant = (key: string): Mutant => ({
    key,
    group: 'code',
    text: 'a -> b',
    address: 0,
    bytes: new Uint8Array(1),
    late: false,
  });
  const report = (verdicts: Record<string, Verdict>) =>
    mutationReport(Object.keys(verdicts).map(mutant), new Map(Object.entries(verdicts)));
  const caught: Verdict = { caught: true, by: 'gs', what: '', depth: 1, events: ['NMI'] };
  const survives: Verdict = { caught: false, reached: 'baseline', experiments: 1 };

  it('names survivors that nothing explains', () => {
    const {
      text,
      caught: count,
      unexplained,
    } = report({
      a: caught,
      'new_code+0x1: delete': survives,
      'return_from_interrupt: delete': survives,
    });
    expect(count).toBe(1);
    expect(unexplained).toEqual(['new_code+0x1: delete']);
    expect(text).toContain('1 of 3 mutants are caught');
    expect(text).toContain('Interrupts are off already');
    expect(text).toContain('Of the 2 survivors 1 are\nharmless');
  });

  it('says so if all survivors are harmless', () => {
    const { text, unexplained } = report({ a: caught, 'return_from_interrupt: delete': survives });
    expect(unexplained).toEqual([]);
    expect(text).toContain('1 of 2 mutants are caught (50.0 %), and all that are not harmless.**');
  });

  it('counts schedules of many events together', () => {
    const { text } = report({ a: { ...caught, depth: 7 }, b: { ...caught, depth: 4 }, c: caught });
    expect(text).toContain('| property gs | 3 | 0, 1, 0, 0, 2 |');
  });

  it('names explanations of nothing', () => {
    expect(report({ a: caught }).outdated.length).toBeGreaterThan(10);
  });
});
