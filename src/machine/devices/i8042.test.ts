/** The keyboard controller and its keyboard, as systems probe them. */
import { beforeEach, describe, expect, it } from 'vitest';
import { I8042 } from './i8042.ts';

let resets: number;
let edges: number;
let level: boolean;
let controller: I8042;

const device = (port: number) => {
  const found = controller.ports.find((one) => one.port === port);
  if (!found) throw new Error('no port');
  return found;
};
const out = (port: number, ...values: number[]) => {
  for (const value of values) device(port).portWrite(port, 1, value);
};
const read = (port: number) => device(port).portRead(port, 1);
/** All that stands in the output buffer. */
const answers = () => {
  const bytes: number[] = [];
  while (read(0x64) & 1) bytes.push(read(0x60));
  return bytes;
};

beforeEach(() => {
  resets = 0;
  edges = 0;
  level = false;
  controller = new I8042(
    (asserted) => {
      if (asserted) edges++;
      level = asserted;
    },
    () => resets++,
  );
});

describe('controller commands', () => {
  it.each<[string, number[], number[]]>([
    ['self-test', [0xaa], [0x55]],
    ['keyboard line test', [0xab], [0]],
    ['command byte', [0x20], [0x65]],
    ['input port', [0xc0], [0]],
    ['output port', [0xd0], [3]],
    ['disable and enable', [0xad, 0xae, 0xa7, 0xa8], []],
    ['unknown', [0x42], []],
  ])('%s', (_name, commands, expected) => {
    out(0x64, ...commands);
    expect(answers()).toEqual(expected);
  });

  it('writes the command byte', () => {
    out(0x64, 0x60);
    out(0x60, 0x74);
    out(0x64, 0x20);
    expect(answers()).toEqual([0x74]);
    expect(level).toBe(false);
  });

  it('gives back what is written as if the keyboard had sent it, but has no auxiliary device', () => {
    out(0x64, 0xd2);
    out(0x60, 0x1c);
    out(0x64, 0xd4);
    out(0x60, 0xff);
    out(0x64, 0xd3);
    out(0x60, 0x5a);
    expect(answers()).toEqual([0x1c]);
  });
});

describe('keyboard', () => {
  it.each<[string, number[], number[]]>([
    ['reset', [0xff], [0xfa, 0xaa]],
    ['identification, translated', [0xf2], [0xfa, 0xab, 0x41]],
    ['echo', [0xee], [0xee]],
    ['indicators', [0xed, 7], [0xfa, 0xfa]],
    ['typematic rate', [0xf3, 0x20], [0xfa, 0xfa]],
    ['scan code set', [0xf0, 0], [0xfa, 0xfa, 2]],
    ['enable', [0xf4], [0xfa]],
    ['unknown', [0x01], [0xfe]],
  ])('%s', (_name, bytes, expected) => {
    out(0x60, ...bytes);
    expect(answers()).toEqual(expected);
  });

  it('each byte interrupts', () => {
    out(0x60, 0xf2);
    expect([edges, level]).toEqual([1, true]);
    expect(answers()).toHaveLength(3);
    expect([edges, level]).toEqual([3, false]);
  });

  it('a guest that never reads fills the buffer, and no more', () => {
    for (let i = 0; i < 1000; i++) out(0x60, 0xee);
    expect(answers()).toHaveLength(16);
  });
});

describe('reset', () => {
  it.each<[string, [number, number][], number]>([
    ['pulse of the reset line', [[0x64, 0xfe]], 1],
    ['pulse of nothing', [[0x64, 0xff]], 0],
    [
      'output port with the line low',
      [
        [0x64, 0xd1],
        [0x60, 0xfe],
      ],
      1,
    ],
    [
      'output port with the line high',
      [
        [0x64, 0xd1],
        [0x60, 0xdf],
      ],
      0,
    ],
    ['data without a command', [[0x60, 0xfe]], 0],
  ])('%s', (_name, writes, expected) => {
    for (const [port, value] of writes) out(port, value);
    expect(resets).toBe(expected);
  });
});

it('status tells whether the latest byte was a command', () => {
  expect(read(0x64)).toBe(0x14);
  out(0x64, 0xad);
  expect(read(0x64)).toBe(0x1c);
  out(0x60, 0);
  expect(read(0x64) & 0x09).toBe(1);
});

it('its state can be taken and put back', () => {
  out(0x60, 0xf2);
  const state = controller.save();
  expect(answers()).toHaveLength(3);
  controller.restore(state);
  expect(answers()).toEqual([0xfa, 0xab, 0x41]);
});
