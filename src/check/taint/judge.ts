/** What of the kernel's secrets is in user mode's hands at a return to CPL 3. */
import { FIRST_LABEL, type Label, type Shadow } from '../../engine/taint/shadow.ts';
import { readFlagsDword } from '../../isa/flags.ts';
import { FS, GS } from '../../isa/state.ts';
import { userPages } from '../user-pages.ts';
import type { Birth } from './births.ts';
import { type Declassification, type JudgedRegister, judgedRegisters } from './declassification.ts';
import { bitRange, type Location, nameOf } from './location.ts';
import type { HopBit } from './log.ts';
import { locate, peek } from './memory-view.ts';
import type { TaintTracker } from './tracker.ts';

/** An instruction, or several in a row, that moved a run of bits. */
export interface TaintHop {
  /** The instruction, counted from the start of tracking, and its address; of several, the last. */
  readonly index: number;
  readonly rip: bigint;
  /** `mov`, `delivery of vector 14`. */
  readonly instruction: string;
  /** `rsp[31:16] -> [0xffffc90000002fd8][31:16]`. */
  readonly text: string;
  /** Instructions in a row that changed the value in place: 1 for most. */
  readonly count: number;
}

/** A run of bits of one origin that took one way. */
export interface TaintLeak {
  /** Bits of the finding's location. */
  readonly high: number;
  readonly low: number;
  readonly birth: Birth;
  /** The origin's bits. */
  readonly bornHigh: number;
  readonly bornLow: number;
  /** From the birth on. */
  readonly hops: readonly TaintHop[];
  /** The story in a line: `rsp[31:16] <- bits 31:16 of kernel stack pointer (TSS.RSP0 of CPU 0)`. */
  readonly text: string;
}

/** A register, or up to 8 bytes of user memory, that holds secret bits. */
export interface TaintFinding {
  /** `rsp`, `user memory 0x801000`. */
  readonly location: string;
  readonly register?: JudgedRegister;
  /** Linear address, of memory. */
  readonly linear?: bigint;
  /** The bits that are tainted and not declared. */
  readonly mask: bigint;
  /** What is in the location. */
  readonly value: bigint;
  readonly leaks: readonly TaintLeak[];
}

/** Where a judged register is. */
function place(register: JudgedRegister): Exclude<Location, { kind: 'memory' }> {
  const n = judgedRegisters.indexOf(register);
  if (n < 16) return { kind: 'register', index: n };
  switch (register) {
    case 'rip':
      return { kind: 'rip' };
    case 'rflags':
      return { kind: 'flags' };
    case 'fs.base':
      return { kind: 'base', segment: FS };
    case 'gs.base':
      return { kind: 'base', segment: GS };
    default:
      return { kind: 'selector', segment: (n - 18) as 0 | 1 | 2 | 3 | 4 | 5 };
  }
}

function contents({ cpu }: TaintTracker, location: Location): bigint {
  switch (location.kind) {
    case 'register':
      return cpu.gpr[location.index];
    case 'flags':
      return BigInt(readFlagsDword(cpu));
    case 'selector':
      return BigInt(cpu.segSelector[location.segment]);
    case 'base':
      return cpu.segBase[location.segment];
    default:
      return cpu.rip;
  }
}

/** Judges the state at a return to user mode. */
export function judge(tracker: TaintTracker, declassify: readonly Declassification[] = []): TaintFinding[] {
  return [...judgeRegisters(tracker, declassify), ...judgeMemory(tracker, declassify)];
}

function applies(tracker: TaintTracker, rule: Declassification): boolean {
  return rule.kind === 'kernelMemory' || rule.when === undefined || rule.when === tracker.entry;
}

function judgeRegisters(tracker: TaintTracker, declassify: readonly Declassification[]): TaintFinding[] {
  const findings: TaintFinding[] = [];
  for (const register of judgedRegisters) {
    const location = place(register);
    const shadow = tracker.registers.get(location);
    if (shadow === null) continue;
    let mask = shadow.mask;
    // What is beyond the mode's registers cannot be read in it, and is gone on the way to 64-bit mode, for RSP and RIP.
    if (!tracker.cpu.mode64 && (register === 'rsp' || register === 'rip')) mask &= 0xffff_ffffn;
    for (const rule of declassify)
      if (rule.kind === 'register' && rule.register === register && applies(tracker, rule))
        mask &= rule.bits === undefined ? 0n : ~rule.bits;
    if (mask === 0n) continue;
    findings.push({
      location: register,
      register,
      mask,
      value: contents(tracker, location),
      leaks: leaksOf(tracker, register, location, mask, shadow),
    });
  }
  return findings;
}

