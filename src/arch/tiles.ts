/**
 * AMX: instructions that configure, load, store, clear and multiply tiles. SDM vol. 1 chapter 18; vol. 2 of each.
 *
 * Measured, where the manual leaves it open: a tile that is none, and rows of no whole dwords, are #UD before XFD's #NM, which goes before
 * #UD for a start row that the tile does not have. A load that faults has cleared what it did not load, and its start row is the row
 * that faulted, from which it goes on; nothing of that row is loaded or stored. #AC is never raised.
 */
import { add, fusedMultiplyAdd, operand } from '../isa/float/arithmetic.ts';
import { Environment } from '../isa/float/environment.ts';
import { F32 } from '../isa/float/format.ts';
import type { Instruction } from '../isa/instruction.ts';
import { CR0_TS, CR4_OSXSAVE } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { Fault, gp, NM, ud } from './fault.ts';
import { alignmentChecked } from './linear.ts';
import { advance, effectiveAddress, specialIndex } from './operands.ts';
import {
  CONFIG_BYTES,
  changeTiles,
  INITIAL_TILES,
  isValidConfig,
  ROW_BYTES,
  startRow,
  TILE_BYTES,
  type TileShape,
  tileShape,
  withStartRow,
  XCR0_TILECFG,
  XCR0_TILEDATA,
} from './tile-state.ts';
import { type Place, place, readBlock, writeBlock } from './x87-memory.ts';

/** What all of them ask for first. */
function requireTiles(cpu: Cpu): void {
  const both = XCR0_TILECFG | XCR0_TILEDATA;
  if ((cpu.cr4 & CR4_OSXSAVE) === 0n || (cpu.xcr0 & both) !== both) throw ud();
  if (cpu.cr0 & CR0_TS) throw new Fault(NM);
}

/** Raises #NM where `components` are disabled by IA32_XFD, and notes them in IA32_XFD_ERR. */
export function requireEnabled(cpu: Cpu, components: bigint): void {
  const disabled = cpu.tiles.xfd & components;
  if (disabled === 0n) return;
  changeTiles(cpu, { xfdErr: disabled });
  throw new Fault(NM);
}

/** Bytes of an access, so that alignment is not looked at. */
const part = (cpu: Cpu): 1 | 8 => (alignmentChecked(cpu) ? 1 : 8);

const bytesOf = (view: DataView, size: number): Uint8Array => new Uint8Array(view.buffer, 0, size);

/** LDTILECFG m512: clears all tiles. Raises #GP(0) for a configuration that is not possible. */
export const ldtilecfg: SystemInstruction = (cpu, instruction) => {
  requireTiles(cpu);
  const view = readBlock(cpu, instruction, place(cpu, instruction), 0, CONFIG_BYTES, part(cpu));
  const config = bytesOf(view, CONFIG_BYTES);
  if (!isValidConfig(config)) throw gp();
  changeTiles(cpu, { config, data: INITIAL_TILES.data });
};

/** STTILECFG m512. */
export const sttilecfg: SystemInstruction = (cpu, instruction) => {
  requireTiles(cpu);
  const view = new DataView(cpu.tiles.config.slice().buffer);
  writeBlock(cpu, instruction, place(cpu, instruction), 0, CONFIG_BYTES, view, part(cpu));
};

/** TILERELEASE: both components are in their initial configurations. */
export const tilerelease: SystemInstruction = (cpu) => {
  requireTiles(cpu);
  changeTiles(cpu, { config: INITIAL_TILES.config, data: INITIAL_TILES.data });
};

function shapeOf(cpu: Cpu, tile: number): TileShape {
  requireTiles(cpu);
  const shape = tileShape(cpu.tiles, tile);
  if (!shape) throw ud();
  return shape;
}

/** TILEZERO tmm. */
export const tilezero: SystemInstruction = (cpu, instruction) => {
  const tile = specialIndex(instruction, 0);
  shapeOf(cpu, tile);
  requireEnabled(cpu, XCR0_TILEDATA);
  const data = cpu.tiles.data.slice();
  data.fill(0, tile * TILE_BYTES, (tile + 1) * TILE_BYTES);
  changeTiles(cpu, { config: withStartRow(cpu.tiles.config, 0), data });
};

/** Where row `row` stands: the index register is the distance of rows, whatever the base and the displacement. */
function rowPlace(cpu: Cpu, instruction: Instruction, n: number, row: number): Place {
  const operand = instruction.operands[n];
  if (operand?.kind !== 'memory') throw ud();
  const stride = operand.index < 0 ? 0n : cpu.gpr[operand.index] << BigInt(operand.scale);
  const first = effectiveAddress(cpu, { ...instruction, operands: [{ ...operand, index: -1 }] }, 0);
  return { ...first, offset: advance(instruction, first.offset + stride * BigInt(row), 0) };
}

/**
 * Calls `each` for the rows of a tile from the start row on. A fault of one leaves its number as the start row, none leaves 0.
 */
function eachRow(cpu: Cpu, tile: number, each: (row: number, shape: TileShape) => void): void {
  const shape = shapeOf(cpu, tile);
  if (shape.columns % 4 !== 0) throw ud();
  requireEnabled(cpu, XCR0_TILEDATA);
  let row = startRow(cpu.tiles);
  if (row >= shape.rows) throw ud();
  try {
    for (; row < shape.rows; row++) each(row, shape);
    row = 0;
  } finally {
    changeTiles(cpu, { config: withStartRow(cpu.tiles.config, row) });
  }
}

