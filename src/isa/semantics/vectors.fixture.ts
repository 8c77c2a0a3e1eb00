/**
 * Test vectors: single instructions with what an Intel processor (family 6, model 207, stepping 2) made of them, run
 * natively at CPL 3. Results beyond what the manual defines are that processor's.
 *
 * A case reads `flags inputs... > flags changes...`, all hexadecimal: CF PF AF ZF SF DF OF in their RFLAGS positions,
 * then the registers of the group's `inputs`. Other registers are `0x1111111111111111 * number`, rSP `PAGE + 0x480` and
 * rDI `PAGE + 0x440`. Memory is one page, filled with `PATTERN`, and `@offset=bytes` where the case says so. Changes are
 * `rN=value`, `@offset=bytes` in the page, `taken` for a branch, `rip=value` for one that left for elsewhere, and
 * `#vector` for a fault.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { CodeSize, Instruction, Operand, OperandWidth } from '../instruction.ts';
import type { IntegerMnemonic } from '../mnemonics.ts';
import { type ByteMemory, type Guest, instruction } from './evaluate.fixture.ts';

/** Instructions of one form. */
export interface VectorGroup {
  readonly mnemonic: IntegerMnemonic;
  readonly operandSize: OperandWidth;
  /** `r3:32` a register, `i7f:8` an immediate, `[r7-80]:64` memory, `+2` a relative target. */
  readonly operands: readonly string[];
  /** Absent: 64. */
  readonly codeSize?: CodeSize;
  /** Absent: as the code. */
  readonly addressSize?: CodeSize;
  /** Absent: as the code. */
  readonly stackSize?: CodeSize;
  /** Segments whose base is the page: SS, or SS, DS and ES; else bases are zero. */
  readonly segmentBase?: 'ss' | 'all';
  readonly condition?: number;
  readonly repeat?: 'rep' | 'repne';
  /** Absent: 4, and without importance. */
  readonly length?: number;
  readonly inputs: readonly number[];
  readonly cases: readonly string[];
}

/** Linear address of the page. */
export const PAGE = 0x3000_0000n;
const PAGE_SIZE = 4096;

/** Address of the instruction. */
function codeAddress(codeSize: CodeSize): bigint {
  return codeSize === 64 ? 0x1000_0800n : 0x1000_1000n;
}

const PATTERN = Uint8Array.from({ length: PAGE_SIZE }, (_, offset) =>
  (offset >> 4) & 1 ? 0x5a : (offset & 0xff) * 0x1d,
);

/** The one page that is mapped. */
export class PageMemory implements ByteMemory {
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
  get(address: bigint): number | undefined {
    return this.bytes[Number(address - PAGE)];
  }
  set(address: bigint, byte: number): void {
    this.bytes[Number(address - PAGE)] = byte;
  }
}

const hex = (digits: string): bigint => BigInt(`0x${digits}`);

function parseOperand(text: string): Operand {
  const relative = /^\+(\d+)$/.exec(text);
  if (relative) return { kind: 'relative', displacement: BigInt(relative[1]) };
  const match =
    /^(?:r(?<register>\d+)|i(?<value>\w+)|\[r(?<base>\d+)(?<displacement>[+-]\w+)?\]):(?<width>\d+)$/.exec(
      text,
    );
  if (!match?.groups) throw new Error(`operand ${text}`);
  const { register, value, base, displacement = '+0' } = match.groups;
  const width = Number(match.groups.width) as OperandWidth;
  if (register) return { kind: 'register', index: Number(register), width, high: false };
  if (value) return { kind: 'immediate', width, value: hex(value) };
  const magnitude = hex(displacement.slice(1));
  return {
    kind: 'memory',
    width,
    segment: 3,
    base: Number(base),
    index: -1,
    scale: 0,
    displacement: displacement[0] === '-' ? -magnitude : magnitude,
    ripRelative: false,
  };
}

/** The groups of `vectors/name.json`. */
export function readVectors(name: string): VectorGroup[] {
  return JSON.parse(readFileSync(new URL(`./vectors/${name}.json`, import.meta.url), 'utf8'));
}

/** Every file of vectors, without its extension. */
export function vectorNames(): string[] {
  return readdirSync(new URL('./vectors/', import.meta.url)).map((file) => file.replace('.json', ''));
}

/** The instruction of a group as the decoder would give it. */
export function instructionOf(group: VectorGroup): Instruction {
  const { codeSize = 64, addressSize = codeSize, condition = 0, repeat = '', length = 4 } = group;
  return instruction(group.mnemonic, group.operandSize, group.operands.map(parseOperand), {
    codeSize,
    addressSize,
    condition,
    repeat,
    length,
  });
}

function setBytes(memory: PageMemory, assignment: string): void {
  const [offset, bytes] = assignment.slice(1).split('=');
  for (let i = 0; i < bytes.length; i += 2) {
    memory.set(PAGE + hex(offset) + BigInt(i / 2), Number(hex(bytes.slice(i, i + 2))));
  }
}

export interface VectorGuest extends Guest {
  readonly memory: PageMemory;
}

/** What a case starts from and what it must come to. */
export interface VectorCase {
  readonly start: VectorGuest;
  readonly end: VectorGuest;
  /** The fault taken, if any. */
  readonly fault: number | undefined;
}

/** Reads a case of `group`. */
export function parseCase(group: VectorGroup, text: string): VectorCase {
  const { codeSize = 64, segmentBase, length = 4 } = group;
  const [before, after] = text.split(' > ').map((side) => side.split(' '));
  const memory = new PageMemory(PATTERN.slice());
  const registers = Array.from({ length: 16 }, (_, index) => BigInt(index) * 0x1111_1111_1111_1111n);
  registers[4] = PAGE + 0x480n;
  registers[7] = PAGE + 0x440n;
  group.inputs.forEach((register, i) => {
    registers[register] = hex(before[1 + i]);
  });
  if (codeSize !== 64) {
    for (const [i, value] of registers.entries()) registers[i] = BigInt.asUintN(32, value);
  }
  for (const item of before.slice(1 + group.inputs.length)) setBytes(memory, item);
  const bases = segmentBase === 'all' ? [PAGE, 0n, PAGE, PAGE] : segmentBase === 'ss' ? [0n, 0n, PAGE] : [];
  const rip = codeAddress(codeSize);
  const start: VectorGuest = { registers, flags: hex(before[0]), rip, memory, segmentBases: bases };

  const end: VectorGuest = {
    ...start,
    registers: [...registers],
    memory: new PageMemory(memory.bytes.slice()),
    flags: hex(after[0]),
    rip: rip + BigInt(length),
  };
  let fault: number | undefined;
  for (const item of after.slice(1)) {
    if (item === 'taken') end.rip += 2n;
    else if (item.startsWith('rip=')) end.rip = hex(item.slice(4));
    else if (item[0] === '@') setBytes(end.memory, item);
    else if (item[0] === '#') fault = Number(item.slice(1));
    else end.registers[Number(item.slice(1, item.indexOf('=')))] = hex(item.slice(item.indexOf('=') + 1));
  }
  if (fault !== undefined) end.rip = rip;
  return { start, end, fault };
}
