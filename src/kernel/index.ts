/**
 * The espfix kernel as a library: bootable images of every variant, and what they report.
 *
 * ```ts
 * import { buildImage, parseReport } from 'espfix/kernel';
 * ```
 *
 * Needs iced-x86, whose WebAssembly a browser bundle must be given (docs/browser.md).
 */
export type { KernelFacts } from './facts.ts';
export { buildImage } from './image.ts';
export { parseReport } from './report.ts';
export { type GalleryEntry, type GalleryName, gallery, galleryNames } from './variants/gallery/index.ts';
export {
  type VariantInfo,
  type VariantName,
  type Verdict,
  variantNames,
  variants,
} from './variants/index.ts';
