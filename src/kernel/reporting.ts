/** The kernel's side of the report: the lines of `report.ts`, written to COM1. */

import {
  type Assembler,
  dword,
  eax,
  ecx,
  edi,
  edx,
  gs,
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
  r14d,
  r15,
  r15d,
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
import { caseFlag, record } from './case-table.ts';
import {
  ESPFIX_ALIASES,
  ESPFIX_PGD_SLOT,
  ESPFIX_STACK_SIZE,
  PAGE_SIZE,
  PGD_SLOT_SIZE,
  PHYSICAL_MAP,
  PHYSICAL_MAP_SIZE,
  percpu,
  regs,
  user,
} from './layout.ts';
import { emitVectorNames, Texts } from './texts.ts';
import type { Variant } from './variants/variant.ts';

/** Bits of a page-table entry that name a physical page. */
const ADDRESS = 0x000f_ffff_ffff_f000n;

/** Emits report_header, the report call and report_end. */
export function emitReporting(a: Assembler, variant: Variant, cpus: number, seed: number): void {
  const texts = new Texts(a, 64);
  const hex = (digits: number) => {
    a.mov(eax, digits);
    a.mov(rsi, rax);
    a.call('put_hex');
  };
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

  emitCaseLine(a, texts, hex);

  a.label('report_end');
  texts.print('end ok=');
  a.mov(edi, mem('cases_ok'));
  a.call('put_decimal');
  texts.print(' failed=');
  a.mov(edi, mem('cases_failed'));
  a.call('put_decimal');
  texts.print('\n');
  a.ret();

  texts.emit();
  emitVectorNames(a);
  a.section('.data');
  a.align(8);
  a.label('cases_ok').dd(0);
  a.label('cases_failed').dd(0);
}

/** call.report(case, user area): judges what the task recorded and prints the case's line. */
function emitCaseLine(a: Assembler, texts: Texts, hex: (digits: number) => void): void {
  const printName = () => {
    // Vector + 1 in EAX.
    a.dec(eax);
    a.and(eax, 31);
    a.shl(eax, 4);
    a.lea(rcx, mem('vector_names'));
    a.mov(rdi, mem(rcx, rax));
    a.mov(rsi, mem(rcx, rax, 8));
    a.call('put_string');
  };
  // R12: the case, R13: the task's record, R14: the kernel's stack bits, R15: whether all is well.
  a.label('call.report');
  a.mov(r12d, mem(rbx, regs.rdi));
  a.mov(r13d, mem(rbx, regs.rsi));
  a.mov(rax, mem(gs, percpu.mainStack));
  a.test(dword(r12, record.flags), caseFlag.child);
  a.cmovnz(rax, mem(gs, percpu.childStack));
  a.and(eax, 0xffff_0000);
  a.mov(r14d, eax);

  texts.print('case cpu=');
  a.mov(rdi, mem(gs, percpu.id));
  a.call('put_decimal');
  a.mov(rdi, mem(r12, record.prefix));
  a.mov(eax, mem(r12, record.prefixLength));
  a.mov(rsi, rax);
  a.call('put_string');
  a.mov(edi, mem(r13, user.esp));
  hex(8);
  texts.print(' rsp=');
  a.mov(rdi, mem(r13, user.rsp));
  hex(16);
  texts.print(' kernel=');
  a.mov(rdi, r14);
  hex(8);
  texts.print(' result=');

  // Every bit that the target can see must be its own: 32, or 64 in 64-bit code.
  a.xor(r15d, r15d);
  a.mov(eax, mem(r13, user.esp));
  a.cmp(eax, mem(r12, record.set));
  a.jne('.judged');
  a.test(dword(r12, record.flags), caseFlag.wide);
  a.jz('.same');
  a.mov(rax, mem(r13, user.rsp));
  a.cmp(rax, mem(r12, record.set));
  a.jne('.judged');
  a.label('.same');
  a.inc(r15d);
  a.label('.judged');

  a.mov(eax, mem(r13, user.oops));
  a.test(eax, eax);
  a.jnz('.oops');
  a.cmp(dword(r13, user.missed), 0);
  a.jne('.missed');
  a.mov(eax, mem(r13, user.fault));
  a.test(eax, eax);
  a.jnz('.fault');
  a.test(r15d, r15d);
  a.jz('.differs');
  a.cmp(dword(r13, user.registersChanged), 0);
  a.jne('.registers');
  texts.print('own');
  a.jmp('.no_fault');

  a.label('.oops');
  texts.print('oops:');
  a.mov(eax, mem(r13, user.oops));
  printName();
  a.jmp('.bad');
  a.label('.missed');
  texts.print('missed');
  a.jmp('.bad');
  a.label('.registers');
  texts.print('registers');
  a.jmp('.bad');

  a.label('.fault');
  texts.print('fault:');
  a.mov(eax, mem(r13, user.fault));
  printName();
  a.mov(edi, 0x3a);
  a.call('put_char');
  a.mov(edi, mem(r13, user.faultError));
  hex(4);
  a.mov(eax, mem(r13, user.faultError));
  a.cmp(eax, mem(r12, record.expectedError));
  a.jne('.bad');
  a.cmp(dword(r13, user.registersChanged), 0);
  a.jne('.bad');
  a.jmp('.no_fault');

  a.label('.differs');
  a.mov(eax, mem(r13, user.esp));
  a.xor(eax, r14d);
  a.shr(eax, 16);
  a.jnz('.other');
  texts.print('kernel');
  a.jmp('.bad');
  a.label('.other');
  texts.print('other');
  a.jmp('.bad');

  a.label('.no_fault');
  a.mov(eax, mem(r13, user.fault));
  a.cmp(eax, mem(r12, record.expectedFault));
  a.je('.print');
  a.cmp(eax, mem(r12, record.alternativeFault));
  a.je('.print');
  a.label('.bad');
  a.xor(r15d, r15d);
  a.label('.print');
  a.test(r15d, r15d);
  a.jz('.no');
  a.inc(dword('cases_ok'));
  texts.print(' ok=yes');
  a.jmp('.name');
  a.label('.no');
  a.inc(dword('cases_failed'));
  texts.print(' ok=no');
  a.label('.name');
  a.mov(rdi, mem(r12, record.suffix));
  a.mov(eax, mem(r12, record.suffixLength));
  a.mov(rsi, rax);
  a.call('put_string');
  a.xor(eax, eax);
  a.ret();
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
