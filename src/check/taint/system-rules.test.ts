/**
 * System instructions, one by one, in the kernel's place: what becomes tainted. That results are what the processor makes of
 * them is compared on the way.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { CR4_FSGSBASE, CR4_OSFXSR } from '../../arch/control-registers.ts';
import { labelOf, make, maskOf } from '../../engine/taint/shadow.ts';
import { ones } from '../../isa/integers.ts';
import { systemMnemonics } from '../../isa/mnemonics.ts';
import { FS, GS, RAX, RBX, RCX, RDI, RDX, RSI, RSP } from '../../isa/state.ts';
import { PHYSICAL_MAP } from '../../kernel/layout.ts';
import type { Location } from './location.ts';
import { locate } from './memory-view.ts';
import { systemRules } from './system-rules.ts';
import { TaintTracker } from './tracker.ts';
import { type Entry, entryOf, kernelCode } from './visits.fixture.ts';

const ALL = ones(64);
const LOW = ones(32);
/** All of the stack pointer but the bits that alignment gives away. */
const POINTER = ALL & ~0xfn;
const R11 = 11;
/** Physical address 1000H as the kernel maps it. */
const PHYSICAL = PHYSICAL_MAP + 0x1000n;

let entry: Entry;
beforeAll(() => {
  entry = entryOf('none', { cs: 'cs64', ss: 'flat' });
});

type Place = Exclude<Location, { kind: 'memory' }> | { readonly kind: 'stack'; readonly offset: number };
const register = (index: number): Place => ({ kind: 'register', index });
const stack = (offset: number): Place => ({ kind: 'stack', offset });
const base = (segment: 4 | 5): Place => ({ kind: 'base', segment });
const selector = (segment: 0 | 1 | 2 | 3 | 4 | 5): Place => ({ kind: 'selector', segment });
const FLAGS: Place = { kind: 'flags' };

interface Setup {
  /** Values of registers. */
  readonly values?: Readonly<Record<number, bigint>>;
  /** Tainted bits of registers. */
  readonly tainted?: Readonly<Record<number, bigint>>;
  readonly flags?: bigint;
  /** Tainted bits of the quadwords at RSP, upward. */
  readonly stack?: readonly bigint[];
  /** Quadwords at RSP, upward. */
  readonly frame?: readonly bigint[];
  readonly fsBase?: bigint;
}

interface Case {
  readonly name: string;
  readonly code: readonly number[];
  readonly setup?: Setup;
  /** Tainted bits of places afterwards. */
  readonly expected: readonly (readonly [Place, bigint])[];
}

/** Runs the instruction at CPL 0 with RSP as the entry left it, and RSP's bits but the low ones tainted. */
function run({ code, setup = {} }: Case): { tracker: TaintTracker; maskAt: (place: Place) => bigint } {
  const { machine } = entry;
  kernelCode(entry, [...code, 0x90]);
  const [cpu] = machine.cpus;
  const tracker = new TaintTracker(machine, 0);
  try {
    tracker.step();
    expect(cpu.cpl).toBe(0);
    cpu.cr4 |= CR4_FSGSBASE | CR4_OSFXSR;
    const taint = (origin: number, mask: bigint) => make(mask, (bit) => labelOf(1000 + origin, bit));
    for (const [i, value] of Object.entries(setup.values ?? {})) cpu.gpr[Number(i)] = value;
    for (const [i, mask] of Object.entries(setup.tainted ?? {}))
      tracker.registers.gpr[Number(i)] = taint(Number(i), mask);
    if (setup.flags) tracker.registers.flags = taint(20, setup.flags);
    if (setup.fsBase) tracker.registers.fsBase = taint(21, setup.fsBase);
    const at = (offset: number) => locate(cpu, cpu.gpr[RSP] + BigInt(offset), 8)?.[0].physical ?? 0;
    for (const [i, value] of (setup.frame ?? []).entries()) {
      const bytes = new DataView(new ArrayBuffer(8));
      bytes.setBigUint64(0, value, true);
      machine.writePhysical(at(8 * i), new Uint8Array(bytes.buffer));
    }
    for (const [i, mask] of (setup.stack ?? []).entries())
      tracker.memory.store(at(8 * i), 8, taint(30 + i, mask));
    let fault: number | undefined;
    const off = machine.on('deliver', (_, vector) => {
      fault = vector;
    });
    tracker.step();
    off();
    expect(fault).toBeUndefined();
    const maskAt = (place: Place) =>
      maskOf(
        place.kind === 'stack' ? tracker.memory.load(at(place.offset), 8) : tracker.registers.get(place),
      );
    return { tracker, maskAt };
  } finally {
    tracker.close();
  }
}

