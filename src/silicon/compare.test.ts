/** The comparison, memory scanning and undefined flags, without a processor to compare with. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { makeScanner } from '../engine/wasm/memory-scan.ts';
import { decodeResult, RESULT } from './batch.ts';
import { differences, quickEqual } from './compare.ts';
import { disassemble } from './disassembly.ts';
import { environmentRules } from './environment.ts';
import type { Host } from './host-info.ts';
import { undefinedAfter } from './undefined.ts';

const host: Host = {
  fsGsBase: true,
  catchesSystemCalls: true,
  perCpuRights: 0,
  perCpuLimit: 0,
  features: new Set(),
  model: '',
};

/** A page fault with an error code of 4 at `cr2`, then `change`. */
function result(cr2: bigint, change: (view: DataView) => void = () => {}): Uint8Array {
  const bytes = new Uint8Array(RESULT.size);
  const view = new DataView(bytes.buffer);
  view.setUint8(RESULT.trapno, 14);
  view.setUint16(RESULT.err, 4, true);
  view.setBigUint64(RESULT.cr2, cr2, true);
  view.setBigUint64(RESULT.rflags, 0x202n, true);
  change(view);
  return bytes;
}

function fieldsOf(native: Uint8Array, machine: Uint8Array, undefinedFlags = 0): string[] {
  const decode = (bytes: Uint8Array) => decodeResult(new DataView(bytes.buffer), 0);
  return differences(decode(native), decode(machine), host, undefinedFlags).map(({ field }) => field);
}

const quick = (native: Uint8Array, machine: Uint8Array) =>
  quickEqual(new Int32Array(native.buffer), new Int32Array(machine.buffer), 0, true);

describe('differences', () => {
  const low = 0x50_0000n;
  const kernel = 0xffff_8000_0000_0000n;
  test.each<[string, Uint8Array, Uint8Array, string[]]>([
    ['nothing', result(low), result(low), []],
    ['RF', result(low, (v) => v.setBigUint64(RESULT.rflags, 0x10202n, true)), result(low), []],
    ['CF', result(low, (v) => v.setBigUint64(RESULT.rflags, 0x203n, true)), result(low), ['rflags']],
    ['CR2 of a page fault', result(low + 1n), result(low), ['cr2']],
    ['P for a kernel address', result(kernel, (v) => v.setUint16(RESULT.err, 5, true)), result(kernel), []],
    ['P for a user address', result(low, (v) => v.setUint16(RESULT.err, 5, true)), result(low), ['error']],
    [
      'W for a kernel address',
      result(kernel, (v) => v.setUint16(RESULT.err, 7, true)),
      result(kernel),
      ['error'],
    ],
    ['an RPL in a null DS', result(low), result(low, (v) => v.setUint16(RESULT.selectors + 4, 3, true)), []],
    ['a selector', result(low), result(low, (v) => v.setUint16(RESULT.selectors + 4, 7, true)), ['ds']],
    ['a register', result(low), result(low, (v) => v.setUint8(RESULT.gpr + 8 * 9 + 7, 1)), ['r9']],
    ['FS base', result(low), result(low, (v) => v.setUint8(RESULT.fsBase, 1)), ['fs base']],
    [
      'memory',
      result(low),
      result(low, (v) => v.setUint32(RESULT.hash, 1, true)),
      ['hash of changed memory'],
    ],
  ])('%s', (_, native, machine, fields) => {
    expect(fieldsOf(native, machine)).toEqual(fields);
    // The quick comparison may send a case on, but passes none that differs.
    if (fields.length > 0) expect(quick(native, machine)).toBe(false);
  });

  test('CR2 counts for page faults only', () => {
    const general = (cr2: bigint) => result(cr2, (v) => v.setUint8(RESULT.trapno, 13));
    expect(fieldsOf(general(1n), general(2n))).toEqual([]);
    expect(quick(general(1n), general(2n))).toBe(true);
  });

  test('undefined flags are left out, and they alone', () => {
    const flags = (value: bigint) => result(low, (v) => v.setBigUint64(RESULT.rflags, value, true));
    expect(fieldsOf(flags(0x212n), flags(0x202n), 0x10)).toEqual([]);
    expect(fieldsOf(flags(0x213n), flags(0x202n), 0x10)).toEqual(['rflags']);
  });

  test('whatever the quick comparison passes has no difference', () => {
    fc.assert(
      fc.property(fc.nat(RESULT.size - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const native = result(low);
        const machine = result(low, (v) => v.setUint8(at, v.getUint8(at) ^ flip));
        return !quick(native, machine) || fieldsOf(native, machine).length === 0;
      }),
      { numRuns: 2000 },
    );
  });
});

