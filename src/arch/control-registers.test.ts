/** MOV to and from control registers, LMSW, SMSW and CLTS. SDM vol. 3A 2.5, 9.8.5; vol. 2B "MOV to/from control registers". */
import { describe, expect, test } from 'vitest';
import { CS, DS, RAX, RBX, TR } from '../isa/state.ts';
import {
  clts,
  lmsw,
  movFromControl,
  movToControl,
  smsw,
  writeCr0,
  writeCr3,
  writeCr4,
} from './control-registers.ts';
import { Fixture, FREE, faultOf, type Mode } from './cpu.fixture.ts';
import { GP, UD } from './fault.ts';
import { controlRegister, instruction, memory, register } from './instruction.fixture.ts';

const PE = 1n;
const ET = 1n << 4n;
const WP = 1n << 16n;
const NW = 1n << 29n;
const CD = 1n << 30n;
const PG = 1n << 31n;
const PAE = 1n << 5n;
const PGE = 1n << 7n;
const PCIDE = 1n << 17n;
const LME = 0x100n;
const LMA = 0x400n;
const FAULT = { vector: GP, errorCode: 0 };

const move = (f: Fixture, index: number, value: bigint) => {
  f.cpu.gpr[RAX] = value;
  movToControl(f.cpu, instruction('movcr', [controlRegister(index), register(RAX)]));
};
const moveFrom = (f: Fixture, index: number): bigint => {
  f.cpu.gpr[RBX] = ~0n & 0xffff_ffff_ffff_ffffn;
  movFromControl(f.cpu, instruction('movfromcr', [register(RBX), controlRegister(index)]));
  return f.cpu.gpr[RBX];
};

/** A PAE page-directory-pointer table whose first entry is `entry`. */
function pdpt(f: Fixture, entry: bigint): bigint {
  const table = f.table();
  f.bus.write(table, 8, entry);
  return BigInt(table);
}

describe('privilege and register numbers (SDM vol. 2B "MOV")', () => {
  const modes: [Mode, number, number | null][] = [
    ['real', 0, null],
    ['protected32', 0, null],
    ['protected32', 1, GP],
    ['protected32', 3, GP],
    ['virtual8086', 3, GP],
    ['compatibility', 0, null],
    ['64-bit', 0, null],
    ['64-bit', 3, GP],
  ];
  test.each(modes)('%s at CPL %i', (mode, cpl, vector) => {
    const f = new Fixture().enter(mode, cpl);
    const fault = vector === null ? null : FAULT;
    expect(faultOf(() => move(f, 2, 0x1234n))).toEqual(fault);
    expect(faultOf(() => moveFrom(f, 0))).toEqual(fault);
    expect(faultOf(() => clts(f.cpu, instruction('clts')))).toEqual(fault);
    expect(faultOf(() => lmsw(f.cpu, instruction('lmsw', [register(RAX, 16)])))).toEqual(fault);
    expect(faultOf(() => move(f, 1, 0n))).toEqual({ vector: UD, errorCode: undefined });
  });
  test.each([1, 5, 6, 7, 9, 15])('CR%i raises #UD', (index) => {
    const f = new Fixture().enter('64-bit', 3);
    expect(faultOf(() => move(f, index, 0n))?.vector).toBe(UD);
    expect(faultOf(() => moveFrom(f, index))?.vector).toBe(UD);
  });
  test('CR8 exists in 64-bit mode only; its bits 63:4 are reserved', () => {
    const f = new Fixture().enter('64-bit');
    for (let value = 0n; value < 16n; value++) {
      move(f, 8, value);
      expect(f.interrupts.taskPriority).toBe(Number(value));
      expect(moveFrom(f, 8)).toBe(value);
    }
    for (let bit = 4n; bit < 64n; bit++) expect(faultOf(() => move(f, 8, 1n << bit))).toEqual(FAULT);
    expect(f.interrupts.taskPriority).toBe(15);
    expect(faultOf(() => move(new Fixture().enter('protected32'), 8, 0n))?.vector).toBe(UD);
  });
  test('outside 64-bit mode 32 bits are moved', () => {
    const f = new Fixture().enter('protected32');
    move(f, 2, 0x1_2345_6789n);
    expect(f.cpu.cr2).toBe(0x2345_6789n);
    expect(moveFrom(f, 2)).toBe(0x2345_6789n);
    const wide = new Fixture().enter('64-bit');
    move(wide, 2, 0x8000_0000_1234_5678n);
    expect(moveFrom(wide, 2)).toBe(0x8000_0000_1234_5678n);
  });
});

