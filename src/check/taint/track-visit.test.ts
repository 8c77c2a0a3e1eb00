/** Visits to the built-in kernels: what leaks, what does not, and the story of what does. */
import { describe, expect, it } from 'vitest';
import { inspectPage } from '../../arch/paging.ts';
import { maskOf } from '../../engine/taint/shadow.ts';
import { RSP, TR } from '../../isa/state.ts';
import type { VariantName } from '../../kernel/variants/index.ts';
import { declassificationOf } from './builtin.ts';
import type { Declassification } from './declassification.ts';
import { trackVisit } from './track-visit.ts';
import { TaintMismatch, TaintTracker } from './tracker.ts';
import { type Entry, type EntryOptions, entryOf, kernelCode } from './visits.fixture.ts';

const entries = new Map<string, Entry>();

/** As `entryOf`, booted once. */
function entry(variant: VariantName, options: EntryOptions = {}): Entry {
  const key = JSON.stringify([variant, options]);
  let found = entries.get(key);
  if (!found) {
    found = entryOf(variant, options);
    entries.set(key, found);
  }
  found.machine.restore(found.snapshot);
  return found;
}

function visit(variant: VariantName, options: EntryOptions = {}, declassify?: readonly Declassification[]) {
  const { machine, kernel } = entry(variant, options);
  return { kernel, ...trackVisit(machine, 0, { declassify: declassify ?? declassificationOf(kernel) }) };
}

const locations = ({ findings }: ReturnType<typeof visit>) =>
  findings.map(({ location, mask }) => `${location} ${mask.toString(16)}`);

describe('a return to a 16-bit stack', () => {
  it.each<[VariantName, string[]]>([
    ['none', ['rsp ffff0000']],
    ['linux', []],
    ['prototype', []],
    ['none-pae', ['rsp ffff0000']],
    ['espfix32-pae', []],
  ])('%s leaks %j', (variant, leaked) => {
    const found = visit(variant);
    expect(found.ended).toBe('user');
    expect(locations(found)).toEqual(leaked);
    expect(found.conservative).toEqual([]);
  });

  it.each<[string, EntryOptions]>([
    ['an interrupt', { path: 'interrupt', vector: 0x41 }],
    ['an exception', { path: 'exception', vector: 6 }],
    ['an NMI', { path: 'nmi', vector: 2 }],
    ['a breakpoint', { path: 'breakpoint', vector: 3 }],
  ])('from %s, too', (_, options) => {
    expect(locations(visit('none', options))).toEqual(['rsp ffff0000']);
    expect(locations(visit('linux', options))).toEqual([]);
  });
});

it.each<[VariantName, EntryOptions]>([
  ['none', { cs: 'cs64', ss: 'flat' }],
  ['none', { cs: 'cs64' }],
  ['none', { cs: 'cs32-gdt', ss: 'flat' }],
  ['linux', { cs: 'cs32-gdt', ss: 'ss32-ldt' }],
  ['prototype', { cs: 'cs64', ss: 'flat' }],
  ['none-pae', { cs: 'cs32-gdt', ss: 'flat' }],
])('%s returns %o without a kernel bit, nothing being declared', (variant, options) => {
  expect(locations(visit(variant, options, []))).toEqual([]);
});

