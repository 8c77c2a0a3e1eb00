/** Kernels with one known fault each, and beside them those that are sound where a neighbour is not. */

import type { GalleryEntry } from './entry.ts';

export type { BrokenProperty, GalleryEntry, GalleryEvent } from './entry.ts';
export { type GalleryName, galleryNames, type ImageName } from './names.ts';

/** Every kernel of the gallery. */
export const gallery: readonly GalleryEntry[] = [];
