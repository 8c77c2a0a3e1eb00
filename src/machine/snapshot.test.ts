/** Snapshots: going back, forking, and files, whatever has happened to them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INITIAL_TILES, tileState } from '../arch/tile-state.ts';
import { encodeSnapshot, Machine, type MachineOptions, SnapshotError } from '../index.ts';
import { checksum } from './checksum.ts';
import { crc32 } from './crc32.ts';
import { echoImage, localTimerImage, nmiImage, picTimerImage, racingImage } from './guests.fixture.ts';
import { Snapshot } from './snapshot.ts';

/** Palette 1, no tile configured; data all the same. */
const someTiles = tileState(new Uint8Array(64).fill(1, 0, 1), new Uint8Array(8192).fill(7), 0x4_0000n, 0n);

function booted(image: Uint8Array, options: MachineOptions = {}): Machine {
  const machine = Machine.create({ memory: 2, ...options });
  machine.boot(image);
  return machine;
}

/** Runs on and tells everything that can be seen. */
function future(machine: Machine, instructions: number): unknown {
  const trace: string[] = [];
  machine.trace = (cpu, rip) => trace.push(`${cpu}:${rip.toString(16)}`);
  const output: number[] = [];
  machine.serial.onOutput = (byte) => output.push(byte);
  const stop = machine.run({ maxInstructions: instructions });
  machine.trace = undefined;
  return { stop, trace, output, times: machine.cpus.map((_, i) => machine.time(i)), end: whole(machine) };
}

/** Registers and RAM. */
function whole(machine: Machine): unknown {
  return {
    registers: machine.cpus.map((_, i) => machine.registers(i)),
    memory: crc32(machine.readPhysical(0, machine.configuration.ramBytes)),
  };
}

describe('restore', () => {
  it.each([
    ['two processors', racingImage(3000), { cpus: 2, quantum: 30, seed: 4 }, 1700],
    ['a local APIC timer, while halted', localTimerImage(), {}, 110],
    ['the 8254', picTimerImage(), {}, 90],
  ] as const)('the same run follows: %s', (_name, image, options, before) => {
    const machine = booted(image, options);
    machine.run({ maxInstructions: before });
    const snapshot = machine.snapshot();
    const start = whole(machine);
    const first = future(machine, 2000);
    for (let i = 0; i < 3; i++) {
      machine.restore(snapshot);
      expect(whole(machine)).toEqual(start);
      expect(future(machine, 2000)).toEqual(first);
    }
    expect(future(Machine.from(snapshot), 2000)).toEqual(first);
  });

  it('brings back serial input that has been read since', () => {
    const machine = booted(echoImage());
    machine.serial.write(new TextEncoder().encode('xyz'));
    const snapshot = machine.snapshot();
    const first = future(machine, 500);
    machine.restore(snapshot);
    expect(machine.serial.waiting).toBe(3);
    expect(future(machine, 500)).toEqual(first);
  });

  it('undoes what is done from outside: memory, registers, NMIs, interrupt lines', () => {
    const machine = booted(nmiImage());
    machine.run({ maxInstructions: 300 });
    const snapshot = machine.snapshot();
    const start = whole(machine);
    machine.writePhysical(0x12_3456, Uint8Array.of(1));
    machine.setRegister('rax', 77n);
    machine.setRegister('cr3', 0x5000n);
    machine.injectNmi();
    machine.raiseIrq(5);
    machine.restore(snapshot);
    expect(whole(machine)).toEqual(start);
    expect(machine.cpus[0].nmiPending).toBe(0);
    expect(machine.run({ maxInstructions: 300 })).toEqual({ reason: 'limit' });
  });

  it('brings changed code back', () => {
    const machine = booted(nmiImage());
    machine.run({ maxInstructions: 300 });
    const snapshot = machine.snapshot();
    const first = future(machine, 100);
    machine.restore(snapshot);
    const { rip } = machine.registers();
    // INC ECX in place of whatever comes next, and executed.
    machine.writePhysical(Number(rip), Uint8Array.of(0x41));
    machine.run({ maxInstructions: 5 });
    machine.restore(snapshot);
    expect(future(machine, 100)).toEqual(first);
  });

  it('a tree of forks: any of them can be gone to from any', () => {
    const machine = booted(racingImage(3000), { cpus: 2, quantum: 30, seed: 4 });
    const nodes: { snapshot: Snapshot; state: unknown }[] = [];
    const keep = () => nodes.push({ snapshot: machine.snapshot(), state: whole(machine) });
    machine.run({ maxInstructions: 400 });
    keep();
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 300 })), { maxLength: 6 }),
        (forks) => {
          for (const [from, instructions] of forks) {
            const parent = nodes[from % nodes.length];
            machine.restore(parent.snapshot);
            expect(whole(machine)).toEqual(parent.state);
            machine.writePhysical(
              0x10_8000 + (instructions % 5) * 0x1000,
              Uint8Array.of(instructions & 0xff),
            );
            machine.run({ maxInstructions: instructions });
            keep();
          }
        },
      ),
      { numRuns: 8 },
    );
    for (const { snapshot, state } of nodes.reverse()) {
      machine.restore(snapshot);
      expect(whole(machine)).toEqual(state);
    }
  });

  it('of tiles, of which each processor has its own', () => {
    const machine = booted(racingImage(3000), { cpus: 2 });
    const [first, second] = machine.cpus;
    const before = machine.snapshot();
    second.tiles = someTiles;
    const after = machine.snapshot();
    machine.restore(before);
    expect(second.tiles).toBe(INITIAL_TILES);
    machine.restore(after);
    expect([first.tiles, second.tiles]).toEqual([INITIAL_TILES, someTiles]);
  });

  it('refuses a snapshot of another configuration', () => {
    const snapshot = booted(nmiImage(), { cpus: 2 }).snapshot();
    expect(() => booted(nmiImage()).restore(snapshot)).toThrow(
      new SnapshotError('cpus: 2 in the snapshot, expected 1 as in the machine'),
    );
    expect(() => Machine.create({ cpus: 2, memory: 4 }).restore(snapshot)).toThrow(/^ramBytes/);
  });
});

