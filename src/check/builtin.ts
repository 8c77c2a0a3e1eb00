/** The built-in kernels as subjects: everything about them is known. */
import { buildImage, type CaseInfo, type KernelImage } from '../kernel/image.ts';
import { ESPFIX_STACK_SIZE } from '../kernel/layout.ts';
import type { VariantName } from '../kernel/variants/index.ts';
import { symbolAt } from './check-variant.ts';
import type { FaultDetail } from './event.ts';
import { eventKinds } from './event.ts';
import type { Subject } from './subject.ts';

export interface BuiltinOptions {
  /** Default 1. */
  readonly cpus?: number;
  /** Moves the kernel's stacks and ministacks; default 1. */
  readonly seed?: number;
  /** Default: each path with each combination of segments, one stack pointer. */
  readonly only?: (c: CaseInfo) => boolean;
}

/** Address bits 31:16, which tell a ministack's aliases apart. */
const ALIAS_BITS = 0xffff_0000n;
/** Vectors of the kernel's interrupts: the local APIC's timer and IPIs. */
const INTERRUPTS = [0x40, 0x41];
/** What IRET may raise. */
const IRET_FAULTS: readonly FaultDetail[] = [
  { vector: 13, error: 0 },
  { vector: 12, error: 0 },
  { vector: 11, error: 0x24 },
];
const WATCH = 200_000_000;

/** One stack pointer a combination: paths do not depend on its value. */
export function oneOfEach(): (c: CaseInfo) => boolean {
  const seen = new Set<string>();
  return ({ path, cs, ss, name }) => {
    const key = `${path} ${cs} ${ss} ${name}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  };
}

/** The subject of a variant, and its image. */
export function builtinSubject(
  variant: VariantName,
  options: BuiltinOptions = {},
): Subject & { readonly kernel: KernelImage } {
  const { cpus = 1, seed = 1, only = oneOfEach() } = options;
  const kernel = buildImage(variant, { cpus, seed, only });
  const iret = [...kernel.symbols].filter(([name]) => /^iretq\.(user|espfix)/.test(name));
  return {
    kernel,
    name: variant,
    image: kernel.elf,
    cpus,
    memory: 64,
    describe: (address) => symbolAt(address, kernel.symbols),
    symbol: (name) => kernel.symbols.get(name),
    events: eventKinds,
    vectors: INTERRUPTS,
    faultable: iret.map(([, address]) => ({ address, faults: IRET_FAULTS })),
    // The image's report of its cases over the serial line.
    leaveOut: ['call.report', 'call.finish', 'call.waitTurn'].flatMap(
      (name) => kernel.symbols.get(name) ?? [],
    ),
    stacks: kernel.stacks,
    ministacks: kernel.ministacks.map((address, cpu) => ({
      cpu,
      address,
      aliasBits: ALIAS_BITS,
      size: ESPFIX_STACK_SIZE,
      takesFrames: variant === 'prototype',
    })),
    mayDiffer: kernel.counters,
    foreign: false,
    watch: WATCH,
  };
}
