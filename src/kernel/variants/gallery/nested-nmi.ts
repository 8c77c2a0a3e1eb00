/**
 * NMIs that may nest, in the manner of Linux since 3.3: any IRET in an NMI handler, as a breakpoint's or a page fault's,
 * ends the blocking of NMIs, and the next one is pushed at the top of the same stack. So the first copies its frame twice,
 * out of the reach of what may be pushed there. One that comes while another is served changes the lower copy, the one to
 * be returned by, to lead to `nmi_again`, where the handler runs once more with the upper copy's frame. All depends on
 * telling one case from the other.
 */

import { type Assembler, byte, eax, mem, qword, rax, rcx, rsp } from '../../assembler.ts';
import { frame, selector } from '../../layout.ts';

/** Bytes at the top of the NMI stack that every NMI writes. */
const ARRIVAL = 0x80;
/** Offsets of the two copies from the stack's top. */
const KEPT = -ARRIVAL - frame.size;
const RETURNED_BY = KEPT - frame.size;
/** What is on the stack of the arrival when the question is asked: RCX, RAX, vector, error code, frame. */
const ASKED = 4 * 8 + frame.size;

/**
 * Emits `nmi_entry`, to which vector 2 goes.
 *
 * @param emitTest in kernel mode, with the interrupted RSP in RAX: sets ZF if an NMI is being served, and leaves in RAX
 * the distance from RSP to the same place on the stack where that one is. May change RCX.
 */
export function emitNestedNmi(a: Assembler, emitTest: (a: Assembler) => void): void {
  a.label('nmi_entry');
  a.push(rax);
  a.push(rcx);
  a.test(byte(rsp, 32 + frame.cs), 3);
  a.jnz('.first');
  // One that is about to be served again needs no more.
  a.mov(rcx, mem(rsp, 32 + frame.rip));
  a.lea(rax, mem('nmi_again'));
  a.cmp(rcx, rax);
  a.jb('.elsewhere');
  a.lea(rax, mem('nmi_again_end'));
  a.cmp(rcx, rax);
  a.jbe('.done');
  a.label('.elsewhere');
  a.mov(rax, mem(rsp, 32 + frame.rsp));
  emitTest(a);
  a.jnz('.first');

  a.label('nmi_is_nested');
  const at = (word: number) => ASKED + RETURNED_BY + word;
  a.lea(rcx, mem('nmi_again'));
  a.mov(mem(rsp, rax, at(frame.rip)), rcx);
  a.mov(qword(rsp, rax, at(frame.cs)), selector.kernelCode);
  a.mov(qword(rsp, rax, at(frame.rflags)), 2);
  a.lea(rcx, mem(rsp, rax, ASKED + KEPT));
  a.mov(mem(rsp, rax, at(frame.rsp)), rcx);
  a.mov(qword(rsp, rax, at(frame.ss)), selector.kernelData);
  a.label('nmi_entry.done');
  a.pop(rcx);
  a.pop(rax);
  a.lea(rsp, mem(rsp, 16));
  a.label('iretq.nmi');
  a.iretq();

  a.label('nmi_entry.first');
  a.pop(rcx);
  a.pop(rax);
  a.lea(rsp, mem(rsp, 16 + frame.size - ARRIVAL));
  for (let i = 0; i < frame.size / 8; i++) a.push(qword(rsp, ARRIVAL - 8));
  a.label('nmi_again');
  for (let i = 0; i < frame.size / 8; i++) a.push(qword(rsp, frame.size - 8));
  a.push(0);
  a.label('nmi_again_end');
  a.push(2);
  a.jmp('paranoid_entry');
}

/** Emits the test of RSP alone: that it lies in the same 64 KiB as the stack that the NMI arrived on. */
export function emitTestOfStack(a: Assembler): void {
  a.mov(rcx, rax);
  a.xor(rcx, rsp);
  a.shr(rcx, 16);
  a.mov(eax, 0);
}
