/** What of AMX and XFD user mode of a processor cannot show, or not all have: SDM vol. 1 13.14, 18.1; vol. 2 of each. */
import { beforeEach, describe, expect, it, test } from 'vitest';
import { decode } from '../isa/decode/decode.ts';
import { RAX, RCX, RDX, RSI } from '../isa/state.ts';
import { Fixture, FREE, faultOf } from './cpu.fixture.ts';
import { XCR0_AVX, xgetbv, xsetbv } from './extended-state.ts';
import { instruction } from './instruction.fixture.ts';
import { instructions } from './instructions.ts';
import { IA32_XFD, IA32_XFD_ERR, readMsr, writeMsr } from './msr.ts';
import { processorOf } from './processor.ts';
import { reset } from './reset.ts';
import { CONFIG_BYTES, DATA_BYTES, INITIAL_TILES, sameTiles, tileState } from './tile-state.ts';

const XFD_TILES = 1n << 18n;
const AREA = FREE;
const UD = { vector: 6, errorCode: undefined };
const NM = { vector: 7, errorCode: undefined };
const GP = { vector: 13, errorCode: 0 };

/** Every tile has 16 rows of 64 bytes. */
const config = Uint8Array.from({ length: CONFIG_BYTES }, (_, i) => {
  if (i === 0) return 1;
  if (i >= 48 && i < 56) return 16;
  return i >= 16 && i < 32 && i % 2 === 0 ? 64 : 0;
});
const data = Uint8Array.from({ length: DATA_BYTES }, (_, i) => 1 + (i % 251));

const codes = {
  ldtilecfg: [0xc4, 0xe2, 0x78, 0x49, 0x06],
  sttilecfg: [0xc4, 0xe2, 0x79, 0x49, 0x06],
  tilerelease: [0xc4, 0xe2, 0x78, 0x49, 0xc0],
  tilezero: [0xc4, 0xe2, 0x7b, 0x49, 0xc8],
  tileloadd: [0xc4, 0xe2, 0x7b, 0x4b, 0x0c, 0x26],
  tileloaddt1: [0xc4, 0xe2, 0x79, 0x4b, 0x0c, 0x26],
  tilestored: [0xc4, 0xe2, 0x7a, 0x4b, 0x0c, 0x26],
  xsave: [0x48, 0x0f, 0xae, 0x26],
  xsaveopt: [0x48, 0x0f, 0xae, 0x36],
  xsavec: [0x48, 0x0f, 0xc7, 0x26],
  xsaves: [0x48, 0x0f, 0xc7, 0x2e],
  xrstor: [0x48, 0x0f, 0xae, 0x2e],
  xrstors: [0x48, 0x0f, 0xc7, 0x1e],
} as const;
type Name = keyof typeof codes;
const tileNames = (Object.keys(codes) as Name[]).filter((name) => name.includes('tile'));

