/**
 * An assembler as a TypeScript library: methods named as mnemonics, labels with forward references, data
 * directives, sections, and 16-, 32- and 64-bit code side by side.
 *
 *     const a = createAssembler();
 *     a.section('.text').bits(64);
 *     a.label('syscall_entry');
 *     a.swapgs();
 *     a.mov(mem(gs, percpu.userStack), rsp);
 *     a.mov(rsp, mem(gs, percpu.kernelStack));
 *     a.jnz('.slow');
 *
 * A label that starts with a dot belongs to the last label that does not. Branches take their shortest form.
 * Addresses are given to sections by the linker (`link`), which then fills in every reference.
 */

import {
  type CodeBits,
  type Encoded,
  encodeBranch,
  encodeFarBranch,
  encodeFarIndirect,
  encodeInstruction,
  type Field,
  type Prefix,
} from './encoder.ts';
import { type Immediate, type Memory, type Operand, type SymbolReference, sym } from './operands.ts';

export type { CodeBits } from './encoder.ts';
export * from './operands.ts';

const noOperand = [
  'cbw', 'cdq', 'cdqe', 'clac', 'clc', 'cld', 'cli', 'clts', 'cmc', 'cpuid', 'cqo', 'cwd', 'cwde', 'hlt', 'int1',
  'int3', 'invd', 'iretd', 'iretq', 'iretw', 'lahf', 'leave', 'lfence', 'lodsb', 'lodsd', 'lodsq', 'lodsw', 'mfence',
  'movsb', 'movsd', 'movsq', 'movsw', 'nop', 'pause', 'popfd', 'popfq', 'popfw', 'pushfd', 'pushfq', 'pushfw', 'rdmsr',
  'rdtsc', 'retf', 'retfq', 'sahf', 'sfence', 'stac', 'stc', 'std', 'sti', 'stosb', 'stosd', 'stosq', 'stosw',
  'swapgs', 'syscall', 'sysenter', 'sysexit', 'sysexitq', 'sysret', 'sysretq', 'ud2', 'wbinvd', 'wrmsr',
  'popad', 'pushad', 'popaw', 'pushaw',
] as const; // biome-ignore format: one table
const oneOperand = [
  'bswap',
  'dec',
  'div',
  'idiv',
  'inc',
  'int',
  'invlpg',
  'lgdt',
  'lidt',
  'lldt',
  'lmsw',
  'ltr',
  'mul',
  'neg',
  'not',
  'pop',
  'push',
  'sete',
  'setne',
  'setb',
  'setae',
  'seta',
  'setbe',
  'sgdt',
  'sidt',
  'sldt',
  'smsw',
  'str',
  'verr',
  'verw',
] as const;
const twoOperands = [
  'adc',
  'add',
  'and',
  'bsf',
  'bsr',
  'bt',
  'btc',
  'btr',
  'bts',
  'cmova',
  'cmovae',
  'cmovb',
  'cmovbe',
  'cmove',
  'cmovne',
  'cmp',
  'cmpxchg',
  'in',
  'lar',
  'lds',
  'lea',
  'les',
  'lfs',
  'lgs',
  'lsl',
  'lss',
  'mov',
  'movsx',
  'movsxd',
  'movzx',
  'or',
  'out',
  'rcl',
  'rcr',
  'rol',
  'ror',
  'sar',
  'sbb',
  'shl',
  'shr',
  'sub',
  'test',
  'xadd',
  'xchg',
  'xor',
] as const;
const branches = [
  'ja',
  'jae',
  'jb',
  'jbe',
  'je',
  'jg',
  'jge',
  'jl',
  'jle',
  'jne',
  'jno',
  'jnp',
  'jns',
  'jo',
  'jp',
  'js',
  'jcxz',
  'jecxz',
  'jrcxz',
  'loop',
  'loope',
  'loopne',
] as const;
const aliases = {
  jz: 'je',
  jnz: 'jne',
  jc: 'jb',
  jnc: 'jae',
  setz: 'sete',
  setnz: 'setne',
  cmovz: 'cmove',
  cmovnz: 'cmovne',
} as const;

