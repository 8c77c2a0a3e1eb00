/**
 * A kernel that sends itself an NMI at an instruction of its own, so that machines that cannot be interrupted from outside at
 * will show what an NMI there does.
 *
 * A store to the interrupt command register of the local APIC (SDM Vol. 3A, Section 10.6.1) needs no register, no stack
 * and no flag. It ends at the end of a page: machines that look for events between blocks of instructions only end a block
 * there.
 */

import { type Assembler, dword, qword, sym } from './assembler.ts';
import { apic } from './common/start.ts';
import { LAPIC, PAGE_SIZE } from './layout.ts';

export interface SelfNmi {
  /** Label of the instruction before which the NMI comes. */
  readonly at: string;
  /**
   * The label is an entry, reached by a gate, a call or a jump: the NMI comes at its first instruction, and the label is that
   * of what sends it. Otherwise only code that falls through to the label does, and the label stays the instruction's.
   */
  readonly isEntry?: boolean;
  /** Sends it the first time only. */
  readonly once?: boolean;
}

/** NMI to the APIC ID of the command's high half, which is zero: CPU 0. */
const NMI_TO_CPU_0 = 0x4400;
/** MOV of an immediate of 32 bits to a 32-bit displacement: opcode, ModR/M, SIB, displacement, immediate. */
const STORE_LENGTH = 11;
/** MOV of a sign-extended one to a RIP-relative quadword: REX, opcode, ModR/M, displacement, immediate. */
const MARK_LENGTH = 11;

/** Has the NMI sent where the label is going to be defined, in `.text`. */
export function sendNmi(a: Assembler, { at, isEntry = false, once = false }: SelfNmi): void {
  a.insert(isEntry ? 'after' : 'before', at, () => {
    const send = `self_nmi.${at}`;
    if (once) a.jmp(qword(`${send}.way`));
    else a.jmp(send);
    a.align(PAGE_SIZE);
    a.zero(PAGE_SIZE - STORE_LENGTH - (once ? MARK_LENGTH : 0));
    a.label(send);
    if (once) a.mov(qword(`${send}.way`), sym(`${send}.sent`));
    a.mov(dword(LAPIC + BigInt(apic.commandLow)), NMI_TO_CPU_0);
    a.label(`${send}.sent`);
    if (!once) return;
    a.section('.data').align(8);
    a.label(`${send}.way`).dq(sym(send));
    a.section('.text');
  });
}