describe('the story of a leak', () => {
  it('begins where the stack pointer was taken from the TSS and ends with IRET', () => {
    const { findings, kernel } = visit('none');
    expect(findings).toHaveLength(1);
    const [{ register, value, leaks }] = findings;
    const stack = kernel.stacks.find(({ name }) => name === 'main');
    expect(register).toBe('rsp');
    expect(value >> 16n).toBe(((stack?.range.start ?? 0n) >> 16n) & 0xffffn);
    expect(leaks).toMatchObject([
      {
        high: 31,
        low: 16,
        birth: { kind: 'stack-pointer', what: 'kernel stack pointer (TSS.RSP0 of CPU 0)' },
        bornHigh: 31,
        bornLow: 16,
        text: 'rsp[31:16] <- bits 31:16 of kernel stack pointer (TSS.RSP0 of CPU 0)',
      },
    ]);
    const { hops } = leaks[0];
    expect(hops[0]).toMatchObject({ instruction: 'delivery of vector 128', text: 'born in rsp[31:16]' });
    const iret = kernel.symbols.get('iretq.user');
    expect(hops.at(-1)).toMatchObject({ instruction: 'iret', rip: iret, text: 'rsp[31:16] -> rsp[31:16]' });
  });

  it('of a ministack address begins in memory and goes through a register', () => {
    // The bits that choose the alias are as secret as the rest if nobody says otherwise.
    const { findings, kernel } = visit('linux', {}, []);
    const births = findings.flatMap(({ leaks }) => leaks.map(({ birth }) => birth));
    const area = kernel.symbols.get('percpu') ?? 0n;
    expect(new Set(births.map(({ kind }) => kind))).toEqual(new Set(['kernel-memory']));
    expect(births[0].linear).toBeGreaterThan(area);
    const [first] = findings[0].leaks;
    expect(first.hops.map(({ instruction }) => instruction)).toEqual(['or', 'mov', 'pop', 'iret']);
    expect(first.hops[1].text).toMatch(/^rax.* -> rsp/);
  });
});

describe('declared', () => {
  const bits = 0xffff_0000n;
  it.each<[string, Declassification, string[]]>([
    ['the register', { kind: 'register', register: 'rsp' }, []],
    ['its bits', { kind: 'register', register: 'rsp', bits }, []],
    ['some of its bits', { kind: 'register', register: 'rsp', bits: 0xff_0000n }, ['rsp ff000000']],
    ['another register', { kind: 'register', register: 'rax' }, ['rsp ffff0000']],
    ['for this entry', { kind: 'register', register: 'rsp', when: 0x80 }, []],
    ['for another entry', { kind: 'register', register: 'rsp', when: 'syscall' }, ['rsp ffff0000']],
  ])('%s', (_, rule, left) => {
    expect(locations(visit('none', {}, [rule]))).toEqual(left);
  });
});

