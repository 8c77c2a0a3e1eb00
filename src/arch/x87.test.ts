/** What x87 instructions and those of extended state ask of the processor's state, and images where no silicon is at hand. */
import { describe, expect, it } from 'vitest';
import { decode } from '../isa/decode/decode.ts';
import { HALTED, RAX, RBP, RCX, RDX, RSI, SS } from '../isa/state.ts';
import { Fixture, FREE, faultOf, type Mode } from './cpu.fixture.ts';
import { Fault } from './fault.ts';
import { systemInstructions } from './system-instructions.ts';
import { reportError } from './x87.ts';
import { initialize } from './x87-stack.ts';

const NE = 0x20n;
const MP = 2n;
const EM = 4n;
const TS = 8n;
const OSXSAVE = 1n << 18n;

function at(mode: Mode, cr0 = NE): Fixture {
  const f = new Fixture().enter(mode);
  if (f.cpu.longMode) f.enablePaging().mapRam();
  f.cpu.cr0 = (f.cpu.cr0 & ~(MP | EM | TS | NE)) | cr0;
  f.cpu.cr4 |= 0x600n;
  f.cpu.gpr[RSI] = BigInt(FREE);
  initialize(f.cpu);
  return f;
}

/** Runs the instruction of `bytes`; its fault. */
function run(f: Fixture, ...bytes: number[]) {
  const padded = Uint8Array.from([...bytes, ...new Array(15).fill(0)]);
  const decoded = decode(padded, 0, 15, f.cpu.codeSize);
  if (!decoded) throw new Error('not decoded');
  f.cpu.rip = 0x1000n + BigInt(decoded.length);
  return faultOf(() =>
    systemInstructions[decoded.mnemonic as keyof typeof systemInstructions](f.cpu, decoded),
  );
}

const words = (f: Fixture, count: number) =>
  Array.from({ length: count }, (_, i) => Number(f.bus.read(FREE + 2 * i, 2)));

describe('#NM, #MF and #UD', () => {
  it.each<[string, readonly number[], bigint, number | undefined]>([
    ['x87 with TS', [0xd9, 0xe8], TS, 7],
    ['x87 with EM', [0xd9, 0xe8], EM, 7],
    ['x87 with MP alone', [0xd9, 0xe8], MP, undefined],
    ['instructions that do not wait with TS', [0xdf, 0xe0], TS, 7],
    ['WAIT with TS', [0x9b], TS, undefined],
    ['WAIT with EM', [0x9b], EM, undefined],
    ['WAIT with TS and MP', [0x9b], TS | MP, 7],
    ['FXSAVE with TS', [0x0f, 0xae, 0x06], TS, 7],
    ['FXSAVE with EM', [0x0f, 0xae, 0x06], EM, 7],
    ['LDMXCSR with EM', [0x0f, 0xae, 0x16], EM, 6],
    ['LDMXCSR with TS', [0x0f, 0xae, 0x16], TS, 7],
    ['XSAVE without CR4.OSXSAVE', [0x0f, 0xae, 0x26], 0n, 6],
  ])('%s', (_, bytes, cr0, vector) => {
    expect(run(at('64-bit', NE | cr0), ...bytes)?.vector).toBe(vector);
  });

  it('LDMXCSR and STMXCSR without CR4.OSFXSR are #UD; a reserved bit is #GP(0)', () => {
    const f = at('64-bit');
    f.bus.write(FREE, 4, 0x1_0000n);
    expect(run(f, 0x0f, 0xae, 0x16)).toEqual({ vector: 13, errorCode: 0 });
    f.cpu.cr4 &= ~0x200n;
    expect(run(f, 0x0f, 0xae, 0x16)?.vector).toBe(6);
    expect(run(f, 0x0f, 0xae, 0x1e)?.vector).toBe(6);
  });

  it('an unmasked exception is reported by the next instruction that waits', () => {
    const f = at('64-bit');
    f.cpu.fcw = 0x37b;
    expect(run(f, 0xd9, 0xe8)).toBeNull();
    expect(run(f, 0xd9, 0xee)).toBeNull();
    // FDIVP: 1 / 0.
    expect(run(f, 0xde, 0xf9)).toBeNull();
    expect(f.cpu.fsw & 0x8084).toBe(0x8084);
    expect(run(f, 0xdf, 0xe0)).toBeNull();
    expect(run(f, 0x9b)?.vector).toBe(16);
    expect(run(f, 0xd9, 0xe8)?.vector).toBe(16);
    expect(run(f, 0xdb, 0xe2)).toBeNull();
    expect(run(f, 0x9b)).toBeNull();
  });

  it('with CR0.NE clear it is not: FERR# is asserted, and the processor waits', () => {
    const f = at('64-bit', 0n);
    const pins = {
      reported: false,
      ignored: false,
      report: (asserted: boolean) => (pins.reported = asserted),
    };
    f.cpu.numericError = pins;
    f.cpu.fcw = 0x37e;
    expect(run(f, 0xd9, 0xe0)).toBeNull();
    const fault = run(f, 0x9b);
    expect(fault?.vector).toBe(16);
    expect(reportError(f.cpu, new Fault(16))).toBe(true);
    expect([pins.reported, f.cpu.activity]).toEqual([true, HALTED]);
    // With IGNNE# it does not wait; with the last exception FERR# goes.
    pins.ignored = true;
    expect(run(f, 0x9b)).toBeNull();
    expect(run(f, 0xdb, 0xe2)).toBeNull();
    expect(pins.reported).toBe(false);
  });

  it('other faults, and #MF with CR0.NE set, are delivered', () => {
    expect(reportError(at('64-bit').cpu, new Fault(16))).toBe(false);
    expect(reportError(at('64-bit', 0n).cpu, new Fault(7))).toBe(false);
  });
});

