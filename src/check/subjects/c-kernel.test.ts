/**
 * The C kernel: that the sound one is sound, as far as one event at each boundary of each way through it tells, and that
 * each planted mistake is there.
 */
import { describe, expect, it } from 'vitest';
import { Machine } from '../../machine/machine.ts';
import { readSymbols, type Symbols } from '../symbols/symbols.ts';
import {
  buildCKernel,
  type CKernelOptions,
  cKernelBugs,
  cKernelHere,
  readCKernelOutput,
} from './c-kernel.fixture.ts';

const here = cKernelHere();
const USER_DATA = 0x60_0000n;
/** Offsets in struct percpu of the counts of NMIs and debug exceptions. */
const PERCPU_NMIS = 40n;
const PERCPU_DEBUGS = 64n;

class Subject {
  readonly machine = Machine.create();
  readonly symbols: Symbols;
  text = '';

  constructor(options: CKernelOptions = {}) {
    this.symbols = readSymbols(buildCKernel({ ...options, format: 'elf64' }));
    this.machine.boot(buildCKernel(options));
    this.machine.serial.onOutput = (byte) => {
      this.text += String.fromCharCode(byte);
    };
  }

  get cpu() {
    return this.machine.cpus[0];
  }

  address(name: string): bigint {
    const address = this.symbols.address(name);
    if (address === undefined) throw new Error(`the kernel has no ${name}`);
    return address;
  }

  /** Runs until CPL becomes `cpl`; false if it does not within the limit. */
  runTo(cpl: 0 | 3, limit = 1_000_000): boolean {
    let there = false;
    const off = this.machine.on('privilege-change', (_cpu, _from, to) => {
      if (to !== cpl) return;
      there = true;
      this.machine.stop();
    });
    this.machine.run({ maxInstructions: limit });
    off();
    return there;
  }

  /** Runs until the processor stands at a name, on its way in from user mode. */
  runToEntry(name: string): void {
    const address = this.address(name);
    do {
      if (!this.runTo(0)) throw new Error(`the kernel does not come to ${name}`);
    } while (this.cpu.rip !== address);
  }
}

describe.skipIf(!here)('the sound C kernel', () => {
  it.each(['elf32', 'elf64'] as const)('boots as %s and runs both tasks', (format) => {
    const machine = Machine.create();
    machine.boot(buildCKernel({ format }));
    let text = '';
    machine.serial.onOutput = (byte) => {
      text += String.fromCharCode(byte);
    };
    expect(machine.run({ maxInstructions: 5_000_000 }).reason).toBe('limit');
    const { a, b } = readCKernelOutput(text);
    expect(Math.min(a, b)).toBeGreaterThan(10);
  });

  it('hides an NMI, a machine check and a breakpoint at every boundary of every way through it', () => {
    const subject = new Subject();
    const { machine, cpu, symbols } = subject;
    const registers = () => {
      // The breakpoint is the test's own, as is RF, which lets its instruction through.
      const { dr0, dr6, dr7, rflags, ...rest } = machine.registers();
      return { ...rest, rflags: rflags & ~0x1_0000n };
    };
    const events = {
      nmi: () => machine.injectNmi(),
      'machine check': () => machine.injectMachineCheck(),
      breakpoint: () => {
        machine.setRegister('dr0', cpu.rip);
        machine.setRegister('dr7', 0x401n);
      },
    };
    /** No kernel can have a breakpoint in the handler of breakpoints, and this one lets nobody set it. */
    const inDebugHandler = () => /^debug(_entry)?$/.test(symbols.at(cpu.rip)?.name ?? '');
    let delivered = 0;
    machine.on('deliver', (_cpu, vector) => {
      if (vector === 1 || vector === 2 || vector === 18) delivered++;
      return false;
    });

    machine.run({ maxInstructions: 1_000_000 });
    if (cpu.cpl === 0) subject.runTo(3);
    const ways = new Set<string>();
    let boundaries = 0;
    for (let visits = 0; visits < 300; visits++) {
      expect(subject.runTo(0)).toBe(true);
      const isCall = /^(syscall_entry|trap_stubs\+0x800)/.test(symbols.describe(cpu.rip));
      const way = isCall ? `${symbols.describe(cpu.rip)} ${cpu.gpr[0]}` : symbols.describe(cpu.rip);
      const start = machine.snapshot();
      const before = subject.text;
      expect(subject.runTo(3)).toBe(true);
      if (ways.has(way)) continue;
      ways.add(way);
      const expected = { ...registers(), text: subject.text };
      const end = machine.snapshot();

      machine.restore(start);
      subject.text = before;
      // Of a loop's turns the first.
      const met = new Set<bigint>();
      for (let inside = true; inside; ) {
        inside = cpu.cpl === 0;
        if (!met.has(cpu.rip)) {
          met.add(cpu.rip);
          boundaries++;
          const here = machine.snapshot();
          const said = subject.text;
          for (const [event, inject] of Object.entries(events)) {
            if (event === 'breakpoint' && inDebugHandler()) continue;
            const place = `${way}: ${event} at ${symbols.describe(cpu.rip)}`;
            inject();
            machine.step();
            if (cpu.cpl === 0) subject.runTo(3);
            expect({ place, ...registers(), text: subject.text }).toEqual({ place, ...expected });
            machine.restore(here);
            subject.text = said;
          }
        }
        if (inside) machine.step();
      }
      machine.restore(end);
      subject.text = expected.text;
    }
    expect(ways.size).toBeGreaterThanOrEqual(8);
    expect(boundaries).toBeGreaterThan(800);
    expect(delivered).toBeGreaterThan(2 * boundaries);
  });
});

