/** Paging: linear to physical addresses. SDM vol. 3A chapter 4. */
import type { Cpu } from './cpu.ts';

/** An access as paging judges it (SDM vol. 3A 4.6). */
export interface PageAccess {
  readonly user: boolean;
  readonly implicit: boolean;
  readonly write: boolean;
  readonly fetch: boolean;
}

const accesses: PageAccess[] = Array.from({ length: 16 }, (_, bits) => ({
  user: (bits & 1) !== 0,
  implicit: (bits & 2) !== 0,
  write: (bits & 4) !== 0,
  fetch: (bits & 8) !== 0,
}));

/** The one object that stands for an access of these properties: nothing is allocated. */
export function pageAccess(user: boolean, implicit: boolean, write: boolean, fetch: boolean): PageAccess {
  return accesses[(user ? 1 : 0) | (implicit ? 2 : 0) | (write ? 4 : 0) | (fetch ? 8 : 0)];
}

const CR0_PG = 1n << 31n;

/**
 * The physical address of `linear` for `access`. Raises #PF with CR2 set.
 * @param linear canonical in long mode, below 2^32 outside it.
 */
export function translate(cpu: Cpu, linear: bigint, _access: PageAccess): number {
  if ((cpu.cr0 & CR0_PG) === 0n) return Number(linear);
  throw new Error('paging is not there yet');
}