describe('CR0 (SDM vol. 3A 2.5)', () => {
  test('bits 63:32 raise #GP(0); reserved bits of 31:0 read as 0, ET as 1', () => {
    for (let bit = 0n; bit < 64n; bit++) {
      const { cpu } = new Fixture().enter('64-bit');
      cpu.cr0 = PE | ET;
      const value = PE | CD | (1n << bit);
      const wanted = bit >= 32n ? FAULT : null;
      const efer = cpu.efer;
      cpu.efer = 0n;
      expect(faultOf(() => writeCr0(cpu, value))).toEqual(wanted);
      cpu.efer = efer;
      if (wanted) expect(cpu.cr0).toBe(PE | ET);
      else {
        const defined = [0n, 1n, 2n, 3n, 4n, 5n, 16n, 18n, 29n, 30n, 31n].includes(bit);
        expect(cpu.cr0).toBe(PE | ET | CD | (defined ? 1n << bit : 0n));
      }
    }
  });
  test('PG without PE, and NW without CD, raise #GP(0)', () => {
    const { cpu } = new Fixture().enter('real');
    expect(faultOf(() => writeCr0(cpu, PG))).toEqual(FAULT);
    expect(faultOf(() => writeCr0(cpu, NW))).toEqual(FAULT);
    expect(faultOf(() => writeCr0(cpu, NW | CD))).toBeNull();
  });
  test('setting and clearing PE changes what segments permit', () => {
    const { cpu } = new Fixture().enter('real');
    cpu.segAttributes[CS] = 0x9b;
    writeCr0(cpu, cpu.cr0 | PE);
    expect(cpu.segWriteHigh[CS]).toBe(0);
    writeCr0(cpu, cpu.cr0 & ~PE);
    expect(cpu.segWriteHigh[CS]).toBe(0xffff);
  });
  test('CLTS and LMSW: PE can be set by LMSW but not cleared; PG and WP stay', () => {
    const { cpu } = new Fixture().enter('protected32');
    cpu.cr0 |= WP | 0xeen;
    clts(cpu, instruction('clts'));
    expect(cpu.cr0 & 0xfn).toBe(7n);
    cpu.gpr[RAX] = 0xfff8n;
    lmsw(cpu, instruction('lmsw', [register(RAX, 16)]));
    expect(cpu.cr0 & 0xfn).toBe(9n);
    expect(cpu.cr0 & WP).toBe(WP);
    const real = new Fixture().enter('real').cpu;
    real.gpr[RAX] = 1n;
    lmsw(real, instruction('lmsw', [register(RAX, 16)]));
    expect(real.protectedMode).toBe(true);
  });
  test('SMSW stores 16 bits to memory and the operand size to a register, at any CPL', () => {
    const f = new Fixture().enter('64-bit', 3);
    const { cpu, bus } = f;
    bus.write(FREE, 4, 0xffff_ffffn);
    smsw(cpu, instruction('smsw', [memory(BigInt(FREE), DS, 16)]));
    expect(bus.read(FREE, 4)).toBe(0xffff_0011n);
    cpu.cr0 |= WP;
    for (const [width, expected] of [
      [16, 0xffff_ffff_ffff_0011n],
      [32, 0x1_0011n],
      [64, 0x1_0011n],
    ] as const) {
      cpu.gpr[RBX] = 0xffff_ffff_ffff_ffffn;
      smsw(cpu, instruction('smsw', [register(RBX, width)], { operandSize: width }));
      expect(cpu.gpr[RBX]).toBe(expected);
    }
  });
});

