/**
 * Traps, faults and shadows as guest code meets them at CPL 3: SDM vol. 3B 17.3, vol. 3A 6.8.3. The single-step tables
 * were measured on a Cascade Lake Xeon with the same bytes; what a MOV SS from watched memory does to the instruction
 * after it is what the Linux self-test mov_ss_trap found on Intel processors.
 */
import { describe, expect, it } from 'vitest';
import { encodeGate, flat } from '../arch/cpu.fixture.ts';
import { readDescriptor } from '../arch/descriptors.ts';
import { setSegment, setSegmentRaw } from '../arch/segmentation.ts';
import { writeFlags } from '../isa/flags.ts';
import { CS, DS, ES, LDTR, RAX, RCX, RDI, RSI, RSP, SS, TR } from '../isa/state.ts';
import { Machine } from './machine.ts';

const GDT = 0x1000;
const IDT = 0x2000;
const TSS = 0x3000;
const HANDLERS = 0x9000;
const ENTRY = 0xa000;
const CODE = 0x1_0000;
const DATA = 0x1_4000;
const USER_STACK = 0x1_8000;
const KERNEL_STACK = 0x2_0000;
const TABLES = 0x4_0000;
const KERNEL_CODE = 0x08;
const USER_DATA = 0x23;
const USER_CODE = 0x2b;
const RF = 0x1_0000n;

const NOP = 0x90;
const HLT = 0xf4;
const IRETQ = [0x48, 0xcf];
/** OR dword [RSP+16], 10000H; IRETQ. */
const RESUME = [0x81, 0x4c, 0x24, 0x10, 0x00, 0x00, 0x01, 0x00, ...IRETQ];
/** PUSH 302H; POPF: sets TF. */
const TRACE = [0x68, 0x02, 0x03, 0x00, 0x00, 0x9d];
const MOV_SS_EAX = [0x8e, 0xd0];
/** MOV SS, [DATA]. */
const MOV_SS_DATA = [0x8e, 0x14, 0x25, 0x00, 0x40, 0x01, 0x00];

interface Event {
  readonly vector: number;
  /** RIP pushed: the offset from the code at CPL 3, else the address. */
  readonly at: number;
  readonly cpl: number;
  readonly rf: boolean;
  readonly rcx: bigint;
  readonly b: number;
}

interface Setup {
  readonly handler?: readonly number[];
  readonly dr0?: bigint;
  readonly dr7?: bigint;
  readonly sfmask?: bigint;
}

