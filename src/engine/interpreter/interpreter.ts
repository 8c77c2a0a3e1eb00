/**
 * The interpreter of one machine: decoded-instruction cache, jump caches, fast TLBs and the dispatch loop.
 *
 * What a processor is (paging, segments, exceptions) it knows only through {@link Callbacks}, which arch provides.
 */
import { decode } from '../../isa/decode/decode.ts';
import { vexMnemonics } from '../../isa/decode/vex.ts';
import { highHalf, lowHalf } from '../../isa/halves.ts';
import { type CodeSize, type Instruction, isVex } from '../../isa/instruction.ts';
import { systemMnemonics } from '../../isa/mnemonics.ts';
import { offsetOf, STATE_SIZE } from '../../isa/state.ts';
import {
  FAST_TLB_CONTEXTS,
  FAST_TLB_ENTRIES,
  FAST_TLB_ENTRY,
  JUMP_CACHE_ENTRIES,
  JUMP_CACHE_ENTRY,
  type Layout,
  OP_COUNT,
  OP_SIZE,
} from '../layout.ts';
import {
  CONTEXT_BITS,
  CONTEXT_CODE_32,
  CONTEXT_CODE_64,
  CONTEXT_EM,
  CONTEXT_LIMITED,
  CONTEXT_NO_AVX,
  CONTEXT_NO_FXSR,
  CONTEXT_REAL,
  CONTEXT_SINGLE,
  CONTEXT_STACK_32,
  CONTEXT_TS,
  DECODE_BITS,
} from './context.ts';
import { dispatchModule, END_HANDLER, JUMP_CONTEXT, JUMP_LINEAR, JUMP_OP, jumpSlot } from './dispatch.ts';
import { formKey, formOf } from './handler-form.ts';
import { Handlers, SYSTEM_KEY, UNIMPLEMENTED_KEY } from './handlers.ts';
import {
  BUDGET,
  HOT,
  MISS,
  OP_AFTER,
  OP_HANDLER,
  OP_HEAT,
  OP_NEXT,
  OP_POSITION,
  OP_RUN,
  OP_START,
  SHORT,
  UNIMPLEMENTED,
  writeOp,
} from './op.ts';
import { regionModule } from './region-module.ts';

/** What the engine asks of arch and machine; `cpu` is a processor's number. */
export interface Callbacks {
  /** Slow path of a read (or of a read for writing: ACCESS_WRITE); host address, or 0 with a fault recorded. */
  load(cpu: number, linear: bigint, access: number): number;
  /** Slow path of a write; 1, or 0 with a fault recorded. */
  store(cpu: number, linear: bigint, access: number, value: bigint): number;
  /** Slow path of a write of 16 or 32 bytes, which are in the processor's bounce area; 1, or 0 with a fault recorded. */
  storeVector(cpu: number, linear: bigint, access: number): number;
  /** Checks that a write would not fault; 1, or 0 with a fault recorded. */
  probe(cpu: number, linear: bigint, access: number): number;
  /** Runs an instruction whose meaning is in arch, which `after` others of its run follow: a status of op.ts. */
  system(cpu: number, instruction: Instruction, after: number): number;
  /** Physical address of the code byte at linear address `linear`; throws a fault. */
  fetch(cpu: number, linear: bigint): number;
  /** Linear address of code offset RIP; throws a fault when it lies outside the code segment or is not canonical. */
  codeAddress(cpu: number): bigint;
  /** Highest code offset that may be fetched, for segments with a limit. */
  codeLimit(cpu: number): bigint;
  /** The fault to throw for a fetch beyond that. */
  limitFault(): object;
  /** Offset in WebAssembly memory of RAM at a physical address, or -1. */
  ramOffset(physical: number): number;
  /** A byte of physical memory that is not RAM. */
  readByte(physical: number): number;
}

const PAGE_SIZE = 4096;
const BLOCK_INSTRUCTIONS = 64;
/** The most runs and instructions that become one function. */
const REGION_RUNS = 24;
const REGION_OPS = 256;
/** Making a function of a run costs about as much as entering it so many times saves. */
const HOT_AFTER = 4096;
/** No tag of a translation equals this, as tags are page-aligned. */
const INVALID_TAG = 1n;