const cases: Case[] = [
  { name: 'SWAPGS', code: [0x0f, 0x01, 0xf8], expected: [[base(GS), ALL], [{ kind: 'kernelGsBase' }, 0n]] },
  { name: 'RDGSBASE of the user’s', code: [0xf3, 0x48, 0x0f, 0xae, 0xc8], expected: [[register(RAX), 0n]] },
  {
    name: 'CVTSI2SS: all of the destination',
    code: [0xf3, 0x0f, 0x2a, 0xc0],
    setup: { values: { [RAX]: 5n }, tainted: { [RAX]: 1n } },
    expected: [[{ kind: 'vector', part: 0 }, ones(128)]],
  },
  {
    name: 'MOVD to an XMM register: bit by bit',
    code: [0x66, 0x0f, 0x6e, 0xc8],
    setup: { values: { [RAX]: 5n }, tainted: { [RAX]: 0x81n } },
    expected: [[{ kind: 'vector', part: 2 }, 0x81n]],
  },
  {
    name: 'RDFSBASE',
    code: [0xf3, 0x0f, 0xae, 0xc0],
    setup: { fsBase: 0xff_0000_00ffn },
    expected: [[register(RAX), 0xffn]],
  },
  {
    name: 'WRFSBASE',
    code: [0xf3, 0x48, 0x0f, 0xae, 0xd0],
    setup: { values: { [RAX]: 0x1000n }, tainted: { [RAX]: 0xff0n } },
    expected: [[base(FS), 0xff0n]],
  },
  {
    name: 'RDMSR of IA32_KERNEL_GS_BASE',
    code: [0x0f, 0x32],
    setup: { values: { [RCX]: 0xc000_0102n } },
    expected: [[register(RAX), LOW], [register(RDX), LOW]],
  },
  {
    name: 'RDMSR of IA32_GS_BASE, the user’s',
    code: [0x0f, 0x32],
    setup: { values: { [RCX]: 0xc000_0101n }, tainted: { [RAX]: ALL, [RDX]: ALL } },
    expected: [[register(RAX), 0n], [register(RDX), 0n]],
  },
  {
    name: 'RDMSR of another',
    code: [0x0f, 0x32],
    setup: { values: { [RCX]: 0xc000_0082n } },
    expected: [[register(RAX), LOW], [register(RDX), LOW]],
  },
  {
    name: 'RDMSR of the time',
    code: [0x0f, 0x32],
    setup: { values: { [RCX]: 0x10n } },
    expected: [[register(RAX), 0n], [register(RDX), 0n]],
  },
  {
    name: 'WRMSR of IA32_FS_BASE',
    code: [0x0f, 0x30],
    setup: { values: { [RAX]: 0n, [RCX]: 0xc000_0100n, [RDX]: 0n }, tainted: { [RAX]: 0xfn, [RDX]: 0xf0n } },
    expected: [[base(FS), 0xf0_0000_000fn]],
  },
  { name: 'RDTSC', code: [0x0f, 0x31], setup: { tainted: { [RAX]: ALL } }, expected: [[register(RAX), 0n]] },
  {
    name: 'CPUID',
    code: [0x0f, 0xa2],
    setup: { values: { [RAX]: 0n }, tainted: { [RAX]: ALL, [RBX]: ALL } },
    expected: [[register(RAX), 0n], [register(RBX), 0n]],
  },
  { name: 'RDRAND EAX', code: [0x0f, 0xc7, 0xf0], setup: { tainted: { [RAX]: ALL }, flags: 0x8d5n }, expected: [[register(RAX), 0n], [FLAGS, 0n]] },
  { name: 'MOV RAX, CR3', code: [0x0f, 0x20, 0xd8], expected: [[register(RAX), ALL]] },
  { name: 'MOV RAX, CR0', code: [0x0f, 0x20, 0xc0], setup: { tainted: { [RAX]: ALL } }, expected: [[register(RAX), 0n]] },
  { name: 'MOV CR2, RSP', code: [0x0f, 0x22, 0xd4], expected: [[{ kind: 'cr2' }, POINTER]] },
  { name: 'MOV RAX, DR0', code: [0x0f, 0x21, 0xc0], expected: [[register(RAX), ALL]] },
  { name: 'MOV RAX, DR6', code: [0x0f, 0x21, 0xf0], expected: [[register(RAX), 0n]] },
  { name: 'MOV DR0, RBX', code: [0x0f, 0x23, 0xc3], expected: [[{ kind: 'debug', index: 0 }, 0n]] },
  { name: 'SGDT [RSP]', code: [0x0f, 0x01, 0x04, 0x24], expected: [[stack(0), ALL], [stack(8), 0xffffn]] },
  { name: 'SIDT [RSP]', code: [0x0f, 0x01, 0x0c, 0x24], expected: [[stack(0), ALL], [stack(8), 0xffffn]] },
  { name: 'STR EAX', code: [0x0f, 0x00, 0xc8], expected: [[register(RAX), 0xffffn]] },
  { name: 'SLDT [RSP]', code: [0x0f, 0x00, 0x04, 0x24], expected: [[stack(0), 0xffffn]] },
  { name: 'SMSW EAX', code: [0x0f, 0x01, 0xe0], setup: { tainted: { [RAX]: ALL } }, expected: [[register(RAX), 0n]] },
  {
    name: 'LAR of a kernel segment',
    code: [0x0f, 0x02, 0xc1],
    setup: { values: { [RCX]: 0x10n } },
    expected: [[register(RAX), LOW], [FLAGS, 0x40n]],
  },
  {
    name: 'LAR of a user segment',
    code: [0x0f, 0x02, 0xc1],
    setup: { values: { [RCX]: 0x2bn }, tainted: { [RAX]: ALL } },
    expected: [[register(RAX), 0n], [FLAGS, 0n]],
  },
  {
    name: 'LSL of nothing',
    code: [0x0f, 0x03, 0xc1],
    setup: { values: { [RCX]: 0n }, tainted: { [RAX]: 0xfn } },
    expected: [[register(RAX), LOW]],
  },
  { name: 'VERR of a kernel segment', code: [0x0f, 0x00, 0xe1], setup: { values: { [RCX]: 0x18n } }, expected: [[FLAGS, 0x40n]] },
  {
    name: 'MOV FS, EAX',
    code: [0x8e, 0xe0],
    setup: { values: { [RAX]: 0x2bn }, tainted: { [RAX]: 0xf_0008n } },
    expected: [[selector(FS), 8n], [base(FS), LOW]],
  },
  { name: 'MOV FS, a user segment', code: [0x8e, 0xe0], setup: { values: { [RAX]: 0x2bn }, fsBase: ALL }, expected: [[base(FS), 0n]] },
  { name: 'MOV EAX, DS', code: [0x8c, 0xd8], setup: { tainted: { [RAX]: ALL } }, expected: [[register(RAX), 0n]] },
  { name: 'PUSH FS', code: [0x0f, 0xa0], setup: { stack: [0n] }, expected: [[stack(0), 0n], [register(RSP), POINTER]] },
  {
    name: 'POP FS',
    code: [0x0f, 0xa1],
    setup: { frame: [0x2bn], stack: [0x8n] },
    expected: [[selector(FS), 8n]],
  },
  {
    name: 'LSS RAX, [RSP]',
    code: [0x48, 0x0f, 0xb2, 0x04, 0x24],
    setup: { frame: [0x1234n, 0n], stack: [0xf0n, 3n] },
    expected: [[register(RAX), 0xf0n], [selector(2), 3n]],
  },
  { name: 'PUSHFQ', code: [0x9c], setup: { flags: 0x1_0041n }, expected: [[stack(0), 0x41n]] },
  {
    name: 'POPFQ',
    code: [0x9d],
    setup: { frame: [0x202n], stack: [0x8d5n | (0xffn << 32n)], flags: 0x100n },
    expected: [[FLAGS, 0x8d5n]],
  },
  { name: 'CLI', code: [0xfa], setup: { flags: 0x241n }, expected: [[FLAGS, 0x41n]] },
  { name: 'IN AL, 71H', code: [0xe4, 0x71], setup: { tainted: { [RAX]: 0xffffn } }, expected: [[register(RAX), 0xff00n]] },
  {
    name: 'SYSCALL',
    code: [0x0f, 0x05],
    setup: { flags: 0x841n, tainted: { [R11]: ALL } },
    expected: [[register(RCX), ALL], [register(R11), 0x841n], [register(RSP), POINTER]],
  },
  {
    name: 'SYSRETQ',
    code: [0x48, 0x0f, 0x07],
    setup: { values: { [RCX]: 0x40_0000n, [R11]: 0x202n }, tainted: { [RCX]: 0xff0n, [R11]: 0x3_00c5n } },
    expected: [[{ kind: 'rip' }, 0xff0n], [FLAGS, 0xc5n], [register(RSP), POINTER]],
  },
  {
    name: 'IRETQ to 64-bit code',
    code: [0x48, 0xcf],
    setup: { stack: [0xf0n, 0n, 0x8d5n, 0xffn, 0n], flags: 0x8d5n },
    expected: [[{ kind: 'rip' }, 0xf0n], [FLAGS, 0x8d5n], [register(RSP), 0xffn], [selector(1), 0n]],
  },
  {
    name: 'IRETQ to a 16-bit stack',
    code: [0x48, 0xcf],
    setup: { frame: [0x10n, 0x0fn, 0x202n, 0x5aad_c0den, 0x17n], stack: [0n, 0n, 0n, 0n, 0n] },
    expected: [[register(RSP), 0xffff_0000n]],
  },
  {
    name: 'IRETQ to a 32-bit stack',
    code: [0x48, 0xcf],
    setup: { frame: [0x10n, 0x0fn, 0x202n, 0x5aad_c0den, 0x1fn], stack: [0n, 0n, 0n, 0xff_0000_00f0n, 0n] },
    expected: [[register(RSP), 0xf0n]],
  },
  {
    name: 'far CALL',
    code: [0x48, 0xff, 0x1c, 0x24],
    setup: { frame: [0xffff_ffff_8010_0000n, 0x10n], stack: [0xf0n, 0n] },
    expected: [[stack(0), ALL], [stack(8), 0n], [{ kind: 'rip' }, 0xf0n], [register(RSP), POINTER]],
  },
  {
    name: 'far JMP',
    code: [0x48, 0xff, 0x2c, 0x24],
    setup: { frame: [0xffff_ffff_8010_0000n, 0x10n], stack: [0xf0n, 0x3n] },
    expected: [[{ kind: 'rip' }, 0xf0n], [selector(1), 3n]],
  },
  {
    name: 'INSB',
    code: [0x6c],
    setup: { values: { [RDI]: PHYSICAL, [RDX]: 0x71n }, tainted: { [RDX]: ALL } },
    expected: [[register(RDI), 0n], [register(RDX), ALL]],
  },
  {
    name: 'REP OUTSB',
    code: [0xf3, 0x6e],
    setup: { values: { [RSI]: PHYSICAL, [RCX]: 2n, [RDX]: 0x80n }, tainted: { [RCX]: 0xf0n, [RSI]: 0xf00n } },
    // The test task has DF set: RSI goes down, and a borrow reaches bit 12.
    expected: [[register(RSI), 0x1f00n], [register(RCX), 0xf0n]],
  },
  {
    name: 'RETFQ to a 16-bit stack',
    code: [0x48, 0xcb],
    setup: { frame: [0x10n, 0x0fn, 0x5aad_c0den, 0x17n], stack: [0n, 0n, 0n, 0n] },
    expected: [[register(RSP), 0xffff_0000n]],
  },
]; // biome-ignore format: a table

