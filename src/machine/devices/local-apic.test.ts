/** The local APIC, as xAPIC and as x2APIC. SDM vol. 3A chapter 10. */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Fault } from '../../arch/fault.ts';
import { RUNNING, WAIT_FOR_SIPI } from '../../isa/state.ts';
import { type ApicMessage, route } from './apic-message.ts';
import { NEVER } from './device.ts';
import { type ApicProcessor, LocalApic } from './local-apic.ts';

/** xAPIC offsets. */
const [ID, VERSION, TPR, APR, PPR, EOI, LDR, DFR, SVR] = [
  0x20, 0x30, 0x80, 0x90, 0xa0, 0xb0, 0xd0, 0xe0, 0xf0,
];
const [ISR, TMR, IRR, ESR, ICR, ICR_HIGH] = [0x100, 0x180, 0x200, 0x280, 0x300, 0x310];
const [LVT_TIMER, LINT0, LINT1, LVT_ERROR, INITIAL, CURRENT, DIVIDE] = [
  0x320, 0x350, 0x360, 0x370, 0x380, 0x390, 0x3e0,
];
const BASE = 0xfee0_0900n;

/** Local APICs on a bus, each with a processor that only remembers. */
class Rig {
  now = 1000;
  readonly cpus: ApicProcessor[];
  readonly apics: LocalApic[];
  readonly kicks: number[] = [];
  readonly ended: number[] = [];
  readonly external: number[] = [];

  constructor(count = 4) {
    this.apics = Array.from(
      { length: count },
      (_, index) =>
        new LocalApic({
          now: () => this.now,
          send: (message) => route(this.apics, message),
          broadcast: (mode, vector, level, self) => {
            this.apics.forEach((apic, i) => {
              if (self || i !== index) apic.accept(mode, vector, level);
            });
          },
          endOfInterrupt: (vector) => this.ended.push(vector),
          acknowledgeExternal: () => this.external.shift() ?? 0xff,
          kick: () => this.kicks.push(index),
          takeInit: () => {
            this.cpus[index].initPending = 0;
            this.cpus[index].activity = WAIT_FOR_SIPI;
          },
          checkBase: () => {},
        }),
    );
    this.cpus = this.apics.map((apic, index) => {
      const cpu: ApicProcessor = {
        index,
        apicBase: index === 0 ? BASE : BASE & ~0x100n,
        tscOffset: 0n,
        nmiPending: 0,
        initPending: 0,
        sipiPending: 0,
        sipiVector: 0,
        activity: index === 0 ? RUNNING : WAIT_FOR_SIPI,
      };
      apic.attach(cpu);
      apic.write(SVR, 4, 0x1ff);
      return cpu;
    });
  }

  get apic(): LocalApic {
    return this.apics[0];
  }
  w(offset: number, value: number, cpu = 0): this {
    this.apics[cpu].write(offset, 4, value);
    return this;
  }
  r(offset: number, cpu = 0): number {
    return this.apics[cpu].read(offset, 4) >>> 0;
  }
  /** Fixed interrupts arrive. */
  accept(...vectors: number[]): this {
    for (const vector of vectors) this.apic.accept(0, vector, false);
    return this;
  }
  /** Takes what is pending, to the end. */
  drain(cpu = 0): number[] {
    const taken: number[] = [];
    while (this.apics[cpu].pending()) {
      taken.push(this.apics[cpu].acknowledge());
      this.w(EOI, 0, cpu);
    }
    return taken;
  }
  x2apic(cpu = 0): this {
    this.apics[cpu].writeMsr(0x1b, this.cpus[cpu].apicBase | 0xc00n);
    return this;
  }
  until(time: number): void {
    for (let at = this.apic.deadline(); at <= time; at = this.apic.deadline()) {
      this.now = at;
      this.apic.advance(at);
    }
    this.now = time;
  }
  /** Who has a vector requested. */
  holders(vector: number): number[] {
    return this.apics.flatMap((_, i) =>
      this.r(IRR + (vector >> 5) * 16, i) & (1 << (vector & 31)) ? [i] : [],
    );
  }
}

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});