describe('memory', () => {
  const AT = 0x80_1000n;
  /** MOV [801000H], RSP; IRETQ. */
  const code = [0x48, 0x89, 0x24, 0x25, 0x00, 0x10, 0x80, 0x00, 0x48, 0xcf];
  const stored = (declassify: readonly Declassification[] = []) => {
    const at = entry('none', { cs: 'cs64', ss: 'flat' });
    kernelCode(at, code);
    return trackVisit(at.machine, 0, { declassify });
  };

  it('that user mode reads is judged byte by byte', () => {
    const { findings } = stored();
    expect(findings).toMatchObject([{ location: 'user memory 0x801000', linear: AT }]);
    // The processor has aligned the stack pointer: its low bits are known.
    expect(findings[0].mask).toBe(0xffff_ffff_ffff_fff0n);
    expect(findings[0].leaks[0].hops.at(-1)?.text).toBe('rsp[63:4] -> [0x801000][63:4]');
  });

  it('may be declared', () => {
    expect(stored([{ kind: 'memory', start: AT, end: AT + 8n }]).findings).toEqual([]);
    expect(stored([{ kind: 'memory', start: AT, end: AT + 4n }]).findings).toMatchObject([
      { location: 'user memory 0x801004', mask: 0xffff_ffffn },
    ]);
    expect(stored([{ kind: 'memory', start: AT, end: AT + 8n, when: 3 }]).findings).toHaveLength(1);
  });

  it('of the kernel that nothing has written is born at its first read, and the same after', () => {
    const at = entry('none', { cs: 'cs64', ss: 'flat' });
    // MOV RAX, [RSP-80H]; MOV RCX, [RSP-80H]; IRETQ.
    kernelCode(at, [0x48, 0x8b, 0x44, 0x24, 0x80, 0x48, 0x8b, 0x4c, 0x24, 0x80, 0x48, 0xcf]);
    const { findings } = trackVisit(at.machine, 0);
    const main = at.kernel.stacks.find(({ name }) => name === 'main');
    const linear = (main?.range.end ?? 0n) - 40n - 0x80n;
    expect(findings).toMatchObject([
      { location: 'rax', leaks: [{ high: 63, low: 0, birth: { kind: 'kernel-memory', linear } }] },
      { location: 'rcx', leaks: [{ high: 63, low: 0, birth: { kind: 'kernel-memory', linear } }] },
    ]);
    kernelCode(at, [0x48, 0x8b, 0x44, 0x24, 0x80, 0x48, 0xcf]);
    const declared = { kind: 'kernelMemory', start: linear, end: linear + 4n } as const;
    expect(trackVisit(at.machine, 0, { declassify: [declared] }).findings).toMatchObject([
      { location: 'rax', mask: 0xffff_ffff_0000_0000n },
    ]);
  });

  it('that the TSS has for a stack pointer is called so', () => {
    const at = entry('none', { cs: 'cs64', ss: 'flat' });
    const read = (field: bigint) => {
      const address = new Uint8Array(8);
      new DataView(address.buffer).setBigUint64(0, at.machine.cpus[0].segBase[TR] + field, true);
      // MOV RAX, moffs64; IRETQ.
      kernelCode(at, [0x48, 0xa1, ...address, 0x48, 0xcf]);
      return trackVisit(at.machine, 0).findings[0]?.leaks[0]?.birth;
    };
    const kind = 'stack-pointer';
    expect(read(4n)).toMatchObject({ kind, what: 'kernel stack pointer (TSS.RSP0 of CPU 0)' });
    expect(read(36n)).toMatchObject({ kind, what: 'kernel stack pointer (TSS.IST1 of CPU 0)' });
    expect(read(0x54n)).toMatchObject({ kind, what: 'kernel stack pointer (TSS.IST7 of CPU 0)' });
    expect(read(28n)).toMatchObject({ kind: 'kernel-memory' });
    expect(read(0x5cn)).toMatchObject({ kind: 'kernel-memory' });
  });

  it('may be declared by its physical address', () => {
    const at = entry('none', { cs: 'cs64', ss: 'flat' });
    // MOV RAX, [RSP-80H]; IRETQ.
    kernelCode(at, [0x48, 0x8b, 0x44, 0x24, 0x80, 0x48, 0xcf]);
    const top = at.kernel.stacks.find(({ name }) => name === 'main')?.range.end ?? 0n;
    const start = BigInt(inspectPage(at.machine.cpus[0], top - 40n - 0x80n)?.physical ?? 0);
    const declared = {
      kind: 'kernelMemory',
      start,
      end: start + 8n,
      bits: 0xffff_0000n,
      physical: true,
    } as const;
    expect(trackVisit(at.machine, 0, { declassify: [declared] }).findings).toMatchObject([
      { location: 'rax', mask: 0xffff_ffff_0000_ffffn },
    ]);
  });

  it('that user mode can read is no secret, by whatever address', () => {
    const at = entry('none', { cs: 'cs64', ss: 'flat' });
    const counters = at.machine.readMemory((at.kernel.symbols.get('percpu') ?? 0n) + 0x58n, 8);
    const alias = new DataView(counters.buffer).getBigUint64(0, true);
    expect(alias >> 63n).toBe(1n);
    // MOV RAX, moffs64; IRETQ.
    kernelCode(at, [0x48, 0xa1, ...counters, 0x48, 0xcf]);
    expect(trackVisit(at.machine, 0).findings).toEqual([]);
  });
});

