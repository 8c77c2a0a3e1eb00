/** AMX and the components of XSAVE that it has, compared with the processor's own: fixtures/native-instruction/tiles.c, built by gcc. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decode } from '../isa/decode/decode.ts';
import {
  CODE,
  generator,
  hex,
  hostHas,
  nativeInstructionsHere,
  type Picker,
} from '../isa/float/native.fixture.ts';
import { RAX, RDX, RSI } from '../isa/state.ts';
import { Fixture, FREE, faultOf } from './cpu.fixture.ts';
import { instructions } from './instructions.ts';
import { CONFIG_BYTES, DATA_BYTES, isValidConfig, TILE_BYTES, TILES, tileState } from './tile-state.ts';

const SOURCE = fileURLToPath(new URL('../../fixtures/native-instruction/tiles.c', import.meta.url));
const CASES = Number(process.env.ESPFIX_TILE_CASES ?? 12);

/** The memory is the end of a page, beyond which nothing is mapped. */
const PAGE = 0x16c9_4000n;
const MEMORY_BYTES = 1024;
const MEMORY = PAGE + 0x1000n - BigInt(MEMORY_BYTES);

const CONFIG_AT = 16;
const DATA_AT = CONFIG_AT + CONFIG_BYTES;
const MEMORY_AT = DATA_AT + DATA_BYTES;
const REGISTERS_AT = MEMORY_AT + MEMORY_BYTES;
const RECORD_BYTES = REGISTERS_AT + 16;

interface TileCase {
  readonly code: readonly number[];
  readonly config: Uint8Array;
  readonly data: Uint8Array;
  readonly memory: Uint8Array;
  readonly rax: bigint;
}

/** What a case comes to: its state, and the vector of its fault or -1. */
interface Result {
  readonly config: Uint8Array;
  readonly data: Uint8Array;
  readonly memory: Uint8Array;
  readonly trap: number;
}

function runNatively(program: string, cases: readonly TileCase[]): Result[] {
  const input = new Uint8Array(cases.length * RECORD_BYTES);
  const view = new DataView(input.buffer);
  cases.forEach((one, i) => {
    const at = i * RECORD_BYTES;
    input.fill(0xc3, at, at + CONFIG_AT);
    input.set(one.code, at);
    input.set(one.config, at + CONFIG_AT);
    input.set(one.data, at + DATA_AT);
    input.set(one.memory, at + MEMORY_AT);
    view.setBigUint64(at + REGISTERS_AT, BigInt.asUintN(64, one.rax), true);
  });
  const { stdout, status } = spawnSync(program, { input, maxBuffer: input.length + 1 });
  if (status !== 0 || stdout.length !== input.length) throw new Error(`the native program ended: ${status}`);
  return cases.map((_, i) => {
    const part = (from: number, bytes: number) =>
      new Uint8Array(stdout.subarray(i * RECORD_BYTES + from, i * RECORD_BYTES + from + bytes));
    return {
      config: part(CONFIG_AT, CONFIG_BYTES),
      data: part(DATA_AT, DATA_BYTES),
      memory: part(MEMORY_AT, MEMORY_BYTES),
      trap: stdout.readUInt8(i * RECORD_BYTES + REGISTERS_AT + 8) - 1,
    };
  });
}

/** A processor in 64-bit mode with all of XCR0. */
function processor(): Fixture {
  const f = new Fixture().enter('64-bit').enablePaging().map(PAGE, FREE);
  f.cpu.cr4 |= 1n << 18n;
  f.cpu.xcr0 = 0x60007n;
  return f;
}

const PHYSICAL = FREE + 0x1000 - MEMORY_BYTES;