describe('stores to memory that is not there', () => {
  const NOWHERE = 0x7000_0000n;
  /** ST(0) is empty; the invalid operation that this raises is masked or not. */
  const stored = (fcw: number, ...bytes: number[]) => {
    const f = at('64-bit');
    f.cpu.fcw = fcw;
    f.cpu.gpr[RSI] = NOWHERE;
    return { fault: run(f, ...bytes)?.vector, fsw: f.cpu.fsw };
  };
  it.each([
    ['FST m32', [0xd9, 0x16]],
    ['FSTP m80', [0xdb, 0x3e]],
    ['FISTTP m16', [0xdf, 0x0e]],
    ['FBSTP', [0xdf, 0x36]],
  ])('%s: no access after an unmasked exception; else #PF, and nothing is raised', (_, bytes) => {
    expect(stored(0x37e, ...bytes)).toEqual({ fault: undefined, fsw: 0x80c1 });
    expect(stored(0x37f, ...bytes)).toEqual({ fault: 14, fsw: 0 });
  });

  it.each([
    ['FSTP m80', [0xdb, 0x3e]],
    ['FBSTP', [0xdf, 0x36]],
  ])('%s across two pages: the first eight bytes are stored', (_, bytes) => {
    const f = at('64-bit');
    f.map(NOWHERE, FREE);
    f.cpu.gpr[RSI] = NOWHERE + 0xff8n;
    f.bus.write(FREE + 0xff8, 8, 1n);
    run(f, 0xd9, 0xee);
    expect(run(f, ...bytes)?.vector).toBe(14);
    expect(f.bus.read(FREE + 0xff8, 8)).toBe(0n);
  });

  it.each([
    ['FRSTOR', [0xdd, 0x26], 108n],
    ['FNSAVE', [0xdd, 0x36], 108n],
    ['FLDENV', [0xd9, 0x26], 28n],
    ['FNSTENV', [0xd9, 0x36], 28n],
    ['FNSTENV of 14 bytes', [0x66, 0xd9, 0x36], 14n],
  ])('%s across two pages: the last byte is accessed after the first', (_, bytes, size) => {
    const f = at('64-bit');
    f.map(NOWHERE, FREE);
    f.cpu.gpr[RSI] = NOWHERE + 0xff4n;
    expect([run(f, ...bytes)?.vector, f.cpu.cr2]).toEqual([14, NOWHERE + 0xff4n + size - 1n]);
    f.cpu.gpr[RSI] = NOWHERE + 0x1000n;
    expect([run(f, ...bytes)?.vector, f.cpu.cr2]).toEqual([14, NOWHERE + 0x1000n]);
  });
});

