/** The 32-bit kernel's side of the report: the lines of `../report.ts`, written to COM1. */

import { type Assembler, eax, edi, mem } from '../assembler.ts';
import { emitCaseLine } from '../common/case-line.ts';
import { kernel32 } from '../common/kernel.ts';
import type { Texts } from '../texts.ts';
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

  emitCaseLine(a, kernel32, texts);
}
