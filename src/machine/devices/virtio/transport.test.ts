/** Virtio over PCI: what a driver sees of a device, what it may set, interrupts, and queues that make no sense. */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Driver, MEMORY } from './driver.fixture.ts';
import { VirtioEntropy } from './entropy.ts';

let driver: Driver;

beforeEach(() => {
  driver = new Driver((port) => new VirtioEntropy(port, 1));
});

const configuration = (offset: number, size: 1 | 2 | 4) => driver.device.pci.readConfiguration(offset, size);
const setConfiguration = (offset: number, size: 1 | 2 | 4, value: number) =>
  driver.device.pci.writeConfiguration(offset, size, value);

describe('configuration space', () => {
  it('is that of a modern virtio device', () => {
    expect([configuration(0, 4), configuration(8, 1), configuration(0x2c, 4)]).toEqual([
      0x1044_1af4, 1, 0x1044_1af4,
    ]);
    expect([configuration(0x3c, 1), configuration(0x3d, 1)]).toEqual([17, 1]);
    expect(configuration(0x100, 4)).toBe(0);
  });

  it('tells the size of its memory, which answers where and while it is asked to', () => {
    const { memory } = driver.device.pci;
    expect([memory.base, memory.size]).toEqual([0xe001_0000, 0]);
    setConfiguration(0x10, 4, 0xffff_ffff);
    expect(configuration(0x10, 4)).toBe(0xffff_8000);
    setConfiguration(0x10, 4, 0xf000_0000);
    setConfiguration(0x04, 2, 2);
    expect([memory.base, memory.size]).toEqual([0xf000_0000, 0x8000]);
  });

  it('has a capability for each structure of virtio', () => {
    const found: number[][] = [];
    for (let at = configuration(0x34, 1); at !== 0; at = configuration(at + 1, 1))
      if (configuration(at, 1) === 9) found.push([configuration(at + 3, 1), configuration(at + 8, 4)]);
    expect(found).toEqual([
      [1, 0],
      [2, 0x3000],
      [3, 0x1000],
      [4, 0x2000],
      [5, 0],
    ]);
  });

  it('has a window on the memory (4.1.4.8)', () => {
    const window = driver.device.pci.capabilities[4];
    setConfiguration(window + 8, 4, 0x12);
    setConfiguration(window + 12, 4, 2);
    expect(configuration(window + 16, 2)).toBe(1);
    setConfiguration(window + 8, 4, 0x14);
    setConfiguration(window + 12, 4, 1);
    setConfiguration(window + 16, 1, 3);
    expect([configuration(window + 16, 1), driver.status]).toEqual([3, 3]);
  });
});

describe('initialisation', () => {
  it('offers version 1 and indirect descriptors', () => {
    driver.write(0x00, 4, 1);
    expect(driver.read(0x04, 4)).toBe(1);
    driver.write(0x00, 4, 0);
    expect(driver.read(0x04, 4)).toBe(1 << 28);
    driver.write(0x00, 4, 2);
    expect(driver.read(0x04, 4)).toBe(0);
  });

  it.each([
    ['version 1', 0, 1, true],
    ['a driver of before version 1', 0, 0, false],
    ['a feature that is not offered', 1, 1, false],
    ['one beyond the first word', 0, 3, false],
  ])('accepts the features of %s as it should', (_name, low, high, accepted) => {
    driver.write(0x14, 1, 3);
    driver.write(0x08, 4, 0);
    driver.write(0x0c, 4, low);
    driver.write(0x08, 4, 1);
    driver.write(0x0c, 4, high);
    driver.write(0x14, 1, 11);
    expect(driver.status).toBe(accepted ? 11 : 3);
  });

  it('takes sizes that are powers of two up to its own, and vectors that there are', () => {
    expect(driver.read(0x18, 2)).toBe(64);
    for (const [size, expected] of [
      [16, 16],
      [15, 16],
      [128, 16],
      [0, 16],
    ]) {
      driver.write(0x18, 2, size);
      expect(driver.read(0x18, 2)).toBe(expected);
    }
    driver.write(0x1a, 2, 1);
    expect(driver.read(0x1a, 2)).toBe(1);
    driver.write(0x1a, 2, 2);
    expect(driver.read(0x1a, 2)).toBe(0xffff);
  });

  it('a queue that there is not has size 0', () => {
    driver.write(0x16, 2, 5);
    expect([driver.read(0x18, 2), driver.read(0x20, 4)]).toEqual([0, 0]);
  });

  it('reset puts all back', () => {
    driver.start();
    driver.write(0x14, 1, 0);
    driver.write(0x16, 2, 0);
    expect([driver.status, driver.read(0x1c, 2), driver.read(0x20, 4), driver.read(0x1a, 2)]).toEqual([
      0, 0, 0, 0xffff,
    ]);
  });
});

