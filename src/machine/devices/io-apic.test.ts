/** The I/O APIC. Intel 82093AA data sheet. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { ApicMessage } from './apic-message.ts';
import { IoApic } from './io-apic.ts';

let sent: ApicMessage[];
let io: IoApic;

const write = (register: number, value: number) => {
  io.write(0, 4, register);
  io.write(0x10, 4, value);
};
const read = (register: number) => {
  io.write(0, 4, register);
  return io.read(0x10, 4) >>> 0;
};
const entry = (pin: number, low: number, high = 0) => {
  write(0x11 + pin * 2, high);
  write(0x10 + pin * 2, low);
};
const LEVEL = 0x8000;
const REMOTE_IRR = 0x4000;
const MASKED = 0x10000;

beforeEach(() => {
  sent = [];
  io = new IoApic((message) => sent.push(message));
});

describe('I/O APIC', () => {
  it('has 24 masked entries, version 20H and a settable ID', () => {
    expect(read(1)).toBe(0x0017_0020);
    for (let pin = 0; pin < 24; pin++) expect(read(0x10 + pin * 2)).toBe(MASKED);
    write(0, 0xff00_0000);
    expect([read(0), read(2)]).toEqual([0x0f00_0000, 0x0f00_0000]);
    expect(read(0x40)).toBe(0xffff_ffff);
  });

  it('keeps read-only bits of an entry', () => {
    entry(3, 0xffff_ffff, 0xffff_ffff);
    expect([read(0x16), read(0x17)]).toEqual([0x0001_afff, 0xff00_0000]);
  });

  it.each([
    ['fixed physical', 0x0041, 0x0200_0000, { mode: 0, vector: 0x41, logical: false, destination: 2 }],
    [
      'lowest priority logical',
      0x0941,
      0xf000_0000,
      { mode: 1, vector: 0x41, logical: true, destination: 0xf0 },
    ],
    ['NMI', 0x0400, 0, { mode: 4, vector: 0, logical: false, destination: 0 }],
    ['ExtINT', 0x0700, 0x0100_0000, { mode: 7, vector: 0, logical: false, destination: 1 }],
  ])('sends %s', (_name, low, high, message) => {
    entry(5, low, high);
    io.setPin(5, true);
    expect(sent).toEqual([{ ...message, level: false, wide: false }]);
  });

  it('edge: once for each rise; masked edges are lost', () => {
    entry(1, 0x30);
    io.setPin(1, true);
    io.setPin(1, true);
    io.setPin(1, false);
    io.setPin(1, true);
    expect(sent).toHaveLength(2);
    entry(1, 0x30 | MASKED);
    io.setPin(1, false);
    io.setPin(1, true);
    entry(1, 0x30);
    expect(sent).toHaveLength(2);
  });

  it('level: remote IRR holds it until EOI, after which it is sent again while asserted', () => {
    entry(9, 0x51 | LEVEL);
    io.setPin(9, true);
    expect(sent).toMatchObject([{ vector: 0x51, level: true }]);
    expect(read(0x22) & REMOTE_IRR).toBe(REMOTE_IRR);
    io.setPin(9, false);
    io.setPin(9, true);
    expect(sent).toHaveLength(1);
    io.endOfInterrupt(0x52);
    expect(sent).toHaveLength(1);
    io.endOfInterrupt(0x51);
    expect(sent).toHaveLength(2);
    io.setPin(9, false);
    io.write(0x40, 4, 0x51);
    expect(sent).toHaveLength(2);
    expect(read(0x22) & REMOTE_IRR).toBe(0);
  });

  it('level: unmasking an asserted input sends', () => {
    entry(9, 0x51 | LEVEL | MASKED);
    io.setPin(9, true);
    expect(sent).toEqual([]);
    entry(9, 0x51 | LEVEL);
    expect(sent).toHaveLength(1);
  });

  it('turning an entry to edge clears a stuck remote IRR', () => {
    entry(9, 0x51 | LEVEL);
    io.setPin(9, true);
    entry(9, 0x51 | MASKED);
    expect(read(0x22) & REMOTE_IRR).toBe(0);
  });

  it('tells whether something unmaskable is wired', () => {
    entry(3, 0x55);
    expect(io.hasUnmaskable).toBe(false);
    entry(4, 0x400 | MASKED);
    expect(io.hasUnmaskable).toBe(false);
    entry(4, 0x400);
    expect(io.hasUnmaskable).toBe(true);
  });

  it('goes back to a saved state', () => {
    entry(9, 0x51 | LEVEL);
    io.setPin(9, true);
    const saved = io.save();
    io.endOfInterrupt(0x51);
    entry(9, MASKED);
    io.restore(saved);
    expect(io.save()).toEqual(saved);
    expect(read(0x22)).toBe(0x51 | LEVEL | REMOTE_IRR);
  });
});