const faults = (action: () => void): boolean => {
  try {
    action();
    return false;
  } catch (error) {
    if (error instanceof Fault && error.vector === 13) return true;
    throw error;
  }
};

describe('registers after power-up (SDM vol. 3A 10.4.7.1)', () => {
  it.each([
    ['ID', ID, 0x0200_0000],
    ['version', VERSION, 0x0005_0014],
    ['TPR', TPR, 0],
    ['LDR', LDR, 0],
    ['DFR', DFR, 0xffff_ffff],
    ['SVR', SVR, 0xff],
    ['LVT timer', LVT_TIMER, 0x10000],
    ['LINT0', LINT0, 0x10000],
    ['LVT error', LVT_ERROR, 0x10000],
    ['ICR', ICR, 0],
    ['initial count', INITIAL, 0],
    ['divide', DIVIDE, 0],
  ])('%s', (_name, offset, value) => {
    rig.apics[2].reset();
    expect(rig.r(offset, 2)).toBe(value);
  });

  it('only the defined bits can be written', () => {
    for (const offset of [TPR, LDR, DFR, SVR, LVT_TIMER, LINT0, LINT1, LVT_ERROR, DIVIDE])
      rig.w(offset, 0xffff_ffff);
    const read = [TPR, LDR, DFR, SVR, LVT_TIMER, LINT0, LINT1, LVT_ERROR, DIVIDE].map((offset) =>
      rig.r(offset),
    );
    expect(read).toEqual([0xff, 0xff00_0000, 0xffff_ffff, 0x1ff, 0x700ff, 0x1a7ff, 0x1a7ff, 0x100ff, 0xb]);
  });

  it('bytes and words of a register can be read; other accesses have no effect', () => {
    expect([rig.apic.read(VERSION, 1), rig.apic.read(VERSION + 2, 2), rig.apic.read(VERSION + 4, 4)]).toEqual(
      [0x14, 5, 0],
    );
    rig.apic.write(TPR, 1, 0x50);
    expect(rig.r(TPR)).toBe(0);
  });
});