it('CR2 after a fault of a push onto a ministack is as secret as its address', () => {
  const { machine, kernel } = entry('linux', { cs: 'not-present' });
  const tracker = new TaintTracker(machine, 0, { declassify: declassificationOf(kernel) });
  const doubleFault = kernel.symbols.get('vector.8');
  for (let i = 0; i < 500 && machine.cpus[0].rip !== doubleFault; i++) tracker.step();
  tracker.close();
  expect(machine.cpus[0].rip).toBe(doubleFault);
  const { cr2 } = tracker.registers;
  // Neither the bits that choose the alias, which are the user's, nor those within the ministack; the rest.
  expect(maskOf(cr2) & 0xfffe_003fn).toBe(0n);
  expect(maskOf(cr2) >> 32n).toBe(0xffff_ffffn);
  expect(tracker.births.find(cr2?.any ?? 0)?.birth.kind).toBe('kernel-memory');
});

describe('events on the way', () => {
  it('at any boundary leave a sound kernel sound', () => {
    const { machine, kernel, snapshot } = entry('linux');
    const declassify = declassificationOf(kernel);
    const { instructions } = trackVisit(machine, 0, { declassify });
    for (let at = 1; at < instructions; at += 7) {
      machine.restore(snapshot);
      let struck = false;
      const found = trackVisit(machine, 0, {
        declassify,
        onBoundary: (steps) => {
          if (steps !== at) return;
          machine.injectNmi(0);
          struck = true;
        },
      });
      expect(struck).toBe(true);
      expect(found.ended).toBe('user');
      expect(found.instructions).toBeGreaterThan(instructions);
      expect(found.findings).toEqual([]);
    }
  });
});

describe('a visit that is followed from the kernel on', () => {
  it.each<[VariantName, EntryOptions, string[]]>([
    ['none', {}, ['rsp ffff0000']],
    ['none', { cs: 'cs32-gdt', ss: 'flat' }, []],
    ['none', { path: 'nmi', vector: 2 }, ['rsp ffff0000']],
    ['linux', {}, []],
    ['none-pae', {}, ['rsp ffff0000']],
  ])('of %s by %o finds the same', (variant, options, leaked) => {
    const { machine, kernel } = entry(variant, options);
    machine.step(0);
    expect(machine.cpus[0].cpl).toBe(0);
    const { findings } = trackVisit(machine, 0, { declassify: declassificationOf(kernel) });
    expect(findings.map(({ location, mask }) => `${location} ${mask.toString(16)}`)).toEqual(leaked);
  });
});

describe('where the visit ends', () => {
  it('at the limit, or where it is told to, nothing is judged', () => {
    expect(trackVisit(entry('none').machine, 0, { maxInstructions: 20 })).toMatchObject({
      ended: 'limit',
      findings: [],
      instructions: 20,
    });
    expect(trackVisit(entry('none').machine, 0, { isEnd: (steps) => steps === 5 })).toMatchObject({
      ended: 'end',
      instructions: 5,
    });
  });

  it('where a listener keeps an event back, which may be followed later', () => {
    const { machine } = entry('none');
    const off = machine.on('deliver', () => true);
    const tracker = new TaintTracker(machine, 0);
    expect(tracker.step().reason).toBe('hook');
    expect(tracker.index).toBe(0);
    off();
    tracker.step();
    tracker.close();
    expect(tracker.index).toBe(1);
    expect(tracker.entry).toBe(0x80);
    expect(maskOf(tracker.registers.gpr[RSP])).toBe(0xffff_ffff_ffff_fff0n);
  });

  it('with the processor', () => {
    const at = entry('none', { cs: 'cs64', ss: 'flat' });
    // CLI; HLT.
    kernelCode(at, [0xfa, 0xf4]);
    expect(trackVisit(at.machine, 0)).toMatchObject({ ended: 'deadlock', findings: [] });
  });
});

it('stops where the machine does other than was worked out', () => {
  const at = entry('none', { cs: 'cs64', ss: 'flat' });
  // MOV EAX, EAX.
  kernelCode(at, [0x89, 0xc0]);
  at.machine.step(0);
  const tracker = new TaintTracker(at.machine, 0, {
    advance: (machine, cpu) => {
      const stop = machine.step(cpu);
      machine.cpus[cpu].gpr[3] ^= 1n;
      return stop;
    },
  });
  expect(() => tracker.step()).toThrow(TaintMismatch);
  tracker.close();
});
