/** The block device: requests against a disk in memory. */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Disk, VirtioBlock } from './block.ts';
import { Driver } from './driver.fixture.ts';

const SECTORS = 21;
const SIZE = SECTORS * 512;

let content: Uint8Array;
let broken: boolean;
let flushed: number;
let driver: Driver;

function start(writable: boolean): void {
  content = Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 9)) & 0xff);
  broken = false;
  flushed = 0;
  const disk: Disk = {
    size: SIZE,
    writable,
    read(offset, bytes) {
      bytes.set(content.subarray(offset, offset + bytes.length));
      return !broken;
    },
    write(offset, bytes) {
      content.set(bytes, offset);
      return !broken;
    },
    flush() {
      flushed++;
      return !broken;
    },
  };
  driver = new Driver((port) => new VirtioBlock(port, disk));
  driver.start(true, 1 << 9);
}

beforeEach(() => start(false));

function header(type: number, sector: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  return new Uint8Array(view.buffer);
}

/** Reads sectors; the status is the last byte. */
const read = (sector: number, count: number) => driver.send(0, [header(0, sector)], [count * 512, 1]);
const write = (sector: number, bytes: Uint8Array) => driver.send(0, [header(1, sector), bytes], [1])[0][0];

it('tells capacity, segments and block size', () => {
  expect([0x2000, 0x2004, 0x200c, 0x2014].map((at) => driver.read(at, 4))).toEqual([SECTORS, 0, 126, 512]);
});

describe('requests', () => {
  it('read', () => {
    const [data, status] = read(3, 4);
    expect(status[0]).toBe(0);
    expect(data).toEqual(content.slice(3 * 512, 7 * 512));
    expect(driver.written(0)).toBe(4 * 512 + 1);
  });

  it('with data and status in one buffer', () => {
    const [buffer] = driver.send(0, [header(0, 1)], [513]);
    expect(buffer.subarray(0, 512)).toEqual(content.slice(512, 1024));
    expect(buffer[512]).toBe(0);
  });

  it('with the header in parts', () => {
    const whole = header(0, 2);
    const [data, status] = driver.send(0, [whole.slice(0, 5), whole.slice(5)], [512, 1]);
    expect([status[0], data]).toEqual([0, content.slice(1024, 1536)]);
  });

  it.each<[string, () => number, number]>([
    ['beyond the end', () => read(SECTORS - 1, 2)[1][0], 1],
    ['far beyond the end', () => read(2 ** 52, 1)[1][0], 1],
    ['of part of a sector', () => driver.send(0, [header(0, 0)], [100, 1])[1][0], 1],
    ['to write beyond the end', () => write(SECTORS, new Uint8Array(512)), 1],
    ['of an unknown type', () => driver.send(0, [header(99, 0)], [1])[0][0], 2],
    ['without a header', () => driver.send(0, [new Uint8Array(4)], [1])[0][0], 2],
    ['to flush', () => driver.send(0, [header(4, 0)], [1])[0][0], 0],
  ])('%s', (_name, request, status) => {
    expect(request()).toBe(status);
  });

  it('without room for a status are returned as they are', () => {
    driver.send(0, [header(0, 0)], []);
    expect([driver.returned(0), driver.written(0)]).toEqual([1, 0]);
  });

  it('for the identity', () => {
    const [id] = driver.send(0, [header(8, 0)], [20, 1]);
    expect(new TextDecoder().decode(id.subarray(0, 7))).toBe('espfix\0');
  });

  it('tell of a disk that cannot be read', () => {
    broken = true;
    expect(read(0, 1)[1][0]).toBe(1);
    // What is kept in memory is kept by 4 KiB, of which the rest must be read.
    expect([write(0, new Uint8Array(512)), write(0, new Uint8Array(4096))]).toEqual([1, 0]);
  });
});

describe('what is written', () => {
  it('stays in memory, and goes with snapshots', () => {
    const original = content.slice();
    expect(write(7, new Uint8Array(1024).fill(0xee))).toBe(0);
    expect(Buffer.compare(content, original)).toBe(0);
    const state = driver.device.model.save();
    expect(driver.device.model.save()).toBe(state);
    expect(read(7, 1)[0]).toEqual(new Uint8Array(512).fill(0xee));
    write(7, new Uint8Array(512).fill(0x11));
    driver.device.model.restore(state);
    expect(read(7, 1)[0]).toEqual(new Uint8Array(512).fill(0xee));
    expect(read(6, 1)[0]).toEqual(original.slice(6 * 512, 7 * 512));
  });

  it('goes to a disk that takes it, and a flush as well', () => {
    start(true);
    write(20, new Uint8Array(512).fill(0xaa));
    expect(content.subarray(20 * 512)).toEqual(new Uint8Array(512).fill(0xaa));
    driver.send(0, [header(4, 0)], [1]);
    expect(flushed).toBe(1);
  });

  it('is read again, whatever the order', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(SECTORS - 1), fc.integer({ min: 1, max: 9 }), fc.nat(255)), {
          maxLength: 12,
        }),
        (writes) => {
          start(false);
          const model = content.slice();
          for (const [sector, count, value] of writes) {
            const bytes = new Uint8Array(Math.min(count, SECTORS - sector) * 512).fill(value);
            expect(write(sector, bytes)).toBe(0);
            model.set(bytes, sector * 512);
          }
          expect(Buffer.compare(read(0, SECTORS)[0], model)).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });
});
