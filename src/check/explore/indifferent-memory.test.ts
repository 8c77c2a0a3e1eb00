import { describe, expect, it } from 'vitest';
import { Machine } from '../../machine/machine.ts';
import { IndifferentMemory } from './indifferent-memory.ts';

const PAGE = 4096;

/** A page of zeros with some bytes. */
function page(bytes: Readonly<Record<number, number>> = {}): Uint8Array {
  const content = new Uint8Array(PAGE);
  for (const [at, byte] of Object.entries(bytes)) content[Number(at)] = byte;
  return content;
}

// Without paging, linear addresses are physical.
const [cpu] = Machine.create({ memory: 1 }).cpus;
const memory = new IndifferentMemory(cpu, [
  { start: 0x5006n, end: 0x500an },
  { start: 0x5ffen, end: 0x6002n },
]);

describe('memory that states are not told by', () => {
  it.each([
    { what: 'equal pages', number: 5, a: page({ 1: 1 }), b: page({ 1: 1 }), equal: true },
    { what: 'its first byte', number: 5, a: page({ 6: 1 }), b: page(), equal: true },
    { what: 'its last byte', number: 5, a: page({ 9: 1 }), b: page(), equal: true },
    { what: 'the byte before', number: 5, a: page({ 5: 1 }), b: page(), equal: false },
    { what: 'the byte after', number: 5, a: page({ 10: 1 }), b: page(), equal: false },
    { what: 'it and another byte', number: 5, a: page({ 8: 1, 100: 1 }), b: page(), equal: false },
    { what: 'a range across pages, first part', number: 5, a: page({ 4095: 1 }), b: page(), equal: true },
    { what: 'a range across pages, second part', number: 6, a: page({ 1: 1 }), b: page(), equal: true },
    { what: 'beyond a range across pages', number: 6, a: page({ 2: 1 }), b: page(), equal: false },
    { what: 'the same bytes of another page', number: 7, a: page({ 6: 1 }), b: page(), equal: false },
    { what: 'what is below the start', number: 7, a: page({ 6: 1 }), b: page(), start: 8, equal: true },
    { what: 'what is at the end', number: 7, a: page({ 8: 1 }), b: page(), end: 8, equal: true },
    { what: 'what is before the end', number: 7, a: page({ 7: 1 }), b: page(), end: 8, equal: false },
  ])('$what', ({ number, a, b, equal, start = 0, end = 4096 }) => {
    expect(memory.equal(number, a, b, start, end)).toBe(equal);
    if (start === 0 && end === 4096)
      expect(Buffer.compare(memory.without(number, a), memory.without(number, b)) === 0).toBe(equal);
  });

  it('leaves contents as they are, and gives the same for the same', () => {
    const content = page({ 6: 1 });
    const without = memory.without(5, content);
    expect(content[6]).toBe(1);
    expect(without[6]).toBe(0);
    expect(memory.without(5, content)).toBe(without);
    expect(memory.without(7, content)).toBe(content);
  });
});
