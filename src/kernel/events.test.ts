/**
 * NMIs, machine checks and debug exceptions at every instruction boundary of a return to user mode: user space must
 * not be able to tell, with the merged design, on the ordinary way and through a refused frame.
 */
import { describe, expect, it } from 'vitest';
import { Machine } from '../machine/machine.ts';
import { buildImage, type CaseInfo } from './image.ts';

const CASE_LIMIT = 3_000_000;

/** The merged design, booted up to its one case. */
function boot(only: (c: CaseInfo) => boolean) {
  const image = buildImage('linux', { cpus: 1, only });
  expect(image.cases.length).toBe(1);
  const machine = Machine.create({ cpus: 1 });
  machine.boot(image.elf);
  const report = { text: '' };
  machine.serial.onOutput = (byte) => {
    report.text += String.fromCharCode(byte);
    if (report.text.endsWith('\ncapacity')) machine.stop();
  };
  expect(machine.run({ maxInstructions: CASE_LIMIT }).reason).toBe('hook');
  const first = image.symbols.get('run_case');
  for (let i = 0; i < CASE_LIMIT && machine.cpus[0].rip !== first; i++) machine.step();
  return { image, machine, report, start: machine.snapshot(), before: report.text };
}

function prepare(only: (c: CaseInfo) => boolean) {
  const { image, machine, report, start, before } = boot(only);

  let boundaries = 0;
  for (const end = image.symbols.get('call.report'); machine.cpus[0].rip !== end; boundaries++)
    machine.step();
  /** What the kernel reports when events come after these numbers of steps. */
  const outcome = (events: readonly { steps: number; event: 'nmi' | 'mc' }[]) => {
    machine.restore(start);
    report.text = before;
    for (const { steps, event } of events) {
      for (let i = 0; i < steps; i++) machine.step();
      if (event === 'nmi') machine.injectNmi();
      // A machine check while another is being served shuts the processor down, whatever the kernel does.
      else if ((machine.cpus[0].mcgStatus & 4n) === 0n) machine.injectMachineCheck();
    }
    machine.run({ maxInstructions: CASE_LIMIT });
    return report.text.slice(before.length);
  };
  /** The same with an instruction breakpoint at each boundary of the kernel's return in turn. */
  const withBreakpoints = () => {
    const [cpu] = machine.cpus;
    const [first, end] = ['return_to_user', 'return_to_user_end'].map(
      (name) => image.symbols.get(name) ?? 0n,
    );
    const outcomes: { rip: bigint; delivered: number; text: string }[] = [];
    for (let steps = 0; steps < boundaries; steps++) {
      machine.restore(start);
      report.text = before;
      for (let i = 0; i < steps; i++) machine.step();
      const { rip } = cpu;
      if (cpu.cpl !== 0 || rip < first || rip >= end) continue;
      let delivered = 0;
      const off = machine.on('deliver', (_cpu, vector) => {
        if (vector === 1) delivered++;
        return false;
      });
      machine.setRegister('dr0', rip);
      machine.setRegister('dr7', 0x401n);
      machine.run({ maxInstructions: CASE_LIMIT / 10 });
      off();
      outcomes.push({ rip, delivered, text: report.text.slice(before.length) });
    }
    return outcomes;
  };
  return { boundaries, outcome, withBreakpoints };
}

const ways: [string, (c: CaseInfo) => boolean][] = [
  [
    'INT 0x80',
    (c) => c.path === 'int80' && c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt' && c.set === 0x5aadc0de,
  ],
  [
    'signal return with a frame that IRET refuses',
    (c) => c.path === 'sigreturn' && /^q4/.test(c.name) && c.set === 0x5aadc0de,
  ],
];

