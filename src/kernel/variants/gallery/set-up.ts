/** What the kernels that set their ministacks up at modify_ldt have in common. */

import { type Assembler, dword, eax, mem } from '../../assembler.ts';
import { linux } from '../linux.ts';
import type { Variant } from '../variant.ts';

/**
 * The sound kernel's code, with nothing set up at boot and a call of `espfix_init` in modify_ldt. Tasks return early, so
 * that set-up on one CPU meets a return on another.
 */
export const lazy = {
  ...linux,
  tasks: { returnEarly: true },
  emitBootSetup() {},
  emitModifyLdt(a) {
    a.call('espfix_init');
  },
} satisfies Omit<Variant, 'name'>;

/** Emits data: a word for `espfix_initialized` and one for `espfix_lock`, both zero. */
export function emitSetUpData(a: Assembler): void {
  a.section('.data');
  a.align(8);
  a.label('espfix_initialized').dd(0);
  a.label('espfix_lock').dd(0);
  a.section('.text');
}

/** Emits taking `espfix_lock`, in line: a spin lock. Clobbers EAX. */
export function emitLock(a: Assembler): void {
  a.label('.lock');
  a.mov(eax, 1);
  a.xchg(mem('espfix_lock'), eax);
  a.test(eax, eax);
  a.jz('.locked');
  a.pause();
  a.jmp('.lock');
  a.label('.locked');
}

/** Emits releasing `espfix_lock`, in line. */
export function emitUnlock(a: Assembler): void {
  a.mov(dword('espfix_lock'), 0);
}