describe('priority (10.8.3)', () => {
  it('takes the highest vector first', () => {
    expect(rig.accept(0x31, 0xf0, 0x52).drain()).toEqual([0xf0, 0x52, 0x31]);
  });

  it.each([
    // TPR, vector, delivered?
    [0x00, 0x10, true],
    [0x10, 0x1f, false],
    [0x1f, 0x20, true],
    [0x4f, 0x4f, false],
    [0x40, 0x50, true],
    [0xf0, 0xff, false],
  ])('TPR %i lets vector %i through: %s', (tpr, vector, through) => {
    rig.w(TPR, tpr).accept(vector);
    expect(rig.apic.pending()).toBe(through);
  });

  it('an interrupt in service holds off its class and lower ones until EOI', () => {
    rig.accept(0x51);
    expect(rig.apic.acknowledge()).toBe(0x51);
    expect(rig.r(PPR)).toBe(0x50);
    rig.accept(0x5f, 0x41);
    expect(rig.apic.pending()).toBe(false);
    rig.accept(0x60);
    expect(rig.apic.acknowledge()).toBe(0x60);
    rig.w(EOI, 0);
    expect(rig.r(PPR)).toBe(0x50);
    rig.w(EOI, 0);
    expect(rig.drain()).toEqual([0x5f, 0x41]);
  });

  it.each([
    // TPR, in service, PPR: TPR where its class is at least the in-service one's.
    [0x23, 0, 0x23],
    [0x53, 0x51, 0x53],
    [0x4f, 0x51, 0x50],
  ])('TPR %i and vector %i in service: PPR %i', (tpr, inService, ppr) => {
    if (inService) rig.accept(inService).apic.acknowledge();
    expect(rig.w(TPR, tpr).r(PPR)).toBe(ppr);
  });

  it('CR8 is TPR bits 7:4', () => {
    rig.w(TPR, 0x53);
    expect(rig.apic.taskPriority).toBe(5);
    rig.apic.taskPriority = 0xa;
    expect(rig.r(TPR)).toBe(0xa0);
  });

  it('lowering TPR or ending an interrupt calls for attention if something waits', () => {
    rig.w(TPR, 0x60).accept(0x55);
    rig.kicks.length = 0;
    rig.w(TPR, 0x50);
    expect(rig.kicks).toEqual([]);
    rig.w(TPR, 0x40);
    expect(rig.kicks).toEqual([0]);
  });

  it('IRR, ISR and TMR show each vector at its bit', () => {
    rig.accept(0x41);
    rig.apic.accept(0, 0xe3, true);
    expect([rig.r(IRR + 0x20), rig.r(IRR + 0x70), rig.r(TMR + 0x70)]).toEqual([2, 8, 8]);
    rig.apic.acknowledge();
    expect([rig.r(IRR + 0x70), rig.r(ISR + 0x70)]).toEqual([0, 8]);
  });

  it('one vector is held once requested and once in service', () => {
    rig.accept(0x40, 0x40);
    rig.apic.acknowledge();
    rig.accept(0x40, 0x40);
    rig.w(EOI, 0);
    expect(rig.drain()).toEqual([0x40]);
  });

  it('APR rises with what is requested and in service', () => {
    rig.w(TPR, 0x33);
    expect(rig.r(APR)).toBe(0x33);
    rig.accept(0x71);
    expect(rig.r(APR)).toBe(0x70);
  });

  it('an acknowledge with nothing to take gives the spurious vector, not in service', () => {
    rig.w(SVR, 0x1ef);
    expect(rig.apic.acknowledge()).toBe(0xef);
    expect(rig.r(ISR + 0x70)).toBe(0);
  });

  it('agrees with a model of sets on random operations', () => {
    const operation = fc.oneof(
      fc.record({ op: fc.constant('accept' as const), value: fc.integer({ min: 16, max: 255 }) }),
      fc.record({ op: fc.constant('take' as const), value: fc.constant(0) }),
      fc.record({ op: fc.constant('eoi' as const), value: fc.constant(0) }),
      fc.record({ op: fc.constant('tpr' as const), value: fc.integer({ min: 0, max: 255 }) }),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const { apic } = new Rig(1);
        const requested = new Set<number>();
        const inService = new Set<number>();
        let tpr = 0;
        for (const { op, value } of operations) {
          const top = Math.max(0, ...inService);
          const highest = Math.max(0, ...requested);
          const deliverable = highest >> 4 > Math.max(tpr >> 4, top >> 4);
          expect(apic.pending()).toBe(deliverable);
          if (op === 'accept') {
            apic.accept(0, value, false);
            requested.add(value);
          } else if (op === 'take' && deliverable) {
            expect(apic.acknowledge()).toBe(highest);
            requested.delete(highest);
            inService.add(highest);
          } else if (op === 'eoi') {
            apic.write(EOI, 4, 0);
            inService.delete(top);
          } else if (op === 'tpr') {
            apic.write(TPR, 4, value);
            tpr = value;
          }
        }
      }),
    );
  });
});