describe('tiles and areas', () => {
  let f = new Fixture();
  beforeEach(() => {
    f = new Fixture().enter('64-bit');
    f.enablePaging().mapRam();
    f.cpu.cr4 |= 1n << 18n;
    f.cpu.xcr0 = 0x60007n;
    f.cpu.fcw = 0x37f;
    f.cpu.ftw = 0xffff;
    f.cpu.mxcsr = 0x1f80;
    f.cpu.gpr[RSI] = BigInt(AREA);
    f.cpu.tiles = tileState(config, data, 0n, 0n);
  });
  /** Runs an instruction with RSI = AREA, of `components` where it is one of the XSAVE feature set. */
  const run = (name: Name, components = 0x60000n) => {
    f.cpu.gpr[RAX] = components;
    f.cpu.gpr[RDX] = 0n;
    const decoded = decode(Uint8Array.from([...codes[name], ...new Array(15).fill(0)]), 0, 16, 64);
    expect(decoded?.mnemonic).toBe(name);
    return faultOf(() => decoded && instructions[name](f.cpu, decoded));
  };
  const bytes = (at: number, size: number) =>
    Uint8Array.from({ length: size }, (_, i) => f.bus.view.getUint8(AREA + at + i));
  const put = (at: number, values: Uint8Array) =>
    values.forEach((value, i) => void f.bus.view.setUint8(AREA + at + i, value));
  const header = () => [f.bus.read(AREA + 512, 8), f.bus.read(AREA + 520, 8)];

  test.each(tileNames)('%s is #UD unless XCR0 and CR4 permit tiles, and #NM while CR0.TS', (name) => {
    for (const forbid of [() => (f.cpu.xcr0 = 7n), () => (f.cpu.cr4 &= ~(1n << 18n))]) {
      const { xcr0, cr4 } = f.cpu;
      forbid();
      expect(run(name)).toEqual(UD);
      Object.assign(f.cpu, { xcr0, cr4 });
    }
    f.cpu.cr0 |= 8n;
    expect(run(name)).toEqual(NM);
    expect(readMsr(f.cpu, IA32_XFD_ERR)).toBe(0n);
  });

  test.each(tileNames)('%s is of 64-bit mode only', (name) => {
    for (const codeSize of [16, 32] as const)
      expect(decode(Uint8Array.from([...codes[name], 0, 0, 0, 0]), 0, 10, codeSize)?.mnemonic).toBe(
        'invalid',
      );
  });

  test.each<[Name, boolean]>([
    ['ldtilecfg', false],
    ['sttilecfg', false],
    ['tilerelease', false],
    ['tilezero', true],
    ['tileloadd', true],
    ['tileloaddt1', true],
    ['tilestored', true],
  ])('%s while XFD disables tiles: #NM %s, and IA32_XFD_ERR tells', (name, raises) => {
    put(0, config);
    writeMsr(f.cpu, IA32_XFD, XFD_TILES);
    expect(run(name)).toEqual(raises ? NM : null);
    expect(readMsr(f.cpu, IA32_XFD_ERR)).toBe(raises ? XFD_TILES : 0n);
    expect(readMsr(f.cpu, IA32_XFD)).toBe(XFD_TILES);
  });

  test.each<[Name, number, number, bigint]>([
    ['xsave', 2752, 2816, 0n],
    ['xsaveopt', 2752, 2816, 0n],
    ['xsavec', 832, 896, (1n << 63n) | 0x60007n],
    ['xsaves', 832, 896, (1n << 63n) | 0x60007n],
  ])('%s puts both components in their places', (name, configAt, dataAt, format) => {
    expect(run(name, 0x60007n)).toBeNull();
    expect(header()).toEqual([0x60000n, format]);
    expect(bytes(configAt, CONFIG_BYTES)).toEqual(config);
    expect(bytes(dataAt, DATA_BYTES)).toEqual(data);
    f.cpu.tiles = INITIAL_TILES;
    expect(run(format ? 'xrstors' : 'xrstor', 0x60007n)).toBeNull();
    expect(sameTiles(f.cpu.tiles, tileState(config, data, 0n, 0n))).toBe(true);
  });

  it('the compacted format has no place for what is not requested', () => {
    expect(run('xsavec', 0x40000n)).toBeNull();
    expect(bytes(576, DATA_BYTES)).toEqual(data);
  });

  test.each<[Name, 'cleared' | 'left']>([
    ['xsave', 'cleared'],
    ['xsaveopt', 'left'],
    ['xsavec', 'left'],
    ['xsaves', 'left'],
  ])('%s while XFD disables tiles: as if they were initial, so their place is %s', (name, place) => {
    const compacted = name !== 'xsave' && name !== 'xsaveopt';
    writeMsr(f.cpu, IA32_XFD, XFD_TILES);
    put(0, new Uint8Array(12_000).fill(0xa5));
    put(512, new Uint8Array(64));
    expect(run(name)).toBeNull();
    expect(header()[0]).toBe(0x20000n);
    expect(bytes(compacted ? 640 : 2816, 2)).toEqual(new Uint8Array(2).fill(place === 'cleared' ? 0 : 0xa5));
    expect(f.cpu.tiles.data).toEqual(data);
  });

  test.each<Name>(['xrstor', 'xrstors'])('%s of disabled tiles: #NM if it would load them', (name) => {
    run('xsaves');
    writeMsr(f.cpu, IA32_XFD, XFD_TILES);
    const before = f.cpu.tiles;
    expect(run(name)).toEqual(NM);
    expect(readMsr(f.cpu, IA32_XFD_ERR)).toBe(XFD_TILES);
    expect([f.cpu.tiles.config, f.cpu.tiles.data]).toEqual([before.config, before.data]);
    expect(run(name, 0x20000n)).toBeNull();
    // Initializing them is allowed.
    f.bus.write(AREA + 512, 8, 0n);
    expect(run(name)).toBeNull();
    expect([f.cpu.tiles.config, f.cpu.tiles.data]).toEqual([INITIAL_TILES.config, INITIAL_TILES.data]);
  });

  test.each<Name>(['xsaves', 'xrstors'])('%s is of CPL 0', (name) => {
    f.enter('64-bit', 3);
    f.cpu.cr4 |= 1n << 18n;
    f.cpu.cr0 |= 8n;
    expect(run(name)).toEqual(GP);
    f.cpu.cr4 &= ~(1n << 18n);
    expect(run(name)).toEqual(UD);
  });

  it('XRSTORS refuses the standard format, and components that XCR0 has not', () => {
    expect(run('xsave')).toBeNull();
    expect(run('xrstors')).toEqual(GP);
    expect(run('xsaves')).toBeNull();
    f.cpu.xcr0 = 7n;
    expect(run('xrstors')).toEqual(GP);
  });

  it('XGETBV with ECX = 1 tells of tiles in use', () => {
    const used = () => {
      f.cpu.gpr[RCX] = 1n;
      xgetbv(f.cpu, instruction('xgetbv'));
      return f.cpu.gpr[RAX] & 0x60000n;
    };
    expect(used()).toBe(0x60000n);
    put(0, config);
    run('ldtilecfg');
    expect(used()).toBe(0x20000n);
    run('tilerelease');
    expect(used()).toBe(0n);
    expect(f.cpu.tiles).toBe(INITIAL_TILES);
  });

  test.each<[string, bigint, string, boolean]>([
    ['both', 0x60007n, 'default', true],
    ['both without AVX', 0x60003n, 'default', true],
    ['TILECFG alone', 0x20007n, 'default', false],
    ['TILEDATA alone', 0x40007n, 'default', false],
    ['both of a processor without', 0x60007n, 'default,-amx-tile', false],
    ['both of an older model', 0x60007n, 'skylake', false],
    ['both of one that has them switched on', 0x60007n, 'skylake,+amx-tile', true],
  ])('XSETBV of %s', (_, value, model, allowed) => {
    f.cpu.processor = processorOf(model);
    f.cpu.xcr0 = 3n;
    f.cpu.gpr[RAX] = value;
    f.cpu.gpr[RDX] = 0n;
    f.cpu.gpr[RCX] = 0n;
    expect(faultOf(() => xsetbv(f.cpu, instruction('xsetbv')))).toEqual(allowed ? null : GP);
    expect(f.cpu.xcr0 & XCR0_AVX).toBe(allowed ? value & XCR0_AVX : 0n);
  });

  it('RESET leaves nothing of them', () => {
    writeMsr(f.cpu, IA32_XFD, XFD_TILES);
    reset(f.cpu);
    expect(f.cpu.tiles).toBe(INITIAL_TILES);
  });

  it('IA32_XFD has no other bits', () => {
    for (const value of [1n << 17n, 4n, 1n << 63n])
      expect(faultOf(() => writeMsr(f.cpu, IA32_XFD, value))).toEqual(GP);
  });
});

describe('states', () => {
  it('that are initial are one', () => {
    expect(tileState(new Uint8Array(CONFIG_BYTES), new Uint8Array(DATA_BYTES), 0n, 0n)).toBe(INITIAL_TILES);
  });
  test.each([
    ['configuration', tileState(config, data, 0n, 0n), tileState(INITIAL_TILES.config, data, 0n, 0n)],
    ['a byte of a tile', tileState(config, data, 0n, 0n), tileState(config, data.with(8191, 0), 0n, 0n)],
    ['IA32_XFD', tileState(config, data, 0n, 0n), tileState(config, data, XFD_TILES, 0n)],
    ['IA32_XFD_ERR', INITIAL_TILES, tileState(INITIAL_TILES.config, INITIAL_TILES.data, 0n, XFD_TILES)],
  ])('that differ in %s differ', (_, a, b) => {
    expect(sameTiles(a, b)).toBe(false);
    expect(sameTiles(a, { ...a, config: a.config.slice(), data: a.data.slice() })).toBe(true);
  });
});
