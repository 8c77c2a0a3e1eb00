/**
 * Instructions that invalidate caches and translations. SDM vol. 3A 4.10.4.1; vol. 2A "INVLPG", "INVPCID", "INVD";
 * vol. 2D "WBINVD".
 */

import { FS, GS } from '../isa/state.ts';
import { CR4_PCIDE, requireCpl0 } from './control-registers.ts';
import type { SystemInstruction } from './cpu.ts';
import { gp } from './fault.ts';
import { isCanonical, readSegment } from './linear.ts';
import { advance, effectiveAddress, registerIndex } from './operands.ts';
import { currentPcid, linearNumber } from './paging.ts';

/**
 * INVLPG: drops the translations of the page that holds the address: those of the current PCID, and global ones. The
 * address is made without limit checks; where it is not canonical nothing happens.
 */
export const invlpg: SystemInstruction = (cpu, instruction) => {
  requireCpl0(cpu);
  const { segment, offset } = effectiveAddress(cpu, instruction, 0);
  let linear = offset;
  if (!cpu.mode64) linear = BigInt.asUintN(32, offset + cpu.segBase[segment]);
  else if (segment === FS || segment === GS) linear = BigInt.asUintN(64, offset + cpu.segBase[segment]);
  if (cpu.longMode && !isCanonical(linear)) return;
  cpu.tlb.invalidatePage(linearNumber(linear), currentPcid(cpu), true);
};

/** INVPCID r, m128. Types: 0 one address, 1 one PCID, 2 all with globals, 3 all without. */
export const invpcid: SystemInstruction = (cpu, instruction) => {
  requireCpl0(cpu);
  const type = BigInt.asUintN(cpu.mode64 ? 64 : 32, cpu.gpr[registerIndex(instruction, 0)]);
  const { segment, offset } = effectiveAddress(cpu, instruction, 1);
  const low = readSegment(cpu, segment, offset, 8);
  const linear = readSegment(cpu, segment, advance(instruction, offset, 8), 8);
  if (type > 3n || low >> 12n) throw gp();
  if (type < 2n && low !== 0n && (cpu.cr4 & CR4_PCIDE) === 0n) throw gp();
  if (type === 0n && !isCanonical(linear)) throw gp();
  const pcid = Number(low & 0xfffn);
  if (type === 0n) cpu.tlb.invalidatePage(linearNumber(linear), pcid, false);
  else cpu.tlb.invalidateContext(type === 1n ? pcid : -1, type === 2n);
};

/** INVD and WBINVD: caches are not modelled, memory is always coherent. */
export const invalidateCaches: SystemInstruction = (cpu) => requireCpl0(cpu);
