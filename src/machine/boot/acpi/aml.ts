/**
 * ACPI Machine Language: what names, devices and resources are in bytes. ACPI specification 6.4, chapters 20 "AML
 * Specification" and 6.4 "Resource Data Types for ACPI".
 *
 * Each function gives the bytes of one term; terms are put together by nesting.
 */
import { Fields } from '../fields.ts';

export type Aml = readonly number[];

/** A term that is data: an integer, a string or encoded AML. */
export type Data = number | string | Aml;

/** A name: four characters, after `\` from the root. Shorter ones are padded with `_`. */
function nameString(name: string): Aml {
  const root = name.startsWith('\\');
  const segment = root ? name.slice(1) : name;
  if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(segment)) throw new RangeError(`not an ACPI name: ${name}`);
  return [...(root ? [0x5c] : []), ...new Fields().text(segment, 4, '_').bytes];
}

/** Bytes behind their length, which counts itself (20.2.4 PkgLength). */
function withLength(body: Aml): Aml {
  const { length } = body;
  if (length + 1 < 1 << 6) return [length + 1, ...body];
  const extra = length + 2 < 1 << 12 ? 1 : length + 3 < 1 << 20 ? 2 : 3;
  const total = length + 1 + extra;
  const head = [(extra << 6) | (total & 15)];
  for (let i = 0; i < extra; i++) head.push((total >> (4 + 8 * i)) & 0xff);
  return [...head, ...body];
}

/** An integer in its shortest form, unsigned, up to 32 bits. */
function integer(value: number): Aml {
  if (value === 0 || value === 1) return [value];
  if (value < 1 << 8) return [0x0a, value];
  if (value < 1 << 16) return [0x0b, ...new Fields().u16(value).bytes];
  return [0x0c, ...new Fields().u32(value).bytes];
}

function data(value: Data): Aml {
  if (typeof value === 'number') return integer(value);
  if (typeof value === 'string') return [0x0d, ...new Fields().text(value).u8(0).bytes];
  return value;
}

/** Scope (name) { terms }. */
export function scope(name: string, ...terms: Aml[]): Aml {
  return [0x10, ...withLength([...nameString(name), ...terms.flat()])];
}

/** Device (name) { terms }. */
export function device(name: string, ...terms: Aml[]): Aml {
  return [0x5b, 0x82, ...withLength([...nameString(name), ...terms.flat()])];
}

/** Name (name, value). */
export function name(name: string, value: Data): Aml {
  return [0x08, ...nameString(name), ...data(value)];
}

/** Package () { elements }: up to 255. */
export function aPackage(...elements: Data[]): Aml {
  return [0x12, ...withLength([elements.length, ...elements.flatMap(data)])];
}

/** EISAID ("PNP0A08"): three letters and four hexadecimal digits in 32 bits. */
export function eisaId(id: string): Aml {
  const match = /^([A-Z])([A-Z])([A-Z])([0-9A-F]{4})$/.exec(id);
  if (!match) throw new RangeError(`not an EISA identifier: ${id}`);
  const [a, b, c] = match.slice(1, 4).map((letter) => letter.charCodeAt(0) - 0x40);
  const number = Number.parseInt(match[4], 16);
  const letters = (a << 10) | (b << 5) | c;
  return [0x0c, letters >> 8, letters & 0xff, number >> 8, number & 0xff];
}

/** ResourceTemplate () { resources }. */
export function resources(...descriptors: Aml[]): Aml {
  const END_TAG = [0x79, 0];
  const list = [...descriptors.flat(), ...END_TAG];
  return [0x11, ...withLength([...integer(list.length), ...list])];
}

/** IO (Decode16, from, from, 1, count). */
export function ioPorts(from: number, count: number): Aml {
  return new Fields().u8(0x47, 1).u16(from, from).u8(1, count).bytes;
}

/** IRQNoFlags () {irq}: edge-triggered, active high, not shared. */
export function irq(line: number): Aml {
  return new Fields().u8(0x22).u16(1 << line).bytes;
}

/** Memory32Fixed (ReadWrite, from, size). */
export function fixedMemory(from: number, size: number): Aml {
  return new Fields().u8(0x86).u16(9).u8(1).u32(from, size).bytes;
}

/** Kinds of address space descriptors. */
const MEMORY = 0;
const IO = 1;
const BUS_NUMBERS = 2;
/** Produced as well as consumed, positively decoded, both ends fixed. */
const FIXED_WINDOW = 0x0c;

/** WordBusNumber: the buses below a bridge. */
export function busNumbers(from: number, count: number): Aml {
  return wordWindow(BUS_NUMBERS, 0, from, count);
}

/** WordIO: ports that a bridge passes on. */
export function ioWindow(from: number, count: number): Aml {
  const ENTIRE_RANGE = 3;
  return wordWindow(IO, ENTIRE_RANGE, from, count);
}

function wordWindow(kind: number, flags: number, from: number, count: number): Aml {
  const last = from + count - 1;
  return new Fields().u8(0x88).u16(13).u8(kind, FIXED_WINDOW, flags).u16(0, from, last, 0, count).bytes;
}

/** DWordMemory: memory that a bridge passes on; not cacheable. */
export function memoryWindow(from: number, size: number): Aml {
  const READ_WRITE = 1;
  const last = from + size - 1;
  return new Fields().u8(0x87).u16(23).u8(MEMORY, FIXED_WINDOW, READ_WRITE).u32(0, from, last, 0, size).bytes;
}