describe('level-triggered interrupts and software disable', () => {
  it('EOI of a level-triggered interrupt goes to the I/O APIC, that of an edge-triggered one does not', () => {
    rig.apic.accept(0, 0x40, true);
    rig.drain();
    rig.apic.accept(0, 0x40, false);
    rig.drain();
    expect(rig.ended).toEqual([0x40]);
  });

  it('disabled in SVR: LVT entries are masked for good, nothing new is accepted, NMIs are (10.4.7.2)', () => {
    rig.w(LINT0, 0x700).accept(0x40);
    rig.w(SVR, 0xff);
    expect(rig.r(LINT0)).toBe(0x10700);
    expect(rig.w(LINT0, 0x700).r(LINT0)).toBe(0x10700);
    rig.accept(0x90);
    rig.apic.accept(4, 0, false);
    expect(rig.cpus[0].nmiPending).toBe(1);
    expect(rig.apic.acknowledge()).toBe(0x40);
    expect(rig.apic.pending()).toBe(false);
  });
});

describe('interprocessor interrupts (10.6.1)', () => {
  const LOGICAL = 0x800;
  const setLogical = (ids: readonly number[], dfr: number) =>
    ids.forEach((id, cpu) => {
      rig.w(LDR, id << 24, cpu).w(DFR, dfr, cpu);
    });

  it.each([
    ['physical 2', 0x41, 2, [2]],
    ['physical, nobody', 0x41, 9, []],
    ['physical broadcast', 0x41, 0xff, [0, 1, 2, 3]],
    ['self shorthand', 0x4_0041, 0, [0]],
    ['all including self', 0x8_0041, 0, [0, 1, 2, 3]],
    ['all excluding self', 0xc_0041, 0, [1, 2, 3]],
  ])('%s', (_name, low, destination, holders) => {
    rig.w(ICR_HIGH, destination << 24).w(ICR, low);
    expect(rig.holders(0x41)).toEqual(holders);
  });

  it.each([
    ['flat: one', 0xffff_ffff, [1, 2, 4, 8], 0x04, [2]],
    ['flat: several', 0xffff_ffff, [1, 2, 4, 8], 0x0a, [1, 3]],
    ['flat: all', 0xffff_ffff, [1, 2, 4, 8], 0xff, [0, 1, 2, 3]],
    ['flat: none', 0xffff_ffff, [1, 2, 4, 8], 0x10, []],
    ['cluster: in cluster 1', 0x0fff_ffff, [0x01, 0x11, 0x12, 0x21], 0x13, [1, 2]],
    ['cluster: in cluster 0', 0x0fff_ffff, [0x01, 0x11, 0x12, 0x21], 0x01, [0]],
    ['cluster: broadcast', 0x0fff_ffff, [0x01, 0x11, 0x12, 0x21], 0xff, [0, 1, 2, 3]],
  ])('logical, %s', (_name, dfr, ids, destination, holders) => {
    setLogical(ids, dfr);
    rig.w(ICR_HIGH, destination << 24).w(ICR, 0x41 | LOGICAL);
    expect(rig.holders(0x41)).toEqual(holders);
  });

  it('lowest priority goes to one: that of the lowest arbitration priority', () => {
    setLogical([1, 2, 4, 8], 0xffff_ffff);
    rig.w(TPR, 0x50, 0).w(TPR, 0x40, 1).w(TPR, 0x20, 2).w(TPR, 0x30, 3);
    rig.w(ICR_HIGH, 0x0f00_0000).w(ICR, 0x141 | LOGICAL);
    expect(rig.holders(0x41)).toEqual([2]);
    rig.w(SVR, 0xff, 2).w(ICR, 0x142 | LOGICAL);
    expect(rig.holders(0x42)).toEqual([3]);
  });

  it.each([
    ['NMI', 0x400, 'nmiPending'],
    ['INIT', 0x4500, 'initPending'],
  ] as const)('%s', (_name, low, field) => {
    for (const cpu of rig.cpus) cpu.activity = RUNNING;
    rig.w(ICR_HIGH, 1 << 24).w(ICR, low);
    expect(rig.cpus.map((cpu) => cpu[field])).toEqual([0, 1, 0, 0]);
  });

  it('INIT resets the local APIC, but not its ID', () => {
    rig.cpus[1].activity = RUNNING;
    rig.w(TPR, 0x40, 1);
    rig.w(ICR_HIGH, 1 << 24).w(ICR, 0x4500);
    expect([rig.r(TPR, 1), rig.r(SVR, 1), rig.r(ID, 1)]).toEqual([0, 0xff, 0x0100_0000]);
  });

  it('the INIT level de-assert does nothing', () => {
    rig.cpus[1].activity = RUNNING;
    rig.w(ICR_HIGH, 1 << 24).w(ICR, 0x8500);
    expect(rig.cpus[1].initPending).toBe(0);
  });

  it('start-up reaches a processor that waits for it, and no other', () => {
    rig.cpus[2].activity = RUNNING;
    rig.w(ICR, 0xc_4608);
    expect(rig.cpus.map((cpu) => [cpu.sipiPending, cpu.sipiVector])).toEqual([
      [0, 0],
      [1, 8],
      [0, 0],
      [1, 8],
    ]);
  });

  it('INIT and start-up may follow at once, as MP start-up sends them', () => {
    rig.cpus[1].activity = RUNNING;
    rig
      .w(ICR_HIGH, 1 << 24)
      .w(ICR, 0x4500)
      .w(ICR, 0x4609);
    expect(rig.cpus[1]).toMatchObject({
      sipiPending: 1,
      sipiVector: 9,
      initPending: 0,
      activity: WAIT_FOR_SIPI,
    });
  });

  it('a vector below 16 is not sent, and is an error (10.5.3)', () => {
    rig.w(LVT_ERROR, 0xe0).w(ICR, 0x4_0005);
    expect(rig.w(ESR, 0).r(ESR)).toBe(0x20);
    expect(rig.drain()).toEqual([0xe0]);
    expect(rig.w(ESR, 0).r(ESR)).toBe(0);
  });

  it('a processor whose APIC is disabled takes no messages', () => {
    rig.apics[1].writeMsr(0x1b, 0xfee0_0000n);
    rig.w(ICR_HIGH, 1 << 24).w(ICR, 0x400);
    expect(rig.cpus[1].nmiPending).toBe(0);
  });
});

