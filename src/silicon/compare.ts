/**
 * Compares what the processor did with what the machine did.
 *
 * The quick comparison runs over the raw results of every case. Whatever it does not pass is looked at again,
 * field by field, with what the host's kernel does to a fault taken into account.
 */
import { KIND_EXCEPTION, RESULT, type Result } from './batch.ts';
import type { Host } from './host-info.ts';
import { imageDifferences } from './vector-state.ts';

const PF = 14;
const RF = 0x10000;
/** Addresses from here on (the last page of the user half included) belong to the kernel: TASK_SIZE_MAX. */
const KERNEL_ADDRESSES = 0x7fff_ffff_f000n;

/** One field in which two results differ. */
export interface Difference {
  readonly field: string;
  readonly native: bigint;
  readonly machine: bigint;
}

const W = {
  rflags: RESULT.rflags / 4,
  rip: RESULT.rip / 4,
  cr2: RESULT.cr2 / 4,
  fsBase: RESULT.fsBase / 4,
  selectors: RESULT.selectors / 4,
  kind: RESULT.kind / 4,
  changed: RESULT.changed / 4,
  size: RESULT.size / 4,
};

/**
 * Whether two results agree word for word, but for RF and for a CR2 that no page fault has set. False means
 * only that they must be looked at.
 * @param at index of the result in both arrays, in results
 */
export function quickEqual(native: Int32Array, machine: Int32Array, at: number, bases: boolean): boolean {
  const base = at * W.size;
  for (let i = base; i < base + 32; i++) if (native[i] !== machine[i]) return false;
  if ((native[base + W.rflags] ^ machine[base + W.rflags]) & ~RF) return false;
  if (native[base + W.rflags + 1] !== machine[base + W.rflags + 1]) return false;
  if (native[base + W.rip] !== machine[base + W.rip]) return false;
  if (native[base + W.rip + 1] !== machine[base + W.rip + 1]) return false;
  for (let i = base + W.selectors; i < base + W.size; i++) if (native[i] !== machine[i]) return false;
  if (bases)
    for (let i = base + W.fsBase; i < base + W.selectors; i++) if (native[i] !== machine[i]) return false;
  if (((machine[base + W.kind] >>> 8) & 0xff) === PF) {
    if (native[base + W.cr2] !== machine[base + W.cr2]) return false;
    if (native[base + W.cr2 + 1] !== machine[base + W.cr2 + 1]) return false;
  }
  return true;
}

const NAMES = [
  'rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15',
]; // biome-ignore format: register numbers
export const REGISTER_NAMES: readonly string[] = NAMES;

const SELECTOR_FIELDS = ['cs', 'ss', 'ds', 'es', 'fs', 'gs'] as const;

/** A null selector comes back as 0: the kernel's IRET to user mode clears it (SDM vol. 2A "IRET"). */
function selector(value: number): number {
  return value < 4 ? 0 : value;
}

/**
 * The fields in which two results truly differ.
 * @param undefinedFlags RFLAGS bits that need not agree
 */
export function differences(
  native: Result,
  machine: Result,
  host: Host,
  undefinedFlags: number,
): Difference[] {
  const found: Difference[] = [];
  const compare = (field: string, a: bigint | number, b: bigint | number) => {
    if (BigInt(a) !== BigInt(b)) found.push({ field, native: BigInt(a), machine: BigInt(b) });
  };
  compare('kind', native.kind, machine.kind);
  compare('vector', native.trapno, machine.trapno);
  let nativeError = native.err;
  let machineError = machine.err;
  if (native.kind === KIND_EXCEPTION && native.trapno === PF && native.cr2 >= KERNEL_ADDRESSES) {
    // Linux pretends that every fault on a kernel address is a protection violation, to hide its layout.
    nativeError |= 1;
    machineError |= 1;
  }
  compare('error', nativeError, machineError);
  if (native.trapno === PF && machine.trapno === PF) compare('cr2', native.cr2, machine.cr2);
  for (let i = 0; i < 16; i++) compare(NAMES[i], native.gpr[i], machine.gpr[i]);
  const ignored = BigInt(RF | undefinedFlags);
  compare('rflags', native.rflags & ~ignored, machine.rflags & ~ignored);
  compare('rip', native.rip, machine.rip);
  for (const field of SELECTOR_FIELDS) compare(field, selector(native[field]), selector(machine[field]));
  if (host.fsGsBase) {
    compare('fs base', native.fsBase, machine.fsBase);
    compare('gs base', native.gsBase, machine.gsBase);
  }
  compare('words of memory changed', native.changed, machine.changed);
  for (let i = 0; i < Math.max(native.words.length, machine.words.length); i++) {
    const a = native.words[i];
    const b = machine.words[i];
    if (a && b && a.index === b.index) compare(`memory +0x${(a.index * 4).toString(16)}`, a.value, b.value);
    else {
      compare(`changed word ${i}`, a ? a.index * 4 : -1, b ? b.index * 4 : -1);
      break;
    }
  }
  if (native.image && machine.image) found.push(...imageDifferences(native.image, machine.image));
  if (found.length === 0) compare('hash of changed memory', native.hash >>> 0, machine.hash >>> 0);
  return found;
}
