/** The cascaded interrupt controllers. Intel 8259A data sheet. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { PortDevice } from './device.ts';
import { I8259Pair } from './i8259.ts';

/** The pair with its ports by number. */
class Rig {
  readonly changes: boolean[] = [];
  readonly pic = new I8259Pair((asserted) => this.changes.push(asserted));

  #device(port: number): PortDevice {
    const device = this.pic.ports.find((d) => port >= d.port && port < d.port + d.count);
    if (!device) throw new Error(`no device at ${port}`);
    return device;
  }
  out(port: number, value: number): this {
    this.#device(port).portWrite(port, 1, value);
    return this;
  }
  in(port: number): number {
    return this.#device(port).portRead(port, 1);
  }
  /** ICW1 to ICW4 of both, as PC systems do, with vectors 20H and 28H; all unmasked. */
  initialise(icw4 = 1): this {
    this.out(0x20, 0x11).out(0x21, 0x20).out(0x21, 4).out(0x21, icw4);
    return this.out(0xa0, 0x11).out(0xa1, 0x28).out(0xa1, 2).out(0xa1, icw4);
  }
  raise(...irqs: number[]): this {
    for (const irq of irqs) this.pic.setIrq(irq, true);
    return this;
  }
  lower(...irqs: number[]): this {
    for (const irq of irqs) this.pic.setIrq(irq, false);
    return this;
  }
  pulse(irq: number): this {
    return this.raise(irq).lower(irq).raise(irq);
  }
  isr(port = 0x20): number {
    this.out(port, 0x0b);
    return this.in(port);
  }
  irr(port = 0x20): number {
    this.out(port, 0x0a);
    return this.in(port);
  }
}

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});

