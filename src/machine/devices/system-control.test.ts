/** System control port A, the POST port and the debug exit. */
import { beforeEach, describe, expect, it } from 'vitest';
import { DebugExit } from './debug-exit.ts';
import { SystemControl } from './system-control.ts';

let resets: number;
let control: SystemControl;
const device = (port: number) => {
  const found = control.ports.find((d) => port >= d.port && port < d.port + d.count);
  if (!found) throw new Error('no port');
  return found;
};
const out = (port: number, value: number, size: 1 | 2 | 4 = 1) => device(port).portWrite(port, size, value);

beforeEach(() => {
  resets = 0;
  control = new SystemControl(() => resets++);
});

describe('reset', () => {
  it.each<[string, [number, number][], number]>([
    ['92H: bit 0', [[0x92, 0x03]], 1],
    ['92H: A20 only', [[0x92, 0x02]], 0],
  ])('%s', (_name, writes, expected) => {
    for (const [port, value] of writes) out(port, value);
    expect(resets).toBe(expected);
  });
});

it('the POST port keeps its byte; A20 reads as enabled', () => {
  out(0x80, 0x42);
  expect([control.post, device(0x92).portRead(0x92, 1) & 2]).toEqual([0x42, 2]);
});

it.each([
  [1, 0x12],
  [2, 0x1234],
  [4, 0x8765_4321],
] as const)('debug exit takes writes of %i bytes', (size, value) => {
  const values: number[] = [];
  const exit = new DebugExit((v) => values.push(v));
  exit.portWrite(0xf4, size, value | 0);
  expect(values).toEqual([value]);
});