describe('IA-32e mode on and off (SDM vol. 3A 9.8.5)', () => {
  const ready = () => {
    const f = new Fixture().enter('protected32');
    f.cpu.cr4 = PAE;
    f.cpu.efer = LME;
    f.cpu.cr3 = BigInt(f.table());
    return f;
  };
  test('PG with LME activates it', () => {
    const { cpu } = ready();
    writeCr0(cpu, cpu.cr0 | PG);
    expect(cpu.efer).toBe(LME | LMA);
    expect(cpu.longMode).toBe(true);
    expect(cpu.mode64).toBe(false);
  });
  test('not without PAE, nor from CS.L = 1, nor with a 16-bit TSS', () => {
    const noPae = ready().cpu;
    noPae.cr4 = 0n;
    expect(faultOf(() => writeCr0(noPae, noPae.cr0 | PG))).toEqual(FAULT);
    const codeL = ready().cpu;
    codeL.segAttributes[CS] |= 0x2000;
    expect(faultOf(() => writeCr0(codeL, codeL.cr0 | PG))).toEqual(FAULT);
    for (const type of [0x81, 0x83]) {
      const tss16 = ready().cpu;
      tss16.segAttributes[TR] = type;
      expect(faultOf(() => writeCr0(tss16, tss16.cr0 | PG))).toEqual(FAULT);
      expect(tss16.efer).toBe(LME);
      expect(tss16.cr0 & PG).toBe(0n);
    }
  });
  test('it ends from compatibility mode, not from 64-bit mode nor with PCIDE', () => {
    const f = new Fixture().enter('compatibility').enablePaging();
    writeCr0(f.cpu, f.cpu.cr0 & ~PG);
    expect(f.cpu.efer).toBe(LME);
    const mode64 = new Fixture().enter('64-bit').enablePaging().cpu;
    expect(faultOf(() => writeCr0(mode64, mode64.cr0 & ~PG))).toEqual(FAULT);
    const pcid = new Fixture().enter('compatibility').enablePaging().cpu;
    pcid.cr4 |= PCIDE;
    expect(faultOf(() => writeCr0(pcid, pcid.cr0 & ~PG))).toEqual(FAULT);
    expect(pcid.longMode).toBe(true);
  });
});

describe('CR3', () => {
  test('bits above MAXPHYADDR raise #GP(0); others are kept', () => {
    for (let bit = 0n; bit < 64n; bit++) {
      const { cpu } = new Fixture().enter('64-bit');
      expect(faultOf(() => writeCr3(cpu, 1n << bit))).toEqual(bit >= 40n ? FAULT : null);
      expect(cpu.cr3).toBe(bit >= 40n ? 0n : 1n << bit);
    }
  });
  test('bit 63 is not stored, and allowed with CR4.PCIDE alone', () => {
    const { cpu } = new Fixture().enter('64-bit');
    cpu.cr4 |= PCIDE;
    writeCr3(cpu, (1n << 63n) | 0x5003n);
    expect(cpu.cr3).toBe(0x5003n);
    expect(faultOf(() => writeCr3(cpu, (1n << 63n) | (1n << 62n)))).toEqual(FAULT);
  });
  test('PAE paging loads the PDPTEs, or faults and changes nothing', () => {
    const f = new Fixture().enter('protected32');
    f.cpu.cr4 = PAE;
    f.enablePaging();
    const good = pdpt(f, 0x12_3000_0001n);
    writeCr3(f.cpu, good);
    expect(f.cpu.pdpte[0]).toBe(0x12_3000_0001n);
    const bad = pdpt(f, 3n);
    expect(faultOf(() => writeCr3(f.cpu, bad))).toEqual(FAULT);
    expect(f.cpu.cr3).toBe(good);
    expect(f.cpu.pdpte[0]).toBe(0x12_3000_0001n);
  });
});