/** TILELOADD tmm, sibmem: what the tile has beyond its rows and columns is cleared. */
export const tileloadd: SystemInstruction = (cpu, instruction) => {
  const tile = specialIndex(instruction, 0);
  const data = cpu.tiles.data.slice();
  let cleared = false;
  try {
    eachRow(cpu, tile, (row, { columns }) => {
      const at = tile * TILE_BYTES + row * ROW_BYTES;
      if (!cleared) data.fill(0, at, (tile + 1) * TILE_BYTES);
      cleared = true;
      const view = readBlock(cpu, instruction, rowPlace(cpu, instruction, 1, row), 0, columns, part(cpu));
      data.set(bytesOf(view, columns), at);
    });
  } finally {
    if (cleared) changeTiles(cpu, { data });
  }
};

/** TILESTORED sibmem, tmm. */
export const tilestored: SystemInstruction = (cpu, instruction) => {
  const tile = specialIndex(instruction, 1);
  eachRow(cpu, tile, (row, { columns }) => {
    const at = tile * TILE_BYTES + row * ROW_BYTES;
    const view = new DataView(cpu.tiles.data.slice(at, at + ROW_BYTES).buffer);
    writeBlock(cpu, instruction, rowPlace(cpu, instruction, 0, row), 0, columns, view, part(cpu));
  });
};

/** Adds the product of two tiles to a third: `row` makes row `m` of the sum from what is there, in `columns` bytes. */
function addProduct(
  cpu: Cpu,
  instruction: Instruction,
  row: (data: DataView, factors: Factors, into: DataView) => void,
): void {
  const [to, a, b] = [0, 1, 2].map((n) => specialIndex(instruction, n));
  const [sum, left, right] = [to, a, b].map((tile) => shapeOf(cpu, tile));
  const whole = [sum, left, right].every(({ columns }) => columns % 4 === 0);
  const fit = sum.rows === left.rows && sum.columns === right.columns && left.columns === 4 * right.rows;
  if (!whole || !fit) throw ud();
  requireEnabled(cpu, XCR0_TILEDATA);
  const data = cpu.tiles.data.slice();
  const result = new Uint8Array(TILE_BYTES);
  for (let m = 0; m < sum.rows; m++) {
    const factors = {
      sum: to * TILE_BYTES + m * ROW_BYTES,
      left: a * TILE_BYTES + m * ROW_BYTES,
      right: b * TILE_BYTES,
      columns: sum.columns,
      depth: left.columns,
    };
    row(new DataView(data.buffer), factors, new DataView(result.buffer, m * ROW_BYTES));
  }
  data.set(result, to * TILE_BYTES);
  changeTiles(cpu, { config: withStartRow(cpu.tiles.config, 0), data });
}

/** Where a row of a sum, the row of the first factor and the second factor stand; bytes of a row of the sum and of the first factor. */
interface Factors {
  readonly sum: number;
  readonly left: number;
  readonly right: number;
  readonly columns: number;
  readonly depth: number;
}

/**
 * TDPBSSD, TDPBSUD, TDPBUSD and TDPBUUD: to each dword of the first tile are added the products of four bytes of a row of the second and
 * of a dword of each row of the third. @param first, second whether bytes of the second and of the third tile are signed
 */
export function productOfBytes(first: boolean, second: boolean): SystemInstruction {
  const byte = (data: DataView, at: number, signed: boolean): number =>
    signed ? data.getInt8(at) : data.getUint8(at);
  return (cpu, instruction) =>
    addProduct(cpu, instruction, (data, { sum, left, right, columns, depth }, into) => {
      for (let n = 0; n < columns; n += 4) {
        let value = data.getInt32(sum + n, true);
        for (let k = 0; k < depth; k++)
          value +=
            byte(data, left + k, first) * byte(data, right + (k >> 2) * ROW_BYTES + n + (k & 3), second);
        into.setInt32(n, value, true);
      }
    });
}

/** Round to nearest, denormals are zeros both ways, nothing is raised: MXCSR plays no part. */
const products = new Environment();
products.denormalsAreZero = true;
products.flushToZero = true;

/**
 * TDPBF16PS: numbers in the upper halves of dwords and those in the lower ones are multiplied and summed up apart, each sum with one
 * rounding a product; then the two sums are added, and that to the number that is there.
 */
export const tdpbf16ps: SystemInstruction = (cpu, instruction) =>
  addProduct(cpu, instruction, (data, { sum, left, right, columns, depth }, into) => {
    const single = (bits: bigint | number) => operand(products, F32, BigInt(bits));
    for (let n = 0; n < columns; n += 4) {
      const sums = [0, 2].map((half) => {
        let total = 0n;
        for (let k = 0; k < depth; k += 4) {
          const x = single(data.getUint16(left + k + half, true) * 0x1_0000);
          const y = single(data.getUint16(right + (k >> 2) * ROW_BYTES + n + half, true) * 0x1_0000);
          total = fusedMultiplyAdd(products, F32, x, y, single(total));
        }
        return total;
      });
      const both = add(products, F32, single(sums[0]), single(sums[1]));
      const value = add(products, F32, single(data.getUint32(sum + n, true)), single(both));
      into.setUint32(n, Number(value), true);
    }
  });