/** Runs `code` at CPL 3 of 64-bit mode until an event other than #DB, or `most` events, and lists the events. */
function events(code: readonly number[], most: number, setup: Setup = {}): Event[] {
  const machine = Machine.create({ memory: 4 });
  const cpu = machine.cpus[0];
  const { bus } = cpu;
  const bytes = (at: number, values: readonly number[]) => {
    for (const [i, value] of values.entries()) bus.write(at + i, 1, BigInt(value));
  };
  cpu.cr4 = 0x20n;
  cpu.efer = 0x501n;
  cpu.cr0 = 0x8000_0011n;
  cpu.cr3 = BigInt(TABLES);
  bus.write(TABLES, 8, BigInt(TABLES + 0x1000) | 7n);
  bus.write(TABLES + 0x1000, 8, BigInt(TABLES + 0x2000) | 7n);
  for (let i = 0; i < 2; i++) bus.write(TABLES + 0x2000 + 8 * i, 8, (BigInt(i) << 21n) | 0x87n);
  bus.write(GDT + KERNEL_CODE, 8, flat(0xb, 0, 64));
  bus.write(GDT + 0x10, 8, flat(3, 0, 32));
  bus.write(GDT + (USER_DATA & ~7), 8, flat(3, 3, 32));
  bus.write(GDT + (USER_CODE & ~7), 8, flat(0xb, 3, 64));
  cpu.gdtrBase = BigInt(GDT);
  cpu.gdtrLimit = 0xff;
  cpu.idtrBase = BigInt(IDT);
  cpu.idtrLimit = 0xfff;
  for (let vector = 0; vector < 256; vector++) {
    const offset = BigInt(HANDLERS + (vector === 1 ? 0x100 : 0));
    bus.write(IDT + vector * 16, 8, encodeGate({ selector: KERNEL_CODE, offset, type: 0xe, dpl: 3 }));
  }
  bytes(HANDLERS, [NOP, HLT]);
  bytes(HANDLERS + 0x100, setup.handler ?? IRETQ);
  // SYSRETQ.
  bytes(ENTRY, [0x48, 0x0f, 0x07]);
  bytes(CODE, code);
  bus.write(DATA, 2, BigInt(USER_DATA));
  bus.write(TSS + 4, 8, BigInt(KERNEL_STACK));
  setSegmentRaw(cpu, TR, { selector: 0x40, base: BigInt(TSS), limit: 0x67, attributes: 0x8b, usable: true });
  setSegmentRaw(cpu, LDTR, { selector: 0, base: 0n, limit: 0, attributes: 0, usable: false });
  cpu.cpl = 3;
  setSegment(cpu, CS, USER_CODE, readDescriptor(cpu, USER_CODE));
  for (const segment of [SS, DS, ES] as const)
    setSegment(cpu, segment, USER_DATA, readDescriptor(cpu, USER_DATA));
  cpu.star = (0x1bn << 48n) | (8n << 32n);
  cpu.lstar = BigInt(ENTRY);
  cpu.sfmask = setup.sfmask ?? 0x100n;
  cpu.gpr[RSP] = BigInt(USER_STACK);
  cpu.gpr[RAX] = BigInt(USER_DATA);
  cpu.gpr[RSI] = BigInt(DATA);
  cpu.gpr[RDI] = BigInt(DATA + 0x100);
  cpu.gpr[RCX] = 3n;
  cpu.rip = BigInt(CODE);
  writeFlags(cpu, 0x202n);
  cpu.dr[0] = setup.dr0 ?? 0n;
  cpu.dr[6] = 0xffff_0ff0n;
  cpu.dr[7] = setup.dr7 ?? 0x400n;
  cpu.engine.flushTranslations();

  const seen: { vector: number; rip: bigint; cpl: number; rcx: bigint; b: number; rf: boolean }[] = [];
  cpu.hooks = {
    deliver: (_cpu, vector) => {
      const last = seen.at(-1);
      if (seen.length === most || (last && last.vector !== 1 && vector !== 1)) return true;
      seen.push({
        vector,
        rip: cpu.rip,
        cpl: cpu.cpl,
        rcx: cpu.gpr[RCX],
        b: Number(cpu.dr[6] & 0xfn),
        rf: false,
      });
      return false;
    },
    privilegeChange: (_cpu, from, to) => {
      const last = seen.at(-1);
      if (from !== 3 || to !== 0 || !last || cpu.gpr[RSP] === BigInt(USER_STACK)) return;
      const errorCode = last.vector === 13 || last.vector === 14 ? 8 : 0;
      last.rf = (bus.read(Number(cpu.gpr[RSP]) + 16 + errorCode, 8) & RF) !== 0n;
    },
  };
  machine.run({ maxInstructions: 200 });
  return seen.map(({ vector, rip, cpl, rcx, b, rf }) => ({
    vector,
    at: cpl === 3 ? Number(rip) - CODE : Number(rip),
    cpl,
    rf,
    rcx,
    b,
  }));
}

const nops = (count: number) => new Array<number>(count).fill(NOP);

describe('single-stepping (measured)', () => {
  // Where the traps come, as offsets in the code.
  const rows: [string, number[], number[]][] = [
    ['POPF that sets TF: after the next instruction', [...TRACE, ...nops(5)], [7, 8, 9]],
    ['MOV SS is passed over', [...TRACE, ...MOV_SS_EAX, ...nops(5)], [9, 10, 11]],
    ['of two MOV SS the first', [...TRACE, ...MOV_SS_EAX, ...MOV_SS_EAX, ...nops(5)], [10, 11, 12]],
    ['POPF that clears TF still traps', [0x6a, 0x02, ...TRACE, 0x9d, ...nops(5)], [9]],
    ['so does it after MOV SS', [0x6a, 0x02, ...TRACE, ...MOV_SS_EAX, 0x9d, ...nops(5)], [11]],
    ['PUSHF, POP', [...TRACE, 0x9c, 0x59, ...nops(5)], [7, 8, 9]],
    ['INT1 makes one #DB', [...TRACE, 0xf1, ...nops(5)], [7, 8, 9]],
    [
      'SYSCALL: TF is masked in the kernel, the trap comes as SYSRET ends',
      [...TRACE, 0x0f, 0x05, ...nops(5)],
      [8, 9, 10],
    ],
  ];
  it.each(rows)('%s', (_name, code, at) => {
    const seen = events(code, 3);
    expect(seen.filter((event) => event.vector === 1).map((event) => event.at)).toEqual(at);
    expect(seen.every((event) => event.cpl === 3 && !event.rf)).toBe(true);
  });

  it('every iteration of a repeated string instruction; RF is set in all but the last', () => {
    const seen = events([...TRACE, 0xf3, 0xa4, ...nops(5)], 4);
    expect(seen.map(({ at, rcx, rf }) => [at, rcx, rf])).toEqual([
      [6, 2n, true],
      [6, 1n, true],
      [8, 0n, false],
      [9, 0n, false],
    ]);
  });

  it.each([
    ['INT3', [0xcc], 3, 7, false],
    ['INT 80H', [0xcd, 0x80], 0x80, 8, false],
    ['UD2', [0x0f, 0x0b], 6, 6, true],
    ['CLI', [0xfa], 13, 6, true],
  ] as const)('%s enters its handler without a trap', (_name, code, vector, at, rf) => {
    expect(events([...TRACE, ...code, NOP], 2)).toMatchObject([{ vector, at, rf }]);
  });

  it('SYSCALL with TF not masked traps at the first instruction of the kernel', () => {
    const seen = events([...TRACE, 0x0f, 0x05], 1, { sfmask: 0n });
    expect(seen).toMatchObject([{ vector: 1, at: ENTRY, cpl: 0 }]);
  });
});