function ours({ cpu, bus }: Fixture, one: TileCase): Result {
  one.memory.forEach((byte, i) => void bus.view.setUint8(PHYSICAL + i, byte));
  const config = isValidConfig(one.config) ? one.config : new Uint8Array(CONFIG_BYTES);
  cpu.tiles = tileState(config.slice(), one.data.slice(), 0n, 0n);
  cpu.gpr[RAX] = BigInt.asUintN(64, one.rax);
  cpu.gpr[RDX] = 0n;
  cpu.gpr[RSI] = MEMORY;
  const bytes = Uint8Array.from([...one.code, ...new Array(15).fill(0xc3)]);
  const decoded = decode(bytes, 0, 15, 64);
  if (!decoded) throw new Error('not decoded');
  cpu.rip = CODE + BigInt(decoded.length);
  const meaning = instructions[decoded.mnemonic as keyof typeof instructions];
  const fault = meaning ? faultOf(() => meaning(cpu, decoded)) : { vector: 6 };
  return {
    config: cpu.tiles.config,
    data: cpu.tiles.data,
    memory: Uint8Array.from({ length: MEMORY_BYTES }, (_, i) => bus.view.getUint8(PHYSICAL + i)),
    trap: fault?.vector ?? -1,
  };
}

/**
 * Makes the upper bytes of BF16 numbers near each other, so that sums cancel and round, or so that products or the numbers are denormal;
 * a few are anything, infinite and NaNs among them.
 */
function moderate(pick: Picker, data: Uint8Array): void {
  const [least, spread] = [
    [0x3c, 5],
    [0x1d, 5],
    [0x1d, 2],
    [0x1f, 2],
    [0, 5],
  ][pick(5)];
  const rare = [30, 3000, 2 ** 30][pick(3)];
  for (let at = 1; at < DATA_BYTES; at += 2)
    data[at] = pick(rare) === 0 ? 0x7f : (pick(2) << 7) | (least + pick(spread));
}

/** A configuration that LDTILECFG takes; the start row is mostly 0. */
function randomConfig(pick: Picker): Uint8Array {
  const config = new Uint8Array(CONFIG_BYTES);
  config[0] = pick(12) === 0 ? 0 : 1;
  if (pick(4) === 0) config[1] = pick(pick(6) === 0 ? 256 : 8);
  for (let tile = 0; tile < TILES; tile++) {
    if (pick(8) === 0) continue;
    config[16 + 2 * tile] = pick(12) === 0 ? 1 + pick(64) : 4 + 4 * pick(16);
    config[48 + tile] = 1 + pick(16);
  }
  return config;
}

/** The same, or one that is wrong in a bit or two. */
function mutatedConfig(pick: Picker): Uint8Array {
  const config = randomConfig(pick);
  for (let n = pick(3); n > 0; n--) config[pick(CONFIG_BYTES)] ^= 1 << pick(8);
  return config;
}

/** Distances of rows: in and beyond the memory, and beyond canonical addresses. */
const strides = [64n, 64n, 64n, -64n, 0n, 32n, 4n, 57n, 100n, 1n << 47n, (1n << 63n) - 64n];

/** @param load what the memory holds is a configuration */
function randomCase(pick: Picker, code: readonly number[], load: boolean): TileCase {
  const bytes = (size: number) => Uint8Array.from({ length: size }, () => pick(256));
  const memory = bytes(MEMORY_BYTES);
  if (load) memory.set(mutatedConfig(pick));
  return {
    // Tiles 0 to 7 by reg where the form has one.
    code: code.map((byte) =>
      byte === TILE ? 0xc0 | (pick(TILES) << 3) : byte === TILE_SIB ? 4 | (pick(TILES) << 3) : byte,
    ),
    config: randomConfig(pick),
    data: bytes(DATA_BYTES),
    memory,
    rax: strides[pick(strides.length)],
  };
}

/** Places of ModR/M bytes, one of a register and one with a SIB byte. */
const TILE = -1;
const TILE_SIB = -2;
const NP = 0x78;
const P66 = 0x79;
const F3 = 0x7a;
const F2 = 0x7b;
/** SIB bytes: RSI + RAX, RSI alone, RSI + RAX * 2. */
const RSI_RAX = 0x06;
const RSI_ONLY = 0x26;
const RSI_RAX_2 = 0x46;