type Instructions = {
  [M in (typeof noOperand)[number]]: () => void;
} & {
  [M in (typeof oneOperand)[number] | 'setz' | 'setnz']: (operand: Operand) => void;
} & {
  [M in (typeof twoOperands)[number] | 'cmovz' | 'cmovnz']: (destination: Operand, source: Operand) => void;
} & {
  [M in (typeof branches)[number] | 'jz' | 'jnz' | 'jc' | 'jnc']: (target: string) => void;
};

/** An assembler: directives and instructions. */
export type Assembler = AssemblerCore & Instructions;

/** Raised at link time: an undefined or doubly defined label, or a value that does not fit its field. */
export class LinkError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'LinkError';
  }
}

/** A field to be filled with a symbol's value. Offsets are in bytes from the chunk's start. */
interface Fixup {
  readonly field: Field;
  readonly symbol: SymbolReference;
  /** Distance from the field's section to subtract: the end of the instruction, for relative fields. */
  readonly relativeTo: number | undefined;
  /** How a narrow absolute field is extended by the processor, to check that nothing is lost. */
  readonly extension: 'signed' | 'unsigned' | 'either';
}

interface BytesChunk {
  readonly kind: 'bytes';
  readonly bytes: Uint8Array;
  readonly fixups: readonly Fixup[];
}
interface BranchChunk {
  readonly kind: 'branch';
  readonly mnemonic: string;
  readonly short: Encoded | undefined;
  readonly near: Encoded | undefined;
  readonly target: SymbolReference;
  isNear: boolean;
}
interface AlignChunk {
  readonly kind: 'align';
  readonly boundary: number;
  readonly fill: number;
}
interface ZeroChunk {
  readonly kind: 'zero';
  readonly length: number;
}
interface LabelChunk {
  readonly kind: 'label';
  readonly name: string;
}
type Chunk = BytesChunk | BranchChunk | AlignChunk | ZeroChunk | LabelChunk;

interface Section {
  readonly name: string;
  readonly chunks: Chunk[];
}

/** Contents of a section after linking. */
export interface LinkedSection {
  readonly name: string;
  /** Linear address at which its labels are. */
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

export interface Linked {
  readonly sections: ReadonlyMap<string, LinkedSection>;
  readonly symbols: ReadonlyMap<string, bigint>;
}

const littleEndian = (value: bigint, size: number): Uint8Array => {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
  return bytes;
};

/** Directives of the assembler; its instructions are added by `createAssembler`. */
export class AssemblerCore {
  readonly #sections = new Map<string, Section>();
  readonly #constants = new Map<string, bigint>();
  readonly #defined = new Set<string>();
  readonly #inserted = new Map<string, () => void>();
  #current: Section | undefined;
  #bits: CodeBits = 64;
  #scope = '';
  #prefix: Prefix | undefined;

  /** Continues the named section, or begins it. */
  section(name: string): this {
    let section = this.#sections.get(name);
    if (section === undefined) {
      section = { name, chunks: [] };
      this.#sections.set(name, section);
    }
    this.#current = section;
    return this;
  }

  /** Code that follows runs in a code segment of this width. */
  bits(bits: CodeBits): this {
    this.#bits = bits;
    return this;
  }

  /** Gives the current place a name. A name that starts with a dot is local to the last one that does not. */
  label(name: string): this {
    this.#insert(`before ${this.#qualify(name)}`);
    if (!name.startsWith('.')) this.#scope = name;
    const qualified = this.#qualify(name);
    this.#define(qualified);
    this.#section().chunks.push({ kind: 'label', name: qualified });
    this.#insert(`after ${qualified}`);
    return this;
  }

  /**
   * Calls `emit` where a label is going to be defined: just before, so that code that falls through to the label runs what is
   * emitted, or just after, so that code that jumps there does, too. One each a label. It may define labels and change the
   * section, to which it must return.
   */
  insert(where: 'before' | 'after', label: string, emit: () => void): this {
    this.#inserted.set(`${where} ${label}`, emit);
    return this;
  }

  #insert(key: string): void {
    const scope = this.#scope;
    this.#inserted.get(key)?.();
    this.#scope = scope;
  }

