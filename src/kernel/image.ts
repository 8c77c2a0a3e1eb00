/** Bootable images of the espfix kernel: Multiboot 1 and PVH, in one ELF32 file that holds 64-bit code. */

import type { CodeSegmentKind, ReturnPath, StackSegmentKind } from './report.ts';
import type { VariantName } from './variants/index.ts';

/** One case of the built-in table, as the filter sees it. */
export interface CaseInfo {
  readonly path: ReturnPath;
  readonly cs: CodeSegmentKind;
  readonly ss: StackSegmentKind;
  /** ESP that user space has before the event, 32 bits. */
  readonly set: number;
  /** A question's name, or `-`. */
  readonly name: string;
}

export interface ImageOptions {
  /** Most CPUs that the image will start, 1 to 64; the ones that answer at boot are used. Default 8. */
  readonly cpus?: number;
  /** Moves kernel stacks, and ministacks where the variant randomizes them. Default 1. */
  readonly seed?: number;
  /** Keeps only the cases for which it answers true. */
  readonly only?: (c: CaseInfo) => boolean;
}

/** A range of linear addresses, end excluded. */
export interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

export interface KernelImage {
  readonly variant: VariantName;
  /** The ELF32 file. */
  readonly elf: Uint8Array;
  /** Linear addresses of labels: `return_to_user`, every `iretq.*`, entry points, user targets. */
  readonly symbols: ReadonlyMap<string, bigint>;
  /** The cases that the image will run on each CPU, in order. */
  readonly cases: readonly CaseInfo[];
  /** Kernel stacks by CPU: task stacks and IST stacks, for checks of stack discipline. */
  readonly stacks: readonly { readonly cpu: number; readonly name: string; readonly range: Range }[];
}

/** Builds the bootable image of a variant. Raises a RangeError for options out of range. */
export function buildImage(variant: VariantName, options: ImageOptions = {}): KernelImage {
  throw new Error(`the image of ${variant} for ${options.cpus ?? 8} CPUs is not assembled yet`);
}
