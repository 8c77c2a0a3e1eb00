/** No espfix: every return is a plain IRETQ from the kernel stack. */

import type { Variant } from './variant.ts';

export const none: Variant = {
  name: 'none',
  userIretLabels: ['iretq.user'],
  emitReturn(a) {
    a.swapgs();
    a.label('iretq.user');
    a.iretq();
  },
};
