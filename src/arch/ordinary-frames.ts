/**
 * Delivery and IRETQ in 64-bit mode when nothing is out of the ordinary: all that they touch is at hand in the engine's
 * fast translations, every descriptor is present, accessed and in the GDT, and no check fails. Otherwise they change
 * nothing and answer false, and interrupts.ts and iret.ts do the work, whose results these are bound to (a test
 * compares the two). They work on dwords, as BigInts would cost several times as much.
 *
 * SDM vol. 3A 6.14 (delivery), vol. 2A "IRET/IRETD/IRETQ".
 */
import { readFlagsDword, writeFlagsDword } from '../isa/flags.ts';
import { CS, offsetOf, RSP, SS, TR } from '../isa/state.ts';
import { announcePrivilege, dropInnerSegments } from './code-segment.ts';
import type { Cpu } from './cpu.ts';
import { type Access, atCpl, recall, SYSTEM } from './linear.ts';
import { tlbContext } from './mode.ts';

/** Dword offsets in the state. */
const word = (name: Parameters<typeof offsetOf>[0], index = 0): number => offsetOf(name, index) >> 2;
const RIP = word('rip');
const POINTER = word('gpr', RSP);
const FLAGS = word('flagsRest');
const CS_BASE = word('segBase', CS);

/** RFLAGS bits; STATUS is CF PF AF ZF SF OF. */
const STATUS = 0x8d5;
const TF = 0x100;
const IF = 0x200;
const DF = 0x400;
const IOPL = 0x3000;
const NT = 0x4000;
const RF = 0x1_0000;
const VM = 0x2_0000;
const AC = 0x4_0000;
const VIF = 0x8_0000;
const VIP = 0x10_0000;
const ID = 0x20_0000;

/** In a gate's high dword: present, S = 0, interrupt gate; the type's low bit makes it a trap gate. */
const GATE_FIXED = 0x9e00;
const GATE_ORDINARY = 0x8e00;
const GATE_TRAP = 0x100;

/** In a descriptor's high dword. */
const ACCESSED = 0x100;
const WRITABLE_OR_READABLE = 0x200;
const DOWN_OR_CONFORMING = 0x400;
const CODE = 0x800;
const SEGMENT = 0x1000;
const PRESENT = 0x8000;
const LONG = 0x20_0000;
const BIG = 0x40_0000;
const GRANULAR = 0x80_0000;
/** Nonconforming 64-bit code, present and accessed. */
const CODE_FIXED = SEGMENT | PRESENT | CODE | DOWN_OR_CONFORMING | ACCESSED | LONG | BIG;
const CODE_ORDINARY = SEGMENT | PRESENT | CODE | ACCESSED | LONG;
/** Writable data, expand-up, present and accessed. */
const DATA_FIXED = SEGMENT | PRESENT | CODE | DOWN_OR_CONFORMING | WRITABLE_OR_READABLE | ACCESSED;
const DATA_ORDINARY = SEGMENT | PRESENT | WRITABLE_OR_READABLE | ACCESSED;

/** The dword index in the machine's memory of `size` bytes at `linear`, 4-byte aligned, or -1. */
function locate(cpu: Cpu, linear: bigint, size: number, access: Access, write: boolean): number {
  const context = tlbContext(cpu, access);
  let address = cpu.engine.fastAddress(linear, size, context, write);
  if (address < 0 && recall(cpu, linear, access, write))
    address = cpu.engine.fastAddress(linear, size, context, write);
  return address < 0 || (address & 3) !== 0 ? -1 : address >>> 2;
}

/** Dword index of the GDT descriptor of `selector`, not null, or -1. */
function locateDescriptor(cpu: Cpu, selector: number): number {
  const offset = selector & 0xfff8;
  if (offset === 0 || (selector & 4) !== 0 || offset + 7 > cpu.gdtrLimit) return -1;
  return locate(cpu, cpu.gdtrBase + BigInt(offset), 8, SYSTEM, false);
}

