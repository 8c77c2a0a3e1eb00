/**
 * Makes fuzz programs and their starting states.
 *
 * A program is one to six instructions in one slot of the code region, run from several states. Registers have
 * roles (pointer into scratch memory, small index, count, code address, selector, plain data), so that most
 * instructions do their work and some fault. Bytes are written from form records, not by an assembler, so that
 * redundant encodings and odd prefixes occur. Everything derives from (seed, program number).
 */
import { CASE, PATCH_BYTES } from './batch.ts';
import { allForms, type FormRecord } from './forms.ts';
import {
  baseOf,
  CHANGEABLE_CODE,
  CODE,
  CODE_SEGMENTS,
  DATA_BYTES,
  DATA_SEGMENTS,
  isBits32,
  ldtSelector,
  SCRATCH,
  SCRATCH_BYTES,
  SELECTORS,
  SLOT_BYTES,
  SLOTS,
  STACK_HIGH,
  STACK_SEGMENTS,
  slotOffset,
} from './layout.ts';
import { USER_CS, USER_DS, USER32_CS } from './linux-abi.ts';
import { Random } from './random.ts';
import { IMAGE_BYTES, makeImage } from './vector-state.ts';

/** States from which each program is run. */
export const STATES = 8;

/** One instruction of a program, as generated. */
export interface Piece {
  readonly offset: number;
  readonly length: number;
  /** iced's name of the form; empty for raw bytes. */
  readonly form: string;
}

export interface Program {
  readonly seed: number;
  /** Number in the run: programs are counted from 0, and cases are `number * STATES + state`. */
  readonly number: number;
  readonly slot: number;
  readonly bits: 16 | 32 | 64;
  /** Offset of the first instruction in the code region. */
  readonly start: number;
  readonly bytes: Uint8Array;
  readonly pieces: readonly Piece[];
}

type Role = 'data' | 'ds' | 'es' | 'ss' | 'stack' | 'small' | 'count' | 'code' | 'selector';

/** What a program wants to find in memory, and where. */
type Plan =
  | { kind: 'random' }
  | { kind: 'frame'; size: number; pops: 'ret' | 'retf' | 'iret' }
  | { kind: 'selectors'; size: number }
  | { kind: 'far'; register: number; displacement: number; size: number; code: boolean }
  | { kind: 'target'; register: number; displacement: number; size: number }
  | { kind: 'selector-at'; register: number; displacement: number }
  | { kind: 'bounds'; register: number; displacement: number; size: number }
  | { kind: 'compare'; register: number; displacement: number; pair: number };

const RSP = 4;
const RBP = 5;

const weightOf = (form: FormRecord): number => {
  if (form.mnemonic === 'reservednop') return 0.04;
  if (/fence/.test(form.mnemonic)) return 0.08;
  if (form.mnemonic === 'rsm' || form.mnemonic === 'wait') return 0.1;
  switch (form.class) {
    case 'privileged':
      return 0.12;
    case 'string':
      return 2.5;
    case 'far-return':
      return 8;
    case 'return':
      return 3;
    case 'far-memory':
      return 1.5;
    case 'segment-load':
      return 1.5;
    case 'indirect-branch':
      return 3;
    case 'interrupt':
      return 0.5;
    case 'plain':
      return form.branch === 'relative' ? 0.4 : form.branch === 'far' ? 5 : 1;
  }
};

/** Of programs with x87 and vectors, the part of their instructions that are others. */
const OTHER_INSTRUCTIONS = 0.15;

/** Whether a program uses x87 and vectors: all of a batch do, or none. */
export function usesVectors(number: number): boolean {
  return Math.floor(number / SLOTS) % 4 === 3;
}

interface Weighted {
  readonly forms: readonly FormRecord[];
  readonly cumulative: readonly number[];
}
const weighted = new Map<number, Weighted>();

function formsFor(bits: 16 | 32 | 64, vectors: boolean): Weighted {
  const key = vectors ? -bits : bits;
  let known = weighted.get(key);
  if (!known) {
    const forms = allForms().filter((form) => form.vectors === vectors && form.modes.includes(bits));
    let sum = 0;
    const cumulative = forms.map((form) => {
      sum += weightOf(form);
      return sum;
    });
    known = { forms, cumulative };
    weighted.set(key, known);
  }
  return known;
}

function pickForm(random: Random, bits: 16 | 32 | 64, vectors: boolean): FormRecord {
  const { forms, cumulative } = formsFor(bits, vectors && !random.chance(OTHER_INSTRUCTIONS));
  const wanted = (random.u32() / 0x1_0000_0000) * cumulative[cumulative.length - 1];
  let low = 0;
  let high = cumulative.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (cumulative[middle] > wanted) high = middle;
    else low = middle + 1;
  }
  return forms[low];
}

/** Values at which arithmetic changes its mind; low and high halves. */
const EDGES: readonly (readonly [number, number])[] = [
  [0, 0], [1, 0], [2, 0], [0x0f, 0], [0x10, 0], [0x1f, 0], [0x20, 0], [0x3f, 0], [0x40, 0], [9, 0], [10, 0], [0x99, 0], [0x9a, 0],
  [0x7f, 0], [0x80, 0], [0xff, 0], [0x100, 0], [0x7fff, 0], [0x8000, 0], [0xffff, 0], [0x10000, 0],
  [0x7fffffff, 0], [0x80000000, 0], [0xffffffff, 0], [0, 1], [0xffffffff, 0x7fffffff], [0, 0x80000000],
  [0xffffffff, 0xffffffff], [0xfffffffe, 0xffffffff], [0xffffff80, 0xffffffff], [0xffff8000, 0xffffffff], [0x80000000, 0xffffffff],
  [0x7fffffff, 0xffffffff], [0, 0xffff8000], [0xffffffff, 0x7fff], [0, 0x8000], [0x55555555, 0x55555555], [0xaaaaaaaa, 0xaaaaaaaa],
]; // biome-ignore format: a table