const system: ReadonlySet<string> = new Set(systemMnemonics);
/** Instructions after which nothing is decoded ahead: what follows need not be code, or need not be reached. */
const ends: ReadonlySet<string> = new Set([
  ...systemMnemonics,
  'jmp',
  'call',
  'ret',
  'ud',
  'invalid',
  'toolong',
  'nodevice',
  'unimplemented',
]);

/** A run of decoded instructions that start at one address. */
interface Block {
  /** Its first op. */
  readonly op: number;
  /** How many bytes of code it covers. */
  readonly bytes: number;
}

/** A page of RAM with decoded code: its blocks by offset and decode bits, and which of its bytes are decoded. */
interface CodePage {
  readonly blocks: Map<number, Block>;
  readonly covered: Uint8Array;
  /** Table indices of the functions of its runs. */
  readonly functions: number[];
}

/** A run that may get a function: where its code stands in WebAssembly memory and in its page, how it was decoded. */
interface Candidate {
  readonly page: CodePage;
  readonly host: number;
  readonly offset: number;
  readonly decodeBits: number;
}

/** A run of a page. */
interface RunAt {
  /** Among the page's blocks. */
  readonly key: number;
  readonly offset: number;
  readonly block: Block;
  /** Its instructions. */
  readonly count: number;
}

/** The dispatch loop's module, shared by every machine of the process. */
let dispatcher: WebAssembly.Module | undefined;

export class Interpreter {
  readonly layout: Layout;
  private readonly callbacks: Callbacks;
  private readonly view: DataView;
  private readonly bytes: Uint8Array;
  private readonly words: BigUint64Array;
  private readonly dwords: Uint32Array;
  private readonly handlers: Handlers;
  private readonly dispatch: (cpu: number, op: number) => number;
  private readonly instructions: (Instruction | undefined)[] = [];
  /** Runs that have no function yet, by the number of their first op. */
  private readonly candidates: (Candidate | undefined)[] = [];
  private readonly pages = new Map<number, CodePage>();
  private nextOp: number;
  private generationNumber = 1;
  /** Addresses of the fast TLBs' entries that may be valid: for reading, and for writing. */
  private reads: number[] = [];
  private writes: number[] = [];
  /** How many times a run that is decoded from now on is entered before it becomes a function; 0 for never. */
  static hotAfter = HOT_AFTER;
  /** The instruction that stopped the last run with UNIMPLEMENTED. */
  stoppedBy: Instruction | undefined;

