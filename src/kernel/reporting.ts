/** The kernel's side of the report: the lines of `report.ts`, written to COM1. */

import {
  type Assembler,
  eax,
  ecx,
  edi,
  edx,
  mem,
  qword,
  r8q,
  r9,
  r10,
  r11,
  r12,
  r12d,
  r13,
  r13d,
  r14,
  r15,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  sym,
  times,
} from './assembler.ts';
import { emitCaseLine } from './common/case-line.ts';
import { kernel64 } from './common/kernel.ts';
import {
  ESPFIX_ALIASES,
  ESPFIX_PGD_SLOT,
  ESPFIX_STACK_SIZE,
  PAGE_SIZE,
  PGD_SLOT_SIZE,
  PHYSICAL_MAP,
  PHYSICAL_MAP_SIZE,
  percpu,
} from './layout.ts';
import type { Texts } from './texts.ts';
import type { Variant } from './variants/variant.ts';

/** Bits of a page-table entry that name a physical page. */
const ADDRESS = 0x000f_ffff_ffff_f000n;

/** Emits report_header, the report call and report_end. */
export function emitReporting(
  a: Assembler,
  variant: Variant,
  { cpus, seed }: { readonly cpus: number; readonly seed: number },
  texts: Texts,
): void {
  a.section('.text').bits(64);

  a.label('report_header');
  a.push(rbx);
  texts.print(`espfix ${variant.name} cpus=`);
  a.mov(rax, mem('cpus_online'));
  a.xor(edi, edi);
  a.label('.count');
  a.shr(rax, 1);
  a.adc(edi, 0);
  a.test(rax, rax);
  a.jnz('.count');
  a.call('put_decimal');
  texts.print(` seed=${seed} protocol=1\n`);
  if (variant.ministack) emitEspfixLines(a, texts, cpus);
  else texts.print('pages tables=0 ministacks=0\n');
  a.pop(rbx);
  a.ret();

  emitCaseLine(a, kernel64, texts);
}