/** The first addresses of the non-canonical hole and of what follows it, of 4 GiB, of 64 KiB, of the upper 2 GiB; and 0. */
const ADDRESS_EDGES: readonly (readonly [number, number])[] = [
  [0, 0],
  [0, 0],
  [0, 0x8000],
  [0, 0x8000],
  [0, 0xffff8000],
  [0, 1],
  [0x80000000, 0],
  [0x10000, 0],
];

const STATUS_BITS = 0x8d5;
const ALL_STATUS = 0x1ff;

/** The memory pattern of a run. */
export function makePattern(seed: number): Uint8Array {
  const random = new Random(seed, 0x7061_7474);
  const pattern = new Uint8Array(DATA_BYTES);
  const words = new Uint32Array(pattern.buffer);
  for (let i = 0; i < words.length; i++) words[i] = random.u32();
  return pattern;
}

/** Makes programs and states one after another, into the caller's buffers. */
export class Generator {
  readonly seed: number;
  #random: Random;
  #bits: 16 | 32 | 64 = 64;
  #cs = 0;
  #ss = 0;
  #ds = 0;
  #es = 0;
  #fs = 0;
  #gs = 0;
  #roles: Role[] = [];
  #plan: Plan = { kind: 'random' };
  #bytes: number[] = [];
  #pieces: Piece[] = [];
  #linear = 0;
  #boundaries: number[] = [];
  #usesRepeat = false;
  /** The instruction being made is locked; the program has one such, so that pointers had better be aligned. */
  #locked = false;
  #aligned = false;
  #vectors = false;
  /** Vector registers with indices, and how wide these are. */
  #indices: { register: number; width: 32 | 64 }[] = [];
  /** An instruction takes lengths from RAX and RDX. */
  #usesLengths = false;
  /** The program stands in scratch memory, where it may change itself. */
  #changeable = false;
  /** Byte offsets of relative displacements to fill in once the layout is known. */
  #relatives: { at: number; size: number; end: number }[] = [];

  constructor(seed: number) {
    this.seed = seed;
    this.#random = new Random(seed, 0);
  }

