/** Events at instruction boundaries: SDM vol. 3A 6.9 (table 6-2), 6.7.1, 6.8.3, 10.4.4, 15.8. */
import { beforeEach, describe, expect, it } from 'vitest';
import { IF, TF, writeFlags } from '../isa/flags.ts';
import {
  HALTED,
  RAX,
  RSP,
  RUNNING,
  SHADOW_MOV_SS,
  SHADOW_NONE,
  SHADOW_STI,
  SHUTDOWN,
  WAIT_FOR_SIPI,
} from '../isa/state.ts';
import { serviceBoundary } from './boundary.ts';
import { encodeGate, Fixture, IDT, KERNEL_CODE64 } from './cpu.fixture.ts';
import { DB, GP, MC, TripleFault } from './fault.ts';
import { instruction } from './instruction.fixture.ts';
import { NO_STEP_TRAP } from './interrupts.ts';
import { iret } from './iret.ts';
import { int } from './software-interrupts.ts';

const EXTERNAL = 0x40;
let f: Fixture;

beforeEach(() => {
  f = new Fixture().enter('64-bit', 0);
  writeFlags(f.cpu, 2n);
  f.cpu.gpr[RSP] = 0x5000n;
  f.cpu.rip = 0x77n;
  f.cpu.dr[6] = 0xffff_0ff0n;
  f.cpu.cr4 |= 0x40n;
  for (const vector of [DB, 2, GP, MC, EXTERNAL, 0x80]) {
    f.bus.write(
      IDT + vector * 16,
      8,
      encodeGate({ selector: KERNEL_CODE64, offset: BigInt(0x9000 + vector), type: 0xe }),
    );
  }
});

/** The vector whose handler RIP stands at; null where nothing was delivered. */
function service(): number | null {
  const before = f.cpu.rip;
  if (!serviceBoundary(f.cpu)) {
    expect(f.cpu.rip).toBe(before);
    return null;
  }
  return Number(f.cpu.rip) - 0x9000;
}

it('nothing waits: nothing happens', () => {
  expect(service()).toBeNull();
});

it('by priority: machine check, debug traps, NMI, interrupt', () => {
  const { cpu } = f;
  cpu.machineCheckPending = 1;
  cpu.pendingDebug = 0x4001;
  cpu.nmiPending = 1;
  cpu.flagsRest |= IF;
  f.interrupts.vector = EXTERNAL;
  expect(service()).toBe(MC);
  expect(cpu.mcgStatus).toBe(5n);
  expect(service()).toBe(DB);
  expect(cpu.dr[6]).toBe(0xffff_4ff1n);
  expect(cpu.pendingDebug).toBe(0);
  expect(service()).toBe(2);
  expect(cpu.nmiPending).toBe(0);
  // IF was cleared by the gates.
  expect(service()).toBeNull();
  cpu.flagsRest |= IF;
  expect(service()).toBe(EXTERNAL);
  expect(service()).toBeNull();
});

describe('what holds events off', () => {
  // shadow, IF, NMIs blocked: what is delivered of a debug trap, an NMI, an interrupt.
  const rows: [number, boolean, boolean, boolean, boolean, boolean][] = [
    [SHADOW_NONE, true, false, true, true, true],
    [SHADOW_NONE, false, false, true, true, false],
    [SHADOW_NONE, true, true, true, false, true],
    [SHADOW_STI, true, false, true, true, false],
    [SHADOW_MOV_SS, true, false, false, false, false],
  ];
  it.each(rows)(
    'shadow %i, IF %s, NMI blocked %s: #DB %s, NMI %s, INTR %s',
    (shadow, on, blocked, db, nmi, intr) => {
      const prepare = () => {
        f.cpu.shadow = shadow;
        f.cpu.nmiBlocked = blocked ? 1 : 0;
        f.cpu.flagsRest = on ? 2n | IF : 2n;
        f.cpu.pendingDebug = 0;
        f.cpu.nmiPending = 0;
        f.interrupts.vector = -1;
      };
      prepare();
      f.cpu.pendingDebug = 1;
      expect(service()).toBe(db ? DB : null);
      prepare();
      f.cpu.nmiPending = 1;
      expect(service()).toBe(nmi ? 2 : null);
      prepare();
      f.interrupts.vector = EXTERNAL;
      expect(service()).toBe(intr ? EXTERNAL : null);
    },
  );

  it('a machine check is not held off by MOV SS', () => {
    f.cpu.shadow = SHADOW_MOV_SS;
    f.cpu.machineCheckPending = 1;
    expect(service()).toBe(MC);
  });

  it('leaves the shadow alone', () => {
    f.cpu.shadow = SHADOW_STI;
    expect(service()).toBeNull();
    expect(f.cpu.shadow).toBe(SHADOW_STI);
  });
});

