/** The 32-bit kernel's side of the report: the lines of `../report.ts`, written to COM1. */

import { type Assembler, dword, eax, ebp, ebx, edi, esi, esp, fs, mem, sym } from '../assembler.ts';
import { caseFlag, record } from '../case-table.ts';
import { user } from '../layout.ts';
import { emitVectorNames, type Texts } from '../texts.ts';
import { percpu, regs } from './layout.ts';
import type { Variant32 } from './variant.ts';

/** Emits report_header, the report call and report_end. */
export function emitReporting(a: Assembler, variant: Variant32, seed: number, texts: Texts): void {
  a.section('.text').bits(32);

  a.label('report_header');
  texts.print(`espfix ${variant.name} cpus=`);
  a.xor(edi, edi);
  for (const half of [0, 4]) {
    a.mov(eax, mem('cpus_online', half));
    a.label(`.count${half}`);
    a.shr(eax, 1);
    a.adc(edi, 0);
    a.test(eax, eax);
    a.jnz(`.count${half}`);
  }
  a.call('put_decimal');
  // The segment-base trick costs a GDT entry, and no page.
  texts.print(` seed=${seed} protocol=1\npages tables=0 ministacks=0\n`);
  a.ret();

  emitCaseLine(a, texts);

  a.label('report_end');
  texts.print('end ok=');
  a.mov(edi, mem('cases_ok'));
  a.call('put_decimal');
  texts.print(' failed=');
  a.mov(edi, mem('cases_failed'));
  a.call('put_decimal');
  texts.print('\n');
  a.ret();

  a.section('.rodata');
  emitVectorNames(a);
  a.section('.data');
  a.align(4);
  a.label('cases_ok').dd(0);
  a.label('cases_failed').dd(0);
}

/** call.report(case, user area): judges what the task recorded and prints the case's line. */
function emitCaseLine(a: Assembler, texts: Texts): void {
  const hex = (digits: number) => {
    a.mov(esi, digits);
    a.call('put_hex');
  };
  /** Vector + 1 in EAX. */
  const printName = () => {
    a.dec(eax);
    a.and(eax, 31);
    a.shl(eax, 4);
    a.mov(edi, mem('vector_names', eax));
    a.mov(esi, mem(sym('vector_names', 8), eax));
    a.call('put_string');
  };
  // EBP: the case, EBX: the task's record; on the stack the kernel's stack bits, and whether all is well.
  const kernelBits = dword(esp, 0);
  const well = dword(esp, 4);
  a.label('call.report');
  a.push(ebx);
  a.push(ebp);
  a.mov(ebp, mem(ebx, regs.edi));
  a.mov(ebx, mem(ebx, regs.esi));
  a.mov(eax, mem(fs, percpu.mainStack));
  a.test(dword(ebp, record.flags), caseFlag.child);
  a.cmovnz(eax, mem(fs, percpu.childStack));
  a.and(eax, 0xffff_0000);
  a.push(0);
  a.push(eax);

  texts.print('case cpu=');
  a.mov(edi, mem(fs, percpu.id));
  a.call('put_decimal');
  a.mov(edi, mem(ebp, record.prefix));
  a.mov(esi, mem(ebp, record.prefixLength));
  a.call('put_string');
  a.mov(edi, mem(ebx, user.esp));
  hex(8);
  texts.print(' rsp=00000000');
  a.mov(edi, mem(ebx, user.rsp));
  hex(8);
  texts.print(' kernel=');
  a.mov(edi, kernelBits);
  hex(8);
  texts.print(' result=');

  a.mov(eax, mem(ebx, user.esp));
  a.cmp(eax, mem(ebp, record.set));
  a.jne('.judged');
  a.mov(well, 1);
  a.label('.judged');

  a.mov(eax, mem(ebx, user.oops));
  a.test(eax, eax);
  a.jnz('.oops');
  a.cmp(dword(ebx, user.missed), 0);
  a.jne('.missed');
  a.mov(eax, mem(ebx, user.fault));
  a.test(eax, eax);
  a.jnz('.fault');
  a.cmp(well, 0);
  a.je('.differs');
  a.cmp(dword(ebx, user.registersChanged), 0);
  a.jne('.registers');
  texts.print('own');
  a.jmp('.no_fault');

  a.label('.oops');
  texts.print('oops:');
  a.mov(eax, mem(ebx, user.oops));
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
  a.mov(eax, mem(ebx, user.fault));
  printName();
  texts.print(':');
  a.mov(edi, mem(ebx, user.faultError));
  hex(4);
  a.mov(eax, mem(ebx, user.faultError));
  a.cmp(eax, mem(ebp, record.expectedError));
  a.jne('.bad');
  a.cmp(dword(ebx, user.registersChanged), 0);
  a.jne('.bad');
  a.jmp('.no_fault');

  a.label('.differs');
  a.mov(eax, mem(ebx, user.esp));
  a.xor(eax, kernelBits);
  a.shr(eax, 16);
  a.jnz('.other');
  texts.print('kernel');
  a.jmp('.bad');
  a.label('.other');
  texts.print('other');
  a.jmp('.bad');

  a.label('.no_fault');
  a.mov(eax, mem(ebx, user.fault));
  a.cmp(eax, mem(ebp, record.expectedFault));
  a.je('.print');
  a.cmp(eax, mem(ebp, record.alternativeFault));
  a.je('.print');
  a.label('.bad');
  a.mov(well, 0);
  a.label('.print');
  a.cmp(well, 0);
  a.je('.no');
  a.inc(dword('cases_ok'));
  texts.print(' ok=yes');
  a.jmp('.name');
  a.label('.no');
  a.inc(dword('cases_failed'));
  texts.print(' ok=no');
  a.label('.name');
  a.mov(edi, mem(ebp, record.suffix));
  a.mov(esi, mem(ebp, record.suffixLength));
  a.call('put_string');
  a.add(esp, 8);
  a.pop(ebp);
  a.pop(ebx);
  a.xor(eax, eax);
  a.ret();
}