/** Loads a segment register from the descriptor dwords of expand-up data, or of code, in protected mode. */
function load(cpu: Cpu, segment: 1 | 2, selector: number, low: number, high: number): void {
  const limit = (low & 0xffff) | (high & 0xf_0000);
  const bytes = high & GRANULAR ? ((limit << 12) | 0xfff) >>> 0 : limit;
  const base = ((low >>> 16) | ((high & 0xff) << 16) | (high & 0xff00_0000)) >>> 0;
  const code = (high & CODE) !== 0;
  const readable = !code || (high & WRITABLE_OR_READABLE) !== 0;
  cpu.segSelector[segment] = selector;
  cpu.segAttributes[segment] = (high >>> 8) & 0xf0ff;
  cpu.segUsable[segment] = 1;
  cpu.segLimit[segment] = bytes;
  cpu.segReadLow[segment] = readable ? 0 : 1;
  cpu.segReadHigh[segment] = readable ? bytes : 0;
  cpu.segWriteLow[segment] = code ? 1 : 0;
  cpu.segWriteHigh[segment] = code ? 0 : bytes;
  const at = (cpu.address >>> 2) + CS_BASE + (segment - CS) * 2;
  cpu.tlb.memory[at] = base;
  cpu.tlb.memory[at + 1] = 0;
}

function loadNullStack(cpu: Cpu, selector: number): void {
  cpu.segSelector[SS] = selector;
  cpu.segAttributes[SS] = 0;
  cpu.segUsable[SS] = 0;
  cpu.segLimit[SS] = 0;
  cpu.segReadLow[SS] = 1;
  cpu.segReadHigh[SS] = 0;
  cpu.segWriteLow[SS] = 1;
  cpu.segWriteHigh[SS] = 0;
  const at = (cpu.address >>> 2) + CS_BASE + (SS - CS) * 2;
  cpu.tlb.memory[at] = 0;
  cpu.tlb.memory[at + 1] = 0;
}

/**
 * Delivers `vector` in IA-32e mode if nothing is out of the ordinary. The checks of DPL, and of the frame, are those of
 * SDM vol. 3A 6.12.1.2 and 6.14.
 * @param image RFLAGS as pushed
 */
export function deliverOrdinary(
  cpu: Cpu,
  vector: number,
  software: boolean,
  image: number,
  errorCode: number | undefined,
): boolean {
  const { memory } = cpu.tlb;
  if (vector * 16 + 15 > cpu.idtrLimit) return false;
  const gate = locate(cpu, cpu.idtrBase + BigInt(vector * 16), 16, SYSTEM, false);
  if (gate < 0) return false;
  const gateLow = memory[gate];
  const gateHigh = memory[gate + 1];
  if ((gateHigh & GATE_FIXED) !== GATE_ORDINARY) return false;
  const cpl = cpu.cpl;
  if (software && ((gateHigh >>> 13) & 3) < cpl) return false;
  const offsetLow = ((gateHigh & 0xffff_0000) | (gateLow & 0xffff)) >>> 0;
  const offsetHigh = memory[gate + 2];
  const top = offsetHigh >>> 15;
  if (top !== 0 && top !== 0x1_ffff) return false;

  const selector = gateLow >>> 16;
  const code = locateDescriptor(cpu, selector);
  if (code < 0) return false;
  const codeHigh = memory[code + 1];
  if ((codeHigh & CODE_FIXED) !== CODE_ORDINARY) return false;
  const level = (codeHigh >>> 13) & 3;
  if (level > cpl) return false;

  const state = cpu.address >>> 2;
  const ist = gateHigh & 7;
  let pointerLow = memory[state + POINTER];
  let pointerHigh = memory[state + POINTER + 1];
  if (ist !== 0 || level !== cpl) {
    const at = ist !== 0 ? ist * 8 + 28 : level * 8 + 4;
    if (at + 7 > cpu.segLimit[TR]) return false;
    const entry = locate(cpu, cpu.segBase[TR] + BigInt(at), 8, SYSTEM, false);
    if (entry < 0) return false;
    pointerLow = memory[entry];
    pointerHigh = memory[entry + 1];
  }
  const size = errorCode === undefined ? 40 : 48;
  // The frame lies in one page: the stack pointer's upper half stays.
  pointerLow = (pointerLow & ~0xf) >>> 0;
  if (pointerLow < size) return false;
  const bottom = pointerLow - size;
  const linear = (BigInt(pointerHigh) << 32n) | BigInt(bottom);
  const frame = locate(cpu, linear, size, atCpl(level), true);
  if (frame < 0) return false;

  let slot = frame;
  if (errorCode !== undefined) {
    memory[slot++] = errorCode;
    memory[slot++] = 0;
  }
  memory[slot] = memory[state + RIP];
  memory[slot + 1] = memory[state + RIP + 1];
  memory[slot + 2] = cpu.segSelector[CS];
  memory[slot + 3] = 0;
  memory[slot + 4] = image;
  memory[slot + 5] = 0;
  memory[slot + 6] = memory[state + POINTER];
  memory[slot + 7] = memory[state + POINTER + 1];
  memory[slot + 8] = cpu.segSelector[SS];
  memory[slot + 9] = 0;

  const cleared = TF | NT | RF | VM | (gateHigh & GATE_TRAP ? 0 : IF);
  memory[state + FLAGS] &= ~cleared;
  memory[state + RIP] = offsetLow;
  memory[state + RIP + 1] = offsetHigh;
  memory[state + POINTER] = bottom;
  memory[state + POINTER + 1] = pointerHigh;
  load(cpu, CS, (selector & 0xfffc) | level, memory[code], codeHigh);
  if (level !== cpl) {
    cpu.cpl = level;
    loadNullStack(cpu, level);
  }
  return true;
}

