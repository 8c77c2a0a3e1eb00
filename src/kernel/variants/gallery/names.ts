/** Names of the kernels with a known fault, apart from their code so that they can be told without loading it. */

import type { VariantName } from '../index.ts';

export const galleryNames = [] as const;
export type GalleryName = (typeof galleryNames)[number];

/** Everything that an image can be built of. */
export type ImageName = VariantName | GalleryName;