describe('files', () => {
  const machine = booted(racingImage(3000), { cpus: 2, quantum: 30, seed: 4 });
  machine.serial.write(Uint8Array.of(1, 2, 3));
  machine.run({ maxInstructions: 1500 });
  const file = encodeSnapshot(machine.snapshot());
  const expected = future(machine, 1000);

  /** With another header, and a right checksum. */
  const edited = (edit: (header: string) => string, bytes = file): Uint8Array => {
    const view = new DataView(bytes.buffer);
    const length = view.getUint32(16, true);
    const header = new TextEncoder().encode(edit(new TextDecoder().decode(bytes.subarray(20, 20 + length))));
    const copy = new Uint8Array(bytes.length - length + header.length);
    copy.set(bytes.subarray(0, 20));
    copy.set(header, 20);
    copy.set(bytes.subarray(20 + length), 20 + header.length);
    new DataView(copy.buffer).setUint32(16, header.length, true);
    return checked(copy);
  };
  const checked = (bytes: Uint8Array): Uint8Array => {
    new DataView(bytes.buffer).setUint32(12, checksum(bytes.subarray(16)), true);
    return bytes;
  };
  const patched = (at: number, ...values: number[]): Uint8Array => {
    const copy = file.slice();
    copy.set(values, at < 0 ? copy.length + at : at);
    return copy;
  };
  const errorOf = (bytes: Uint8Array): string => {
    try {
      Machine.readSnapshot(bytes);
    } catch (error) {
      if (error instanceof SnapshotError) return error.message;
      throw error;
    }
    throw new Error('no error');
  };

  it('hold everything, and no page of zeros', () => {
    expect(future(Machine.from(Machine.readSnapshot(file)), 1000)).toEqual(expected);
    expect(file.length).toBeLessThan(120_000);
  });

  it('are read from a Buffer at any alignment, and keep nothing of it', () => {
    const whole = Buffer.alloc(file.length + 4);
    for (let offset = 0; offset < 4; offset++) {
      const buffer = whole.subarray(offset, offset + file.length);
      buffer.set(file);
      const snapshot = Machine.readSnapshot(buffer);
      whole.fill(0xff);
      expect(future(Machine.from(snapshot), 1000)).toEqual(expected);
    }
  });

  it('of older versions lack what machines had not', () => {
    const older = edited((header) => {
      const { cpu: _, parts, ...rest } = JSON.parse(header);
      const { numericError: __, ...others } = parts;
      return JSON.stringify({ ...rest, parts: others });
    });
    expect(older).not.toEqual(file);
    expect(Machine.readSnapshot(older).parts).toEqual(Machine.readSnapshot(file).parts);
    expect(Machine.readSnapshot(older).configuration).toEqual(Machine.readSnapshot(file).configuration);
  });

  it('are the same for the same snapshot read and written again', () => {
    expect(encodeSnapshot(Machine.readSnapshot(file))).toEqual(file);
  });

  describe('with tiles', () => {
    const { configuration, pages, states, tlbs, parts } = Machine.readSnapshot(file);
    const tiles = [someTiles, INITIAL_TILES];
    const bytes = encodeSnapshot(new Snapshot(configuration, pages, states, tlbs, parts, tiles));
    it('have another version, which an espfix without would not misread', () => {
      expect([file[8], bytes[8]]).toEqual([2, 3]);
      expect(Machine.readSnapshot(bytes).tiles).toEqual(tiles);
      expect(Machine.from(Machine.readSnapshot(bytes)).cpus[0].tiles).toEqual(someTiles);
      expect(Machine.readSnapshot(file).tiles).toEqual([INITIAL_TILES, INITIAL_TILES]);
    });
    it.each<[string, (header: string) => string, RegExp]>([
      [
        'tiles of another number of processors',
        (h) => h.replace('"tiles":[{', '"tiles":[{},{'),
        /^tiles: expected those of 2/,
      ],
      [
        'a configuration that is none',
        (h) => h.replace('"config":"01', '"config":"02'),
        /^tiles.0.config: expected a configuration/,
      ],
      [
        'too few bytes',
        (h) => h.replace('"config":"01', '"config":"'),
        /^tiles.0.config: expected 64 bytes$/,
      ],
      [
        'another bit of XFD',
        (h) => h.replace('"xfd":"40000"', '"xfd":"20000"'),
        /^tiles.0.xfd: expected no bit of IA32_XFD/,
      ],
    ])('%s is refused', (_, edit, message) => {
      expect(errorOf(edited(edit, bytes))).toMatch(message);
    });
  });

  it.each([
    ['nothing', new Uint8Array(0), 'truncated: 0 bytes, expected at least 20'],
    [
      'another kind of file',
      new TextEncoder().encode('#!/bin/sh\nexit 0\nexit 1\n'),
      /^magic: expected ESPFIXSN/,
    ],
    ['another version', patched(8, 9), 'version: 9, expected 2 or 3'],
    ['a flipped bit', patched(-100, file[file.length - 100] ^ 1), /^checksum: does not match/],
    ['a truncated file', file.slice(0, -1), /^checksum/],
    [
      'a header beyond the file',
      checked(patched(16, 0xff, 0xff, 0xff, 0x7f)),
      /^header length: 2147483647, expected at most/,
    ],
    ['a header that is not JSON', edited((h) => h.slice(1)), 'header: not JSON in UTF-8'],
    ['a header that is no object', edited(() => '[]'), 'header: expected an object'],
    [
      'another layout',
      edited((h) => h.replace(/"layout":\d+/, '"layout":1')),
      /^layout: written by another version/,
    ],
    [
      'a missing field',
      edited((h) => h.replace('"cpus"', '"cpux"')),
      'cpus: expected a whole number of 0 or more',
    ],
    [
      'an impossible machine',
      edited((h) => h.replace('"cpus":2', '"cpus":99')),
      'configuration: cpus: 99, expected a whole number from 1 to 64',
    ],
    [
      'other processors than there are states',
      edited((h) => h.replace('"cpus":2', '"cpus":3')),
      /^length: \d+ bytes, expected \d+$/,
    ],
    ['other pages than there are', edited((h) => h.replace(/"pages":\d+/, '"pages":1')), /^length/],
    [
      'a damaged device',
      edited((h) => h.replace('"ier":', '"iex":')),
      'parts.uart.ier: expected a whole number',
    ],
    [
      'a fraction',
      edited((h) => h.replace(/"sliceEnd":\d+/, '"sliceEnd":0.5')),
      'parts.schedule.sliceEnd: expected a whole number',
    ],
    ['a time beyond all times', edited((h) => h.replace(/"sliceEnd":\d+/, '"sliceEnd":1e300')), /sliceEnd/],
    [
      'bytes that are none',
      edited((h) => h.replace(/"wire":"/, '"wire":"zz')),
      'parts.uart.wire: expected bytes in hexadecimal',
    ],
    [
      'too few registers',
      edited((h) => h.replace(/"isr":\[0,/, '"isr":[')),
      /^parts.localApics.0.isr: expected 8 numbers$/,
    ],
    ['no devices', edited((h) => h.replace('"parts":{', '"partz":{')), 'parts: expected an object'],
    [
      'a page twice',
      checked(patched(-4100, ...file.slice(-8200, -8196))),
      /^page \d+: number \d+, expected \d+ to 511$/,
    ],
    ['a page beyond RAM', checked(patched(-4100, 0, 2, 0, 0)), /^page \d+: number 512, expected \d+ to 511$/],
  ])('%s is refused', (_name, bytes, message) => {
    const error = errorOf(bytes);
    if (message instanceof RegExp) expect(error).toMatch(message);
    else expect(error).toBe(message);
  });

  it('mutated at random, with a right checksum: refused in one line, or a machine that runs or stops', () => {
    let read = 0;
    const headerLength = new DataView(file.buffer).getUint32(16, true);
    const at = fc.oneof(fc.nat(20 + headerLength), fc.nat(file.length - 1));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(at, fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 }),
        (edits) => {
          const bytes = file.slice();
          for (const [position, value] of edits) bytes[position] = value;
          let snapshot: Snapshot;
          try {
            snapshot = Machine.readSnapshot(checked(bytes));
          } catch (error) {
            if (!(error instanceof SnapshotError)) throw error;
            expect(error.message).toMatch(/^[^\n]{5,300}$/);
            return;
          }
          read++;
          const { quantum, seed, epoch } = snapshot.configuration;
          const same = quantum === 30 && seed === 4 && epoch === machine.configuration.epoch;
          const target = same ? machine : Machine.from(snapshot);
          if (same) target.restore(snapshot);
          target.run({ maxInstructions: 300 });
        },
      ),
      { numRuns: 300 },
    );
    expect(read).toBeGreaterThan(10);
  });
});