describe('after a system instruction', () => {
  it.each(cases)('$name', (test) => {
    const { maskAt, tracker } = run(test);
    const found = test.expected.map(([place]) => [place, maskAt(place).toString(16)]);
    expect(found).toEqual(test.expected.map(([place, mask]) => [place, mask.toString(16)]));
    expect(tracker.conservative).toEqual([]);
  });
});

it('every system instruction has a rule, but for those that only fault', () => {
  const without = systemMnemonics.filter((mnemonic) => !systemRules[mnemonic]);
  expect(without).toEqual(['rdpmc', 'monitor', 'mwait', 'rsm', 'vmcall']);
});

it('where there is no rule, all that has changed is taken for a secret', () => {
  const { machine } = entry;
  // RDPMC faults; the machine is made to go on as if it had not.
  kernelCode(entry, [0x0f, 0x33, 0x90]);
  let faulted = false;
  const tracker = new TaintTracker(machine, 0, {
    advance: (m, cpu) => {
      if (m.cpus[cpu].cpl === 3) return m.step(cpu);
      faulted = true;
      m.cpus[cpu].gpr[RDX] ^= 1n;
      m.cpus[cpu].rip += 2n;
      m.cpus[cpu].instructions++;
      return { reason: 'limit' };
    },
  });
  tracker.step();
  tracker.step();
  tracker.close();
  expect(faulted).toBe(true);
  expect(maskOf(tracker.registers.gpr[RDX])).toBe(ALL);
  expect(maskOf(tracker.registers.gpr[RBX])).toBe(0n);
  expect(tracker.conservative).toMatchObject([{ instruction: 'rdpmc', what: 'no rule' }]);
});