describe('MOV SS from watched memory', () => {
  const watch: Setup = { dr0: BigInt(DATA), dr7: 0x403n | (0xfn << 16n) };
  const rows: [string, number[], [number, number, number, number][]][] = [
    // Vector, RIP pushed, CPL, DR6.B.
    ['NOP: after it', [NOP], [[1, 8, 3, 1]]],
    ['INT3: in the handler', [0xcc], [[3, 8, 3, 0], [1, HANDLERS, 0, 1]]],
    ['INT 80H: in the handler', [0xcd, 0x80], [[0x80, 9, 3, 0], [1, HANDLERS, 0, 1]]],
    ['SYSCALL: in the kernel (CVE-2018-8897)', [0x0f, 0x05], [[1, ENTRY, 0, 1]]],
    ['UD2: dropped', [0x0f, 0x0b], [[6, 7, 3, 0]]],
    ['CLI: dropped', [0xfa], [[13, 7, 3, 0]]],
    ['INT1: one #DB, DR6 unchanged', [0xf1], [[1, 8, 3, 0]]],
  ]; // biome-ignore format: a table
  it.each(rows)('%s', (_name, next, expected) => {
    const seen = events([...MOV_SS_DATA, ...next, ...nops(3), 0xcd, 0x81], expected.length, watch);
    expect(seen.map(({ vector, at, cpl, b }) => [vector, at, cpl, b])).toEqual(expected);
  });

  it('an instruction breakpoint on the next instruction is not taken: one #DB', () => {
    const seen = events([...MOV_SS_DATA, NOP, NOP, 0xcd, 0x81], 3, { dr0: BigInt(CODE + 7), dr7: 0x403n });
    expect(seen.map(({ vector }) => vector)).toEqual([0x81]);
  });
});

describe('breakpoints', () => {
  it('on an instruction: a fault before it, with RF clear in its image; RF resumes past it', () => {
    const seen = events([NOP, NOP, NOP, 0xcd, 0x81], 3, {
      dr0: BigInt(CODE + 1),
      dr7: 0x403n,
      handler: RESUME,
    });
    expect(seen.map(({ vector, at, rf, b }) => [vector, at, rf, b])).toEqual([
      [1, 1, false, 1],
      [0x81, 5, false, 1],
    ]);
  });

  it('on a repeated string instruction: once, before its first iteration', () => {
    const seen = events([0xf3, 0xa4, 0xcd, 0x81], 3, { dr0: BigInt(CODE), dr7: 0x403n, handler: RESUME });
    expect(seen.map(({ vector, rcx }) => [vector, rcx])).toEqual([
      [1, 3n],
      [0x81, 0n],
    ]);
  });

  it('on data: after the instruction, and after each iteration that meets it', () => {
    // MOV EAX, [RSI]; REP MOVSB.
    const setup = { dr0: BigInt(DATA + 1), dr7: 0x403n | (3n << 16n) };
    const seen = events([0x8b, 0x06, 0xf3, 0xa4, 0xcd, 0x81], 4, setup);
    expect(seen.map(({ vector, at, rcx, rf }) => [vector, at, rcx, rf])).toEqual([
      [1, 2, 3n, false],
      [1, 2, 1n, true],
      [0x81, 6, 0n, false],
    ]);
  });
});