  /**
   * Makes program `number` and its `STATES` cases.
   * @param code the whole code region; the program's slot is rewritten
   * @param cases where the first of its cases goes
   * @param images where the vector registers of its first case go, as many bytes on as there are cases, if it uses vectors
   */
  make(
    number: number,
    code: Uint8Array,
    cases: DataView,
    at: number,
    images?: { readonly view: DataView; readonly at: number },
  ): Program {
    const random = new Random(this.seed, number + 1);
    this.#random = random;
    const slot = number % SLOTS;
    this.#chooseMode();
    this.#chooseRoles();
    this.#plan = { kind: 'random' };
    this.#bytes = [];
    this.#pieces = [];
    this.#relatives = [];
    this.#usesRepeat = false;
    this.#locked = false;
    this.#usesLengths = false;
    this.#indices = [];
    this.#vectors = usesVectors(number);
    this.#aligned = this.#vectors && random.chance(0.75);
    const slotStart = slotOffset(slot);
    // Where the program starts must be known before RIP-relative operands are written.
    let start = slotStart;
    const pageCrossing = (slotStart & 0xfff) > 0x1000 - SLOT_BYTES;
    const last = slot === SLOTS - 1;
    // IRET checks the new RIP against the limit before the case begins.
    if (last && this.#bits === 32) this.#cs = USER32_CS;
    this.#changeable = !pageCrossing && !last && random.chance(0.03);
    if (this.#changeable) {
      this.#cs = { 64: USER_CS, 32: USER32_CS, 16: ldtSelector(2) }[this.#bits];
      start = CHANGEABLE_CODE - CODE + random.below(0x1000 - PATCH_BYTES);
    } else if (pageCrossing) start += random.between(44, 63);
    else if (last) start += random.between(SLOT_BYTES, SLOT_BYTES + 60);
    else if (random.chance(0.2)) start += random.below(16);
    this.#linear = CODE + start;

    const limit = this.#changeable ? PATCH_BYTES - 8 : last ? CODE + 0x8000 - this.#linear : 84;
    const count = this.#sequenceLength();
    let undefinedFlags = 0;
    for (let i = 0; i < count; i++) {
      const form = pickForm(random, this.#bits, this.#vectors);
      const before = this.#bytes.length;
      if (form.flagsRead & undefinedFlags & ALL_STATUS) {
        this.#compare();
        undefinedFlags = 0;
      }
      const offset = this.#bytes.length;
      this.#instruction(form);
      const length = this.#bytes.length - offset;
      if (this.#bytes.length > limit) {
        // Does not fit: undone.
        this.#bytes.length = before;
        this.#relatives = this.#relatives.filter((relative) => relative.end <= before);
        this.#pieces = this.#pieces.filter((piece) => piece.offset < before);
        break;
      }
      this.#pieces.push({ offset, length, form: form.name });
      undefinedFlags = (undefinedFlags & ~form.flagsDefined) | form.flagsUndefined;
    }
    this.#boundaries = [...this.#pieces.map((piece) => piece.offset), this.#bytes.length];
    this.#fillRelatives();
    if (random.chance(0.05)) this.#mutate();
    const bytes = Uint8Array.from(this.#bytes);
    if (code.length > 0) {
      code.fill(0xcc, slotStart, last ? code.length : slotStart + SLOT_BYTES);
      if (!this.#changeable) code.set(bytes.subarray(0, Math.min(bytes.length, code.length - start)), start);
    }
    for (let state = 0; state < STATES; state++) this.#state(cases, at + state * CASE.size);
    if (this.#vectors && images)
      for (let state = 0; state < STATES; state++)
        makeImage(random, images.view, images.at + state * IMAGE_BYTES, this.#indices);
    return { seed: this.seed, number, slot, bits: this.#bits, start, bytes, pieces: this.#pieces };
  }

  #sequenceLength(): number {
    const roll = this.#random.below(100);
    return roll < 25 ? 1 : roll < 45 ? 2 : roll < 65 ? 3 : roll < 80 ? 4 : roll < 90 ? 5 : 6;
  }

  #chooseMode(): void {
    const random = this.#random;
    const roll = random.below(100);
    this.#bits = roll < 55 ? 64 : roll < 83 ? 32 : 16;
    this.#cs = random.pick(CODE_SEGMENTS[this.#bits]).selector;
    const data = () => random.pick(DATA_SEGMENTS).selector;
    if (this.#bits === 64) {
      const any = () => (random.chance(0.3) ? 0 : random.chance(0.6) ? USER_DS : data());
      this.#ds = any();
      this.#es = any();
      this.#ss = random.chance(0.85) ? USER_DS : random.pick(STACK_SEGMENTS).selector;
      this.#fs = random.chance(0.5) ? 0 : data();
      this.#gs = random.chance(0.5) ? 0 : data();
      return;
    }
    const kind = random.below(100);
    const flat = this.#bits === 32 ? 45 : 15;
    if (kind < flat) {
      const selector = random.pick([USER_DS, USER_DS, ldtSelector(1)]);
      this.#ds = selector;
      this.#es = selector;
      this.#fs = selector;
      this.#gs = random.chance(0.5) ? 0 : selector;
      this.#ss = random.chance(0.85) ? USER_DS : random.pick(STACK_SEGMENTS).selector;
    } else if (kind < flat + 40) {
      this.#ds = ldtSelector(random.pick([6, 7, 7]));
      this.#es = ldtSelector(random.pick([6, 7, 7]));
      this.#fs = data();
      this.#gs = data();
      this.#ss = ldtSelector(random.pick([6, 7, 7, 9]));
    } else {
      this.#ds = random.chance(0.05) ? 0 : data();
      this.#es = random.chance(0.05) ? 0 : data();
      this.#fs = random.chance(0.2) ? 0 : data();
      this.#gs = random.chance(0.2) ? 0 : data();
      this.#ss = random.pick(STACK_SEGMENTS).selector;
    }
  }

  #chooseRoles(): void {
    const random = this.#random;
    const roles: Role[] = ['data', 'count', 'data', 'ds', 'stack', 'ss', 'ds', 'es'];
    if (this.#bits === 64) roles.push('data', 'ds', 'small', 'data', 'ds', 'ds', 'data', 'data');
    else while (roles.length < 16) roles.push('data');
    for (let i = 0; i < 16; i++)
      if (i !== RSP && random.chance(0.05)) roles[i] = random.pick(['data', 'small', 'ds']);
    this.#roles = roles;
  }

  get #registers(): number {
    return this.#bits === 64 ? 16 : 8;
  }

  #registerWith(...wanted: Role[]): number {
    const random = this.#random;
    const start = random.below(this.#registers);
    for (let i = 0; i < this.#registers; i++) {
      const register = (start + i) % this.#registers;
      if (wanted.includes(this.#roles[register])) return register;
    }
    return random.below(this.#registers);
  }

  /** A register for a value: mostly not one that others point with. */
  #valueRegister(): number {
    const random = this.#random;
    if (random.chance(0.12)) return random.below(this.#registers);
    return this.#registerWith('data', 'data', 'small', 'count', 'selector', 'code');
  }

  /** Few registers, so that instructions have to do with one another; now and then any. */
  #vectorRegister(): number {
    const random = this.#random;
    return random.chance(0.75) ? random.below(4) : random.below(this.#registers);
  }

  /** Gives a register that holds plain data another role. */
  #assign(role: Role): number {
    const register = this.#registerWith(role, 'data');
    if (register !== RSP) this.#roles[register] = role;
    return register;
  }

  #compare(): void {
    const offset = this.#bytes.length;
    this.#bytes.push(0x39, 0xc0 | (this.#random.below(8) << 3) | this.#random.below(8));
    this.#pieces.push({ offset, length: 2, form: 'Cmp_rm32_r32' });
  }

  #instruction(form: FormRecord): void {
    const random = this.#random;
    const bytes = this.#bytes;
    const bits = this.#bits;
    const prefixes: number[] = [];
    let rex = 0;

    this.#locked = false;
    if (form.vex) {
      this.#vexInstruction(form);
      return;
    }
    // A locked access across cache lines is slowed down by Linux a thousandfold.
    const lock = form.lockable ? random.chance(0.15) : random.chance(0.004);
    // XCHG with memory locks by itself.
    this.#locked = lock || form.mnemonic === 'xchg';
    if (this.#locked) this.#aligned = true;
    if (lock) prefixes.push(0xf0);
    if (form.class === 'string') {
      if (random.chance(0.6)) {
        prefixes.push(random.chance(0.75) ? 0xf3 : 0xf2);
        this.#usesRepeat = true;
      }
    } else if (form.mandatoryPrefix === 0 && random.chance(0.01)) prefixes.push(random.pick([0xf2, 0xf3]));
    if (form.mandatoryPrefix) prefixes.push(form.mandatoryPrefix);

    let operandSize = form.operandSize;
    if (operandSize === 0 && bits !== 64) operandSize = bits;
    if (form.mnemonic.startsWith('pcmpestr')) this.#usesLengths = true;
    if (form.vectors && !form.x87) {
      if (random.chance(0.003)) prefixes.push(0x66);
    } else if (
      (bits === 16 && form.operandSize === 32) ||
      (bits !== 16 && form.operandSize === 16) ||
      (form.operandSize === 0 && form.branch === 'none' && random.chance(0.01))
    )
      prefixes.push(0x66);
    if (bits === 64 && form.operandSize === 64 && !form.default64) rex |= 0x48;

    let addressSize: number = form.addressSize || bits;
    const usesMemory = form.rm === 'either' || form.rm === 'memory' || form.moffs || form.class === 'string';
    if (form.addressSize === 0 && usesMemory && random.chance(0.1)) addressSize = bits === 32 ? 16 : 32;
    if (addressSize !== bits) prefixes.push(0x67);
    else if (!usesMemory && form.addressSize === 0 && random.chance(0.005)) prefixes.push(0x67);

    const segmentPrefix = (usesMemory && random.chance(0.08)) || random.chance(0.005);
    if (segmentPrefix) prefixes.push(random.pick([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]));
    // More prefixes than needed, up to and beyond the 15 bytes that an instruction may have.
    if (random.chance(0.006))
      for (let i = random.between(1, 13); i > 0; i--)
        prefixes.unshift(random.pick([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3]));
    // Legacy prefixes may stand in any order.
    if (prefixes.length > 1 && random.chance(0.3)) prefixes.reverse();

    const tail: number[] = [];
    const opcode = [...form.opcode];
    let ripRelative = -1;
    if (form.opcodeRegister) {
      const register = this.#valueRegister();
      opcode[opcode.length - 1] = (opcode[opcode.length - 1] & 0xf8) | (register & 7);
      if (register & 8) rex |= 0x41;
    }
    if (form.rm !== 'none') {
      let reg = form.group;
      if (reg < 0) {
        switch (form.reg) {
          case 'general':
            reg =
              form.class === 'segment-load' && form.mnemonic === 'arpl'
                ? this.#assign('selector')
                : this.#valueRegister();
            break;
          case 'segment':
            reg = random.chance(0.03)
              ? random.below(8)
              : random.pick(form.class === 'segment-load' ? [0, 2, 3, 4, 5] : [0, 1, 2, 3, 4, 5]);
            break;
          case 'control':
            reg = random.pick([0, 2, 3, 4, 8, 1, 5]);
            break;
          case 'debug':
            reg = random.below(8);
            break;
          case 'mm':
          case 'xmm':
            reg = this.#vectorRegister();
            break;
          default:
            reg = random.below(8);
        }
      }
      if (bits !== 64) reg &= 7;
      if (reg & 8) rex |= 0x44;
      const memory = form.rm === 'memory' || (form.rm === 'either' && random.chance(0.45));
      if (memory) {
        const { modrm, rest, rexBits, relative } = this.#memory(addressSize, form, operandSize);
        rex |= rexBits;
        tail.push(modrm | ((reg & 7) << 3), ...rest);
        if (relative) ripRelative = 1;
      } else {
        let register = form.rmRegister === 'general' ? this.#valueRegister() : this.#vectorRegister();
        if (form.class === 'indirect-branch') register = this.#assign('code');
        else if (form.class === 'segment-load' && random.chance(0.9)) register = this.#assign('selector');
        if (register & 8) rex |= 0x41;
        tail.push(0xc0 | ((reg & 7) << 3) | (register & 7));
      }
    } else if (form.moffs) {
      tail.push(...littleEndian(this.#offsetInSegment(addressSize), addressSize / 8));
    }
    if (bits === 64 && random.chance(0.03)) rex |= 0x40 | random.below(16);
    if (bits === 64 && form.byteRegisters && random.chance(0.3)) rex |= 0x40;
    if (bits !== 64) rex = 0;

    bytes.push(...prefixes);
    if (rex) bytes.push(rex | 0x40);
    bytes.push(...opcode);
    const tailAt = bytes.length;
    bytes.push(...tail);
    this.#immediates(form);
    if (ripRelative >= 0) this.#steerRipRelative(tailAt + ripRelative);
    this.#planFor(form, operandSize);
  }

  #vexInstruction(form: FormRecord): void {
    const random = this.#random;
    const { vex } = form;
    if (!vex) return;
    const bits = this.#bits;
    let addressSize: number = bits;
    if (random.chance(0.1)) {
      addressSize = bits === 32 ? 16 : 32;
      this.#bytes.push(0x67);
    }
    // These before VEX are #UD, but for segment overrides.
    if (random.chance(0.01)) this.#bytes.push(random.pick([0x66, 0xf2, 0xf3, 0xf0, 0x48, 0x2e, 0x64]));
    const vectorOr = (kind: string) => (kind === 'xmm' ? this.#vectorRegister() : this.#valueRegister());
    let reg = form.group >= 0 ? form.group : vectorOr(form.reg);
    if (bits !== 64) reg &= 7;
    let rexBits = reg & 8 ? 0x44 : 0;
    const tail: number[] = [];
    let relativeOperand = false;
    if (form.rm === 'memory' || (form.rm === 'either' && random.chance(0.45))) {
      const operand = form.gathers
        ? this.#gathered(form.gathers)
        : this.#memory(addressSize, form, vex.w > 0 ? 64 : 32);
      rexBits |= operand.rexBits;
      tail.push(operand.modrm | ((reg & 7) << 3), ...operand.rest);
      relativeOperand = operand.relative;
    } else if (form.rm !== 'none') {
      const register = vectorOr(form.rmRegister);
      if (register & 8) rexBits |= 0x41;
      tail.push(0xc0 | ((reg & 7) << 3) | (register & 7));
    }
    let vvvv = 0;
    if (form.usesVvvv) vvvv = form.vectors ? this.#vectorRegister() : this.#valueRegister();
    else if (random.chance(0.01)) vvvv = random.below(bits === 64 ? 16 : 8);
    const l = vex.l < 0 ? random.below(2) : random.chance(0.01) ? 1 - vex.l : vex.l;
    const w = vex.w < 0 ? random.below(2) : random.chance(bits === 64 ? 0.01 : 0.05) ? 1 - vex.w : vex.w;
    this.#bytes.push(
      0xc4,
      (rexBits & 4 ? 0 : 0x80) | (rexBits & 2 ? 0 : 0x40) | (rexBits & 1 ? 0 : 0x20) | vex.map,
      (w << 7) | ((~vvvv & 15) << 3) | (l << 2) | vex.pp,
      ...form.opcode,
    );
    const tailAt = this.#bytes.length;
    this.#bytes.push(...tail);
    this.#immediates(form);
    if (relativeOperand) this.#steerRipRelative(tailAt + 1);
  }

  #immediates(form: FormRecord): void {
    const random = this.#random;
    if (form.branch === 'far') {
      const selector = this.#codeSelector();
      const offset = this.#linear + this.#bytes.length + form.immediates[0] + 2 - baseOf(selector);
      const target = random.chance(0.1) ? random.u32() : offset;
      this.#bytes.push(...littleEndian(target, form.immediates[0]), ...littleEndian(selector, 2));
      return;
    }
    if (form.branch === 'relative') {
      this.#relatives.push({
        at: this.#bytes.length,
        size: form.immediates[0],
        end: this.#bytes.length + form.immediates[0],
      });
      this.#bytes.push(...new Array(form.immediates[0]).fill(0));
      return;
    }
    const enter = form.mnemonic === 'enter';
    form.immediates.forEach((size, i) => {
      if (enter && i === 0) {
        this.#bytes.push(...littleEndian(random.chance(0.8) ? random.below(0x100) : random.u32(), 2));
        return;
      }
      if (enter) {
        this.#bytes.push(random.chance(0.8) ? random.below(6) : random.below(256));
        return;
      }
      if (form.mnemonic === 'ret' || form.mnemonic === 'retf') {
        this.#bytes.push(...littleEndian(random.chance(0.8) ? random.below(0x80) : random.u32(), 2));
        return;
      }
      if (form.mnemonic === 'int') {
        // INT 80h is a system call.
        let vector = random.chance(0.5) ? random.below(32) : random.below(256);
        if (vector === 0x80) vector = 0x81;
        this.#bytes.push(vector);
        return;
      }
      const [low, high] = this.#value();
      this.#bytes.push(...littleEndian(low, Math.min(size, 4)));
      if (size === 8) this.#bytes.push(...littleEndian(high, 4));
    });
  }

  /** Notes what the program wants to find in memory for this form. The last wish wins. */
  #planFor(form: FormRecord, operandSize: number): void {
    const size = (operandSize || this.#bits) / 8;
    if (form.class === 'far-return') {
      const far = form.mnemonic.startsWith('iret') ? 'iret' : 'retf';
      this.#plan = { kind: 'frame', size: form.operandSize / 8, pops: far };
    } else if (form.class === 'return') {
      this.#plan = {
        kind: 'frame',
        size: form.operandSize / 8,
        pops: form.mnemonic === 'retf' ? 'retf' : 'ret',
      };
    } else if (form.class === 'segment-load' && form.rm === 'none') this.#plan = { kind: 'selectors', size };
  }

  /** A memory operand of ModRM (reg field zero), SIB and displacement. */
  #memory(
    addressSize: number,
    form: FormRecord,
    operandSize: number,
  ): { modrm: number; rest: number[]; rexBits: number; relative: boolean } {
    const random = this.#random;
    const roll = random.below(100);
    const wide = form.vectors && this.#aligned && random.chance(0.9);
    const displacement =
      random.chance(0.3) || (this.#locked && random.chance(0.98))
        ? 0
        : wide
          ? random.between(-4, 8) * 16
          : random.chance(0.6)
            ? random.between(-4, 8) * 8
            : random.between(-64, 64);
    if (addressSize === 16) {
      if (roll < 10)
        return { modrm: 0x06, rest: littleEndian(this.#offsetInSegment(16), 2), rexBits: 0, relative: false };
      const rm = random.chance(0.8) ? random.between(4, 7) : random.below(8);
      const wish = [-1, -1, -1, -1, 6, 7, RBP, 3][rm];
      if (displacement === 0 && rm !== 6) {
        this.#wish(form, wish, 0, operandSize);
        return { modrm: rm, rest: [], rexBits: 0, relative: false };
      }
      this.#wish(form, wish, displacement, operandSize);
      if (random.chance(0.8) && displacement >= -128 && displacement < 128)
        return { modrm: 0x40 | rm, rest: littleEndian(displacement, 1), rexBits: 0, relative: false };
      return { modrm: 0x80 | rm, rest: littleEndian(displacement, 2), rexBits: 0, relative: false };
    }
    const limit = this.#bits === 64 ? 16 : 8;
    if (roll < 8) {
      // mod 0, rm 5: RIP-relative in 64-bit mode, else an absolute address; the former is steered afterwards.
      const relative = this.#bits === 64;
      return { modrm: 0x05, rest: littleEndian(this.#offsetInSegment(32), 4), rexBits: 0, relative };
    }
    if (roll < 14) {
      // SIB without base: scaled index and disp32.
      const index = random.chance(0.4) ? RSP : this.#indexRegister();
      const sib = (random.below(4) << 6) | ((index & 7) << 3) | 5;
      const rexBits = index & 8 ? 0x42 : 0;
      return {
        modrm: 0x04,
        rest: [sib, ...littleEndian(this.#offsetInSegment(32), 4)],
        rexBits,
        relative: false,
      };
    }
    const base = random.chance(0.94)
      ? this.#registerWith('ds', 'ds', 'ss', 'es', 'stack')
      : random.below(limit);
    const sized =
      displacement === 0 && (base & 7) !== RBP && random.chance(0.9)
        ? 0
        : random.chance(0.8) && displacement >= -128 && displacement < 128
          ? 1
          : 4;
    const mod = sized === 0 ? 0 : sized === 1 ? 0x40 : 0x80;
    const rest = sized ? littleEndian(displacement, sized) : [];
    let rexBits = base & 8 ? 0x41 : 0;
    const indexed = roll > (wide ? 96 : 78) && !(this.#locked && random.chance(0.98));
    if (!indexed && (base & 7) !== RSP) {
      this.#wish(form, base, sized ? displacement : 0, operandSize);
      return { modrm: mod | (base & 7), rest, rexBits, relative: false };
    }
    const index = indexed ? this.#indexRegister() : RSP;
    if (index & 8) rexBits |= 0x42;
    if (index === RSP) this.#wish(form, base, sized ? displacement : 0, operandSize);
    return {
      modrm: mod | 4,
      rest: [(random.below(4) << 6) | ((index & 7) << 3) | (base & 7), ...rest],
      rexBits,
      relative: false,
    };
  }

  /** A memory operand with a vector register for an index. */
  #gathered(width: 32 | 64): { modrm: number; rest: number[]; rexBits: number; relative: boolean } {
    const random = this.#random;
    const base = this.#registerWith('ds', 'ds', 'es');
    const register = 4 + random.below(4);
    this.#indices.push({ register, width });
    const displacement = random.between(-64, 64);
    return {
      modrm: 0x44,
      rest: [(random.below(4) << 6) | (register << 3) | (base & 7), ...littleEndian(displacement, 1)],
      rexBits: base & 8 ? 0x41 : 0,
      relative: false,
    };
  }

  #indexRegister(): number {
    return this.#random.chance(0.85) ? this.#assign('small') : this.#random.below(this.#registers);
  }

  /** Plans memory content for the operand at [register + displacement], where the form asks for something particular. */
  #wish(form: FormRecord, register: number, displacement: number, operandSize: number): void {
    if (register < 0) return;
    const size = operandSize / 8;
    if (form.class === 'far-memory') {
      const code = /^(jmp|call)$/.test(form.mnemonic);
      this.#plan = { kind: 'far', register, displacement, size, code };
    } else if (form.class === 'indirect-branch')
      this.#plan = { kind: 'target', register, displacement, size };
    else if (form.class === 'segment-load') this.#plan = { kind: 'selector-at', register, displacement };
    else if (form.mnemonic === 'bound') this.#plan = { kind: 'bounds', register, displacement, size };
    else if (form.mnemonic === 'cmpxchg8b') this.#plan = { kind: 'compare', register, displacement, pair: 4 };
    else if (form.mnemonic === 'cmpxchg16b')
      this.#plan = { kind: 'compare', register, displacement, pair: 8 };
    else if (form.mnemonic === 'cmpxchg') this.#plan = { kind: 'compare', register, displacement, pair: 0 };
  }

  /** An absolute offset that lands in scratch memory through DS. */
  #offsetInSegment(addressSize: number): number {
    const random = this.#random;
    if (random.chance(0.05)) return random.u32();
    const linear = this.#target();
    const offset = linear - (this.#bits === 64 ? 0 : baseOf(this.#ds));
    return addressSize === 16 ? offset & 0xffff : offset;
  }

  #steerRipRelative(at: number): void {
    const random = this.#random;
    const target = random.chance(0.9) ? this.#target() : CODE + random.below(0x8000);
    const displacement = target - (this.#linear + this.#bytes.length);
    littleEndian(displacement, 4).forEach((byte, i) => {
      this.#bytes[at + i] = byte;
    });
  }

  #codeSelector(): number {
    const random = this.#random;
    const roll = random.below(100);
    if (roll < 40) return this.#cs;
    if (roll < 60) return random.pick([USER_CS, USER32_CS]);
    if (roll < 80) return random.pick(CODE_SEGMENTS[random.pick([16, 32] as const)]).selector;
    return random.pick(SELECTORS);
  }

  #dataSelector(): number {
    const random = this.#random;
    const roll = random.below(100);
    if (roll < 50) return random.pick(DATA_SEGMENTS).selector;
    if (roll < 60) return random.pick(STACK_SEGMENTS).selector;
    return random.pick(SELECTORS);
  }

  /** Displacements of relative branches: mostly forward to an instruction of the program or to its end. */
  #fillRelatives(): void {
    const random = this.#random;
    for (const { at, size, end } of this.#relatives) {
      let target: number;
      const roll = random.below(100);
      const ahead = this.#boundaries.filter((boundary) => boundary >= end);
      if (roll < 88) target = ahead.length > 0 ? random.pick(ahead) : end;
      else if (roll < 92) target = end + random.below(24);
      else if (roll < 95) target = random.pick(this.#boundaries);
      else target = end + (random.u32() | 0);
      littleEndian(target - end, size).forEach((byte, i) => {
        this.#bytes[at + i] = byte;
      });
    }
  }

  #mutate(): void {
    const random = this.#random;
    if (this.#bytes.length === 0) return;
    const count = random.between(1, 3);
    for (let i = 0; i < count; i++) {
      const at = random.below(this.#bytes.length);
      if (random.chance(0.5)) this.#bytes[at] ^= 1 << random.below(8);
      else this.#bytes[at] = random.below(256);
    }
  }

  /** A linear address of interest in or about scratch memory. */
  #target(): number {
    const random = this.#random;
    if (this.#changeable && random.chance(0.6)) return this.#linear + random.between(-8, PATCH_BYTES);
    const roll = this.#aligned ? random.below(45) : random.below(100);
    if (roll < 45) return SCRATCH + 0x80 + random.below((SCRATCH_BYTES - 0x100) >> 4) * 16;
    if (roll < 75) return SCRATCH + 0x80 + random.below(SCRATCH_BYTES - 0x100);
    if (roll < 82) return SCRATCH + 0x1000 + random.between(-12, 4);
    if (roll < 86) return SCRATCH + random.between(-12, 12);
    if (roll < 91) return SCRATCH + SCRATCH_BYTES + random.between(-16, 8);
    if (roll < 93) return SCRATCH + SCRATCH_BYTES + random.below(0x1000);
    if (roll < 95) return SCRATCH + DATA_BYTES + random.between(-12, 4);
    if (roll < 96) return CODE + random.below(0x8000);
    return SCRATCH + 0x400 + random.below(0x1800 >> 3) * 8;
  }

  /** Where an instruction of the program begins, or its end; later ones more often, as a way back seldom ends. */
  #instructionAddress(): number {
    const random = this.#random;
    const count = this.#boundaries.length;
    const index = Math.max(random.below(count), random.below(count), random.below(count));
    return this.#linear + this.#boundaries[index];
  }

  #value(): readonly [number, number] {
    const random = this.#random;
    const roll = random.below(100);
    if (roll < 40) return [random.u32(), random.u32()];
    if (roll < 60) return random.pick(EDGES);
    if (roll < 70) {
      const [low, high] = random.pick(EDGES);
      return [(low + random.between(-2, 2)) >>> 0, high];
    }
    if (roll < 82) return [random.below(0x100), 0];
    if (roll < 90) return [random.u32(), 0];
    const bit = random.below(64);
    return bit < 32 ? [(1 << bit) >>> 0, 0] : [0, (1 << (bit - 32)) >>> 0];
  }

  /** Within 16 bytes of where address spaces, canonical or not, and segments end. */
  #edgeAddress(): [number, number] {
    const [low, high] = this.#random.pick(ADDRESS_EDGES);
    const moved = low + this.#random.between(-16, 16);
    const carry = moved > 0xffff_ffff ? 1 : moved < 0 ? -1 : 0;
    return [moved >>> 0, (high + carry) >>> 0];
  }

  #stackPointer(selector: number): number {
    const random = this.#random;
    const roll = random.below(100);
    const linear =
      roll < 80
        ? SCRATCH + 0x1000 + random.below(0xe0) * 8
        : roll < 92
          ? SCRATCH + 0x400 + random.below(0x1800)
          : this.#target();
    return linear - (this.#bits === 64 ? 0 : baseOf(selector));
  }

  #state(view: DataView, at: number): void {
    const random = this.#random;
    const bits = this.#bits;
    const base = (selector: number) => (bits === 64 ? 0 : baseOf(selector));
    let stack = 0;
    for (let register = 0; register < 16; register++) {
      let low = 0;
      let high = 0;
      switch (this.#roles[register]) {
        case 'data':
          [low, high] = this.#value();
          break;
        case 'ds':
          low = this.#target() - base(this.#ds);
          break;
        case 'es':
          low = this.#target() - base(this.#es);
          break;
        case 'ss':
          low = this.#target() - base(this.#ss);
          break;
        case 'stack':
          low = this.#stackPointer(this.#ss);
          stack = low;
          if (bits !== 64 && !isBits32(this.#ss)) low = (low & 0xffff) | (STACK_HIGH << 16);
          break;
        case 'small':
          low = random.chance(0.8) ? random.below(16) : random.between(-16, 0);
          if (low < 0 && bits === 64) high = -1;
          break;
        case 'count':
          if (random.chance(0.75)) low = random.below(9);
          else if (random.chance(0.8)) low = random.below(80);
          else [low, high] = this.#value();
          break;
        case 'code':
          low = random.chance(0.95) ? this.#instructionAddress() - baseOf(this.#cs) : random.u32();
          break;
        case 'selector':
          low =
            (random.chance(0.7) ? this.#dataSelector() : random.pick(SELECTORS)) |
            (random.chance(0.2) ? random.u32() << 16 : 0);
          if (random.chance(0.1)) high = random.u32();
          break;
      }
      const pointer = /^(ds|es|ss|stack)$/.test(this.#roles[register]);
      if (pointer && random.chance(0.015)) {
        const narrowStack = register === RSP && bits !== 64 && !isBits32(this.#ss);
        [low, high] = this.#edgeAddress();
        if (narrowStack) low = (low & 0xffff) | (STACK_HIGH << 16);
      }
      if (bits !== 64 && (register === RSP || random.chance(0.94))) high = 0;
      if (bits === 64 && register !== RSP && random.chance(0.01)) high ^= 0x80000000;
      view.setUint32(at + register * 8, low >>> 0, true);
      view.setUint32(at + register * 8 + 4, high >>> 0, true);
    }
    // Only an iteration count that ends soon leaves the rest of a sequence something to do.
    if (this.#usesRepeat && random.chance(0.8)) {
      view.setUint32(at + 8, random.below(20), true);
      if (random.chance(0.9)) view.setUint32(at + 12, 0, true);
    }
    if (this.#usesLengths)
      for (const register of [0, 2]) {
        if (random.chance(0.2)) continue;
        const length = random.between(-20, 20);
        view.setInt32(at + register * 8, length, true);
        view.setInt32(at + register * 8 + 4, length >> 31, true);
      }
    let flags = 0x202 | (random.u32() & STATUS_BITS);
    if (random.chance(0.25)) flags |= 0x400;
    if (random.chance(0.05)) flags |= 0x100;
    if (random.chance(0.06)) flags |= 0x40000;
    if (random.chance(0.03)) flags |= 0x4000;
    if (random.chance(0.1)) flags |= 0x200000;
    view.setUint32(at + CASE.rflags, flags, true);
    view.setUint32(at + CASE.rflags + 4, 0, true);
    view.setUint32(at + CASE.rip, this.#linear - baseOf(this.#cs), true);
    view.setUint32(at + CASE.rip + 4, 0, true);
    for (const offset of [CASE.fsBase, CASE.gsBase]) {
      let low = random.chance(0.8) ? random.between(0, 8) * 8 : random.u32();
      let high = 0;
      if (bits === 64 && random.chance(0.05)) {
        low = random.u32();
        high = random.below(0x8000);
      }
      view.setUint32(at + offset, low, true);
      view.setUint32(at + offset + 4, high, true);
    }
    const selectors = [this.#cs, this.#ss, this.#ds, this.#es, this.#fs, this.#gs];
    for (let i = 0; i < 6; i++) view.setUint16(at + CASE.selectors + i * 2, selectors[i], true);
    this.#patch(view, at, stack + base(this.#ss));
  }

  /** The case's own memory content. */
  #patch(view: DataView, at: number, stackLinear: number): void {
    const random = this.#random;
    const plan = this.#plan;
    const patch = new Uint8Array(view.buffer, view.byteOffset + at + CASE.patch, PATCH_BYTES);
    for (let i = 0; i < PATCH_BYTES; i += 4) {
      const [low] = this.#value();
      view.setUint32(at + CASE.patch + i, low, true);
    }
    if (this.#changeable) {
      patch.fill(0xcc);
      patch.set(this.#bytes);
      view.setUint32(at + CASE.patchAt, this.#linear - SCRATCH, true);
      return;
    }
    let linear = stackLinear;
    const put = (offset: number, low: number, size: number, high = low < 0 ? -1 : 0) => {
      const bytes = littleEndian(low, Math.min(size, 4));
      if (size === 8) bytes.push(...littleEndian(high, 4));
      patch.set(bytes.slice(0, Math.max(0, PATCH_BYTES - offset)), offset);
    };
    const instructionAddress = (selector: number): number =>
      random.chance(0.92) ? this.#instructionAddress() - baseOf(selector) : random.u32();
    const stackSelector = () =>
      random.chance(0.75) ? random.pick(STACK_SEGMENTS).selector : this.#dataSelector();
    const pointerOf = (register: number, displacement: number): number => {
      const role = this.#roles[register];
      const segment = role === 'stack' || role === 'ss' ? this.#ss : role === 'es' ? this.#es : this.#ds;
      const value = view.getUint32(at + register * 8, true);
      const offset = role === 'stack' && !isBits32(this.#ss) && this.#bits !== 64 ? value & 0xffff : value;
      return offset + displacement + (this.#bits === 64 ? 0 : baseOf(segment));
    };
    switch (plan.kind) {
      case 'random':
        if (random.chance(0.5)) linear = this.#target();
        break;
      case 'frame': {
        const { size } = plan;
        const selector = plan.pops === 'ret' ? this.#cs : this.#codeSelector();
        put(0, instructionAddress(selector), size);
        if (plan.pops === 'ret') break;
        put(size, selector | (random.chance(0.1) ? random.u32() << 16 : 0), size);
        if (plan.pops === 'retf') {
          put(2 * size, this.#stackPointer(USER_DS), size);
          put(3 * size, stackSelector(), size);
          break;
        }
        let flags = 0x202 | (random.u32() & STATUS_BITS);
        if (random.chance(0.1)) flags = random.u32();
        if (random.chance(0.95)) flags &= ~0x100;
        // AC from the frame already governs the reads of RSP and SS; Linux takes that #AC for a split lock, and retries for ever.
        if (random.chance(0.99)) flags &= ~0x40000;
        put(2 * size, flags, size, random.chance(0.05) ? random.u32() : 0);
        const ss = stackSelector();
        put(
          3 * size,
          SCRATCH + 0x1000 + random.below(0x100) * 8 - baseOf(ss),
          size,
          random.chance(0.2) ? random.u32() : 0,
        );
        put(4 * size, ss, size);
        break;
      }
      case 'selectors':
        for (let i = 0; i < 4; i++) put(i * plan.size, this.#dataSelector(), plan.size);
        break;
      case 'far': {
        linear = pointerOf(plan.register, plan.displacement);
        const selector = plan.code ? this.#codeSelector() : this.#dataSelector();
        put(0, plan.code ? instructionAddress(selector) : random.u32(), plan.size);
        put(plan.size, selector, 2);
        break;
      }
      case 'target':
        linear = pointerOf(plan.register, plan.displacement);
        put(0, instructionAddress(this.#cs), plan.size);
        break;
      case 'selector-at':
        linear = pointerOf(plan.register, plan.displacement);
        put(0, this.#dataSelector(), 2);
        break;
      case 'bounds':
        linear = pointerOf(plan.register, plan.displacement);
        put(0, random.chance(0.5) ? 0x80000000 >> (plan.size === 2 ? 16 : 0) : random.u32(), plan.size);
        put(
          plan.size,
          random.chance(0.5) ? 0x7fffffff >> (plan.size === 2 ? 16 : 0) : random.u32(),
          plan.size,
        );
        break;
      case 'compare':
        linear = pointerOf(plan.register, plan.displacement);
        if (random.chance(0.3)) break;
        patch.set(new Uint8Array(view.buffer, view.byteOffset + at, 8), 0);
        if (plan.pair)
          patch.set(new Uint8Array(view.buffer, view.byteOffset + at + 16, plan.pair), plan.pair);
        break;
    }
    let offset = (linear >>> 0) - SCRATCH;
    if (offset < 0 || offset > SCRATCH_BYTES - PATCH_BYTES)
      offset = random.below(SCRATCH_BYTES - PATCH_BYTES);
    view.setUint32(at + CASE.patchAt, offset, true);
  }
}

function littleEndian(value: number, size: number): number[] {
  const bytes: number[] = [];
  for (let i = 0; i < size; i++) bytes.push(i < 4 ? (value >>> (i * 8)) & 0xff : value < 0 ? 0xff : 0);
  return bytes;
}