describe('NMI blocking (6.7.1)', () => {
  it('lasts from delivery to IRET; one NMI is latched meanwhile', () => {
    f.cpu.nmiPending = 1;
    expect(service()).toBe(2);
    f.cpu.nmiPending = 1;
    expect(service()).toBeNull();
    iret(f.cpu, instruction('iret', [], { operandSize: 64 }));
    expect(f.cpu.rip).toBe(0x77n);
    expect(service()).toBe(2);
  });

  it('an NMI whose delivery faults is gone, and blocks', () => {
    f.bus.write(IDT + 2 * 16, 8, 0n);
    f.cpu.nmiPending = 1;
    expect(service()).toBe(GP);
    expect(f.bus.read(Number(f.cpu.gpr[RSP]), 8)).toBe(0x13n);
    expect(f.cpu.nmiPending).toBe(0);
    expect(f.cpu.nmiBlocked).toBe(1);
  });
});

describe('debug traps', () => {
  it('of a MOV SS survive the software interrupt after it, into its handler (CVE-2018-8897)', () => {
    const { cpu } = f;
    cpu.shadow = SHADOW_MOV_SS;
    cpu.pendingDebug = 1;
    expect(service()).toBeNull();
    int(cpu, instruction('int', [{ kind: 'immediate', width: 8, value: 0x80n }]));
    expect(cpu.rip).toBe(0x9080n);
    expect(service()).toBe(DB);
    expect(f.bus.read(Number(cpu.gpr[RSP]), 8)).toBe(0x9080n);
    expect(cpu.dr[6] & 0xfn).toBe(1n);
  });

  it('a called-off single step is no trap', () => {
    f.cpu.pendingDebug = NO_STEP_TRAP;
    expect(service()).toBeNull();
    expect(f.cpu.pendingDebug).toBe(0);
    f.cpu.flagsRest |= TF;
    f.cpu.pendingDebug = NO_STEP_TRAP | 2;
    expect(service()).toBe(DB);
    expect(f.cpu.dr[6]).toBe(0xffff_0ff2n);
  });
});

describe('HLT', () => {
  it('ends with an NMI, a debug trap, a machine check, and an interrupt if IF is set', () => {
    const { cpu } = f;
    for (const [prepare, vector] of [
      [() => (cpu.nmiPending = 1), 2],
      [() => (cpu.pendingDebug = 0x4000), DB],
      [() => (cpu.machineCheckPending = 1), MC],
    ] as const) {
      cpu.activity = HALTED;
      cpu.nmiBlocked = 0;
      prepare();
      expect(service()).toBe(vector);
      expect(cpu.activity).toBe(RUNNING);
    }
    cpu.activity = HALTED;
    cpu.flagsRest = 2n;
    f.interrupts.vector = EXTERNAL;
    expect(service()).toBeNull();
    expect(cpu.activity).toBe(HALTED);
    cpu.flagsRest |= IF;
    expect(service()).toBe(EXTERNAL);
    expect(cpu.activity).toBe(RUNNING);
  });
});

describe('machine checks', () => {
  it.each([
    ['without CR4.MCE', 0n, 0n],
    ['while one is in progress', 0x40n, 4n],
  ])('shut down %s', (_name, mce, mcgStatus) => {
    f.cpu.cr4 = 0x20n | mce;
    f.cpu.mcgStatus = mcgStatus;
    f.cpu.machineCheckPending = 1;
    expect(() => serviceBoundary(f.cpu)).toThrow(expect.any(TripleFault));
    expect(f.cpu.activity).toBe(SHUTDOWN);
  });
});

describe('INIT and SIPI', () => {
  it('INIT resets: an application processor waits for a SIPI, which starts it in real-address mode', () => {
    const { cpu } = f;
    cpu.apicBase = 0xfee0_0800n;
    cpu.gpr[RAX] = 1n;
    cpu.nmiPending = 1;
    cpu.initPending = 1;
    expect(serviceBoundary(cpu)).toBe(true);
    expect(cpu.activity).toBe(WAIT_FOR_SIPI);
    expect(cpu.gpr[RAX]).toBe(0n);
    cpu.nmiPending = 1;
    cpu.machineCheckPending = 1;
    expect(serviceBoundary(cpu)).toBe(false);
    cpu.nmiPending = 0;
    cpu.machineCheckPending = 0;
    cpu.sipiVector = 0x9a;
    cpu.sipiPending = 1;
    expect(serviceBoundary(cpu)).toBe(true);
    expect(cpu.activity).toBe(RUNNING);
    expect(f.segment(1)).toMatchObject({ selector: 0x9a00, base: 0x9_a000n });
    expect(cpu.rip).toBe(0n);
  });
});

describe('hooks that stop', () => {
  it.each([
    ['nmiPending', 1],
    ['pendingDebug', 0x4001],
    ['machineCheckPending', 1],
  ] as const)('%s stays, and the processor halted', (field, value) => {
    f.cpu[field] = value;
    f.cpu.activity = HALTED;
    f.cpu.hooks = { deliver: () => true };
    const before = { dr6: f.cpu.dr[6], mcg: f.cpu.mcgStatus };
    expect(serviceBoundary(f.cpu)).toBe(false);
    expect(f.cpu.stopRequested).toBe(true);
    expect(f.cpu[field]).toBe(value);
    expect(f.cpu.activity).toBe(HALTED);
    expect({ dr6: f.cpu.dr[6], mcg: f.cpu.mcgStatus }).toEqual(before);
    f.cpu.hooks = {};
    f.cpu.stopRequested = false;
    expect(serviceBoundary(f.cpu)).toBe(true);
  });
});