/** IRETQ from 64-bit to 64-bit mode if nothing is out of the ordinary. */
export function returnOrdinary(cpu: Cpu): boolean {
  const { memory } = cpu.tlb;
  const state = cpu.address >>> 2;
  if ((memory[state + FLAGS] & NT) !== 0 || !cpu.mode64) return false;
  const cpl = cpu.cpl;
  const frame = locate(cpu, cpu.gpr[RSP], 40, atCpl(cpl), false);
  if (frame < 0) return false;
  // AC from the frame already governs how the rest of it is read.
  if (cpl === 3 && (memory[frame + 4] & AC) !== 0 && (memory[state + POINTER] & 7) !== 0) return false;

  const selector = memory[frame + 2] & 0xffff;
  const level = selector & 3;
  const code = locateDescriptor(cpu, selector);
  if (code < 0 || level < cpl) return false;
  const codeHigh = memory[code + 1];
  if ((codeHigh & CODE_FIXED) !== CODE_ORDINARY || ((codeHigh >>> 13) & 3) !== level) return false;
  const top = memory[frame + 1] >>> 15;
  if (top !== 0 && top !== 0x1_ffff) return false;

  const stackSelector = memory[frame + 8] & 0xffff;
  if ((stackSelector & 3) !== level) return false;
  let stack = -1;
  if ((stackSelector & 0xfffc) === 0) {
    if (level === 3) return false;
  } else {
    stack = locateDescriptor(cpu, stackSelector);
    if (stack < 0) return false;
    const stackHigh = memory[stack + 1];
    if ((stackHigh & DATA_FIXED) !== DATA_ORDINARY || ((stackHigh >>> 13) & 3) !== level) return false;
  }

  let mask = STATUS | TF | DF | NT | RF | AC | ID;
  if (cpl <= ((memory[state + FLAGS] >>> 12) & 3)) mask |= IF;
  if (cpl === 0) mask |= IOPL | VIF | VIP;
  writeFlagsDword(cpu, (readFlagsDword(cpu) & ~mask) | (memory[frame + 4] & mask));
  memory[state + RIP] = memory[frame];
  memory[state + RIP + 1] = memory[frame + 1];
  memory[state + POINTER] = memory[frame + 6];
  memory[state + POINTER + 1] = memory[frame + 7];
  load(cpu, CS, selector, memory[code], codeHigh);
  if (stack < 0) loadNullStack(cpu, stackSelector);
  else load(cpu, SS, stackSelector, memory[stack], memory[stack + 1]);
  if (level !== cpl) {
    cpu.cpl = level;
    dropInnerSegments(cpu);
    announcePrivilege(cpu, cpl);
  }
  return true;
}