describe('errors', () => {
  it('a vector below 16 received sets ESR bit 6; ESR shows errors up to its last write', () => {
    rig.accept(3);
    expect(rig.r(ESR)).toBe(0);
    expect(rig.w(ESR, 0).r(ESR)).toBe(0x40);
  });

  it('a register that is not there sets ESR bit 7', () => {
    expect(rig.r(0x40)).toBe(0);
    expect(rig.w(ESR, 0).r(ESR)).toBe(0x80);
    rig.w(0x3f0, 1);
    expect(rig.w(ESR, 0).r(ESR)).toBe(0x80);
  });
});

describe('local interrupts', () => {
  it('LINT0 as ExtINT: the 8259s give the vector, and nothing is in service', () => {
    rig.w(LINT0, 0x700).external.push(0x21);
    rig.apic.setIntr(true);
    expect(rig.apic.pending()).toBe(true);
    expect(rig.apic.acknowledge()).toBe(0x21);
    rig.apic.setIntr(false);
    expect(rig.apic.pending()).toBe(false);
    expect(rig.r(ISR + 0x10)).toBe(0);
  });

  it.each([
    ['masked', 0x10700, false],
    ['ExtINT', 0x00700, true],
    ['fixed', 0x00055, true],
  ])('LINT0 %s', (_name, lvt, pending) => {
    rig.w(LINT0, lvt).apic.setIntr(true);
    expect(rig.apic.pending()).toBe(pending);
  });

  it('LINT1 as NMI', () => {
    rig.apic.pulseLint1();
    expect(rig.cpus[0].nmiPending).toBe(0);
    rig.w(LINT1, 0x400).apic.pulseLint1();
    expect(rig.cpus[0].nmiPending).toBe(1);
  });

  it('with the APIC disabled INTR reaches the bootstrap processor', () => {
    rig.apic.writeMsr(0x1b, 0xfee0_0100n);
    rig.external.push(0x08);
    rig.apic.setIntr(true);
    expect(rig.apic.acknowledge()).toBe(0x08);
  });
});