  constructor(memory: WebAssembly.Memory, layout: Layout, callbacks: Callbacks) {
    this.layout = layout;
    this.callbacks = callbacks;
    this.view = new DataView(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    this.words = new BigUint64Array(memory.buffer, 0, layout.ram / 8);
    this.dwords = new Uint32Array(memory.buffer, 0, layout.ram / 4);
    this.nextOp = this.firstOp();

    const cpuOf = (address: number) => (address - layout.state(0)) / STATE_SIZE;
    const bounce = offsetOf('bounce');
    this.handlers = new Handlers(
      {
        m: memory,
        load: (cpu: number, linear: bigint, access: number) => callbacks.load(cpuOf(cpu), linear, access),
        store: (cpu: number, linear: bigint, access: number, value: bigint) =>
          callbacks.store(cpuOf(cpu), linear, access, value),
        storeVector: (cpu: number, linear: bigint, access: number) =>
          callbacks.storeVector(cpuOf(cpu), linear, access),
        probe: (cpu: number, linear: bigint, access: number) => callbacks.probe(cpuOf(cpu), linear, access),
        system: (cpu: number, op: number) =>
          callbacks.system(cpuOf(cpu), this.instructionAt(op), this.view.getUint32(op + OP_AFTER, true)),
        unimplemented: (_cpu: number, op: number) => {
          this.stoppedBy = this.instructionAt(op);
          return UNIMPLEMENTED;
        },
        divide: (cpu: number, high: bigint, low: bigint, divisor: bigint) => {
          const dividend = (BigInt.asUintN(64, high) << 64n) | BigInt.asUintN(64, low);
          const by = BigInt.asUintN(64, divisor);
          this.words[(cpu + bounce) / 8] = dividend % by;
          return BigInt.asIntN(64, dividend / by);
        },
      },
      END_HANDLER + 1,
    );
    dispatcher ??= new WebAssembly.Module(dispatchModule());
    const instance = this.handlers.instantiate(dispatcher);
    this.dispatch = instance.exports.run as (cpu: number, op: number) => number;
    for (let cpu = 0; cpu < layout.cpus; cpu++) {
      this.view.setUint32(layout.state(cpu) + offsetOf('jumpCache'), layout.jumpCache(cpu), true);
      const [from, to] = this.fastTlbs(cpu);
      this.words.fill(INVALID_TAG, from / 8, to / 8);
      this.newGeneration();
    }
  }

  /** Ops below this are scratch: two a processor, for an instruction that is not kept. */
  private firstOp(): number {
    return this.layout.ops + this.layout.cpus * 2 * OP_SIZE;
  }

  private instructionAt(op: number): Instruction {
    const instruction = this.instructions[(op - this.layout.ops) / OP_SIZE];
    if (!instruction) throw new Error(`no instruction was decoded at op ${op}`);
    return instruction;
  }

  /** Instructions of its run that follow the one whose handler is in a slow path. */
  afterSlowOp(cpu: number): number {
    const op = this.view.getUint32(this.layout.state(cpu) + offsetOf('slowOp'), true);
    return this.view.getUint32(op + OP_AFTER, true);
  }

  /** Part of a processor's context that changes whenever decoded code or translations may have become stale. */
  get generation(): number {
    return (this.generationNumber << CONTEXT_BITS) >>> 0;
  }

  /** Where code was found before holds no longer. */
  newGeneration(): void {
    this.generationNumber++;
    if (this.generationNumber >= 1 << (32 - CONTEXT_BITS)) {
      // A new round: entries of the last one must not be mistaken for current.
      this.generationNumber = 1;
      const start = this.layout.jumpCache(0);
      this.bytes.fill(0, start, start + this.layout.cpus * JUMP_CACHE_ENTRIES * JUMP_CACHE_ENTRY);
    }
    for (let cpu = 0; cpu < this.layout.cpus; cpu++) {
      const at = this.layout.state(cpu) + offsetOf('context');
      const context = this.view.getUint32(at, true);
      this.view.setUint32(at, ((context & ((1 << CONTEXT_BITS) - 1)) | this.generation) >>> 0, true);
    }
  }

  /** Forgets a processor's fast translations, and where it found its code. */
  flushTranslations(cpu: number): void {
    const [from, to] = this.fastTlbs(cpu);
    this.reads = this.invalidate(this.reads, from, to);
    this.writes = this.invalidate(this.writes, from, to);
    this.newGeneration();
  }

  /** Forgets one page's. @param code it may have been fetched from: where code was found holds no longer */
  flushPage(cpu: number, linear: bigint, code: boolean): void {
    const slot = Number((linear >> 12n) & BigInt(FAST_TLB_ENTRIES - 1)) * FAST_TLB_ENTRY;
    for (let context = 0; context < FAST_TLB_CONTEXTS; context++) {
      this.words[(this.layout.fastTlb(cpu, context, false) + slot) / 8] = INVALID_TAG;
      this.words[(this.layout.fastTlb(cpu, context, true) + slot) / 8] = INVALID_TAG;
    }
    if (code) this.newGeneration();
  }

  /** Forgets every processor's fast translations for writing, so that the next write of each page is seen. */
  flushWrites(): void {
    this.writes = this.invalidate(this.writes, 0, Number.POSITIVE_INFINITY);
  }

  /** Where a processor's fast TLBs are, in bytes: [from, to). */
  private fastTlbs(cpu: number): [number, number] {
    const from = this.layout.fastTlb(cpu, 0, false);
    return [from, from + FAST_TLB_CONTEXTS * 2 * FAST_TLB_ENTRIES * FAST_TLB_ENTRY];
  }

  /** Invalidates those entries of `filled` that lie in [from, to). @returns the others */
  private invalidate(filled: number[], from: number, to: number): number[] {
    const others: number[] = [];
    for (const entry of filled) {
      if (entry < from || entry >= to) others.push(entry);
      else this.words[entry / 8] = INVALID_TAG;
    }
    return others;
  }

  /**
   * Makes a fast translation of the page at `linear` to RAM at WebAssembly address `host` (page-aligned both).
   * @param tlb `tlbRead` or `tlbWrite` of the processor
   */
  fillTranslation(tlb: number, linear: bigint, host: number): void {
    const page = lowHalf(linear) & -PAGE_SIZE;
    const entry = tlb + ((page >>> 12) & (FAST_TLB_ENTRIES - 1)) * FAST_TLB_ENTRY;
    this.note(entry);
    const at = entry >> 2;
    this.dwords[at] = page;
    this.dwords[at + 1] = highHalf(linear);
    this.dwords[at + 2] = host - page;
  }

  /** An entry of a fast TLB is about to be valid. */
  private note(entry: number): void {
    if (this.words[entry / 8] !== INVALID_TAG) return;
    const table = FAST_TLB_ENTRIES * FAST_TLB_ENTRY;
    const forWriting = ((entry - this.layout.fastTlb(0, 0, false)) / table) & 1;
    (forWriting ? this.writes : this.reads).push(entry);
  }

  /**
   * Looks up an access of `size` bytes in the fast TLB at `tlb`.
   * @returns its WebAssembly address, or -1
   */
  fastAddress(tlb: number, linear: bigint, size: number): number {
    const low = lowHalf(linear);
    const entry = tlb + ((low >>> 12) & (FAST_TLB_ENTRIES - 1)) * FAST_TLB_ENTRY;
    const { dwords } = this;
    if (dwords[entry >> 2] !== (low & ~0xfff) >>> 0) return -1;
    if (dwords[(entry >> 2) + 1] !== highHalf(linear)) return -1;
    if ((low & 0xfff) + size > PAGE_SIZE) return -1;
    return (low + dwords[(entry >> 2) + 2]) >>> 0;
  }

  /** Forgets all decoded code and all translations of every processor. */
  flushAll(): void {
    for (const page of this.pages.values()) this.release(page);
    this.pages.clear();
    this.nextOp = this.firstOp();
    for (let cpu = 0; cpu < this.layout.cpus; cpu++) this.flushTranslations(cpu);
  }

  /** Whether decoded code stands in the page of physical address `physical`. */
  hasCode(physical: number): boolean {
    return this.pages.has(Math.floor(physical / PAGE_SIZE));
  }

  /**
   * RAM changed at [physical, physical + size), within one page.
   * @returns whether decoded code was dropped
   */
  written(physical: number, size: number): boolean {
    const number = Math.floor(physical / PAGE_SIZE);
    const page = this.pages.get(number);
    if (!page) return false;
    const offset = physical % PAGE_SIZE;
    let hit = false;
    for (let i = offset; i < offset + size; i++) if (page.covered[i]) hit = true;
    if (!hit) return false;
    this.pages.delete(number);
    this.release(page);
    this.newGeneration();
    return true;
  }

  /** The functions of a page's runs will not be called again. */
  private release(page: CodePage): void {
    for (const index of page.functions) this.handlers.release(index);
  }

  /**
   * Runs processor `cpu` from its RIP for up to `remaining` instructions (its state field).
   * @returns FAULT, EXIT, UNIMPLEMENTED or BUDGET of op.ts. Throws what `fetch` and `codeAddress` throw.
   */
  run(cpu: number): number {
    const state = this.layout.state(cpu);
    let status = this.dispatch(state, 0);
    while (status === MISS || status === SHORT || status === HOT) {
      if (status === HOT) {
        this.makeFunction(this.view.getUint32(state + offsetOf('slowOp'), true));
        status = this.dispatch(state, 0);
        continue;
      }
      // The fetch of an instruction beyond the budget may fault, and what is due before it comes first.
      if (this.view.getInt32(state + offsetOf('remaining'), true) <= 0) return BUDGET;
      if (status === SHORT) this.single(state);
      status = this.dispatch(state, this.find(cpu, state));
    }
    return status;
  }

  /** Makes a function of the run whose first op is at `first`, and of those in its page that it leads to. */
  private makeFunction(first: number): void {
    const candidate = this.candidates[(first - this.layout.ops) / OP_SIZE];
    if (!candidate) return;
    const { page, host, offset, decodeBits } = candidate;
    const runs = this.regionOf(page, offset, decodeBits);
    if (runs.length === 0) return;
    const ops = runs.reduce((sum, { count }) => sum + count, 0);
    if (this.nextOp + ops * OP_SIZE > this.layout.ops + OP_COUNT * OP_SIZE) {
      this.flushAll();
      return;
    }
    const lowest = runs[0].offset;
    const code = runs.map(({ offset: at, block }) =>
      [at - lowest, ...this.bytes.subarray(host - offset + at, host - offset + at + block.bytes)].join(' '),
    );
    const region = runs.map(({ offset: at, block, count }) => ({
      start: at - lowest,
      instructions: Array.from({ length: count }, (_, i) => this.instructionAt(block.op + i * OP_SIZE)),
    }));
    const module = regionModule(`${decodeBits}: ${code.join()}`, region, sizesOf(decodeBits).stackSize);
    const index = this.handlers.add(this.handlers.instantiate(module).exports.run);
    page.functions.push(index);
    const start = this.nextOp;
    runs.forEach(({ key, offset: at, block, count }, number) => {
      const op = this.nextOp;
      this.nextOp += count * OP_SIZE;
      this.copyOps(block.op, op, count, at - lowest);
      this.view.setUint32(op + OP_HANDLER, index, true);
      this.view.setUint32(op + OP_HEAT, 0, true);
      this.view.setUint16(op + OP_RUN, number, true);
      this.view.setUint16(op + OP_POSITION, (op - start) / OP_SIZE, true);
      page.blocks.set(key, { op, bytes: block.bytes });
    });
    // What has been found is found anew, at the region's ops.
    this.newGeneration();
  }

  /** Copies the ops of a run, telling their places in the code from the byte that is `start` before the run's first. */
  private copyOps(from: number, to: number, count: number, start: number): void {
    this.bytes.copyWithin(to, from, from + count * OP_SIZE);
    const moved = start - this.view.getUint16(from + OP_START, true);
    for (let i = 0; i < count; i++) {
      const at = to + i * OP_SIZE;
      const number = (at - this.layout.ops) / OP_SIZE;
      for (const field of [OP_START, OP_NEXT])
        this.view.setUint16(at + field, this.view.getUint16(at + field, true) + moved, true);
      this.instructions[number] = this.instructionAt(from + i * OP_SIZE);
      this.candidates[number] = undefined;
    }
  }

  /** The runs of a page that the one at `offset` leads to, and itself, as far as they are decoded; by their offsets. */
  private regionOf(page: CodePage, offset: number, decodeBits: number): RunAt[] {
    const runs = new Map<number, RunAt>();
    const waiting = [offset];
    let ops = 0;
    for (let at = waiting.shift(); at !== undefined && runs.size < REGION_RUNS; at = waiting.shift()) {
      if (runs.has(at)) continue;
      const key = blockKey(at, decodeBits);
      const block = page.blocks.get(key);
      if (!block) continue;
      const count = this.view.getUint32(block.op + OP_AFTER, true) + 1;
      // What stops the machine need not be fast.
      if (this.instructionAt(block.op + (count - 1) * OP_SIZE).mnemonic === 'unimplemented') continue;
      ops += count;
      if (runs.size > 0 && ops > REGION_OPS) break;
      runs.set(at, { key, offset: at, block, count });
      if ((decodeBits & (CONTEXT_CODE_32 | CONTEXT_CODE_64)) === 0) break;
      let next = at;
      for (let i = 0; i < count; i++) {
        const { mnemonic, length, operands } = this.instructionAt(block.op + i * OP_SIZE);
        next += length;
        const [operand] = operands;
        if (operand?.kind === 'relative') waiting.push(next + Number(operand.displacement));
        if (i === count - 1 && (mnemonic === 'call' || !ends.has(mnemonic))) waiting.push(next);
      }
    }
    return [...runs.values()].sort((a, b) => a.offset - b.offset);
  }

  /** From now on, until its context is set anew, the processor's code is decoded in runs of one instruction. */
  private single(state: number): void {
    const at = state + offsetOf('context');
    this.view.setUint32(at, this.view.getUint32(at, true) | CONTEXT_SINGLE, true);
  }

  /** The op for the processor's RIP, decoding it if need be. */
  private find(cpu: number, state: number): number {
    const linear = this.callbacks.codeAddress(cpu);
    const physical = this.callbacks.fetch(cpu, linear);
    const context = this.view.getUint32(state + offsetOf('context'), true);
    const block = this.block(cpu, linear, physical, context);
    if (context & CONTEXT_LIMITED) {
      const rip = this.view.getBigUint64(state + offsetOf('rip'), true);
      if (rip + BigInt(block.bytes - 1) > this.callbacks.codeLimit(cpu)) {
        return this.scratch(cpu, linear, physical, context);
      }
    }
    if (block.op >= this.firstOp()) {
      const at = this.layout.jumpCache(cpu) + jumpSlot(linear, context) * JUMP_CACHE_ENTRY;
      this.view.setBigUint64(at + JUMP_LINEAR, linear, true);
      // Decoding may have begun a new generation.
      this.view.setUint32(at + JUMP_CONTEXT, this.view.getUint32(state + offsetOf('context'), true), true);
      this.view.setUint32(at + JUMP_OP, block.op, true);
    }
    return block.op;
  }

  private block(cpu: number, linear: bigint, physical: number, context: number): Block {
    const offset = physical % PAGE_SIZE;
    const number = (physical - offset) / PAGE_SIZE;
    const key = blockKey(offset, context);
    const known = this.pages.get(number)?.blocks.get(key);
    if (known) return known;
    const host = this.callbacks.ramOffset(physical);
    if (host < 0) return { op: this.scratch(cpu, linear, physical, context), bytes: 0 };

    const { codeSize, stackSize } = sizesOf(context);
    const end = host - offset + PAGE_SIZE;
    const decoded: Instruction[] = [];
    let at = host;
    const most = context & CONTEXT_SINGLE ? 1 : BLOCK_INSTRUCTIONS;
    while (decoded.length < most) {
      const instruction = legalIn(context, decode(this.bytes, at, end, codeSize));
      if (!instruction) break;
      decoded.push(instruction);
      at += instruction.length;
      if (ends.has(instruction.mnemonic)) break;
    }
    if (decoded.length === 0) return { op: this.scratch(cpu, linear, physical, context), bytes: 0 };

    if (this.nextOp + (decoded.length + 1) * OP_SIZE > this.layout.ops + OP_COUNT * OP_SIZE) this.flushAll();
    const first = this.nextOp;
    this.nextOp = this.putRun(first, decoded, stackSize);

    let page = this.pages.get(number);
    if (!page) {
      page = { blocks: new Map(), covered: new Uint8Array(PAGE_SIZE), functions: [] };
      this.pages.set(number, page);
      // Writes to the page must be seen from now on.
      this.flushWrites();
    }
    const block = { op: first, bytes: at - host };
    page.blocks.set(key, block);
    this.candidates[(first - this.layout.ops) / OP_SIZE] =
      decoded.length === 1 ? undefined : { page, host, offset, decodeBits: context & DECODE_BITS };
    this.view.setUint32(first + OP_HEAT, Interpreter.hotAfter, true);
    page.covered.fill(1, offset, offset + block.bytes);
    return block;
  }

  /** Decodes one instruction that is not kept: it crosses a page, or is not in RAM, or nears the segment's limit. */
  private scratch(cpu: number, linear: bigint, physical: number, context: number): number {
    const { codeSize, stackSize } = sizesOf(context);
    const bytes = new Uint8Array(15);
    const state = this.layout.state(cpu);
    const rip = this.view.getBigUint64(state + offsetOf('rip'), true);
    const limit = context & CONTEXT_LIMITED ? this.callbacks.codeLimit(cpu) : -1n;
    let at = physical;
    let instruction: Instruction | null = null;
    for (let count = 0; count < 15 && !instruction; count++) {
      if (count > 0 && limit >= 0n && rip + BigInt(count) > limit) throw this.callbacks.limitFault();
      const next = linear + BigInt(count);
      if (count > 0 && (next & 0xfffn) === 0n) {
        at = this.callbacks.fetch(cpu, codeSize === 64 ? BigInt.asUintN(64, next) : next & 0xffffffffn);
      }
      const host = this.callbacks.ramOffset(at);
      bytes[count] = host < 0 ? this.callbacks.readByte(at) : this.bytes[host];
      at++;
      instruction = legalIn(context, decode(bytes, 0, count + 1, codeSize));
    }
    if (!instruction) throw new Error('the decoder wants more than 15 bytes');
    const op = this.layout.ops + cpu * 2 * OP_SIZE;
    this.putRun(op, [instruction], stackSize);
    this.view.setUint32(op + OP_HEAT, 0, true);
    return op;
  }

  /**
   * Compiles what `instructions` will need, in one module: for who is about to run much code that is new. One that is
   * met later without this is compiled then.
   */
  prepare(instructions: readonly Instruction[], stackSize: CodeSize): void {
    for (const instruction of instructions) this.handlerOf(instruction, stackSize);
  }

  /** Table index of an instruction's handler, which is there after the next `install`. */
  private handlerOf(instruction: Instruction, stackSize: CodeSize): number {
    const form = () => formOf(instruction, stackSize);
    const bare = () => formOf({ ...instruction, operands: [] }, stackSize);
    if (system.has(instruction.mnemonic)) return this.handlers.index(SYSTEM_KEY, bare);
    if (instruction.mnemonic === 'unimplemented') return this.handlers.index(UNIMPLEMENTED_KEY, bare);
    return this.handlers.index(formKey(form()), form);
  }

  /** Writes a run of instructions and its end at `op`; returns the address after it. */
  private putRun(op: number, run: readonly Instruction[], stackSize: CodeSize): number {
    let at = op;
    let start = 0;
    run.forEach((instruction, i) => {
      writeOp(this.view, at, instruction, this.handlerOf(instruction, stackSize));
      this.view.setUint16(at + OP_START, start, true);
      start += instruction.length;
      this.view.setUint16(at + OP_NEXT, start, true);
      this.view.setUint32(at + OP_AFTER, run.length - 1 - i, true);
      this.instructions[(at - this.layout.ops) / OP_SIZE] = instruction;
      at += OP_SIZE;
    });
    this.view.setUint32(at + OP_HANDLER, END_HANDLER, true);
    this.view.setUint16(at + OP_START, start, true);
    this.view.setUint32(at + OP_AFTER, 0, true);
    this.handlers.install();
    return at + OP_SIZE;
  }
}

/** The key among a page's blocks of code at `offset` in a context. */
function blockKey(offset: number, context: number): number {
  return offset * (1 << CONTEXT_BITS) + (context & DECODE_BITS);
}

/**
 * The instruction as the context has it: #UD for VEX where there is none (SDM vol. 2A 2.3, "VEX prefix"); #UD or #NM for what uses
 * registers that the processor's state does not permit (vol. 2A 2.4 and 2.6, exception types).
 */
function legalIn(context: number, instruction: Instruction | null): Instruction | null {
  if (!instruction || !(context & RESTRICTIONS)) return instruction;
  const { mnemonic } = instruction;
  if (context & CONTEXT_REAL && vexMnemonics.has(mnemonic)) return { ...instruction, ...INVALID };
  const file = vectorFile(instruction);
  if (file === undefined) return instruction;
  const forbidden = { mmx: CONTEXT_EM, sse: CONTEXT_EM | CONTEXT_NO_FXSR, avx: CONTEXT_NO_AVX }[file];
  if (context & forbidden) return { ...instruction, ...INVALID };
  return context & CONTEXT_TS ? { ...instruction, mnemonic: 'nodevice', operands: [] } : instruction;
}

const RESTRICTIONS = CONTEXT_REAL | CONTEXT_EM | CONTEXT_TS | CONTEXT_NO_FXSR | CONTEXT_NO_AVX;
const INVALID = { mnemonic: 'invalid', operands: [] } as const;

/** The registers that an instruction on vectors uses. */
function vectorFile(instruction: Instruction): 'mmx' | 'sse' | 'avx' | undefined {
  const { mnemonic, operands } = instruction;
  if (isVex(instruction)) return 'avx';
  let file: 'mmx' | 'sse' | undefined = mnemonic === 'emms' ? 'mmx' : undefined;
  for (const { kind } of operands) {
    if (kind === 'xmm') return 'sse';
    if (kind === 'mm') file = 'mmx';
  }
  return file;
}

function sizesOf(context: number): { codeSize: CodeSize; stackSize: CodeSize } {
  if (context & CONTEXT_CODE_64) return { codeSize: 64, stackSize: 64 };
  return { codeSize: context & CONTEXT_CODE_32 ? 32 : 16, stackSize: context & CONTEXT_STACK_32 ? 32 : 16 };
}
