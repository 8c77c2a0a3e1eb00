/** What tests of the loaders have in common: a machine of 16 MiB, what a load leaves in it, and what a refusal says. */
import { expect } from 'vitest';
import { ImageError, loadImage } from './load.ts';
import type { BootOptions, Load } from './plan.ts';

export const MIB = 1 << 20;
export const RAM = 16 * MIB;

/** RAM as a load leaves it. */
export function memoryOf(load: Load): { view: DataView; text(address: number): string } {
  const bytes = new Uint8Array(RAM);
  for (const piece of load.pieces) bytes.set(piece.bytes, piece.address);
  return {
    view: new DataView(bytes.buffer),
    text: (address) => new TextDecoder().decode(bytes.subarray(address, bytes.indexOf(0, address))),
  };
}

/** Loads an image; RAM is 16 MiB unless told. */
export const load = (image: Uint8Array, options: BootOptions = {}, ram = RAM) =>
  loadImage(image, ram, options);

/** What the loader says of an image that it refuses. */
export function errorOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof ImageError) return error.message;
    throw error;
  }
  throw new Error('no error');
}

/** What `action` loads, which must lie within `ram` bytes and without overlaps; undefined where it refuses, in one line. */
export function loadedOrRefused(ram: number, action: () => Load): Load | undefined {
  let plan: Load;
  try {
    plan = action();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    expect(error.message).toMatch(/^[^\n]{10,300}$/);
    return undefined;
  }
  const ranges = plan.pieces
    .map(({ address, bytes }) => [address, address + bytes.length])
    .sort(([a], [b]) => a - b);
  expect(ranges[0][0]).toBeGreaterThanOrEqual(0);
  expect(Math.max(...ranges.map(([, end]) => end))).toBeLessThanOrEqual(ram);
  for (let i = 1; i < ranges.length; i++) expect(ranges[i][0]).toBeGreaterThanOrEqual(ranges[i - 1][1]);
  return plan;
}