describe('timer (10.5.4)', () => {
  it.each([
    // Divide configuration: value, divisor.
    [0b0000, 2],
    [0b0001, 4],
    [0b0010, 8],
    [0b0011, 16],
    [0b1000, 32],
    [0b1001, 64],
    [0b1010, 128],
    [0b1011, 1],
  ])('divide configuration %i divides by %i', (value, divisor) => {
    rig.w(DIVIDE, value).w(LVT_TIMER, 0x40).w(INITIAL, 100);
    expect(rig.apic.deadline()).toBe(1000 + 100 * divisor);
    rig.now += 30 * divisor;
    expect(rig.r(CURRENT)).toBe(70);
  });

  it('one-shot fires once and stays at 0', () => {
    rig.w(DIVIDE, 0xb).w(LVT_TIMER, 0x40).w(INITIAL, 100).until(5000);
    expect(rig.drain()).toEqual([0x40]);
    expect([rig.r(CURRENT), rig.apic.deadline()]).toEqual([0, NEVER]);
  });

  it('periodic fires each period', () => {
    rig.w(DIVIDE, 0xb).w(LVT_TIMER, 0x2_0040).w(INITIAL, 100);
    for (let i = 1; i <= 3; i++) {
      rig.until(1000 + i * 100);
      expect(rig.drain()).toEqual([0x40]);
    }
    rig.now = 1350;
    expect(rig.r(CURRENT)).toBe(50);
  });

  it('a processor that comes late to a periodic timer finds one interrupt and the phase kept', () => {
    rig.w(DIVIDE, 0xb).w(LVT_TIMER, 0x2_0040).w(INITIAL, 100);
    rig.now = 1999;
    rig.apic.advance(1999);
    expect(rig.drain()).toEqual([0x40]);
    expect(rig.apic.deadline()).toBe(2000);
  });

  it('masked, it counts on but does not fire; unmasking later brings nothing back', () => {
    rig.w(DIVIDE, 0xb).w(LVT_TIMER, 0x1_0040).w(INITIAL, 100);
    expect(rig.apic.deadline()).toBe(NEVER);
    rig.now = 1040;
    expect(rig.r(CURRENT)).toBe(60);
    rig.now = 1200;
    rig.w(LVT_TIMER, 0x40).until(9000);
    expect(rig.drain()).toEqual([]);
  });

  it('initial count 0 stops it; a new count starts it anew', () => {
    rig.w(DIVIDE, 0xb).w(LVT_TIMER, 0x40).w(INITIAL, 100);
    rig.now = 1050;
    rig.w(INITIAL, 200);
    expect(rig.apic.deadline()).toBe(1250);
    expect(rig.w(INITIAL, 0).apic.deadline()).toBe(NEVER);
  });

  it('a change of the divisor keeps the count', () => {
    rig.w(DIVIDE, 0xb).w(LVT_TIMER, 0x40).w(INITIAL, 100);
    rig.now = 1040;
    rig.w(DIVIDE, 0);
    expect(rig.r(CURRENT)).toBe(60);
    expect(rig.apic.deadline()).toBe(1040 + 120);
  });

  describe('TSC-deadline mode', () => {
    it('fires when the TSC reaches the deadline, and disarms', () => {
      rig.cpus[0].tscOffset = 50_000n;
      rig.w(LVT_TIMER, 0x4_0040);
      rig.apic.writeMsr(0x6e0, 51_500n);
      expect(rig.apic.deadline()).toBe(1500);
      expect(rig.apic.readMsr(0x6e0)).toBe(51_500n);
      rig.until(1500);
      expect(rig.drain()).toEqual([0x40]);
      expect(rig.apic.readMsr(0x6e0)).toBe(0n);
    });

    it('a deadline in the past fires at once, one beyond all time never', () => {
      rig.w(LVT_TIMER, 0x4_0040);
      rig.apic.writeMsr(0x6e0, 1n);
      rig.until(1000);
      expect(rig.drain()).toEqual([0x40]);
      rig.apic.writeMsr(0x6e0, 0xffff_ffff_ffff_ffffn);
      expect(rig.apic.deadline()).toBe(NEVER);
    });

    it('the initial count has no effect; leaving the mode disarms; outside it the MSR reads 0', () => {
      rig.w(LVT_TIMER, 0x4_0040).w(INITIAL, 100);
      expect([rig.apic.deadline(), rig.r(CURRENT)]).toEqual([NEVER, 0]);
      rig.apic.writeMsr(0x6e0, 9999n);
      rig.w(LVT_TIMER, 0x40);
      expect([rig.apic.deadline(), rig.apic.readMsr(0x6e0)]).toEqual([NEVER, 0n]);
      rig.apic.writeMsr(0x6e0, 9999n);
      expect(rig.w(LVT_TIMER, 0x4_0040).apic.readMsr(0x6e0)).toBe(0n);
    });
  });
});

