/** call.report, in both kernels: judges what the task recorded and prints the case's line (`../report.ts`). */

import { type Assembler, dword, eax, ebp, ebx, edi, esi, mem } from '../assembler.ts';
import { caseFlag, record } from '../case-table.ts';
import { user } from '../layout.ts';
import type { Texts } from '../texts.ts';
import type { Kernel } from './kernel.ts';

/** Emits call.report(case, user area), report_end, and the counts they share. */
export function emitCaseLine(a: Assembler, k: Kernel, texts: Texts): void {
  const { ax, bp, bx, cx, di, si, sp, area, regs, percpu } = k;
  /** Vector + 1 in EAX. */
  const printName = () => {
    a.dec(eax);
    a.and(eax, 31);
    a.shl(eax, 4);
    a.lea(cx, mem('vector_names'));
    a.mov(di, mem(cx, ax));
    a.mov(si, mem(cx, ax, 8));
    a.call('put_string');
  };
  // BP: the case, BX: the task's record; on the stack the kernel's stack bits, and whether all is well.
  const kernelBits = dword(sp, 0);
  const well = dword(sp, k.bytes);
  a.section('.text').bits(k.bits);
  a.label('call.report');
  a.push(bx);
  a.push(bp);
  a.mov(ebp, mem(bx, regs.di));
  a.mov(ebx, mem(bx, regs.si));
  a.mov(ax, mem(area, percpu.mainStack));
  a.test(dword(bp, record.flags), caseFlag.child);
  a.cmovnz(ax, mem(area, percpu.childStack));
  a.and(eax, 0xffff_0000);
  a.push(0);
  a.push(ax);

  texts.print('case cpu=');
  a.mov(di, mem(area, percpu.id));
  a.call('put_decimal');
  a.mov(di, mem(bp, record.prefix));
  a.mov(esi, mem(bp, record.prefixLength));
  a.call('put_string');
  a.mov(edi, mem(bx, user.esp));
  texts.hex(8);
  texts.print(k.bits === 64 ? ' rsp=' : ' rsp=00000000');
  a.mov(di, mem(bx, user.rsp));
  texts.hex(k.bits === 64 ? 16 : 8);
  texts.print(' kernel=');
  a.mov(edi, kernelBits);
  texts.hex(8);
  texts.print(' result=');

  // Every bit that the target can see must be its own: 32, or 64 in 64-bit code.
  a.mov(eax, mem(bx, user.esp));
  a.cmp(eax, mem(bp, record.set));
  a.jne('.judged');
  if (k.bits === 64) {
    a.test(dword(bp, record.flags), caseFlag.wide);
    a.jz('.same');
    a.mov(ax, mem(bx, user.rsp));
    a.cmp(ax, mem(bp, record.set));
    a.jne('.judged');
    a.label('.same');
  }
  a.mov(well, 1);
  a.label('.judged');

  a.mov(eax, mem(bx, user.oops));
  a.test(eax, eax);
  a.jnz('.oops');
  a.cmp(dword(bx, user.missed), 0);
  a.jne('.missed');
  a.mov(eax, mem(bx, user.fault));
  a.test(eax, eax);
  a.jnz('.fault');
  a.cmp(well, 0);
  a.je('.differs');
  a.cmp(dword(bx, user.registersChanged), 0);
  a.jne('.registers');
  texts.print('own');
  a.jmp('.no_fault');

  a.label('.oops');
  texts.print('oops:');
  a.mov(eax, mem(bx, user.oops));
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
  a.mov(eax, mem(bx, user.fault));
  printName();
  texts.print(':');
  a.mov(edi, mem(bx, user.faultError));
  texts.hex(4);
  a.mov(eax, mem(bx, user.faultError));
  a.cmp(eax, mem(bp, record.expectedError));
  a.jne('.bad');
  a.cmp(dword(bx, user.registersChanged), 0);
  a.jne('.bad');
  a.jmp('.no_fault');

  a.label('.differs');
  a.mov(eax, mem(bx, user.esp));
  a.xor(eax, kernelBits);
  a.shr(eax, 16);
  a.jnz('.other');
  texts.print('kernel');
  a.jmp('.bad');
  a.label('.other');
  texts.print('other');
  a.jmp('.bad');

  a.label('.no_fault');
  a.mov(eax, mem(bx, user.fault));
  a.cmp(eax, mem(bp, record.expectedFault));
  a.je('.print');
  a.cmp(eax, mem(bp, record.alternativeFault));
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
  a.mov(di, mem(bp, record.suffix));
  a.mov(esi, mem(bp, record.suffixLength));
  a.call('put_string');
  a.add(sp, 2 * k.bytes);
  a.pop(bp);
  a.pop(bx);
  a.xor(eax, eax);
  a.ret();

  a.label('report_end');
  texts.print('end ok=');
  a.mov(edi, mem('cases_ok'));
  a.call('put_decimal');
  texts.print(' failed=');
  a.mov(edi, mem('cases_failed'));
  a.call('put_decimal');
  texts.print('\n');
  a.ret();

  a.section('.data');
  a.align(8);
  a.label('cases_ok').dd(0);
  a.label('cases_failed').dd(0);
  a.section('.text');
}
