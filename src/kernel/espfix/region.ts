/**
 * The espfix region: ministack pages in PGD slot 510, each mapped at all 65,536 values of address bits 31:16.
 *
 * Those bits are the low 2 of the page-directory-pointer index, all 9 of the directory index and the high 5
 * of the table index. So a ministack page needs one directory named by 4 entries, one page table named by 512
 * and 32 entries for itself (SDM Vol. 3A, Section 4.5.4).
 */

import { type Assembler, eax, ecx, mem, r8q, r9, rax, rcx, rdi, rdx, rsi, sym, times } from '../assembler.ts';
import { ESPFIX_BASE, ESPFIX_PGD_SLOT, KERNEL_BASE, PAGE_SIZE, PHYSICAL_MAP } from '../layout.ts';
import { pte } from '../page-tables.ts';

/** Bits of an entry that name a physical page. */
const ADDRESS = 0x000f_ffff_ffff_f000n;
/** Entries that make one table or page appear at every alias, and their distance. */
const clones = { pud: 4, pmd: 512, pte: 32 } as const;
const PTE_STRIDE = 16;
/** Pages that the region may take: three tables and a ministack page for each 64 CPUs, and some to spare. */
const POOL_PAGES = 32;

/** Entry bits of tables and ministack pages: never for user space, never executable. */
export const region = {
  readOnly: { table: pte.present | pte.accessed, page: pte.present | pte.accessed | pte.noExecute },
  writable: {
    table: pte.present | pte.accessed | pte.write,
    page: pte.present | pte.accessed | pte.dirty | pte.write | pte.noExecute,
  },
} as const;

/**
 * Emits `espfix_map`: given in RDI the address of a ministack with bits 31:16 zero, sees to it that its page
 * is mapped at all aliases, and gives in RAX the page's address in the physical map. Nothing is allocated for
 * what is already there. Clobbers RCX, RDX, RSI, R8-R11.
 */
export function emitRegion(a: Assembler, bits: (typeof region)[keyof typeof region]): void {
  a.section('.text').bits(64);
  a.label('espfix_map');
  a.mov(r8q, ADDRESS);
  a.mov(r9, PHYSICAL_MAP);
  a.mov(rax, sym('kernel_pml4'));
  a.lea(rsi, mem(rax, r9, 8 * ESPFIX_PGD_SLOT));
  descend(a, 'pgd', 1, 1, bits.table);

  a.mov(rcx, rdi);
  a.shr(rcx, 30);
  a.and(ecx, 0x1fc);
  a.lea(rsi, mem(rax, times(rcx, 8)));
  descend(a, 'pud', clones.pud, 1, bits.table);

  a.mov(rsi, rax);
  descend(a, 'pmd', clones.pmd, 1, bits.table);

  a.mov(rcx, rdi);
  a.shr(rcx, 12);
  a.and(ecx, PTE_STRIDE - 1);
  a.lea(rsi, mem(rax, times(rcx, 8)));
  descend(a, 'pte', clones.pte, PTE_STRIDE, bits.page);
  a.ret();

  a.section('.data');
  a.align(8);
  a.label('next_page').dq(sym('page_pool', -KERNEL_BASE));
  a.section('.bss');
  a.align(PAGE_SIZE);
  a.label('page_pool').zero(POOL_PAGES * PAGE_SIZE);
  a.section('.text');
}

/** From the first of `count` equal entries at RSI to what they name, in RAX; fills them all if there is nothing. */
function descend(a: Assembler, level: string, count: number, stride: number, bits: bigint): void {
  a.mov(rax, mem(rsi));
  a.test(eax, 1);
  a.jnz(`.${level}_there`);
  // Pages of the pool are zero and never given back.
  a.mov(rax, PAGE_SIZE);
  a.lock().xadd(mem('next_page'), rax);
  a.mov(rdx, bits);
  a.or(rax, rdx);
  a.mov(ecx, count);
  a.label(`.${level}_fill`);
  a.mov(mem(rsi), rax);
  a.add(rsi, 8 * stride);
  a.dec(ecx);
  a.jnz(`.${level}_fill`);
  a.label(`.${level}_there`);
  a.and(rax, r8q);
  a.add(rax, r9);
}

/**
 * The lowest alias of a ministack: its offset among all ministacks with bits 15:0 in place and the others moved
 * up by 16, which leaves bits 31:16 to the aliases.
 */
export function ministackAddress(offset: bigint): bigint {
  return ESPFIX_BASE + ((offset & 0xffffn) | ((offset >> 16n) << 32n));
}

/** Emits `ministack_addresses`, the lowest alias of each CPU's ministack. */
export function emitMinistackAddresses(a: Assembler, addresses: readonly bigint[]): void {
  a.section('.rodata');
  a.align(8);
  a.label('ministack_addresses').dq(...addresses);
  a.section('.text');
}