describe('interrupts', () => {
  it('go as messages by the vector of the queue', () => {
    driver.start();
    driver.send(0, [], [16]);
    expect([driver.messages, driver.pin]).toEqual([[0x41], false]);
  });

  it('wait while their entry is masked', () => {
    driver.start();
    driver.write(0x401c, 4, 1);
    driver.send(0, [], [16]);
    expect([driver.messages, driver.read(0x5000, 4)]).toEqual([[], 2]);
    driver.write(0x401c, 4, 0);
    expect([driver.messages, driver.read(0x5000, 4)]).toEqual([[0x41], 0]);
  });

  it('wait while all are masked', () => {
    driver.start();
    const msix = driver.capability(0x11);
    setConfiguration(msix + 2, 2, 0xc000);
    driver.send(0, [], [16]);
    expect(driver.messages).toEqual([]);
    setConfiguration(msix + 2, 2, 0x8000);
    expect(driver.messages).toEqual([0x41]);
  });

  it('go by the pin without MSI-X, until the cause is read', () => {
    driver.start(false);
    driver.send(0, [], [16]);
    expect([driver.pin, configuration(0x06, 2) & 8]).toEqual([true, 8]);
    expect([driver.read(0x1000, 1), driver.pin, driver.read(0x1000, 1)]).toEqual([1, false, 0]);
  });

  it('do not go by the pin where that is off', () => {
    driver.start(false);
    setConfiguration(0x04, 2, 0x406);
    driver.send(0, [], [16]);
    expect(driver.pin).toBe(false);
    setConfiguration(0x04, 2, 6);
    expect(driver.pin).toBe(true);
  });

  it('are left out where the driver does not want them', () => {
    driver.start();
    driver.view.setUint16(0x1400, 1, true);
    driver.send(0, [], [16]);
    expect([driver.returned(0), driver.messages]).toEqual([1, []]);
  });
});

/** Makes a chain of these descriptors available: address, length, flags, next. */
function chain(...descriptors: [number, number, number, number?][]): void {
  descriptors.forEach((each, i) => {
    driver.descriptor(0, i, ...each);
  });
  driver.offer(0, 0);
}

describe('queues', () => {
  it('nothing is done before the driver is ready, and then what waits is', () => {
    driver.start();
    driver.write(0x14, 1, 11);
    driver.send(0, [], [16]);
    expect(driver.returned(0)).toBe(0);
    driver.write(0x14, 1, 15);
    expect(driver.returned(0)).toBe(1);
  });

  it('nor without leave to use memory', () => {
    driver.start();
    setConfiguration(0x04, 2, 2);
    driver.send(0, [], [16]);
    expect(driver.returned(0)).toBe(0);
  });

  it('take indirect descriptors', () => {
    driver.start();
    const table = 0x8000;
    driver.view.setBigUint64(table, 0x9000n, true);
    driver.view.setUint32(table + 8, 24, true);
    driver.view.setUint16(table + 12, 2, true);
    driver.descriptor(0, 3, table, 16, 4);
    driver.offer(0, 3);
    driver.notify(0);
    expect([driver.returned(0), driver.written(0)]).toEqual([1, 24]);
  });

  it.each<[string, () => void]>([
    ['a descriptor beyond the table', () => driver.offer(0, 8)],
    ['more chains than entries', () => driver.offer(0, 0, 9)],
    ['a buffer beyond memory', () => chain([MEMORY - 1, 2, 2])],
    ['a circle', () => chain([0, 1, 3, 0])],
    ['an indirect table of a wrong size', () => chain([0, 15, 4])],
    [
      'an indirect table in another',
      () => {
        driver.view.setUint16(0x8000 + 12, 4, true);
        driver.view.setUint32(0x8000 + 8, 16, true);
        chain([0x8000, 16, 4]);
      },
    ],
    ['a buffer to read behind one to write', () => chain([0, 1, 3, 1], [0, 1, 0])],
  ])('with %s make the device ask for a reset', (_name, spoil) => {
    driver.start();
    spoil();
    driver.notify(0);
    expect(driver.status & 0x40).toBe(0x40);
    driver.start();
    expect(driver.status).toBe(15);
    driver.send(0, [], [16]);
    expect(driver.returned(0)).toBe(1);
  });

  it('whatever is in them, the device works or asks for a reset', () => {
    const word = fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 7, 0x1000, 0xf_ffff), fc.nat(0xffff));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(word, word, fc.nat(7), fc.nat(9)), { minLength: 8, maxLength: 8 }),
        fc.nat(9),
        fc.nat(9),
        (table, head, available) => {
          driver.start();
          table.forEach(([address, length, flags, next], i) => {
            driver.descriptor(0, i, address, length, flags, next);
          });
          driver.offer(0, head, available);
          driver.notify(0);
          expect([15, 0x4f]).toContain(driver.status);
        },
      ),
      { numRuns: 300 },
    );
  });
});

it('its state can be taken and put back', () => {
  driver.start();
  const state = driver.device.save();
  const [first] = driver.send(0, [], [16]);
  const rings = driver.memory.bytes.slice(0x1000, 0x2000);
  driver.device.restore(state);
  driver.memory.bytes.set(rings, 0x1000);
  driver.view.setUint16(0x1802, 0, true);
  driver.notify(0);
  expect(driver.returned(0)).toBe(1);
  expect(driver.memory.bytes.slice(0x1_0000, 0x1_0010)).toEqual(first);
});

it('random bytes are those of the seed', () => {
  const bytes = (seed: number) => {
    const one = new Driver((port) => new VirtioEntropy(port, seed));
    one.start();
    return one.send(0, [], [40])[0];
  };
  expect(bytes(7)).toEqual(bytes(7));
  expect(bytes(7)).not.toEqual(bytes(8));
  expect(
    bytes(7)
      .subarray(32)
      .some((byte) => byte !== 0),
  ).toBe(true);
});