describe.each(ways)('%s', (_, only) => {
  const { boundaries, outcome, withBreakpoints } = prepare(only);
  const reference = outcome([]);

  it('is as it should be without events', () => {
    expect(reference).toMatch(/ seen=5aadc0de .* ok=yes /);
    expect(boundaries).toBeGreaterThan(150);
  });

  it.each(['nmi', 'mc'] as const)(
    'hides one %s at every boundary',
    (event) => {
      for (let steps = 0; steps < boundaries; steps++)
        expect({ steps, text: outcome([{ steps, event }]) }).toEqual({ steps, text: reference });
    },
    180_000,
  );

  it("hides a debug exception at every boundary of the kernel's return", () => {
    const outcomes = withBreakpoints();
    expect(outcomes.length).toBeGreaterThan(30);
    for (const { rip, delivered, text } of outcomes) {
      expect(delivered).toBeGreaterThan(0);
      expect({ rip, text }).toEqual({ rip, text: reference });
    }
  }, 180_000);

  it('hides bursts of both', () => {
    // Each burst begins somewhere on the way; the next event comes while the last is being served.
    for (let n = 0; n < 300; n++) {
      const events = [n * 7919, n * 31, n * 17, n * 13].map((value, i) => ({
        steps: i === 0 ? value % boundaries : 1 + (value % 60),
        event: ((n >> i) & 1) === 0 ? ('nmi' as const) : ('mc' as const),
      }));
      expect({ events, text: outcome(events) }).toEqual({ events, text: reference });
    }
  }, 180_000);
});

describe('events where the kernel still or again has the stack pointer of user space', () => {
  const only = (c: CaseInfo) =>
    c.path === 'syscall' && c.cs === 'cs64' && c.ss === 'flat' && c.set === 0x5aadc0de;
  const { machine, image, start, before, report } = boot(only);
  const [cpu] = machine.cpus;
  const labels = ['syscall_entry', 'user_stack_pointer', 'sysretq.user'] as const;
  const stacks = ['nmi', 'debug', 'machine-check', 'double-fault', 'main'] as const;
  const all = labels.flatMap((label) =>
    stacks.flatMap((stack) => (['nmi', 'mc', 'db'] as const).map((event) => ({ label, stack, event }))),
  );

  it.each(all)('$event at $label with RSP in the $stack stack', ({ label, stack, event }) => {
    // Where registers are saved while the event is being served: they must not change.
    const end = image.stacks.find((s) => s.name === stack)?.range.end ?? 0n;
    const states = [false, true].map((strike) => {
      machine.restore(start);
      report.text = before;
      const place = image.symbols.get(label);
      for (let i = 0; i < 2000 && (cpu.rip !== place || cpu.cpl !== 0); i++) machine.step();
      expect(cpu.rip).toBe(place);
      machine.setRegister('rsp', end - 0x40n);
      if (strike && event === 'nmi') machine.injectNmi();
      if (strike && event === 'mc') machine.injectMachineCheck();
      if (strike && event === 'db') cpu.pendingDebug |= 2;
      const served = image.symbols.get('paranoid_entry');
      let came = false;
      for (let i = 0; i < 2000; i++) {
        if (cpu.rip === served) came = true;
        // Back where it was struck, or past it.
        if ((came || !strike) && cpu.cpl === 0 && cpu.rip === place) break;
        machine.step();
      }
      expect(came).toBe(strike);
      const { rip, rflags, 'gs.base': gs } = machine.registers();
      // RF is set after a debug exception.
      return { rip, gs, rflags: rflags & ~0x1_0000n, general: [...cpu.gpr] };
    });
    expect(states[1]).toEqual(states[0]);
  });
});

describe('an instruction breakpoint in the handler of an NMI', () => {
  const { machine, image, start, before, report } = boot(ways[0][1]);
  const [cpu] = machine.cpus;

  // Code that serves debug exceptions as well must not have one.
  it.each(['vector.2', 'handle_event'])('at %s is met once', (label) => {
    machine.restore(start);
    report.text = before;
    for (let i = 0; i < 5000 && cpu.rip !== image.symbols.get('return_to_user'); i++) machine.step();
    machine.injectNmi();
    for (let i = 0; i < 500 && cpu.rip !== image.symbols.get(label); i++) machine.step();
    expect(cpu.nmiBlocked).toBe(1);
    let delivered = 0;
    const off = machine.on('deliver', (_cpu, vector) => {
      if (vector === 1) delivered++;
      return false;
    });
    machine.setRegister('dr0', cpu.rip);
    machine.setRegister('dr7', 0x401n);
    machine.injectNmi();
    machine.run({ maxInstructions: CASE_LIMIT });
    off();
    expect(delivered).toBe(1);
    expect(report.text.slice(before.length)).toMatch(/ result=own ok=yes /);
  });
});
