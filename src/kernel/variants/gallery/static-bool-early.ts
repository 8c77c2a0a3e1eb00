/**
 * A single static bool that is set first: the reviewer's fifth question once more.
 *
 * Setting it atomically before the work keeps a second CPU from working too, and lets it go on before the work is done: its
 * task returns by a ministack that is not there yet.
 *
 * Difference: ministacks are set up at modify_ldt by whoever sets the bool, by XCHG. Schedule: CPU 1 stopped after that, CPU 0
 * through modify_ldt to its return at `return_to_ldt`, where its pointers are zero.
 */

import { eax, mem } from '../../assembler.ts';
import { emitSetUpAll } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';
import { emitSetUpData, lazy } from './set-up.ts';

export const staticBoolEarly: GalleryEntry = {
  name: 'static-bool-early',
  title: 'a static bool set before the work',
  description:
    'modify_ldt sets up if it is the one to set a static bool, and sets it at the beginning: another CPU goes on before the ministacks are there.',
  verdict: 'unsafe',
  withoutEvents: 'safe',
  property: 'progress',
  events: ['cpu'],
  at: 'espfix_init',
  cpus: 2,
  shows: (c) => c.path === 'int80' && c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt' && c.name === '-',
  variant: {
    ...lazy,
    name: 'static-bool-early',
    emitFunctions(a, build) {
      lazy.emitFunctions(a, build);
      emitSetUpData(a);
      a.label('espfix_init');
      a.mov(eax, 1);
      a.xchg(mem('espfix_initialized'), eax);
      a.test(eax, eax);
      a.jnz('.done');
      emitSetUpAll(a, build.cpus);
      a.label('.done');
      a.ret();
    },
  },
};