/** Each mistake: how to show it, and what shows it on the kernel that has it and on no other. */
const provocations: Record<(typeof cKernelBugs)[number], (subject: Subject) => boolean> = {
  BUG_NMI_CS_ONLY(subject) {
    subject.runToEntry('syscall_entry');
    subject.machine.injectNmi();
    subject.runTo(3);
    // The count is where the user's GS base led.
    return subject.machine.readMemory(USER_DATA + PERCPU_NMIS, 8)[0] === 1;
  },
  BUG_NMI_NO_IST(subject) {
    subject.runToEntry('syscall_entry');
    subject.machine.injectNmi();
    subject.machine.step();
    return subject.cpu.rip === subject.address('nmi_entry') && subject.cpu.gpr[4] >> 47n === 0n;
  },
  BUG_DB_CS_ONLY(subject) {
    subject.machine.run({ maxInstructions: 2_000_000 });
    return subject.machine.readMemory(USER_DATA + PERCPU_DEBUGS, 8)[0] > 0;
  },
  BUG_SYSRET_UNCHECKED(subject) {
    subject.machine.run({ maxInstructions: 2_000_000 });
    return /^panic: exception in the kernel, vector 13 error 0 cs 8 rip ffffffff8.* rsp 7f/m.test(
      subject.text,
    );
  },
  BUG_LEAK_R11(subject) {
    for (let n = 0; n < 20; n++) {
      subject.runTo(3);
      if (subject.cpu.gpr[11] >> 47n === 0x1_ffffn) return true;
    }
    return false;
  },
  BUG_MC_NO_IST(subject) {
    subject.runToEntry('syscall_entry');
    subject.machine.injectMachineCheck();
    subject.machine.step();
    return subject.cpu.rip === subject.address('machine_check_entry') && subject.cpu.gpr[4] >> 47n === 0n;
  },
  BUG_NMI_BREAKPOINT(subject) {
    subject.machine.injectNmi();
    // The second one while the first is being handled, wherever that is.
    for (let n = 0; n < 100; n++) {
      subject.machine.step();
      if (n === 60) subject.machine.injectNmi();
    }
    return !subject.runTo(3, 100_000);
  },
};

describe.skipIf(!here).each(cKernelBugs)('%s', (bug) => {
  const ready = (options: CKernelOptions) => {
    const subject = new Subject(options);
    subject.machine.run({ maxInstructions: 500_000 });
    if (subject.cpu.cpl === 0) subject.runTo(3);
    return subject;
  };

  it('is there', () => {
    expect(provocations[bug](ready({ bug }))).toBe(true);
  });

  it('is not in the sound kernel', () => {
    expect(provocations[bug](ready({}))).toBe(false);
  });

  it('leaves plain tasks alone', () => {
    const subject = ready({ bug, plainTasks: true });
    if (bug === 'BUG_LEAK_R11') return;
    expect(subject.machine.run({ maxInstructions: 3_000_000 }).reason).toBe('limit');
    const { a, b } = readCKernelOutput(subject.text);
    expect(Math.min(a, b)).toBeGreaterThan(5);
  });
});
