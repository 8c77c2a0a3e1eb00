/**
 * The state of AMX, TILECFG and TILEDATA, with that of extended-feature disable (XFD), which is there for it. SDM vol. 1 18.1, 13.14.
 *
 * It stands apart from the other fields of a processor, as its 8 KBytes are rarely used: who copies or compares processors looks at
 * one reference. A state is never changed but replaced, so references can be kept.
 */
import type { Cpu } from './cpu.ts';

/** Of palette 1: bytes of a row, rows of a tile, bytes of a tile, and tiles. */
export const ROW_BYTES = 64;
export const ROWS = 16;
export const TILE_BYTES = ROW_BYTES * ROWS;
export const TILES = 8;
export const CONFIG_BYTES = 64;
export const DATA_BYTES = TILES * TILE_BYTES;

/** XCR0, IA32_XFD and XSTATE_BV: TILECFG and TILEDATA. */
export const XCR0_TILECFG = 1n << 17n;
export const XCR0_TILEDATA = 1n << 18n;

export interface TileState {
  /** As LDTILECFG loads it; all zeros where tiles are not configured. */
  readonly config: Uint8Array;
  /** All tiles, one after another. */
  readonly data: Uint8Array;
  /** IA32_XFD and IA32_XFD_ERR. */
  readonly xfd: bigint;
  readonly xfdErr: bigint;
}

/** Tiles that are not configured and all zeros, and nothing disabled. */
export const INITIAL_TILES: TileState = Object.freeze({
  config: new Uint8Array(CONFIG_BYTES),
  data: new Uint8Array(DATA_BYTES),
  xfd: 0n,
  xfdErr: 0n,
});

/** Offsets in the configuration (SDM vol. 1 table 18-1): palette, start row, bytes of a row (16 bits) and rows by tile. */
const PALETTE = 0;
const START_ROW = 1;
const RESERVED = 2;
const COLUMNS = 16;
const ROW_COUNTS = 48;

function isZero(bytes: Uint8Array, from = 0, end = bytes.length): boolean {
  for (let i = from; i < end; i++) if (bytes[i] !== 0) return false;
  return true;
}

const rowBytes = (config: Uint8Array, tile: number): number =>
  config[COLUMNS + 2 * tile] | (config[COLUMNS + 2 * tile + 1] << 8);

/** Whether LDTILECFG takes the configuration, which is none where its palette is 0. */
export function isValidConfig(config: Uint8Array): boolean {
  if (config[PALETTE] === 0) return true;
  if (config[PALETTE] !== 1 || !isZero(config, RESERVED, COLUMNS)) return false;
  if (!isZero(config, COLUMNS + 2 * TILES, ROW_COUNTS) || !isZero(config, ROW_COUNTS + TILES)) return false;
  for (let tile = 0; tile < TILES; tile++) {
    const columns = rowBytes(config, tile);
    const rows = config[ROW_COUNTS + tile];
    if (columns > ROW_BYTES || rows > ROWS || (columns === 0) !== (rows === 0)) return false;
  }
  return true;
}

/** Replaces parts of the state. Of the initial configurations there is one of each, so that they are known by their references. */
export function changeTiles(cpu: Cpu, changes: Partial<TileState>): void {
  const { tiles } = cpu;
  const { config = tiles.config, data = tiles.data, xfd = tiles.xfd, xfdErr = tiles.xfdErr } = changes;
  const same = config === tiles.config && data === tiles.data && xfd === tiles.xfd && xfdErr === tiles.xfdErr;
  if (!same) cpu.tiles = tileState(config, data, xfd, xfdErr);
}

/** A state; the arrays must not be changed thereafter. */
export function tileState(config: Uint8Array, data: Uint8Array, xfd: bigint, xfdErr: bigint): TileState {
  const initial = INITIAL_TILES;
  const state = {
    config: config[PALETTE] === 0 ? initial.config : config,
    data: data !== initial.data && isZero(data) ? initial.data : data,
    xfd,
    xfdErr,
  };
  const changed = state.config !== initial.config || state.data !== initial.data || xfd || xfdErr;
  return changed ? Object.freeze(state) : initial;
}

/** Components of tiles that are not in their initial configurations. */
export function tilesInUse({ config, data }: TileState): bigint {
  return (
    (config === INITIAL_TILES.config ? 0n : XCR0_TILECFG) | (data === INITIAL_TILES.data ? 0n : XCR0_TILEDATA)
  );
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Whether two states are equal. */
export function sameTiles(a: TileState, b: TileState): boolean {
  if (a === b) return true;
  return (
    a.xfd === b.xfd && a.xfdErr === b.xfdErr && sameBytes(a.config, b.config) && sameBytes(a.data, b.data)
  );
}

/** Bits that IA32_XFD can have. */
export function disableable(cpu: Cpu): bigint {
  return cpu.has('amx-tile') ? XCR0_TILEDATA : 0n;
}

/** A tile as it is configured: rows and bytes of each, both 0 where there is no such tile. */
export interface TileShape {
  readonly rows: number;
  readonly columns: number;
}

/** The shape of tile `tile`; undefined where tiles are not configured or it is none. */
export function tileShape({ config }: TileState, tile: number): TileShape | undefined {
  const rows = config[ROW_COUNTS + tile];
  return rows === 0 ? undefined : { rows, columns: rowBytes(config, tile) };
}

/** The row at which an interrupted load or store goes on. */
export const startRow = ({ config }: TileState): number => config[START_ROW];

/** The configuration with another start row. */
export function withStartRow(config: Uint8Array, row: number): Uint8Array {
  if (config[START_ROW] === row) return config;
  const copy = config.slice();
  copy[START_ROW] = row;
  return copy;
}