/** The pages, aliases and capacity lines, from the page tables as they are. */
function emitEspfixLines(a: Assembler, texts: Texts, cpus: number): void {
  const decimal = (label: string) => {
    a.mov(edi, mem(label));
    a.call('put_decimal');
  };
  a.mov(r8q, ADDRESS);
  a.mov(r9, PHYSICAL_MAP);
  // R10: tables, R11: ministack pages, each counted once however often it is mapped.
  a.xor(r10, r10);
  a.xor(r11, r11);
  a.mov(rax, sym('kernel_pml4'));
  a.mov(rbx, mem(rax, r9, 8 * ESPFIX_PGD_SLOT));
  a.test(rbx, 1);
  a.jz('.counted');
  a.inc(r10);
  const walk = (depth: 'pud' | 'pmd' | 'pte', table: typeof rbx, then: () => void) => {
    a.and(table, r8q);
    a.add(table, r9);
    a.xor(indexOf[depth], indexOf[depth]);
    a.label(`.${depth}`);
    a.mov(rax, mem(table, times(indexOf[depth], 8)));
    a.test(rax, 1);
    a.jz(`.${depth}_next`);
    a.and(rax, r8q);
    a.mov(rdx, rax);
    a.shr(rdx, 12);
    a.bts(mem('counted_pages'), rdx);
    a.jc(`.${depth}_next`);
    then();
    a.label(`.${depth}_next`);
    a.inc(indexOf[depth]);
    a.cmp(indexOf[depth], 512);
    a.jb(`.${depth}`);
  };
  const indexOf = { pud: r12, pmd: r13, pte: r14 };
  walk('pud', rbx, () => {
    a.inc(r10);
    a.mov(rcx, rax);
    walk('pmd', rcx, () => {
      a.inc(r10);
      a.mov(rsi, rax);
      walk('pte', rsi, () => {
        a.inc(r11);
      });
    });
  });
  a.label('.counted');
  a.mov(mem('counted_tables'), r10);
  a.mov(mem('counted_ministacks'), r11);
  texts.print('pages tables=');
  decimal('counted_tables');
  texts.print(' ministacks=');
  decimal('counted_ministacks');
  texts.print('\n');

  // All 65,536 addresses of each CPU's ministack: does each lead to its page, and may it be written?
  a.xor(r15, r15);
  a.label('.cpu');
  a.bt(qword('cpus_online'), r15);
  a.jnc('.next_cpu');
  a.call('count_aliases');
  texts.print('aliases cpu=');
  a.mov(rdi, r15);
  a.call('put_decimal');
  texts.print(' mapped=');
  decimal('counted_aliases');
  texts.print(' writable=');
  decimal('counted_writable');
  texts.print(` of=${ESPFIX_ALIASES}\n`);
  a.label('.next_cpu');
  a.inc(r15);
  a.cmp(r15, cpus);
  a.jb('.cpu');

  // The aliases of one ministack use up alias count times its size of the slot.
  texts.print(`capacity slot=${PGD_SLOT_SIZE} aliases=`);
  decimal('counted_aliases');
  texts.print(` ministack=${ESPFIX_STACK_SIZE} cpus=`);
  a.mov(rax, PGD_SLOT_SIZE);
  a.xor(edx, edx);
  a.mov(ecx, mem('counted_aliases'));
  a.jrcxz('.no_aliases');
  a.div(rcx);
  a.xor(edx, edx);
  a.mov(ecx, ESPFIX_STACK_SIZE);
  a.div(rcx);
  a.mov(rcx, rax);
  a.label('.no_aliases');
  a.mov(rdi, rcx);
  a.call('put_decimal');
  texts.print('\n');
  a.jmp('report_header.done');

  // count_aliases(CPU in R15)
  a.label('count_aliases');
  a.mov(rbp, r15);
  a.shl(rbp, 12);
  a.mov(rax, sym('percpu'));
  a.add(rbp, rax);
  a.mov(r10, mem(rbp, percpu.espfixStack));
  a.mov(r11, mem(rbp, percpu.espfixWrite));
  a.mov(r9, PHYSICAL_MAP);
  a.sub(r11, r9);
  a.and(r11, -PAGE_SIZE);
  a.mov(r8q, ADDRESS);
  a.mov(qword('counted_aliases'), 0);
  a.mov(qword('counted_writable'), 0);
  a.mov(rax, sym('kernel_pml4'));
  a.mov(rbx, mem(rax, r9, 8 * ESPFIX_PGD_SLOT));
  a.test(rbx, 1);
  a.jz('.done');
  // The writable bits of all levels must be set for a page to be writable.
  a.mov(rdx, rbx);
  a.and(rbx, r8q);
  a.add(rbx, r9);
  a.mov(rax, r10);
  a.shr(rax, 30);
  a.and(eax, 0x1fc);
  a.lea(rbx, mem(rbx, times(rax, 8)));
  a.mov(r12d, 4);
  a.label('.pud');
  a.mov(rcx, mem(rbx));
  a.add(rbx, 8);
  a.test(rcx, 1);
  a.jz('.next_pud');
  a.mov(r14, rcx);
  a.and(r14, rdx);
  a.and(rcx, r8q);
  a.add(rcx, r9);
  a.mov(r13d, 512);
  a.label('.pmd');
  a.mov(rsi, mem(rcx));
  a.add(rcx, 8);
  a.test(rsi, 1);
  a.jz('.next_pmd');
  a.mov(rbp, rsi);
  a.and(rbp, r14);
  a.and(rsi, r8q);
  a.add(rsi, r9);
  a.mov(rax, r10);
  a.shr(rax, 12);
  a.and(eax, 15);
  a.lea(rsi, mem(rsi, times(rax, 8)));
  a.mov(edi, 32);
  a.label('.pte');
  a.mov(rax, mem(rsi));
  a.add(rsi, 16 * 8);
  a.test(rax, 1);
  a.jz('.next_pte');
  a.push(rax);
  a.and(rax, r8q);
  a.cmp(rax, r11);
  a.pop(rax);
  a.jne('.next_pte');
  a.inc(qword('counted_aliases'));
  a.and(rax, rbp);
  a.test(rax, 2);
  a.jz('.next_pte');
  a.inc(qword('counted_writable'));
  a.label('.next_pte');
  a.dec(edi);
  a.jnz('.pte');
  a.label('.next_pmd');
  a.dec(r13d);
  a.jnz('.pmd');
  a.label('.next_pud');
  a.dec(r12d);
  a.jnz('.pud');
  a.label('.done');
  a.ret();

  a.section('.data');
  a.align(8);
  for (const label of ['counted_tables', 'counted_ministacks', 'counted_aliases', 'counted_writable'])
    a.label(label).dq(0);
  a.section('.bss');
  a.align(8);
  a.label('counted_pages').zero(PHYSICAL_MAP_SIZE / PAGE_SIZE / 8);
  a.section('.text');
  a.label('report_header.done');
}
