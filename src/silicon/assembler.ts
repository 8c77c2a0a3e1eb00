/**
 * A two-pass assembler over iced-x86's encoder for the small native programs of this room: instructions by
 * their iced `Code`, labels, RIP-relative data and 16-, 32- and 64-bit code in one image.
 */
import { Code, Encoder, Instruction, MemoryOperand, Register } from 'iced-x86';

/** A place in the image; its address is known after {@link Assembler.assemble} has laid the code out. */
export interface Label {
  readonly name: string;
}

/** A memory operand: base, index and displacement, or RIP-relative to a label. */
export interface Memory {
  readonly base: Register;
  readonly index: Register;
  readonly scale: number;
  readonly displacement: bigint;
  readonly displacementSize: number;
  readonly segment: Register;
  readonly label?: Label;
}

/** [base + displacement]. */
export function at(base: Register, displacement = 0, index: Register = Register.None, scale = 1): Memory {
  return {
    base,
    index,
    scale,
    displacement: BigInt(displacement),
    displacementSize: displacement === 0 ? 0 : 1,
    segment: Register.None,
  };
}

/** [RIP + distance to label]; `offset` bytes beyond it. */
export function near(label: Label, offset = 0): Memory {
  return {
    base: Register.RIP,
    index: Register.None,
    scale: 1,
    displacement: BigInt(offset),
    displacementSize: 8,
    segment: Register.None,
    label,
  };
}

/** [disp32], for 16- and 32-bit code: an absolute address below 4 GiB, or a label there. */
export function absolute(address: number | Label): Memory {
  const memory = {
    base: Register.None,
    index: Register.None,
    scale: 1,
    displacement: typeof address === 'number' ? BigInt(address) : 0n,
    displacementSize: 4,
    segment: Register.None,
  };
  return typeof address === 'number' ? memory : { ...memory, label: address };
}

/** An immediate that is the address of a label. */
export interface AddressOf {
  readonly address: Label;
}
/** The address of a label, as an immediate. */
export function addressOf(label: Label): AddressOf {
  return { address: label };
}

/** A register is a number; immediates are bigints so that the two cannot be mistaken for each other. */
export type AssemblyOperand = Register | bigint | Memory | Label | AddressOf;

type Item =
  | { kind: 'code'; bits: number; build: (addresses: Map<Label, bigint>) => Instruction }
  | { kind: 'bytes'; bytes: Uint8Array }
  | { kind: 'align'; to: number }
  | { kind: 'label'; label: Label };

function isMemory(operand: AssemblyOperand): operand is Memory {
  return typeof operand === 'object' && 'base' in operand;
}
function isAddressOf(operand: AssemblyOperand): operand is AddressOf {
  return typeof operand === 'object' && 'address' in operand;
}
function isLabel(operand: AssemblyOperand): operand is Label {
  return typeof operand === 'object' && 'name' in operand;
}

export class Assembler {
  readonly #items: Item[] = [];
  #bits = 64;

  /** A label not yet placed. */
  label(name: string): Label {
    return { name };
  }

  /** Puts a label here. */
  place(label: Label): Label {
    this.#items.push({ kind: 'label', label });
    return label;
  }

  /** A new label here. */
  here(name: string): Label {
    return this.place(this.label(name));
  }

  /** The code size of what follows: 16, 32 or 64. */
  bits(size: 16 | 32 | 64): void {
    this.#bits = size;
  }

  /** Raw bytes. */
  bytes(...bytes: number[]): void {
    this.#items.push({ kind: 'bytes', bytes: Uint8Array.from(bytes) });
  }

  /** `count` zero bytes. */
  space(count: number): void {
    this.#items.push({ kind: 'bytes', bytes: new Uint8Array(count) });
  }

  /** Zero bytes up to a multiple of `to` from the image's start. */
  align(to: number): void {
    this.#items.push({ kind: 'align', to });
  }

