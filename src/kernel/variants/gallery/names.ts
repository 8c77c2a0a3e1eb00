/** Names of the kernels of the gallery, apart from their code so that they can be told without loading it. */

import type { VariantName } from '../index.ts';

export const galleryNames = [
  'cve-2014-8133',
  'cve-2014-9322',
  'cve-2015-3290',
  'cve-2015-3291',
  'cve-2015-5157',
  'cve-2012-0217',
  'cve-2018-8897',
  'iret-in-nmi',
  'swapgs-by-cs-nmi',
  'swapgs-by-cs-mc',
  'nmi-without-ist',
  'df-without-ist',
  'ministack-40',
  'ministack-shared',
  'writable-aliases',
  'forgotten-return',
  'tables-published-early',
  'static-bool',
  'static-bool-early',
  'set-up-own-cpu',
  'set-up-at-modify-ldt',
] as const;
export type GalleryName = (typeof galleryNames)[number];

/** Everything that an image can be built of. */
export type ImageName = VariantName | GalleryName;
