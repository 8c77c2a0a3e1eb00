/** The serial port. National Semiconductor PC16550D data sheet. */
import { beforeEach, describe, expect, it } from 'vitest';
import { Uart16550 } from './uart-16550.ts';

const BASE = 0x3f8;
const [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 3, 4, 5, 6, 7];

class Rig {
  line = false;
  sent: number[] = [];
  readonly uart = new Uart16550(BASE, (asserted) => {
    this.line = asserted;
  });
  constructor() {
    this.uart.onOutput = (byte) => this.sent.push(byte);
  }
  out(register: number, value: number): this {
    this.uart.portWrite(BASE + register, 1, value);
    return this;
  }
  in(register: number): number {
    return this.uart.portRead(BASE + register);
  }
  receive(...bytes: number[]): this {
    this.uart.receive(Uint8Array.from(bytes));
    return this;
  }
}

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});

describe('16550A', () => {
  it('sends a byte at once and is empty again', () => {
    rig.out(DATA, 0x41).out(DATA, 0x42);
    expect(rig.sent).toEqual([0x41, 0x42]);
    expect(rig.in(LSR)).toBe(0x60);
  });

  it('DLAB turns the first two registers into the divisor', () => {
    rig.out(LCR, 0x83).out(DATA, 0x0c).out(IER, 0x01);
    expect([rig.in(DATA), rig.in(IER)]).toEqual([0x0c, 0x01]);
    rig.out(LCR, 0x03);
    expect(rig.in(IER)).toBe(0);
    expect(rig.sent).toEqual([]);
  });

  it('receives in order, with data ready meanwhile', () => {
    rig.receive(1, 2).receive(3);
    expect(rig.in(LSR) & 1).toBe(1);
    expect([rig.in(DATA), rig.in(DATA), rig.in(DATA)]).toEqual([1, 2, 3]);
    expect(rig.in(LSR) & 1).toBe(0);
    expect(rig.in(DATA)).toBe(0);
  });

  it('the scratch register holds a byte, and registers have no more bits than they have', () => {
    rig.out(SCR, 0x5a).out(IER, 0xff).out(MCR, 0xff);
    expect([rig.in(SCR), rig.in(IER), rig.in(MCR)]).toEqual([0x5a, 0x0f, 0x1f]);
  });

  it.each([
    // IIR[3:0] by what is enabled and what has happened, in order of priority (data sheet table IV).
    ['nothing', 0x0f, [], 0x01],
    ['received data', 0x01, [1], 0x04],
    ['transmitter empty', 0x02, [], 0x02],
    ['received data before transmitter empty', 0x03, [1], 0x04],
    ['not enabled', 0x00, [1], 0x01],
  ])('interrupt identification: %s', (_name, ier, bytes, expected) => {
    rig.receive(...bytes);
    rig.out(IER, ier);
    if (expected === 1 && ier & 2) rig.in(IIR);
    expect(rig.in(IIR) & 0xf).toBe(expected);
  });

  it('reading IIR acknowledges transmitter empty; writing a byte raises it again', () => {
    rig.out(MCR, 8).out(IER, 2);
    expect(rig.line).toBe(true);
    expect(rig.in(IIR) & 0xf).toBe(2);
    expect(rig.line).toBe(false);
    rig.out(DATA, 0);
    expect(rig.line).toBe(true);
  });

  it('OUT2 gates the interrupt line', () => {
    rig.out(IER, 1).receive(1);
    expect(rig.line).toBe(false);
    rig.out(MCR, 8);
    expect(rig.line).toBe(true);
    rig.in(DATA);
    expect(rig.line).toBe(false);
  });

  it.each([
    [0x01, 1],
    [0x41, 4],
    [0x81, 8],
    [0xc1, 14],
  ])('FIFO control %i: received data from %i bytes on, time-out below', (control, trigger) => {
    rig.out(2, control).out(IER, 1);
    rig.receive(...Array(trigger - 1).fill(0));
    if (trigger > 1) expect(rig.in(IIR)).toBe(0xcc);
    rig.receive(0);
    expect(rig.in(IIR)).toBe(0xc4);
  });

  it('clearing the FIFOs does not lose what the sender has yet to send', () => {
    rig.receive(1, 2).out(2, 0x07);
    expect(rig.in(DATA)).toBe(1);
  });

  describe('loop mode', () => {
    it('feeds the transmitter to the receiver and sends nothing', () => {
      rig.out(MCR, 0x10).out(DATA, 0x77);
      expect(rig.sent).toEqual([]);
      expect(rig.in(LSR) & 1).toBe(1);
      expect(rig.in(DATA)).toBe(0x77);
    });

    it('keeps what arrives on the wire for later', () => {
      rig.out(MCR, 0x10).receive(9);
      expect(rig.in(LSR) & 1).toBe(0);
      rig.out(MCR, 0);
      expect(rig.in(DATA)).toBe(9);
    });

    it.each([
      [0x11, 0x20],
      [0x12, 0x10],
      [0x14, 0x40],
      [0x18, 0x80],
    ])('MCR %i gives MSR %i', (mcr, msr) => {
      expect(rig.out(MCR, mcr).in(MSR) & 0xf0).toBe(msr);
    });

    it('overruns: one byte without FIFOs, sixteen with', () => {
      rig.out(MCR, 0x10).out(DATA, 1).out(DATA, 2);
      expect(rig.in(LSR) & 3).toBe(3);
      expect(rig.in(LSR) & 2).toBe(0);
      expect(rig.in(DATA)).toBe(2);
      rig.out(2, 1);
      for (let i = 0; i < 17; i++) rig.out(DATA, i);
      expect(rig.in(LSR) & 2).toBe(2);
      for (let i = 0; i < 16; i++) expect(rig.in(DATA)).toBe(i);
    });

    it('a line-status interrupt comes first', () => {
      rig.out(IER, 7).out(MCR, 0x10).out(DATA, 1).out(DATA, 2);
      expect(rig.in(IIR) & 0xf).toBe(6);
    });
  });

  it('modem status: a modem is there; deltas since the last read', () => {
    expect(rig.in(MSR)).toBe(0xb0);
    rig.out(MCR, 0x10);
    expect(rig.in(MSR)).toBe(0x0b);
    expect(rig.in(MSR)).toBe(0);
    rig.out(MCR, 0x14).in(MSR);
    // The ring indicator's trailing edge.
    expect(rig.out(MCR, 0x10).in(MSR)).toBe(0x04);
  });

  it('goes back to a saved state, with what was waiting', () => {
    rig.receive(1, 2, 3);
    rig.in(DATA);
    const saved = rig.uart.save();
    rig.in(DATA);
    rig.receive(4).out(LCR, 0x80);
    rig.uart.restore(saved);
    expect(rig.uart.save()).toEqual(saved);
    expect([rig.in(DATA), rig.in(DATA), rig.in(LSR) & 1]).toEqual([2, 3, 0]);
  });
});