  /** Gives a constant a name that references may use like a label. */
  constant(name: string, value: number | bigint): this {
    this.#define(name);
    this.#constants.set(name, BigInt(value));
    return this;
  }

  /** Emits 8-bit data; a string gives its characters' codes, which must be Latin-1. */
  db(...values: (number | string)[]): this {
    const bytes = values.flatMap((value) =>
      typeof value === 'number' ? [value & 0xff] : Array.from(value, (c) => c.charCodeAt(0)),
    );
    return this.bytes(Uint8Array.from(bytes));
  }

  /** Emits 16-bit data. */
  dw(...values: Immediate[]): this {
    return this.#data(2, values);
  }

  /** Emits 32-bit data. */
  dd(...values: Immediate[]): this {
    return this.#data(4, values);
  }

  /** Emits 64-bit data. */
  dq(...values: Immediate[]): this {
    return this.#data(8, values);
  }

  /** Emits raw bytes. */
  bytes(bytes: Uint8Array): this {
    this.#section().chunks.push({ kind: 'bytes', bytes, fixups: [] });
    return this;
  }

  /** Leaves zero bytes. */
  zero(length: number): this {
    this.#section().chunks.push({ kind: 'zero', length });
    return this;
  }

  /** Pads to a multiple of `boundary` bytes from the section's start. */
  align(boundary: number, fill = 0): this {
    this.#section().chunks.push({ kind: 'align', boundary, fill });
    return this;
  }

  /** Puts a LOCK prefix on the next instruction. */
  lock(): this {
    this.#prefix = 'lock';
    return this;
  }

  /** Puts a REP prefix on the next string instruction. */
  rep(): this {
    this.#prefix = 'rep';
    return this;
  }

