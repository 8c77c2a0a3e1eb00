/**
 * AMX: instructions that configure, load, store, clear and multiply tiles. SDM vol. 1 chapter 18; vol. 2 of each.
 *
 * Measured, where the manual leaves it open: a tile that is none, and rows of no whole dwords, are #UD before XFD's #NM, which goes before
 * #UD for a start row that the tile does not have. A load that faults has cleared what it did not load, and its start row is the row
 * that faulted, from which it goes on; nothing of that row is loaded or stored. #AC is never raised.
 */
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

/**
 * TDPBSSD, TDPBSUD, TDPBUSD and TDPBUUD: to each dword of the first tile are added the products of four bytes of a row of the second and
 * of a dword of each row of the third. @param first, second whether bytes of the second and of the third tile are signed
 */
export function product(first: boolean, second: boolean): SystemInstruction {
  return (cpu, instruction) => {
    const [to, a, b] = [0, 1, 2].map((n) => specialIndex(instruction, n));
    const [sum, left, right] = [to, a, b].map((tile) => shapeOf(cpu, tile));
    const whole = [sum, left, right].every(({ columns }) => columns % 4 === 0);
    const fit = sum.rows === left.rows && sum.columns === right.columns && left.columns === 4 * right.rows;
    if (!whole || !fit) throw ud();
    requireEnabled(cpu, XCR0_TILEDATA);
    const data = cpu.tiles.data.slice();
    const lefts = first ? new Int8Array(data.buffer) : data;
    const rights = second ? new Int8Array(data.buffer) : data;
    const result = new DataView(new ArrayBuffer(TILE_BYTES));
    const old = new DataView(data.buffer, to * TILE_BYTES);
    for (let m = 0; m < sum.rows; m++) {
      for (let n = 0; n < sum.columns; n += 4) {
        let value = old.getInt32(m * ROW_BYTES + n, true);
        for (let k = 0; k < left.columns; k++) {
          const row = b * TILE_BYTES + (k >> 2) * ROW_BYTES;
          value += lefts[a * TILE_BYTES + m * ROW_BYTES + k] * rights[row + n + (k & 3)];
        }
        result.setInt32(m * ROW_BYTES + n, value, true);
      }
    }
    data.set(new Uint8Array(result.buffer), to * TILE_BYTES);
    changeTiles(cpu, { config: withStartRow(cpu.tiles.config, 0), data });
  };
}