const forms: readonly { name: string; code: readonly number[]; load?: boolean }[] = [
  { name: 'ldtilecfg', code: [0xc4, 0xe2, NP, 0x49, 0x06], load: true },
  { name: 'ldtilecfg with R', code: [0xc4, 0x62, NP, 0x49, 0x06], load: true },
  { name: 'ldtilecfg that faults', code: [0xc4, 0xe2, NP, 0x49, 0x86, 0xc4, 3, 0, 0] },
  { name: 'ldtilecfg with W', code: [0xc4, 0xe2, 0x80 | NP, 0x49, 0x06], load: true },
  { name: 'ldtilecfg with reg 1', code: [0xc4, 0xe2, NP, 0x49, 0x0e], load: true },
  { name: 'sttilecfg', code: [0xc4, 0xe2, P66, 0x49, 0x46, 0x21] },
  { name: 'sttilecfg that faults', code: [0xc4, 0xe2, P66, 0x49, 0x86, 0xc4, 3, 0, 0] },
  { name: 'tilerelease', code: [0xc4, 0xe2, NP, 0x49, 0xc0] },
  { name: 'tilerelease with R, X and B', code: [0xc4, 0x02, NP, 0x49, 0xc0] },
  { name: 'tilerelease with rm 1', code: [0xc4, 0xe2, NP, 0x49, 0xc1] },
  { name: 'tilezero', code: [0xc4, 0xe2, F2, 0x49, TILE] },
  { name: 'tilezero with X and B', code: [0xc4, 0x82, F2, 0x49, TILE] },
  { name: 'tilezero with R', code: [0xc4, 0x62, F2, 0x49, TILE] },
  { name: 'tilezero with rm 1', code: [0xc4, 0xe2, F2, 0x49, 0xc1] },
  { name: 'tilezero with vvvv', code: [0xc4, 0xe2, 0x73, 0x49, TILE] },
  { name: 'tilezero with L', code: [0xc4, 0xe2, 0x7f, 0x49, TILE] },
  { name: 'tileloadd', code: [0xc4, 0xe2, F2, 0x4b, TILE_SIB, RSI_RAX] },
  { name: 'tileloadd without an index', code: [0xc4, 0xe2, F2, 0x4b, TILE_SIB, RSI_ONLY] },
  { name: 'tileloadd with a scale', code: [0xc4, 0xe2, F2, 0x4b, TILE_SIB, RSI_RAX_2] },
  { name: 'tileloadd of 32-bit addresses', code: [0x67, 0xc4, 0xe2, F2, 0x4b, TILE_SIB, RSI_RAX] },
  { name: 'tileloadd without SIB', code: [0xc4, 0xe2, F2, 0x4b, 0x06] },
  { name: 'tileloadd with R', code: [0xc4, 0x62, F2, 0x4b, TILE_SIB, RSI_RAX] },
  { name: 'tileloadd with W', code: [0xc4, 0xe2, 0x80 | F2, 0x4b, TILE_SIB, RSI_RAX] },
  { name: 'tileloadd of a register', code: [0xc4, 0xe2, F2, 0x4b, 0xc4] },
  { name: 'tileloaddt1', code: [0xc4, 0xe2, P66, 0x4b, TILE_SIB, RSI_RAX] },
  { name: 'tilestored', code: [0xc4, 0xe2, F3, 0x4b, TILE_SIB, RSI_RAX] },
  { name: 'tilestored of 32-bit addresses', code: [0x67, 0xc4, 0xe2, F3, 0x4b, TILE_SIB, RSI_RAX] },
  { name: 'no prefix', code: [0xc4, 0xe2, NP, 0x4b, TILE_SIB, RSI_RAX] },
];

const here = nativeInstructionsHere() && hostHas('amx_tile');
if (!here) console.warn('NATIVE TESTS OF AMX SKIPPED: this processor has none');

