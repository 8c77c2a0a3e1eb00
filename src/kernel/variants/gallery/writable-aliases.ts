/**
 * Writable aliases with the double-fault design.
 *
 * The merged design needs the push of the exception frame to fail: the aliases are read-only. If one bit of the entries
 * allows writing, the frame of a refused IRETQ is pushed below the ministack, over a neighbour's, and the handler of that
 * exception runs there with the user's GS base, as nobody expects it. A ministack that is the first of its page, with no
 * page below, hides the fault: there the push fails as it should.
 *
 * Difference: the entries of the aliases have the writable bit. Schedule: none; a frame that IRETQ refuses at
 * `iretq.espfix`.
 */

import { region } from '../../espfix/region.ts';
import { emitSetUp, linux } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';

export const writableAliases: GalleryEntry = {
  name: 'writable-aliases',
  title: 'writable aliases with the double-fault design',
  description:
    'The exception of a refused IRETQ is pushed below the ministack instead of failing, and its handler runs there with the GS base of user space.',
  verdict: 'unsafe',
  withoutEvents: 'unsafe',
  property: 'ministack',
  events: [],
  at: 'iretq.espfix',
  cpus: 1,
  shows: (c) => c.path === 'int80' && c.cs === 'not-present' && c.ss === 'ss16-ldt',
  variant: {
    ...linux,
    name: 'writable-aliases',
    emitFunctions(a, { ministacks }) {
      emitSetUp(a, ministacks, region.writable);
    },
  },
};