describe('environments', () => {
  it.each<[Mode, boolean, readonly number[]]>([
    [
      'protected32',
      false,
      [0x37f, 0xffff, 0, 0xffff, 0xffff, 0xffff, 0x6789, 0x2345, 0, 0x1d8, 0xcdef, 0x89ab, 0, 0xffff],
    ],
    ['protected32', true, [0x37f, 0, 0xffff, 0x6789, 0, 0xcdef, 0]],
    [
      'real',
      true,
      [
        0x37f, 0xffff, 0, 0xffff, 0xffff, 0xffff, 0x6789, 0xffff, 0x51d8, 0x234, 0xcdef, 0xffff, 0xb000,
        0x89a,
      ],
    ],
    ['real', false, [0x37f, 0, 0xffff, 0x6789, 0x51d8, 0xcdef, 0xb000]],
  ])('of %s, operand prefix %s', (mode, prefix, expected) => {
    const f = at(mode);
    f.cpu.fip = 0x2345_6789n;
    f.cpu.fdp = 0x89ab_cdefn;
    f.cpu.fop = 0x1d8;
    // FNSTENV [SI] or [ESI].
    const bytes = mode === 'real' ? [0xd9, 0x34] : [0xd9, 0x36];
    expect(run(f, ...(prefix ? [0x66] : []), ...bytes)).toBeNull();
    expect(words(f, expected.length)).toEqual(expected);
    initialize(f.cpu);
    bytes[1] = mode === 'real' ? 0x24 : 0x26;
    expect(run(f, ...(prefix ? [0x66] : []), ...bytes)).toBeNull();
    const whole = expected.length > 7;
    const short = mode === 'real' ? [0x5_6789n, 0xb_cdefn] : [0x6789n, 0xcdefn];
    expect([f.cpu.fip, f.cpu.fdp]).toEqual(whole ? [0x2345_6789n, 0x89ab_cdefn] : short);
  });

  it('FNSAVE writes 108 bytes from ST(0) and initializes; FRSTOR takes them back', () => {
    const f = at('64-bit');
    for (const constant of [0xe8, 0xeb, 0xee]) run(f, 0xd9, constant);
    const before = [...f.cpu.x87];
    expect(run(f, 0xdd, 0x36)).toBeNull();
    expect([f.cpu.fsw, f.cpu.ftw]).toEqual([0, 0xffff]);
    // Tags: R5 zero, R6 and R7 valid.
    expect(words(f, 5)).toEqual([0x37f, 0xffff, 0x2800, 0xffff, 0x07ff]);
    expect(f.bus.read(FREE + 28, 8)).toBe(0n);
    expect(f.bus.read(FREE + 38, 8)).toBe(0xc90f_daa2_2168_c235n);
    expect(run(f, 0xdd, 0x26)).toBeNull();
    expect([...f.cpu.x87]).toEqual(before);
    expect((f.cpu.fsw >> 11) & 7).toBe(5);
  });
});

describe('the XSAVE feature set', () => {
  const prepared = (): Fixture => {
    const f = at('64-bit');
    f.cpu.cr4 |= OSXSAVE;
    f.cpu.xcr0 = 3n;
    f.cpu.gpr[RAX] = 3n;
    f.cpu.gpr[RDX] = 0n;
    f.cpu.x87.fill(0n);
    f.cpu.ymm.fill(0n);
    f.cpu.mxcsr = 0x1f80;
    return f;
  };

  it('XSAVEOPT and XSAVEC leave out what is in its initial configuration; XRSTOR initializes it', () => {
    const f = prepared();
    f.cpu.ymm[4] = 5n;
    for (let i = 0; i < 64; i += 8) f.bus.write(FREE + 512 + i, 8, 0n);
    f.bus.write(FREE, 8, 0xaaaan);
    expect(run(f, 0x0f, 0xae, 0x36)).toBeNull();
    expect(f.bus.read(FREE, 8)).toBe(0xaaaan);
    expect(f.bus.read(FREE + 512, 8)).toBe(2n);
    expect(run(f, 0x0f, 0xc7, 0x26)).toBeNull();
    expect(f.bus.read(FREE + 520, 8)).toBe((1n << 63n) | 3n);
    f.cpu.fcw = 0x27f;
    f.cpu.ymm[4] = 6n;
    expect(run(f, 0x0f, 0xae, 0x2e)).toBeNull();
    expect([f.cpu.fcw, f.cpu.ymm[4]]).toEqual([0x37f, 5n]);
  });

  it('XGETBV and XSETBV', () => {
    const f = prepared();
    f.cpu.gpr[RCX] = 1n;
    f.cpu.ymm[0] = 1n;
    expect(run(f, 0x0f, 0x01, 0xd0)).toBeNull();
    expect(f.cpu.gpr[RAX]).toBe(2n);
    f.cpu.gpr[RCX] = 2n;
    expect(run(f, 0x0f, 0x01, 0xd0)?.vector).toBe(13);
    f.cpu.gpr[RCX] = 0n;
    for (const [value, fault] of [
      [1n, undefined],
      [3n, undefined],
      [2n, 13],
      [0n, 13],
      [5n, 13],
      [7n, undefined],
      [8n | 1n, 13],
    ] as const) {
      f.cpu.gpr[RAX] = value;
      expect(run(f, 0x0f, 0x01, 0xd1)?.vector, `${value}`).toBe(fault);
    }
  });
});

