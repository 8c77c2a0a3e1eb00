/** Configuration by ports and in memory, and the reset control register among the ports. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { PciFunction } from './function.ts';
import { PciHost } from './host.ts';

let resets: number;
let host: PciHost;
let writes: [number, number, number][];

const plugged: PciFunction = {
  readConfiguration: (offset, size) => (offset * 4 + size) >>> 0,
  writeConfiguration: (...write) => writes.push(write),
};

/** Reads a register by ports. */
function byPorts(slot: number, register: number, size: 1 | 2 | 4, functionNumber = 0, bus = 0): number {
  const address = 0x8000_0000 + (bus << 16) + (slot << 11) + (functionNumber << 8) + (register & ~3);
  host.portWrite(0xcf8, 4, address >>> 0);
  return host.portRead(0xcfc + (register & 3), size);
}

beforeEach(() => {
  resets = 0;
  writes = [];
  host = new PciHost(() => resets++);
});

describe('configuration', () => {
  it('slot 0 is the host bridge', () => {
    expect(byPorts(0, 0, 4)).toBe(0x29c0_8086);
    expect(byPorts(0, 0x0a, 2)).toBe(0x0600);
    expect(host.ecam.read(0, 4)).toBe(0x29c0_8086);
  });

  it.each([
    ['an empty slot', 3, 0, 0],
    ['another function', 0, 1, 0],
    ['another bus', 0, 0, 1],
  ])('%s reads as ones', (_name, slot, functionNumber, bus) => {
    expect(byPorts(slot, 0, 4, functionNumber, bus)).toBe(0xffff_ffff);
    if (bus === 0) expect(host.ecam.read((slot << 15) | (functionNumber << 12), 2)).toBe(0xffff);
  });

  it('reaches what is plugged in by both ways, with offset and size', () => {
    const slot = host.plug(plugged);
    expect(slot).toBe(1);
    expect(byPorts(slot, 0x12, 2)).toBe(0x12 * 4 + 2);
    host.portWrite(0xcff, 1, 0xab);
    expect(host.ecam.read((slot << 15) + 0x123, 1)).toBe(0x123 * 4 + 1);
    host.ecam.write((slot << 15) + 0xffc, 4, 7);
    expect(writes).toEqual([
      [0x13, 1, 0xab],
      [0xffc, 4, 7],
    ]);
  });

  it('is off while the address has no enable bit', () => {
    host.portWrite(0xcf8, 4, 0);
    expect([host.portRead(0xcf8, 4), host.portRead(0xcfc, 4)]).toEqual([0, 0xffff_ffff]);
  });

  it('the address is saved', () => {
    byPorts(5, 0x40, 4);
    const state = host.save();
    host.portWrite(0xcf8, 4, 0);
    host.restore(state);
    expect(host.portRead(0xcf8, 4)).toBe(0x8000_2840);
  });
});

describe('reset control', () => {
  it.each<[string, number[], number]>([
    ['bit 2 rising', [0x02, 0x06], 1],
    ['bit 2 already set', [0x06, 0x06], 1],
    ['no bit 2', [0x02], 0],
  ])('%s', (_name, values, expected) => {
    for (const value of values) host.portWrite(0xcf9, 1, value);
    expect(resets).toBe(expected);
    expect(host.portRead(0xcf9, 1)).toBe(values[values.length - 1] & 6);
  });

  it('is not reached by a configuration address', () => {
    host.portWrite(0xcf8, 4, 0x8000_0600);
    expect(resets).toBe(0);
  });
});
