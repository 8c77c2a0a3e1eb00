/** Kernels with one known fault each, and beside them one that is sound where its neighbours are not. */

import { cve20120217 } from './cve-2012-0217.ts';
import { cve20148133 } from './cve-2014-8133.ts';
import { cve20149322 } from './cve-2014-9322.ts';
import { cve20153290 } from './cve-2015-3290.ts';
import { cve20153291 } from './cve-2015-3291.ts';
import { cve20155157 } from './cve-2015-5157.ts';
import { cve20188897 } from './cve-2018-8897.ts';
import { dfWithoutIst } from './df-without-ist.ts';
import type { GalleryEntry } from './entry.ts';
import { forgottenReturn } from './forgotten-return.ts';
import { iretInNmi } from './iret-in-nmi.ts';
import { ministack40 } from './ministack-40.ts';
import { ministackShared } from './ministack-shared.ts';
import { nmiWithoutIst } from './nmi-without-ist.ts';
import { setUpAtModifyLdt } from './set-up-at-modify-ldt.ts';
import { setUpOwnCpu } from './set-up-own-cpu.ts';
import { staticBool } from './static-bool.ts';
import { staticBoolEarly } from './static-bool-early.ts';
import { swapgsByCsMc } from './swapgs-by-cs-mc.ts';
import { swapgsByCsNmi } from './swapgs-by-cs-nmi.ts';
import { tablesPublishedEarly } from './tables-published-early.ts';
import { writableAliases } from './writable-aliases.ts';

export type { BrokenProperty, GalleryEntry, GalleryEvent } from './entry.ts';
export { type GalleryName, galleryNames, type ImageName } from './names.ts';

/** Every kernel of the gallery. */
export const gallery: readonly GalleryEntry[] = [
  cve20148133,
  cve20149322,
  cve20153290,
  cve20153291,
  cve20155157,
  cve20120217,
  cve20188897,
  iretInNmi,
  swapgsByCsNmi,
  swapgsByCsMc,
  nmiWithoutIst,
  dfWithoutIst,
  ministack40,
  ministackShared,
  writableAliases,
  forgottenReturn,
  tablesPublishedEarly,
  staticBool,
  staticBoolEarly,
  setUpOwnCpu,
  setUpAtModifyLdt,
];