describe('IA32_APIC_BASE and x2APIC (10.4.4, 10.12)', () => {
  const DISABLED = 0n;
  const INVALID = 0x400n;
  const XAPIC = 0x800n;
  const X2APIC = 0xc00n;
  const name = new Map([
    [DISABLED, 'disabled'],
    [INVALID, 'invalid'],
    [XAPIC, 'xAPIC'],
    [X2APIC, 'x2APIC'],
  ]);
  const legal = new Set([
    'disabled>disabled',
    'disabled>xAPIC',
    'xAPIC>disabled',
    'xAPIC>xAPIC',
    'xAPIC>x2APIC',
    'x2APIC>disabled',
    'x2APIC>x2APIC',
  ]);
  for (const from of [DISABLED, XAPIC, X2APIC])
    for (const to of [DISABLED, INVALID, XAPIC, X2APIC]) {
      const transition = `${name.get(from)}>${name.get(to)}`;
      it(`${transition} ${legal.has(transition) ? 'is allowed' : 'is #GP'} (figure 10-27)`, () => {
        rig.cpus[0].apicBase = 0xfee0_0100n | from;
        expect(faults(() => rig.apic.writeMsr(0x1b, 0xfee0_0100n | to))).toBe(!legal.has(transition));
        expect(rig.apic.readMsr(0x1b)).toBe(0xfee0_0100n | (legal.has(transition) ? to : from));
      });
    }

  it.each([1n, 0x80n, 0x200n, 1n << 40n])('reserved bit %i is #GP', (bit) => {
    expect(faults(() => rig.apic.writeMsr(0x1b, BASE | bit))).toBe(true);
  });

  it('the registers stand where the base says, in xAPIC mode only', () => {
    rig.apic.writeMsr(0x1b, 0xfed0_0900n);
    expect(rig.apic.base).toBe(0xfed0_0000);
    expect(rig.x2apic().apic.base).toBe(-1);
  });

  it('x2APIC MSRs are #GP in xAPIC mode', () => {
    expect(faults(() => rig.apic.readMsr(0x802))).toBe(true);
    expect(faults(() => rig.apic.writeMsr(0x80b, 0n))).toBe(true);
  });

  it.each([
    // MSR, readable, writable (table 10-6).
    [0x802, true, false],
    [0x803, true, false],
    [0x808, true, true],
    [0x809, false, false],
    [0x80a, true, false],
    [0x80b, false, true],
    [0x80c, false, false],
    [0x80d, true, false],
    [0x80e, false, false],
    [0x80f, true, true],
    [0x810, true, false],
    [0x81f, true, false],
    [0x827, true, false],
    [0x828, true, true],
    [0x82f, false, false],
    [0x830, true, true],
    [0x831, false, false],
    [0x832, true, true],
    [0x837, true, true],
    [0x838, true, true],
    [0x839, true, false],
    [0x83e, true, true],
    [0x83f, false, true],
    [0x840, false, false],
  ])('MSR %i: readable %s, writable %s', (msr, readable, writable) => {
    rig.x2apic();
    expect(faults(() => rig.apic.readMsr(msr))).toBe(!readable);
    expect(faults(() => rig.apic.writeMsr(msr, 0n))).toBe(!writable);
  });

  it.each([
    [0x808, 0x100n],
    [0x80b, 1n],
    [0x80f, 0x1000n],
    [0x828, 1n],
    [0x830, 0x2000n],
    [0x832, 0x8_0000n],
    [0x83e, 4n],
    [0x83f, 0x100n],
    [0x838, 1n << 32n],
  ])('MSR %i: reserved bits %i are #GP', (msr, bits) => {
    rig.x2apic();
    expect(faults(() => rig.apic.writeMsr(msr, bits))).toBe(true);
  });

  it('ID is 32 bits, LDR is derived from it (10.12.10.2)', () => {
    expect([rig.x2apic(2).apics[2].readMsr(0x802), rig.apics[2].readMsr(0x80d)]).toEqual([2n, 4n]);
  });

  it.each([
    ['physical', 0x2_0000_0041n, [2]],
    ['physical broadcast', 0xffff_ffff_0000_0041n, [0, 1, 2, 3]],
    ['logical in cluster 0', 0x0000_000a_0000_0841n, [1, 3]],
    ['logical in another cluster', 0x0001_000f_0000_0841n, []],
    ['self IPI shorthand', 0x4_0041n, [0]],
  ])('ICR as one MSR: %s', (_name, icr, holders) => {
    for (let i = 0; i < 4; i++) rig.x2apic(i);
    rig.apic.writeMsr(0x830, icr);
    const held = rig.apics.flatMap((apic, i) => (apic.readMsr(0x822) & 2n ? [i] : []));
    expect(held).toEqual(holders);
    expect(rig.apic.readMsr(0x830)).toBe(icr);
  });

  it('SELF IPI', () => {
    rig.x2apic().apic.writeMsr(0x83f, 0x77n);
    expect(rig.apic.acknowledge()).toBe(0x77);
    rig.apic.writeMsr(0x80b, 0n);
    expect(rig.apic.readMsr(0x813)).toBe(0n);
  });

  it('disabling forgets everything', () => {
    rig.w(TPR, 0x30).accept(0x55);
    rig.apic.writeMsr(0x1b, 0xfee0_0100n);
    rig.apic.writeMsr(0x1b, BASE);
    expect([rig.r(TPR), rig.r(SVR), rig.apic.pending()]).toEqual([0, 0xff, false]);
  });
});

it('a message of one sender reaches targets by physical destination in either mode', () => {
  rig.x2apic(1);
  const message: ApicMessage = {
    mode: 0,
    vector: 0x41,
    level: false,
    logical: false,
    destination: 1,
    wide: true,
  };
  expect(rig.apics.map((apic) => apic.matches(message))).toEqual([false, true, false, false]);
});

it('goes back to a saved state', () => {
  rig.w(DIVIDE, 0xb).w(LVT_TIMER, 0x2_0040).w(INITIAL, 100).accept(0x61, 0x35);
  rig.apic.acknowledge();
  const saved = rig.apic.save();
  rig.drain();
  rig.w(TPR, 0xff).w(LVT_TIMER, 0x1_0000).accept(0x99).until(4000);
  rig.apic.restore(saved);
  expect(rig.apic.save()).toEqual(saved);
  rig.now = 1000;
  expect(rig.apic.deadline()).toBe(1100);
  expect(rig.r(PPR)).toBe(0x60);
  rig.w(EOI, 0);
  expect(rig.drain()).toEqual([0x35]);
});
