/** No espfix: every return is a plain IRETD from the kernel stack. */

import { esp } from '../assembler.ts';
import type { Variant32 } from './variant.ts';

export const plain: Variant32 = {
  name: 'none-pae',
  userIretLabels: ['iretd.user'],
  emitReturn(a, restore) {
    restore(a);
    a.add(esp, 8);
    a.label('iretd.user');
    a.iretd();
  },
};
