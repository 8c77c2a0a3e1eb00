/**
 * IRET inside an NMI handler.
 *
 * Whatever an NMI handler raises returns by IRET: a page fault on memory mapped late, a breakpoint of a tracer. That ends
 * the blocking of NMIs (SDM Vol. 3A, Section 6.7.1), and the next NMI is pushed at the top of the NMI stack, over the
 * frame and the registers of the one being served. Linux met it when tracing reached NMI handlers, forbade such faults,
 * and in 3.3 made NMIs nest; many small kernels have it today.
 *
 * Difference: the NMI handler has a breakpoint (INT3), whose handler returns by IRETQ. Schedule: NMI anywhere in the
 * kernel, as at `return_to_user`, and another while it is being served.
 */

import { rdi } from '../../assembler.ts';
import { linux } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';

export const iretInNmi: GalleryEntry = {
  name: 'iret-in-nmi',
  title: 'a breakpoint in the NMI handler',
  description:
    'The NMI handler meets a breakpoint, whose return by IRETQ unblocks NMIs: the next one is pushed over the one being served.',
  verdict: 'unsafe',
  withoutEvents: 'safe',
  property: 'stack',
  events: ['nmi', 'nmi'],
  at: 'return_to_user',
  cpus: 1,
  shows: (c) => c.path === 'int80' && c.cs === 'cs32-gdt' && c.ss === 'flat',
  variant: {
    ...linux,
    name: 'iret-in-nmi',
    handlers: { 2: 'handle_traced_nmi' },
    emitFunctions(a, build) {
      linux.emitFunctions(a, build);
      a.label('handle_traced_nmi');
      a.push(rdi);
      a.int3();
      a.pop(rdi);
      a.jmp('handle_event');
    },
  },
};