  /** Any instruction by its mnemonic; the named methods are the usual way. */
  instruction(mnemonic: string, ...operands: Operand[]): void {
    const scoped = operands.map((operand) => this.#scoped(operand));
    this.#emit(encodeInstruction(this.#bits, mnemonic, scoped, this.#takePrefix()), scoped);
  }

  /** A direct conditional branch, LOOP or JCXZ to a label. */
  branch(mnemonic: string, target: string): void {
    const { short, near } = encodeBranch(this.#bits, mnemonic);
    if (short === undefined && near === undefined)
      throw new RangeError(`no ${this.#bits}-bit form of "${mnemonic} ${target}"`);
    this.#section().chunks.push({
      kind: 'branch',
      mnemonic,
      short,
      near,
      target: sym(this.#qualify(target)),
      isNear: short === undefined,
    });
  }

  /** JMP to a label, or through a register or memory. */
  jmp(target: string | Operand): void {
    if (typeof target === 'string') this.branch('jmp', target);
    else this.instruction('jmp', target);
  }

  /** CALL of a label, or through a register or memory. */
  call(target: string | Operand): void {
    if (typeof target === 'string') this.branch('call', target);
    else this.instruction('call', target);
  }

  /** RET, releasing `bytes` of arguments. */
  ret(bytes = 0): void {
    if (bytes === 0) this.instruction('ret');
    else this.instruction('ret', bytes);
  }

  /** Direct far JMP to `selector:label`, outside 64-bit mode. The offset is 32 bits wide unless told. */
  jmpFar(selector: number, target: string | SymbolReference, offsetBits: 16 | 32 = 32): void {
    if (this.#bits === 64) throw new RangeError('64-bit mode has no direct far JMP');
    const encoded = encodeFarBranch(this.#bits, 'jmp', selector, offsetBits);
    const symbol = typeof target === 'string' ? sym(target) : target;
    this.#emit(encoded, [this.#scoped(symbol)]);
  }

  /** Far JMP through a far pointer in memory whose offset has the given width. */
  jmpFarIndirect(pointer: Memory, offsetBits: 16 | 32 | 64 = 32): void {
    const scoped = this.#scoped(pointer) as Memory;
    this.#emit(encodeFarIndirect(this.#bits, 'jmp', offsetBits, scoped), [scoped]);
  }

  #takePrefix(): Prefix | undefined {
    const prefix = this.#prefix;
    this.#prefix = undefined;
    return prefix;
  }

  #section(): Section {
    if (this.#current === undefined) throw new LinkError('code outside any section');
    return this.#current;
  }

  #define(name: string): void {
    if (this.#defined.has(name)) throw new LinkError(`label "${name}" defined twice`);
    this.#defined.add(name);
  }

  #qualify(name: string): string {
    return name.startsWith('.') ? `${this.#scope}${name}` : name;
  }

  #scoped(operand: Operand): Operand {
    if (typeof operand !== 'object') return operand;
    if (operand.kind === 'symbol') return { ...operand, name: this.#qualify(operand.name) };
    if (operand.kind === 'memory' && operand.symbol !== undefined)
      return { ...operand, symbol: { ...operand.symbol, name: this.#qualify(operand.symbol.name) } };
    return operand;
  }

  #data(size: number, values: readonly Immediate[]): this {
    const bytes = new Uint8Array(size * values.length);
    const fixups: Fixup[] = [];
    for (const [i, value] of values.entries()) {
      if (typeof value === 'object') {
        const symbol = this.#scoped(value) as SymbolReference;
        fixups.push({
          field: { offset: i * size, size },
          symbol,
          relativeTo: undefined,
          extension: 'either',
        });
      } else {
        const wide = BigInt(value);
        if (BigInt.asIntN(8 * size, wide) !== wide && BigInt.asUintN(8 * size, wide) !== wide)
          throw new RangeError(`${wide} does not fit ${8 * size} bits`);
        bytes.set(littleEndian(wide, size), i * size);
      }
    }
    this.#section().chunks.push({ kind: 'bytes', bytes, fixups });
    return this;
  }

  #emit(encoded: Encoded, operands: readonly Operand[]): void {
    const fixups: Fixup[] = [];
    for (const operand of operands) {
      if (typeof operand !== 'object') continue;
      if (operand.kind === 'symbol' && encoded.immediate !== undefined) {
        const extension = this.#bits === 64 && encoded.immediate.size === 4 ? 'signed' : 'either';
        fixups.push({ field: encoded.immediate, symbol: operand, relativeTo: undefined, extension });
      } else if (
        operand.kind === 'memory' &&
        operand.symbol !== undefined &&
        encoded.displacement !== undefined
      ) {
        const absolute =
          operand.base !== undefined || operand.index !== undefined || operand.segment !== undefined;
        const ripRelative = this.#bits === 64 && !absolute;
        fixups.push({
          field: encoded.displacement,
          symbol: { ...operand.symbol, addend: operand.symbol.addend + operand.displacement },
          relativeTo: ripRelative ? encoded.bytes.length : undefined,
          extension: this.#bits === 64 ? 'signed' : 'either',
        });
      }
    }
    this.#section().chunks.push({ kind: 'bytes', bytes: encoded.bytes, fixups });
  }

  /** Sizes of all sections, in bytes, with every branch as short as its place inside its section allows. */
  sizes(): Map<string, number> {
    const sizes = new Map<string, number>();
    for (const section of this.#sections.values()) sizes.set(section.name, this.#relax(section).size);
    return sizes;
  }

  /** Grows branches that do not reach until all do; gives each chunk's offset and the section's size. */
  #relax(section: Section): { offsets: number[]; size: number } {
    for (;;) {
      const offsets: number[] = [];
      const labels = new Map<string, number>();
      let at = 0;
      for (const chunk of section.chunks) {
        offsets.push(at);
        switch (chunk.kind) {
          case 'bytes':
            at += chunk.bytes.length;
            break;
          case 'branch':
            at += ((chunk.isNear ? chunk.near : chunk.short) as Encoded).bytes.length;
            break;
          case 'align':
            at += (chunk.boundary - (at % chunk.boundary)) % chunk.boundary;
            break;
          case 'zero':
            at += chunk.length;
            break;
          case 'label':
            labels.set(chunk.name, at);
            break;
        }
      }
      let grown = false;
      for (const [i, chunk] of section.chunks.entries()) {
        if (chunk.kind !== 'branch' || chunk.isNear) continue;
        const target = labels.get(chunk.target.name);
        const distance =
          target === undefined
            ? Number.POSITIVE_INFINITY
            : target - (offsets[i] + (chunk.short as Encoded).bytes.length);
        if (distance < -128 || distance > 127) {
          if (chunk.near === undefined)
            throw new LinkError(`"${chunk.mnemonic}" does not reach "${chunk.target.name}"`);
          chunk.isNear = true;
          grown = true;
        }
      }
      if (!grown) return { offsets, size: at };
    }
  }

  /**
   * Gives every section the address that `place` names and fills in all references. Raises a LinkError for an
   * undefined label or a value that does not fit.
   */
  link(place: ReadonlyMap<string, bigint>): Linked {
    const symbols = new Map(this.#constants);
    const placed: { section: Section; address: bigint; offsets: number[]; size: number }[] = [];
    for (const section of this.#sections.values()) {
      const address = place.get(section.name);
      if (address === undefined) throw new LinkError(`section "${section.name}" has no address`);
      const { offsets, size } = this.#relax(section);
      placed.push({ section, address, offsets, size });
      for (const [i, chunk] of section.chunks.entries())
        if (chunk.kind === 'label') symbols.set(chunk.name, address + BigInt(offsets[i]));
    }
    const sections = new Map<string, LinkedSection>();
    for (const { section, address, offsets, size } of placed) {
      const bytes = new Uint8Array(size);
      for (const [i, chunk] of section.chunks.entries()) {
        const at = offsets[i];
        if (chunk.kind === 'align') {
          bytes.fill(chunk.fill, at, offsets[i + 1] ?? size);
        } else if (chunk.kind === 'bytes') {
          bytes.set(chunk.bytes, at);
          for (const fixup of chunk.fixups) resolve(bytes, at, address, fixup, symbols);
        } else if (chunk.kind === 'branch') {
          const encoded = (chunk.isNear ? chunk.near : chunk.short) as Encoded;
          bytes.set(encoded.bytes, at);
          const fixup: Fixup = {
            field: encoded.immediate as Field,
            symbol: chunk.target,
            relativeTo: encoded.bytes.length,
            extension: 'signed',
          };
          resolve(bytes, at, address, fixup, symbols);
        }
      }
      sections.set(section.name, { name: section.name, address, bytes });
    }
    return { sections, symbols };
  }
}

function resolve(
  bytes: Uint8Array,
  at: number,
  sectionAddress: bigint,
  fixup: Fixup,
  symbols: ReadonlyMap<string, bigint>,
): void {
  const target = symbols.get(fixup.symbol.name);
  if (target === undefined) throw new LinkError(`undefined label "${fixup.symbol.name}"`);
  let value = target + fixup.symbol.addend;
  if (fixup.relativeTo !== undefined) value -= sectionAddress + BigInt(at + fixup.relativeTo);
  const width = 8 * fixup.field.size;
  const signed = BigInt.asIntN(64, value);
  const fits =
    width === 64 ||
    (fixup.extension !== 'unsigned' && BigInt.asIntN(width, signed) === signed) ||
    (fixup.extension !== 'signed' && BigInt.asUintN(width, value) === value);
  if (!fits)
    throw new LinkError(
      `the value of "${fixup.symbol.name}" (0x${value.toString(16)}) does not fit ${width} bits`,
    );
  bytes.set(littleEndian(BigInt.asUintN(64, value), fixup.field.size), at + fixup.field.offset);
}

/** A new assembler with no sections, in 64-bit code. */
export function createAssembler(): Assembler {
  const core = new AssemblerCore();
  const methods: Record<string, (...operands: never[]) => void> = {};
  for (const mnemonic of [...noOperand, ...oneOperand, ...twoOperands])
    methods[mnemonic] = (...operands: Operand[]) => core.instruction(mnemonic, ...operands);
  for (const mnemonic of branches) methods[mnemonic] = (target: string) => core.branch(mnemonic, target);
  for (const [alias, mnemonic] of Object.entries(aliases)) methods[alias] = methods[mnemonic];
  return Object.assign(core, methods as Instructions);
}
