/** Operands of the assembler: registers, memory, immediates and symbols, as they are written in the source. */

export type Width = 8 | 16 | 32 | 64;

/** A register by its manual name (SDM Vol. 1, Sections 3.4 and 2.2.2). */
export interface Register {
  readonly kind: 'register';
  readonly name: string;
  readonly class: 'general' | 'segment' | 'control' | 'debug' | 'rip';
  /** Width of a general register; 16 for segment registers, 64 for control and debug registers. */
  readonly bits: Width;
}

/** The address of a label plus an addend; resolved when the image is linked. */
export interface SymbolReference {
  readonly kind: 'symbol';
  readonly name: string;
  readonly addend: bigint;
}

/** A number, or a symbol whose value is known at link time. */
export type Immediate = number | bigint | SymbolReference;

/** An index register with its scale. */
export interface ScaledIndex {
  readonly kind: 'index';
  readonly register: Register;
  readonly scale: 1 | 2 | 4 | 8;
}

/** A memory operand. `bits` is the access width, where the other operand does not tell it. */
export interface Memory {
  readonly kind: 'memory';
  readonly segment: Register | undefined;
  readonly base: Register | undefined;
  readonly index: ScaledIndex | undefined;
  readonly displacement: bigint;
  readonly symbol: SymbolReference | undefined;
  readonly bits: Width | undefined;
}

export type Operand = Register | Memory | Immediate;

/** A part of a memory operand: a register, a scaled index, a displacement, a label. */
export type MemoryPart = Register | ScaledIndex | SymbolReference | string | number | bigint;

const general = (bits: Width) => (name: string) =>
  ({ kind: 'register', name, class: 'general', bits }) satisfies Register;
const [r8, r16, r32, r64] = [general(8), general(16), general(32), general(64)];
const segment = (name: string) => ({ kind: 'register', name, class: 'segment', bits: 16 }) satisfies Register;
const control = (name: string) => ({ kind: 'register', name, class: 'control', bits: 64 }) satisfies Register;
const debug = (name: string) => ({ kind: 'register', name, class: 'debug', bits: 64 }) satisfies Register;

export const [al, cl, dl, bl, ah, ch, dh, bh] = ['al', 'cl', 'dl', 'bl', 'ah', 'ch', 'dh', 'bh'].map(r8);
export const [spl, bpl, sil, dil] = ['spl', 'bpl', 'sil', 'dil'].map(r8);
export const [r8b, r9b, r10b, r11b, r12b, r13b, r14b, r15b] = [8, 9, 10, 11, 12, 13, 14, 15].map((n) =>
  r8(`r${n}l`),
);
export const [ax, cx, dx, bx, sp, bp, si, di] = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'].map(r16);
export const [eax, ecx, edx, ebx, esp, ebp, esi, edi] = [
  'eax',
  'ecx',
  'edx',
  'ebx',
  'esp',
  'ebp',
  'esi',
  'edi',
].map(r32);
export const [r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d] = [8, 9, 10, 11, 12, 13, 14, 15].map((n) =>
  r32(`r${n}d`),
);
export const [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi] = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
].map(r64);
export const [r8q, r9, r10, r11, r12, r13, r14, r15] = [8, 9, 10, 11, 12, 13, 14, 15].map((n) =>
  r64(`r${n}`),
);
export const [es, cs, ss, ds, fs, gs] = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'].map(segment);
export const [cr0, cr2, cr3, cr4, cr8] = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8'].map(control);
export const [dr0, dr1, dr2, dr3, dr6, dr7] = ['dr0', 'dr1', 'dr2', 'dr3', 'dr6', 'dr7'].map(debug);
export const rip: Register = { kind: 'register', name: 'rip', class: 'rip', bits: 64 };

/** The general registers that 32- and 64-bit code share, in the width of an address there. */
export function wordRegisters(bits: 32 | 64) {
  return bits === 64
    ? { ax: rax, bx: rbx, cx: rcx, dx: rdx, si: rsi, di: rdi, bp: rbp, sp: rsp }
    : { ax: eax, bx: ebx, cx: ecx, dx: edx, si: esi, di: edi, bp: ebp, sp: esp };
}

/** The address of `name` plus `addend` as an immediate. */
export function sym(name: string, addend: number | bigint = 0): SymbolReference {
  return { kind: 'symbol', name, addend: BigInt(addend) };
}

/** An index register times 1, 2, 4 or 8, for `mem`. */
export function times(register: Register, scale: 1 | 2 | 4 | 8): ScaledIndex {
  return { kind: 'index', register, scale };
}

function memory(bits: Width | undefined, parts: readonly MemoryPart[]): Memory {
  let segmentRegister: Register | undefined;
  let base: Register | undefined;
  let index: ScaledIndex | undefined;
  let displacement = 0n;
  let symbol: SymbolReference | undefined;
  for (const part of parts) {
    if (typeof part === 'number' || typeof part === 'bigint') displacement += BigInt(part);
    else if (typeof part === 'string') symbol = sym(part);
    else if (part.kind === 'symbol') symbol = part;
    else if (part.kind === 'index') index = part;
    else if (part.class === 'segment') segmentRegister = part;
    else if (base === undefined) base = part;
    else if (index === undefined) index = times(part, 1);
    else throw new RangeError(`too many registers in a memory operand: ${part.name}`);
  }
  return { kind: 'memory', segment: segmentRegister, base, index, displacement, symbol, bits };
}

/**
 * A memory operand whose width the other operand tells: `mem(gs, percpu.kernelStack)`, `mem(rsp, 8)`,
 * `mem('table', times(rcx, 8))`. A label alone is RIP-relative in 64-bit code and absolute elsewhere.
 */
export const mem = (...parts: MemoryPart[]) => memory(undefined, parts);
/** A memory operand of 8 bits. */
export const byte = (...parts: MemoryPart[]) => memory(8, parts);
/** A memory operand of 16 bits. */
export const word = (...parts: MemoryPart[]) => memory(16, parts);
/** A memory operand of 32 bits. */
export const dword = (...parts: MemoryPart[]) => memory(32, parts);
/** A memory operand of 64 bits. */
export const qword = (...parts: MemoryPart[]) => memory(64, parts);