describe('the scanner', () => {
  test('finds the first eight bytes that differ', () => {
    const memory = new WebAssembly.Memory({ initial: 1 });
    const bytes = new Uint8Array(memory.buffer);
    const scan = makeScanner(memory);
    fc.assert(
      fc.property(fc.array(fc.nat(1023), { maxLength: 4 }), fc.nat(127), (changed, from) => {
        bytes.fill(0);
        for (const at of changed) bytes[4096 + at] = 1;
        const wanted = changed.map((at) => at & ~7).filter((at) => at >= from * 8);
        return scan(0, 4096, from * 8, 1024) === Math.min(1024, ...wanted);
      }),
    );
  });
});

describe('undefined flags', () => {
  const run = (cl: number, ...bytes: number[]) =>
    undefinedAfter(
      disassemble(Uint8Array.from(bytes), 64, 0n).map((instruction) => ({
        ...instruction,
        cl,
        completed: true,
      })),
    );
  test.each<[string, number, number[], number, boolean]>([
    ['and eax,eax leaves AF', 0, [0x21, 0xc0], 0x10, false],
    ['an addition defines all again', 0, [0x21, 0xc0, 0x01, 0xc0], 0, false],
    ['shl eax,cl by 2 leaves OF and AF', 2, [0xd3, 0xe0], 0x810, false],
    ['shl eax,cl by 1 leaves AF', 1, [0xd3, 0xe0], 0x10, false],
    ['shl eax,cl by 32 changes nothing', 32, [0xd3, 0xe0], 0, false],
    ['pushf after an AND uses AF', 0, [0x21, 0xc0, 0x9c], 0x10, true],
    ['jb after an AND does not', 0, [0x21, 0xc0, 0x72, 0x00], 0x10, false],
  ])('%s', (_, cl, bytes, flags, used) => {
    expect(run(cl, ...bytes)).toEqual({ flags, used });
  });
});

describe('environment rules', () => {
  const decode = (bytes: Uint8Array) => decodeResult(new DataView(bytes.buffer), 0);
  const rulesFor = (...bytes: number[]) => {
    const executed = disassemble(Uint8Array.from(bytes), 64, 0n);
    const same = decode(result(0n));
    return environmentRules
      .filter((rule) => rule.applies({ native: same, machine: same, host, executed }))
      .map(({ name }) => name);
  };
  test.each<[string, number[], string[]]>([
    ['add eax,eax', [0x01, 0xc0], []],
    ['cpuid', [0x0f, 0xa2], ['host value']],
    ['sgdt [rax]', [0x0f, 0x01, 0x00], ['UMIP']],
    ['wrpkru', [0x0f, 0x01, 0xef], ['host feature']],
    ['vmcall', [0x0f, 0x01, 0xc1], ['host feature', 'hypervisor']],
    ['popcnt eax,eax', [0xf3, 0x0f, 0xb8, 0xc0], []],
    ['lock cmpxchg16b [rax]', [0xf0, 0x48, 0x0f, 0xc7, 0x08], []],
  ])('%s', (_, bytes, names) => {
    expect(rulesFor(...bytes)).toEqual(names);
  });

  test('each has a reason and a name of its own', () => {
    expect(new Set(environmentRules.map(({ name }) => name)).size).toBe(environmentRules.length);
    for (const { reason } of environmentRules) expect(reason.length).toBeGreaterThan(20);
  });
});