describe('an area that is not aligned', () => {
  const FXSAVE = [0x0f, 0xae, 0x45, 0];
  const XRSTOR = [0x0f, 0xae, 0x6d, 0];
  const HOLE = 0x8000_0000_0000n;
  const NOT_THERE = 0x4000_0000n;
  // By the area's address, which is in RBP; measured on Intel silicon (Sapphire Rapids), all of 0 to 63 beyond each.
  it.each<[string, readonly number[], bigint, number | undefined, number | undefined]>([
    ['at its alignment', FXSAVE, BigInt(FREE) + 16n, undefined, undefined],
    ['at a multiple of 8', FXSAVE, BigInt(FREE) + 8n, 13, 13],
    ['at a multiple of 4', FXSAVE, BigInt(FREE) + 4n, 13, 13],
    ['at a multiple of 2', FXSAVE, BigInt(FREE) + 2n, 13, 17],
    ['at an odd address', FXSAVE, BigInt(FREE) + 1n, 13, 17],
    ['at a multiple of 16, for 64', XRSTOR, BigInt(FREE) + 16n, 13, 13],
    ['at a multiple of 2, for 64', XRSTOR, BigInt(FREE) + 0x36n, 13, 17],
    ['at an odd address, for 64', XRSTOR, BigInt(FREE) + 0x3fn, 13, 17],
    ['and not present', XRSTOR, NOT_THERE + 2n, 13, 17],
    ['not present, but aligned', XRSTOR, NOT_THERE, 14, 14],
    ['and ends beyond the canonical addresses', FXSAVE, HOLE - 62n, 13, 17],
    ['and ends there, at a multiple of 4', FXSAVE, HOLE - 60n, 13, 13],
    ['and begins there', FXSAVE, HOLE + 2n, 12, 12],
  ])('%s', (_, bytes, address, quiet, armed) => {
    const AC = 1n << 18n;
    const AM = 1n << 18n;
    const f = at('64-bit', NE | AM);
    f.cpu.cr4 |= OSXSAVE;
    f.cpu.xcr0 = 7n;
    f.cpu.cpl = 3;
    f.cpu.gpr[RBP] = address;
    expect(run(f, ...bytes)?.vector).toBe(quiet);
    f.cpu.flagsRest |= AC;
    expect(run(f, ...bytes)?.vector).toBe(armed);
  });

  // Measured on Intel silicon (Sapphire Rapids): the limit is that of the first byte or the first four, not of the area.
  it.each<[string, readonly number[], bigint, number]>([
    ['XRSTOR: before alignment', XRSTOR, 8n, 12],
    ['XRSTOR: not of all bytes', XRSTOR, -4n, 13],
    ['FXSAVE: after alignment', FXSAVE, 8n, 13],
    ['FXSAVE: then of all bytes', FXSAVE, -16n, 12],
  ])("the segment's limit of %s", (_, bytes, beyond, vector) => {
    const f = at('protected32');
    f.cpu.cr4 |= OSXSAVE;
    f.cpu.xcr0 = 7n;
    f.cpu.segReadHigh[SS] = FREE - 1;
    f.cpu.segWriteHigh[SS] = FREE - 1;
    f.cpu.gpr[RBP] = BigInt(FREE) + beyond;
    expect(run(f, ...bytes)?.vector).toBe(vector);
  });
});