describe('8259A pair', () => {
  it('takes four initialisation command words, or fewer as ICW1 says', () => {
    // SNGL: no ICW3; IC4 clear: no ICW4. What follows is OCW1.
    rig.out(0x20, 0x12).out(0x21, 0x40).out(0x21, 0xfe).raise(0);
    expect(rig.in(0x21)).toBe(0xfe);
    expect(rig.pic.acknowledge()).toBe(0x40);
  });

  it.each([
    [0, 0x20],
    [1, 0x21],
    [7, 0x27],
    [8, 0x28],
    [15, 0x2f],
  ])('IRQ %i has vector %#', (irq, vector) => {
    rig.initialise().raise(irq);
    expect(rig.pic.asserted).toBe(true);
    expect(rig.pic.acknowledge()).toBe(vector);
    expect(rig.pic.asserted).toBe(false);
  });

  it('asserts INTR for unmasked requests only', () => {
    rig.initialise().out(0x21, 0x02).raise(1);
    expect(rig.pic.asserted).toBe(false);
    expect(rig.irr()).toBe(0x02);
    rig.out(0x21, 0);
    expect(rig.pic.asserted).toBe(true);
  });

  it('serves by priority, and holds off equal and lower requests until EOI (fully nested mode)', () => {
    rig.initialise().raise(4, 3);
    expect(rig.pic.acknowledge()).toBe(0x23);
    expect(rig.isr()).toBe(0x08);
    expect(rig.pic.asserted).toBe(false);
    rig.raise(1);
    expect(rig.pic.acknowledge()).toBe(0x21);
    expect(rig.isr()).toBe(0x0a);
    rig.out(0x20, 0x20);
    expect(rig.isr()).toBe(0x08);
    expect(rig.pic.asserted).toBe(false);
    rig.out(0x20, 0x20);
    expect(rig.pic.acknowledge()).toBe(0x24);
  });

  it('the slave ranks between IRQ 1 and IRQ 3, and both need EOIs', () => {
    rig.initialise().raise(3, 12, 1);
    expect([rig.pic.acknowledge(), rig.out(0x20, 0x20) && rig.pic.acknowledge()]).toEqual([0x21, 0x2c]);
    expect([rig.isr(), rig.isr(0xa0)]).toEqual([0x04, 0x10]);
    rig.out(0xa0, 0x20).out(0x20, 0x20);
    expect(rig.pic.acknowledge()).toBe(0x23);
  });

  it('a further request of the slave waits for the EOI at the master', () => {
    rig.initialise().raise(12);
    rig.pic.acknowledge();
    rig.raise(9);
    expect(rig.pic.asserted).toBe(false);
    rig.out(0x20, 0x20);
    expect(rig.pic.acknowledge()).toBe(0x29);
  });

  it('special fully nested mode lets a higher request of the slave through at once', () => {
    rig.initialise(0x11).raise(12);
    rig.pic.acknowledge();
    rig.raise(9);
    expect(rig.pic.acknowledge()).toBe(0x29);
  });

  it('edge-triggered: one interrupt an edge', () => {
    rig.initialise().raise(5);
    rig.pic.acknowledge();
    rig.out(0x20, 0x20).raise(5);
    expect(rig.pic.asserted).toBe(false);
    rig.lower(5).raise(5);
    expect(rig.pic.asserted).toBe(true);
  });

  it.each([
    ['ELCR', () => rig.initialise().out(0x4d0, 0x20)],
    ['ICW1.LTIM', () => rig.out(0x20, 0x19).out(0x21, 0x20).out(0x21, 4).out(0x21, 1)],
  ])('level-triggered by %s: as long as the line is asserted', (_name, setUp) => {
    setUp();
    rig.raise(5);
    expect(rig.pic.acknowledge()).toBe(0x25);
    rig.out(0x20, 0x20);
    expect(rig.pic.asserted).toBe(true);
    rig.lower(5);
    expect(rig.pic.asserted).toBe(false);
  });

  it('ELCR keeps the timer, keyboard, cascade, RTC and FPU edge-triggered', () => {
    rig.out(0x4d0, 0xff).out(0x4d1, 0xff);
    expect([rig.in(0x4d0), rig.in(0x4d1)]).toEqual([0xf8, 0xde]);
  });

  it('a request that goes before it is acknowledged is a spurious IRQ 7, not in service', () => {
    rig.initialise().raise(4).lower(4);
    expect(rig.pic.acknowledge()).toBe(0x27);
    expect(rig.isr()).toBe(0);
  });

  it('a request of the slave that goes is a spurious IRQ 15, in service at the master only', () => {
    rig.initialise().out(0xa0, 0x68).raise(12);
    // The slave's mask changes between INTR and INTA: its own request is gone, the master's is latched.
    const state = rig.pic.save();
    rig.pic.restore({ ...state, slave: { ...state.slave, latched: 0, lines: 0 } });
    expect(rig.pic.acknowledge()).toBe(0x2f);
    expect([rig.isr(), rig.isr(0xa0)]).toEqual([0x04, 0]);
  });

  it('automatic EOI leaves nothing in service', () => {
    rig.initialise(3).raise(3);
    expect(rig.pic.acknowledge()).toBe(0x23);
    expect(rig.isr()).toBe(0);
  });

  it.each([
    ['specific EOI', 0x63, 0x10, 7],
    ['non-specific EOI', 0x20, 0x10, 7],
    ['rotate on specific EOI', 0xe3, 0x10, 3],
    ['rotate on non-specific EOI', 0xa0, 0x10, 3],
    ['set priority', 0xc5, 0x18, 5],
    ['no operation', 0x40, 0x18, 7],
  ])('OCW2 %s', (_name, command, isr, lowest) => {
    rig.initialise().raise(4);
    rig.pic.acknowledge();
    rig.raise(3);
    rig.pic.acknowledge();
    rig.out(0x20, command);
    expect(rig.isr()).toBe(isr);
    expect(rig.pic.save().master.lowest).toBe(lowest);
  });

  it('rotation in automatic EOI mode makes the one just served lowest', () => {
    rig.initialise(3).out(0x20, 0x80).raise(0, 1);
    expect(rig.pic.acknowledge()).toBe(0x20);
    rig.pulse(0);
    expect(rig.pic.acknowledge()).toBe(0x21);
    expect(rig.pic.acknowledge()).toBe(0x20);
    rig.out(0x20, 0x00).pulse(0);
    rig.pic.acknowledge();
    expect(rig.pic.save().master.lowest).toBe(0);
  });

  it('special mask mode: a masked input in service holds off only itself', () => {
    rig.initialise().raise(2, 3);
    expect(rig.pic.acknowledge()).toBe(0x23);
    rig.raise(6);
    expect(rig.pic.asserted).toBe(false);
    rig.out(0x21, 0x08).out(0x20, 0x68);
    expect(rig.pic.acknowledge()).toBe(0x26);
    rig.out(0x20, 0x20);
    // The masked one is not ended by a non-specific EOI.
    expect(rig.isr()).toBe(0x08);
  });

  it('poll acknowledges and reads the highest request', () => {
    rig.initialise().raise(6).out(0x20, 0x0c);
    expect(rig.in(0x20)).toBe(0x86);
    expect(rig.isr()).toBe(0x40);
    rig.out(0x20, 0x0c);
    expect(rig.in(0x20) & 0x80).toBe(0);
  });

  it('firmware leaves it masked at vectors 8 and 70H', () => {
    rig.pic.initialiseAsFirmware();
    expect([rig.in(0x21), rig.in(0xa1)]).toEqual([0xfb, 0xff]);
    expect([rig.pic.save().master.base, rig.pic.save().slave.base]).toEqual([8, 0x70]);
  });

  it('goes back to a saved state', () => {
    rig.initialise().raise(4, 9);
    rig.pic.acknowledge();
    const saved = rig.pic.save();
    rig.out(0x20, 0x20).out(0xa0, 0x20).lower(4, 9).out(0x21, 0xff);
    rig.pic.restore(saved);
    expect(rig.pic.save()).toEqual(saved);
    expect(rig.isr()).toBe(0x04);
    rig.out(0xa0, 0x20).out(0x20, 0x20);
    expect(rig.pic.acknowledge()).toBe(0x24);
  });
});