  /** One instruction. Registers are iced registers, immediates bigints, branch targets labels. */
  op(code: Code, ...operands: AssemblyOperand[]): void {
    this.#items.push({
      kind: 'code',
      bits: this.#bits,
      build: (addresses) => build(code, operands, addresses),
    });
  }

  /** A far jump to selector:label, for 16- and 32-bit code. */
  farJump(code: Code, selector: number, target: Label): void {
    this.#items.push({
      kind: 'code',
      bits: this.#bits,
      build: (addresses) => Instruction.createFarBranch(code, selector, Number(addressIn(addresses, target))),
    });
  }

  /** Encodes everything at `base`. Branches are to be given as near (rel32) forms, so that sizes do not change. */
  assemble(base: bigint): { image: Uint8Array; addresses: Map<Label, bigint> } {
    const guess = new Map<Label, bigint>();
    for (const item of this.#items) if (item.kind === 'label') guess.set(item.label, base);
    const first = this.#pass(base, guess);
    const second = this.#pass(base, first.addresses);
    for (const [label, address] of second.addresses)
      if (first.addresses.get(label) !== address) throw new Error(`label ${label.name} moved between passes`);
    return second;
  }

  #pass(base: bigint, known: Map<Label, bigint>): { image: Uint8Array; addresses: Map<Label, bigint> } {
    const chunks: Uint8Array[] = [];
    let length = 0;
    const addresses = new Map<Label, bigint>();
    const append = (bytes: Uint8Array) => {
      chunks.push(bytes);
      length += bytes.length;
    };
    for (const item of this.#items) {
      if (item.kind === 'label') addresses.set(item.label, base + BigInt(length));
      else if (item.kind === 'bytes') append(item.bytes);
      else if (item.kind === 'align') append(new Uint8Array((item.to - (length % item.to)) % item.to));
      else append(encode(item.build(known), item.bits, base + BigInt(length)));
    }
    const image = new Uint8Array(length);
    let offset = 0;
    for (const chunk of chunks) {
      image.set(chunk, offset);
      offset += chunk.length;
    }
    return { image, addresses };
  }
}

function encode(instruction: Instruction, bits: number, rip: bigint): Uint8Array {
  const encoder = new Encoder(bits);
  try {
    encoder.encode(instruction, rip);
    return encoder.takeBuffer();
  } finally {
    encoder.free();
    instruction.free();
  }
}

function addressIn(addresses: Map<Label, bigint>, label: Label): bigint {
  const address = addresses.get(label);
  if (address === undefined) throw new Error(`label ${label.name} is not placed`);
  return address;
}

function memoryOperand(memory: Memory, addresses: Map<Label, bigint>): MemoryOperand {
  const displacement = memory.displacement + (memory.label ? addressIn(addresses, memory.label) : 0n);
  return new MemoryOperand(
    memory.base,
    memory.index,
    memory.scale,
    displacement,
    memory.displacementSize,
    false,
    memory.segment,
  );
}

function build(code: Code, operands: AssemblyOperand[], addresses: Map<Label, bigint>): Instruction {
  const [first, second, third] = operands;
  if (first === undefined) return Instruction.create(code);
  if (isLabel(first)) return Instruction.createBranch(code, addressIn(addresses, first));
  const kinds = operands.map((operand) =>
    typeof operand === 'number' ? 'r' : isMemory(operand) ? 'm' : typeof operand === 'bigint' ? 'i' : 'a',
  );
  const register = (operand: AssemblyOperand | undefined) => operand as Register;
  const immediate = (operand: AssemblyOperand | undefined) => Number(operand as bigint);
  const memory = (operand: AssemblyOperand | undefined) => memoryOperand(operand as Memory, addresses);
  switch (kinds.join('')) {
    case 'r':
      return Instruction.createReg(code, register(first));
    case 'm':
      return Instruction.createMem(code, memory(first));
    case 'i':
      return Instruction.createI32(code, immediate(first));
    case 'rr':
      return Instruction.createRegReg(code, register(first), register(second));
    case 'rm':
      return Instruction.createRegMem(code, register(first), memory(second));
    case 'mr':
      return Instruction.createMemReg(code, memory(first), register(second));
    case 'mi':
      return Instruction.createMemI32(code, memory(first), immediate(second));
    case 'ri':
      return code === Code.Mov_r64_imm64
        ? Instruction.createRegU64(code, register(first), second as bigint)
        : Instruction.createRegI32(code, register(first), immediate(second));
    case 'ra': {
      if (second === undefined || !isAddressOf(second)) break;
      const address = addressIn(addresses, second.address);
      return code === Code.Mov_r64_imm64
        ? Instruction.createRegU64(code, register(first), address)
        : Instruction.createRegI32(code, register(first), Number(address));
    }
    case 'rri':
      return Instruction.createRegRegI32(code, register(first), register(second), immediate(third));
    case 'rmi':
      return Instruction.createRegMemI32(code, register(first), memory(second), immediate(third));
  }
  throw new Error(`no such operand combination: ${kinds.join('')}`);
}