/** Runs of neighbouring tainted bytes in user pages, up to the next multiple of 8. */
function judgeMemory(tracker: TaintTracker, declassify: readonly Declassification[]): TaintFinding[] {
  const findings: TaintFinding[] = [];
  const { machine, cpu, memory } = tracker;
  const pages = [...memory.tainted()];
  if (pages.length === 0) return findings;
  const user = userPages(machine, cpu.index);
  const declared = declaredBytes(tracker, declassify);
  for (const { page, addresses } of pages) {
    const found = user.get(page);
    if (found === undefined) continue;
    const open = addresses.filter((address) => !declared(address));
    for (let i = 0; i < open.length; ) {
      const first = open[i];
      let bytes = 1;
      while (open[i + bytes] === first + bytes && (first + bytes) % 8 !== 0) bytes++;
      i += bytes;
      const linear = found.linear + BigInt(first % 4096);
      const location: Location = { kind: 'memory', physical: first, linear, bytes };
      const shadow = memory.load(first, bytes);
      if (shadow === null) continue;
      const name = `user memory 0x${linear.toString(16)}`;
      const piece = { ...location, offset: 0, user: true };
      findings.push({
        location: name,
        linear,
        mask: shadow.mask,
        value: peek(cpu, piece) ?? 0n,
        leaks: leaksOf(tracker, name, location, shadow.mask, shadow),
      });
    }
  }
  return findings;
}

/** Whether the byte at a physical address is user memory that may receive kernel data. */
function declaredBytes(
  tracker: TaintTracker,
  declassify: readonly Declassification[],
): (physical: number) => boolean {
  const ranges: { start: number; end: number }[] = [];
  for (const rule of declassify) {
    if (rule.kind !== 'memory' || !applies(tracker, rule)) continue;
    for (let at = rule.start; at < rule.end; ) {
      const next = (at | 0xfffn) + 1n < rule.end ? (at | 0xfffn) + 1n : rule.end;
      const [piece] = locate(tracker.cpu, at, 1) ?? [];
      if (piece) ranges.push({ start: piece.physical, end: piece.physical + Number(next - at) });
      at = next;
    }
  }
  return (physical) => ranges.some(({ start, end }) => physical >= start && physical < end);
}

interface Bit {
  readonly bit: number;
  readonly birth: Birth;
  readonly bornBit: number;
  readonly hops: readonly HopBit[];
  /** Equal for bits that took the same way. */
  readonly way: string;
}

function leaksOf(
  tracker: TaintTracker,
  name: string,
  location: Location,
  mask: bigint,
  shadow: Shadow,
): TaintLeak[] {
  const leaks: TaintLeak[] = [];
  let run: Bit[] = [];
  const end = () => {
    if (run.length > 0) leaks.push(leak(name, run));
    run = [];
  };
  for (let bit = 0; bit < 64; bit++) {
    const found = (mask >> BigInt(bit)) & 1n ? trace(tracker, location, bit, shadow.at(bit)) : undefined;
    const last = run.at(-1);
    if (!found || (last && !(last.bit === bit - 1 && last.birth === found.birth && continues(last, found))))
      end();
    if (found) run.push(found);
  }
  end();
  return leaks;
}

/** `next` is the neighbour of `last` in the origin, too, or of the same bit of it, and took the same way. */
function continues(last: Bit, next: Bit): boolean {
  return next.way === last.way && (next.bornBit === last.bornBit + 1 || next.bornBit === last.bornBit);
}

function trace(tracker: TaintTracker, location: Location, bit: number, label: Label): Bit | undefined {
  if (label < FIRST_LABEL) return undefined;
  const found = tracker.births.find(label);
  if (!found) return undefined;
  const hops = tracker.log.trace(location, bit, label).reverse();
  const way = hops.map(({ entry, to }) => `${entry.index} ${nameOf(to)}`).join();
  return { bit, birth: found.birth, bornBit: found.bit, hops, way };
}

function leak(name: string, run: readonly Bit[]): TaintLeak {
  const [first, last] = [run[0], run[run.length - 1]];
  const [bornLow, bornHigh] = [first.bornBit, last.bornBit];
  const hops: TaintHop[] = [];
  for (const [i, { entry, from, fromBit, to, toBit }] of first.hops.entries()) {
    const lastHop = last.hops[i];
    const target = `${nameOf(to)}${bitRange(lastHop.toBit, toBit)}`;
    const source = from ? `${nameOf(from)}${bitRange(lastHop.fromBit, fromBit)}` : 'born in';
    const text = from ? `${source} -> ${target}` : `${source} ${target}`;
    const before = hops.at(-1);
    const inPlace = from !== undefined && source === target;
    const { index, rip, what: instruction } = entry;
    if (inPlace && before && before.text === text)
      hops[hops.length - 1] = { index, rip, instruction, text, count: before.count + 1 };
    else hops.push({ index, rip, instruction, text, count: 1 });
  }
  const from = bornHigh === bornLow ? `bit ${bornLow}` : `bits ${bornHigh}:${bornLow}`;
  return {
    high: last.bit,
    low: first.bit,
    birth: first.birth,
    bornHigh,
    bornLow,
    hops,
    text: `${name}${bitRange(last.bit, first.bit)} <- ${from} of ${first.birth.what}`,
  };
}
