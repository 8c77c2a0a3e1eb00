/**
 * Set-up at modify_ldt, done soundly: the answer to the reviewer's fifth and sixth question.
 *
 * A single static bool is enough, and the first modify_ldt is early enough, if the one who finds it unset takes a lock, looks
 * again, sets all CPUs' ministacks up, and only then sets it: x86 keeps the order of stores (SDM Vol. 3A, Section
 * 8.2.2). It must be all CPUs': threads of the process that called modify_ldt use its LDT on any CPU, without another call.
 *
 * Difference: all of the sound kernel's set-up, at modify_ldt instead of at boot. Nothing
 * breaks, whether CPUs call it at the same time or one calls it for a process on all (`tasks.sharedLdt` of the image).
 */

import { dword } from '../../assembler.ts';
import { emitSetUpAll } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';
import { emitLock, emitSetUpData, emitUnlock, lazy } from './set-up.ts';

export const setUpAtModifyLdt: GalleryEntry = {
  name: 'set-up-at-modify-ldt',
  title: 'set-up of all CPUs at the first modify_ldt',
  description:
    "The first modify_ldt sets all CPUs' ministacks up, under a lock and with one static bool that is set last.",
  verdict: 'safe',
  withoutEvents: 'safe',
  property: undefined,
  events: ['cpu'],
  at: 'espfix_init',
  cpus: 2,
  shows: (c) => c.path === 'int80' && c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt',
  variant: {
    ...lazy,
    name: 'set-up-at-modify-ldt',
    emitFunctions(a, build) {
      lazy.emitFunctions(a, build);
      emitSetUpData(a);
      a.label('espfix_init');
      a.cmp(dword('espfix_initialized'), 0);
      a.jne('.done');
      emitLock(a);
      a.cmp(dword('espfix_initialized'), 0);
      a.jne('.unlock');
      emitSetUpAll(a, build.cpus);
      a.mov(dword('espfix_initialized'), 1);
      a.label('.unlock');
      emitUnlock(a);
      a.label('.done');
      a.ret();
    },
  },
};
