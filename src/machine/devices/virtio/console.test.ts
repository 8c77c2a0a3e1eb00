/** The virtio console: what goes out, what comes in, and its size. */
import { beforeEach, expect, it } from 'vitest';
import { VirtioConsole } from './console.ts';
import { Driver } from './driver.fixture.ts';

let output: string;
let driver: Driver;
let console: VirtioConsole;

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (data: Uint8Array) => new TextDecoder().decode(data).replace(/\0+$/, '');

beforeEach(() => {
  output = '';
  driver = new Driver((port) => {
    console = new VirtioConsole(port);
    return console;
  });
  console.onOutput = (data) => {
    output += text(data);
  };
});

it('sends what the guest gives, of all buffers', () => {
  driver.start();
  driver.send(1, [bytes('hello, '), bytes('host')]);
  expect([output, driver.returned(1), driver.messages]).toEqual(['hello, host', 1, [0x42]]);
});

it('what arrives waits for buffers', () => {
  console.receive(bytes('early'));
  driver.start();
  expect(console.waiting).toBe(5);
  const first = driver.put(0, [], [3]);
  driver.notify(0);
  expect([text(first()[0]), driver.written(0), console.waiting]).toEqual(['ear', 3, 2]);
  const second = driver.put(0, [], [64]);
  driver.notify(0);
  expect([text(second()[0]), console.waiting]).toEqual(['ly', 0]);
});

it('what arrives later goes into buffers that wait', () => {
  driver.start();
  const buffer = driver.put(0, [], [64]);
  driver.notify(0);
  console.receive(bytes('late'));
  expect([text(buffer()[0]), driver.messages]).toEqual(['late', [0x41]]);
});

it('a broken queue is the guest’s trouble, not the host’s', () => {
  driver.start();
  driver.offer(0, 77);
  console.receive(bytes('x'));
  expect(driver.status & 0x40).toBe(0x40);
});

it('tells its size, and when that changes', () => {
  expect([driver.read(0x2000, 2), driver.read(0x2002, 2)]).toEqual([80, 24]);
  driver.start(false, 1);
  const generation = driver.read(0x15, 1);
  console.resize(132, 50);
  expect([driver.read(0x2000, 2), driver.read(0x2002, 2)]).toEqual([132, 50]);
  expect(driver.read(0x15, 1)).not.toBe(generation);
  expect([driver.pin, driver.read(0x1000, 1)]).toEqual([true, 2]);
  console.resize(132, 50);
  expect(driver.pin).toBe(false);
});

it('its state can be taken and put back', () => {
  console.receive(bytes('abc'));
  const state = driver.device.save();
  driver.start();
  const buffer = driver.put(0, [], [8]);
  driver.notify(0);
  expect(text(buffer()[0])).toBe('abc');
  driver.device.restore(state);
  expect(console.waiting).toBe(3);
});