describe('PDPTE loads by CR0 and CR4 (SDM vol. 3A 4.4.1)', () => {
  const pae = () => {
    const f = new Fixture().enter('protected32');
    f.cpu.cr4 = PAE;
    f.cpu.cr3 = pdpt(f, 0x5001n);
    return f;
  };
  test('on entering PAE paging', () => {
    const f = pae();
    writeCr0(f.cpu, f.cpu.cr0 | PG);
    expect(f.cpu.pdpte[0]).toBe(0x5001n);
    const bad = pae();
    bad.cpu.cr3 = pdpt(bad, 3n);
    expect(faultOf(() => writeCr0(bad.cpu, bad.cpu.cr0 | PG))).toEqual(FAULT);
    expect(bad.cpu.cr0 & PG).toBe(0n);
  });
  const changes: [string, (f: Fixture) => void, boolean][] = [
    ['CR0.CD', (f) => writeCr0(f.cpu, f.cpu.cr0 ^ CD), true],
    ['CR0.WP', (f) => writeCr0(f.cpu, f.cpu.cr0 ^ WP), false],
    ['CR4.PGE', (f) => writeCr4(f.cpu, f.cpu.cr4 ^ PGE), true],
    ['CR4.PSE', (f) => writeCr4(f.cpu, f.cpu.cr4 ^ 0x10n), true],
    ['CR4.SMEP', (f) => writeCr4(f.cpu, f.cpu.cr4 ^ (1n << 20n)), true],
    ['CR4.TSD', (f) => writeCr4(f.cpu, f.cpu.cr4 ^ 4n), false],
  ];
  test.each(changes)('%s', (_, change, loads) => {
    const f = pae();
    writeCr0(f.cpu, f.cpu.cr0 | PG);
    f.bus.write(Number(f.cpu.cr3), 8, 0x6001n);
    change(f);
    expect(f.cpu.pdpte[0]).toBe(loads ? 0x6001n : 0x5001n);
  });
  test('turning CR4.PAE on under 32-bit paging', () => {
    const f = pae();
    f.cpu.cr4 = 0n;
    writeCr0(f.cpu, f.cpu.cr0 | PG);
    writeCr4(f.cpu, PAE);
    expect(f.cpu.pdpte[0]).toBe(0x5001n);
  });
});

describe('CR4', () => {
  test('bits of features that CPUID does not report raise #GP(0)', () => {
    const defined = [2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, 18, 20, 21];
    for (let bit = 0; bit < 64; bit++) {
      const { cpu } = new Fixture().enter('64-bit');
      const value = PAE | (1n << BigInt(bit));
      expect(
        faultOf(() => writeCr4(cpu, value)),
        `bit ${bit}`,
      ).toEqual(defined.includes(bit) ? null : FAULT);
      expect(cpu.cr4).toBe(defined.includes(bit) ? value : PAE);
    }
  });
  test('PAE cannot be cleared in IA-32e mode', () => {
    const { cpu } = new Fixture().enter('64-bit');
    expect(faultOf(() => writeCr4(cpu, 0n))).toEqual(FAULT);
  });
  test('PCIDE: IA-32e mode only, and only while CR3[11:0] is 0', () => {
    const { cpu } = new Fixture().enter('64-bit');
    for (let bit = 0n; bit < 12n; bit++) {
      cpu.cr3 = 0x5000n | (1n << bit);
      expect(faultOf(() => writeCr4(cpu, PAE | PCIDE))).toEqual(FAULT);
    }
    cpu.cr3 = 0x5000n;
    expect(faultOf(() => writeCr4(cpu, PAE | PCIDE))).toBeNull();
    cpu.cr3 = 0x5001n;
    expect(faultOf(() => writeCr4(cpu, PAE | PCIDE | PGE))).toBeNull();
    const legacy = new Fixture().enter('protected32').cpu;
    expect(faultOf(() => writeCr4(legacy, PAE | PCIDE))).toEqual(FAULT);
  });
});
