/**
 * Opcode groups: opcodes that the reg field of ModR/M extends. SDM vol. 2D appendix A.4, table A-6; and the escape
 * opcodes D8..DF of A.5.
 *
 * By reg; where memory (mod other than 11b) and registers (11b) differ, a row each, and a row by rm where the
 * whole ModR/M byte chooses.
 */
import { type GroupText, times } from './notation.ts';

/** VMX and SVM instructions that VMX or SVM alone make valid. */
const VMX = 'NP vmcall';
const SVM = 'vmcall';

/** An escape opcode: what its memory forms and its register forms (rows by reg, columns by rm; x: none) are. */
function escapes(memory: string, register: string): GroupText {
  const meaning = (mark: string, text: string) => (mark === '*' ? text : '');
  return {
    memory: [...memory].map((mark) => meaning(mark, 'x87 M z')),
    register: register.split(' ').map((row) => [...row].map((mark) => meaning(mark, 'x87 z'))),
  };
}

/** A shift by an immediate, of MMX and SSE2. */
function shift(name: string): string {
  return `NP ${name} Nq,Ib | 66 ${name} Ux,Ib`;
}

// biome-ignore format: a table
export const groups: Readonly<Record<string, GroupText>> = {
  '1': ['add lock', 'or lock', 'adc lock', 'sbb lock', 'and lock', 'sub lock', 'xor lock', 'cmp'],
  '1A': ['pop', '', '', '', '', '', '', ''],
  // /6 is not in the manual: SHL again.
  '2': ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'shl', 'sar'],
  // /1 is not in the manual: TEST again.
  '3b': ['test Eb,Ib', 'test Eb,Ib', 'not lock', 'neg lock', 'mul', 'imul', 'div', 'idiv'],
  '3v': ['test Ev,Iz', 'test Ev,Iz', 'not lock', 'neg lock', 'mul', 'imul', 'div', 'idiv'],
  '4': ['inc lock', 'dec lock', '', '', '', '', '', ''],
  '5': ['inc lock', 'dec lock', 'call f64', 'callf M v', 'jmp f64', 'jmpf M v', 'push d64', ''],
  '6': ['sldt Rv/Mw', 'str Rv/Mw', 'lldt Ew', 'ltr Ew', 'verr Ew', 'verw Ew', '', ''],
  '7': {
    memory: ['sgdt M f64', 'sidt M f64', 'lgdt M f64', 'lidt M f64', 'smsw Mw', '', 'lmsw Mw', 'invlpg M'],
    register: [
      ['', VMX, VMX, VMX, VMX, '', '', ''],
      ['NP monitor', 'NP mwait', 'NP clac', 'NP stac', '', '', '', ''],
      ['NP xgetbv', 'NP xsetbv', '', '', VMX, '', '', ''],
      times(8, SVM),
      'smsw Rv',
      '',
      'lmsw Rw',
      ['o64 swapgs', 'rdtscp', '', '', '', '', '', ''],
    ],
  },
  '8': ['', '', '', '', 'bt', 'bts lock', 'btr lock', 'btc lock'],
  '9': {
    memory: ['', 'W0 cmpxchg8b M y lock | W1 cmpxchg16b M y lock', '', 'NP xrstors M', 'NP xsavec M', 'NP xsaves M', 'NP 66 F3 vmcall', 'NP vmcall'],
    register: ['', '', '', '', '', '', 'NFx rdrand Rv', 'NFx rdseed Rv | F3 rdpid Rn'],
  },
  '11': {
    memory: ['mov', '', '', '', '', '', '', ''],
    register: ['mov', '', '', '', '', '', '', ''],
  },
  '12': ['', '', shift('psrlw'), '', shift('psraw'), '', shift('psllw'), ''],
  '13': ['', '', shift('psrld'), '', shift('psrad'), '', shift('pslld'), ''],
  '14': ['', '', shift('psrlq'), '66 psrldq Ux,Ib', '', '', shift('psllq'), '66 pslldq Ux,Ib'],
  // 0F 12 and 0F 16.
  Movlps: { memory: times(8, 'movlps Vo,Mq'), register: times(8, 'movhlps Vo,Uo') },
  Movhps: { memory: times(8, 'movhps Vo,Mq'), register: times(8, 'movlhps Vo,Uo') },
  '15': {
    memory: [
      'NP fxsave M', 'NP fxrstor M', 'NP ldmxcsr Md', 'NP stmxcsr Md',
      'NP xsave M', 'NP xrstor M', 'NP xsaveopt M | 66 clwb Mb', 'NP clflush Mb | 66 clflushopt Mb',
    ],
    register: [
      'o64 F3 rdfsbase Ry', 'o64 F3 rdgsbase Ry', 'o64 F3 wrfsbase Ry', 'o64 F3 wrgsbase Ry',
      '', 'NP fence', 'NP fence', 'NP fence',
    ],
  },
  // 0F 0D.
  P: { memory: times(8, 'prefetch'), register: times(8, 'nop') },
  // Hints that need no support to be valid: PREFETCHh and reserved NOPs.
  '16': { memory: [...times(4, 'prefetch'), ...times(4, 'nop')], register: times(8, 'nop') },
  // 0F 1E: reserved NOPs; ENDBR32 and ENDBR64 are such where CET is not reported.
  '1E': {
    memory: times(8, 'nop'),
    register: [...times(7, 'nop'), ['nop', 'nop', 'NP 66 F2 nop | F3 endbr', 'NP 66 F2 nop | F3 endbr', 'nop', 'nop', 'nop', 'nop']],
  },

  D8: escapes('********', '******** ******** ******** ******** ******** ******** ******** ********'),
  D9: escapes('*x******', '******** ******** *xxxxxxx ******** **xx**xx *******x ******** ********'),
  DA: escapes('********', '******** ******** ******** ******** xxxxxxxx x*xxxxxx xxxxxxxx xxxxxxxx'),
  DB: escapes('****x*x*', '******** ******** ******** ******** *****xxx ******** ******** xxxxxxxx'),
  DC: escapes('********', '******** ******** ******** ******** ******** ******** ******** ********'),
  DD: escapes('*****x**', '******** ******** ******** ******** ******** ******** xxxxxxxx xxxxxxxx'),
  DE: escapes('********', '******** ******** ******** x*xxxxxx ******** ******** ******** ********'),
  DF: escapes('********', '******** ******** ******** ******** *xxxxxxx ******** ******** xxxxxxxx'),
};
