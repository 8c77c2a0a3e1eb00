/**
 * From the boot loader to the kernel's mode: IA-32e, or 32-bit with PAE paging. Multiboot 1 and PVH both enter in
 * 32-bit protected mode without paging (Multiboot 0.6.96, Section 3.2; Xen's PVH boot ABI); nothing that they
 * pass is needed. Application processors join at `enter_paging` from the trampoline.
 */

import {
  type Assembler,
  cr0,
  cr3,
  cr4,
  ds,
  dword,
  eax,
  ecx,
  edi,
  edx,
  es,
  mem,
  rax,
  ss,
  sym,
} from '../assembler.ts';
import { segmentDescriptor } from '../descriptors.ts';

const MULTIBOOT_MAGIC = 0x1badb002;
/** Modules on page boundaries, memory information wanted. */
const MULTIBOOT_FLAGS = 3;

/** Selectors of the boot GDT. */
const boot = { code32: 0x08, data: 0x10, code64: 0x18 } as const;

/** CR0: PG, WP, NE, ET, MP, PE (SDM Vol. 3A, Section 2.5). */
const CR0 = 0x8001_0033;
/** CR4: PAE and PGE. */
const CR4 = 0xa0;
const IA32_EFER = 0xc000_0080;
/** EFER: NXE, and in the 64-bit kernel LME and SCE. */
const EFER = { 32: 0x800, 64: 0x901 } as const;

/**
 * Emits the Multiboot header, `start`, `enter_paging` and the trampoline. The kernel is entered at `start32` or
 * `start64`, under the page tables at `boot_page_tables`.
 */
export function emitBoot(a: Assembler, bits: 32 | 64): void {
  a.section('.boot').bits(32);
  a.label('multiboot_header');
  a.dd(MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS));

  a.label('start');
  a.cli();
  a.cld();
  a.lgdt(mem('boot_gdt_pointer'));
  a.jmpFar(boot.code32, 'enter_paging');

  a.label('enter_paging');
  a.mov(eax, boot.data);
  a.mov(ds, eax);
  a.mov(es, eax);
  a.mov(ss, eax);
  a.mov(eax, CR4);
  a.mov(cr4, eax);
  a.mov(eax, sym('boot_page_tables'));
  a.mov(cr3, eax);
  if (bits === 32) emitWithoutNoExecute(a);
  a.mov(ecx, IA32_EFER);
  a.rdmsr();
  a.or(eax, EFER[bits]);
  a.wrmsr();
  a.label('.paging');
  a.mov(eax, CR0);
  a.mov(cr0, eax);
  if (bits === 64) {
    a.jmpFar(boot.code64, 'enter_kernel');
    a.label('enter_kernel').bits(64);
    a.mov(rax, sym('start64'));
    a.jmp(rax);
  } else {
    a.mov(eax, sym('start32'));
    a.jmp(eax);
  }

  a.align(8);
  a.label('boot_gdt');
  a.dq(
    0,
    segmentDescriptor({ kind: 'code32', limit: 0xfffff, pages: true, dpl: 0 }),
    segmentDescriptor({ kind: 'data32', limit: 0xfffff, pages: true, dpl: 0 }),
    segmentDescriptor({ kind: 'code64', limit: 0, dpl: 0 }),
  );
  a.label('boot_gdt_pointer');
  a.dw(31);
  a.dd(sym('boot_gdt'));

  // A start-up IPI begins here in real mode with CS:IP = vector << 8 : 0.
  a.section('.trampoline').bits(16);
  a.label('trampoline');
  a.cli();
  a.cld();
  a.xor(eax, eax);
  a.mov(ds, eax);
  a.lgdt(mem('trampoline_gdt_pointer'));
  a.mov(eax, 1);
  a.mov(cr0, eax);
  a.jmpFar(boot.code32, 'enter_paging');
  a.align(4);
  a.label('trampoline_gdt_pointer');
  a.dw(31);
  a.dd(sym('boot_gdt'));
  a.label('trampoline_end');
}

/**
 * A 32-bit processor may lack no-execute pages, and EFER with them: then bit 63 of every entry is reserved (SDM
 * Vol. 3A, Section 4.4.2) and is cleared.
 */
function emitWithoutNoExecute(a: Assembler): void {
  a.mov(eax, 0x8000_0000);
  a.cpuid();
  a.cmp(eax, 0x8000_0001);
  a.jb('.no_nx');
  a.mov(eax, 0x8000_0001);
  a.cpuid();
  a.bt(edx, 20);
  a.jc('.nx');
  a.label('.no_nx');
  a.mov(edi, sym('boot_page_tables', 4));
  a.mov(ecx, sym('page_table_entries'));
  a.label('.clear');
  a.and(dword(edi), 0x7fff_ffff);
  a.add(edi, 8);
  a.dec(ecx);
  a.jnz('.clear');
  a.jmp('.paging');
  a.label('.nx');
}