describe('a machine with devices on its bus', () => {
  const content = new Uint8Array(4096).fill(7);
  const disk = {
    size: content.length,
    writable: false,
    read(offset: number, bytes: Uint8Array) {
      bytes.set(content.subarray(offset, offset + bytes.length));
      return true;
    },
    write: () => false,
    flush: () => true,
  };
  const options: MachineOptions = { memory: 2, console: true, entropy: true, disk };
  const machine = booted(echoImage(), options);
  machine.console?.write(new TextEncoder().encode('waiting'));
  const file = encodeSnapshot(machine.snapshot());

  it('comes back from a file with them', () => {
    const again = Machine.from(Machine.readSnapshot(file), { disk });
    expect(again.configuration).toEqual(machine.configuration);
    expect(again.console?.waiting).toBe(7);
    expect(encodeSnapshot(again.snapshot())).toEqual(file);
  });

  it('needs what stands behind them, and nothing else', () => {
    expect(() => Machine.from(Machine.readSnapshot(file))).toThrow(/^disk: the machine had one/);
    const plain = booted(echoImage()).snapshot();
    expect(() => Machine.from(plain, { disk })).toThrow(/^disk: the machine had none/);
    expect(() => machine.restore(plain)).toThrow(
      /^devices: {2}in the snapshot, expected console,entropy,disk/,
    );
  });

  it('is refused with devices that there are not', () => {
    const text = new TextDecoder('latin1')
      .decode(file)
      .replace('console,entropy,disk', 'console,entropy,dusk');
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    new DataView(bytes.buffer).setUint32(12, checksum(bytes.subarray(16)), true);
    expect(() => Machine.readSnapshot(bytes)).toThrow(/^configuration: devices: expected some of console/);
  });
});
