/**
 * A single static bool without a lock: the reviewer's fifth question.
 *
 * Two CPUs that call modify_ldt at the same time both find it unset and both set up: each takes tables of its own, the last
 * one's are installed, and the per-CPU pointers lead to pages of either. A return then writes its frame to one page and
 * takes another from its alias.
 *
 * Difference: ministacks are set up at modify_ldt, and a bool that is set last is all that keeps a second CPU from doing so
 * too. Schedule: both CPUs in `espfix_map`
 * at once: CPU 1 stopped when it has found no table and taken a page, CPU 0 until it has mapped a ministack of its own, CPU 1 to
 * the end, CPU 0 to its return.
 */

import { dword } from '../../assembler.ts';
import { emitSetUpAll } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';
import { emitSetUpData, lazy } from './set-up.ts';

export const staticBool: GalleryEntry = {
  name: 'static-bool',
  title: 'a static bool without a lock',
  description:
    'modify_ldt sets up if a static bool is not set, and sets it at the end: two CPUs at once build two sets of page tables, and return through a mixture.',
  verdict: 'unsafe',
  withoutEvents: 'safe',
  property: 'ministack',
  events: ['cpu', 'cpu'],
  at: 'espfix_init',
  cpus: 2,
  shows: (c) => c.path === 'int80' && c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt' && c.name === '-',
  variant: {
    ...lazy,
    name: 'static-bool',
    emitFunctions(a, build) {
      lazy.emitFunctions(a, build);
      emitSetUpData(a);
      a.label('espfix_init');
      a.cmp(dword('espfix_initialized'), 0);
      a.jne('.done');
      emitSetUpAll(a, build.cpus);
      a.mov(dword('espfix_initialized'), 1);
      a.label('.done');
      a.ret();
    },
  },
};