describe.skipIf(!here)('AMX is that of the processor', () => {
  let folder = '';
  let program = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'espfix-tiles-'));
    program = join(folder, 'tiles');
    const built = spawnSync('gcc', ['-O1', '-o', program, SOURCE], { encoding: 'utf8' });
    if (built.status !== 0) throw new Error(`gcc failed: ${built.stderr}`);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const compare = (cases: readonly TileCase[]): void => {
    const f = processor();
    runNatively(program, cases).forEach((theirs, i) => {
      const one = cases[i];
      const mine = ours(f, one);
      const say = ({ config, data, memory, trap }: Result) => ({
        trap,
        config: hex(config),
        data: hex(data),
        memory: hex(memory),
      });
      const what = `case ${i}: ${hex(Uint8Array.from(one.code))}, rax ${one.rax}, ${hex(one.config)}`;
      expect(say(mine), what).toEqual(say(theirs));
    });
  };

  it.each(forms)('$name', ({ name, code, load }) => {
    const pick = generator(name.length * 131 + code.length);
    compare(Array.from({ length: CASES }, () => randomCase(pick, code, load === true)));
  });

  it.each([
    ['tdpbuud', NP, 0x5e],
    ['tdpbusd', P66, 0x5e],
    ['tdpbsud', F3, 0x5e],
    ['tdpbssd', F2, 0x5e],
    ['tdpbf16ps', F3, 0x5c],
  ])('%s', (_, last, opcode) => {
    const pick = generator(last);
    const cases = Array.from({ length: CASES }, (): TileCase => {
      // Mostly three tiles, of shapes that mostly fit.
      const [to, a, b] = pick(6) ? [pick(2), 2 + pick(3), 5 + pick(3)] : [pick(8), pick(8), pick(8)];
      const one = randomCase(pick, [0xc4, 0xe2, last ^ (b << 3), opcode, 0xc0 | (to << 3) | a], false);
      if (pick(6) === 0) return one;
      if (opcode === 0x5c && pick(8)) moderate(pick, one.data);
      // A sum that is small enough shows what products come to.
      if (pick(2)) {
        const sum = one.data.subarray(to * TILE_BYTES, (to + 1) * TILE_BYTES);
        for (let at = 3; at < TILE_BYTES; at += 4) sum[at] = (pick(2) << 7) | pick(2);
      }
      const [m, n, k] = [1 + pick(16), 1 + pick(16), 1 + pick(16)];
      const shape = (tile: number, rows: number, dwords: number) => {
        one.config[48 + tile] = rows;
        one.config[16 + 2 * tile] = 4 * dwords;
      };
      shape(to, m, n);
      shape(a, m, k);
      shape(b, k, n);
      // One number of them that does not fit, mostly.
      if (pick(4) === 0) {
        const tile = [to, a, b][pick(3)];
        if (pick(2)) one.config[48 + tile] = 1 + pick(16);
        else one.config[16 + 2 * tile] = 4 + 4 * pick(16);
      }
      return one;
    });
    compare(cases);
  });

  it('XRSTOR of a configuration in the compacted format, which need not be possible', () => {
    const pick = generator(7);
    const cases = Array.from({ length: CASES }, (): TileCase => {
      const one = randomCase(pick, [0x48, 0x0f, 0xae, 0x2e], false);
      const memory = new Uint8Array(MEMORY_BYTES);
      const header = new DataView(memory.buffer, 512);
      header.setBigUint64(0, pick(5) ? 0x2_0000n : 0n, true);
      header.setBigUint64(8, (1n << 63n) | 0x2_0000n, true);
      memory.set(mutatedConfig(pick), 576);
      return { ...one, memory, rax: 0x2_0000n };
    });
    compare(cases);
  });

  it('XSAVEC of a configuration', () => {
    const pick = generator(8);
    const cases = Array.from({ length: CASES }, (_, i): TileCase => {
      const one = randomCase(pick, [0x48, 0x0f, 0xc7, 0x26], false);
      return { ...one, rax: 0x2_0000n, memory: new Uint8Array(MEMORY_BYTES).fill(i) };
    });
    compare(cases);
  });
});
