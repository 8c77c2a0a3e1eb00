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
  CODE_TABLE_ENTRIES,
  CODE_TABLE_ENTRY,
  FAST_FETCH,
  FAST_READ,
  FAST_SPACE_BYTES,
  FAST_SPACES,
  FAST_TLB_CONTEXTS,
  FAST_TLB_ENTRIES,
  FAST_TLB_ENTRY,
  FAST_WRITE,
  fastAccessAt,
  fastTlbOffset,
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
  CONTEXT_FLAT,
  CONTEXT_LIMITED,
  CONTEXT_NO_AVX,
  CONTEXT_NO_FXSR,
  CONTEXT_REAL,
  CONTEXT_STACK_32,
  CONTEXT_TS,
  DECODE_BITS,
} from './context.ts';
import {
  CODE_BITS,
  CODE_HOST,
  CODE_OP,
  codeSlot,
  dispatchModule,
  END_HANDLER,
  JUMP_CONTEXT,
  JUMP_LINEAR,
  JUMP_OP,
  jumpSlot,
} from './dispatch.ts';
import { formKey, formNumber, formOf } from './handler-form.ts';
import { Handlers, SYSTEM_KEY, UNIMPLEMENTED_KEY } from './handlers.ts';
import {
  BUDGET,
  HOT,
  MISS,
  OP_AFTER,
  OP_CODE,
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
import { opsOfRun } from './region.ts';
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
  /** Whether the TLB has the page at linear address `linear` as a global one. */
  isGlobal(cpu: number, linear: bigint): boolean;
  /** Where the processors lack instructions: what they make of one, and a text that is equal for those that lack the same. */
  readonly lesser?: { readonly key: string; adapt(instruction: Instruction): Instruction };
}

const PAGE_SIZE = 4096;
const BLOCK_INSTRUCTIONS = 64;
/** Scratch ops of a processor: a run and its end. */
const SCRATCH_OPS = BLOCK_INSTRUCTIONS + 1;
/** The longest instruction. */
const MOST_BYTES = 15;
/** The most runs and instructions that become one function. */
const REGION_RUNS = 24;
const REGION_OPS = 256;
/** Making a function of a run costs about as much as so many of its instructions save by it. */
const HOT_AFTER = 1 << 17;
/** Code that has been hot is so again after this part of it. */
const HOT_AGAIN_PART = 16;
/** The most functions of a machine; V8 needs some 60 KBytes for one. */
const MOST_FUNCTIONS = 2048;
/** The most pages with decoded code: each takes some KBytes beside its ops. */
const MOST_PAGES = 1 << 14;
/** Runs that a hot one leads to are worth it if they have been executed this part of as often. */
const WARM_PART = 16;
/** No tag of a translation has these low halves, as tags are page-aligned. */
const INVALID_TAG = 1;
const FAST_KINDS = [FAST_READ, FAST_WRITE, FAST_FETCH] as const;
/** No PCID: of an address space that has not been used. */
const NO_PCID = -1;
/** What is noted of an entry of a fast TLB: it is in a list of its space's; what it holds is a global page's translation. */
const NOTED = 1;
const NOTED_GLOBAL = 3;

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

/** Fields of the state that are asked for too often to look up where they stand. */
const RIP = offsetOf('rip');
const CONTEXT = offsetOf('context');
const REMAINING = offsetOf('remaining');
const SLOW_OP = offsetOf('slowOp');
const TLB_FETCH = offsetOf('tlbFetch');

/** A run of decoded instructions that start at one address. */
interface Block {
  /** Its first op. */
  readonly op: number;
  /** How many bytes of code it covers. */
  readonly bytes: number;
  /** Where it is one instruction that runs into another page: that page's number. */
  readonly into?: number;
}

/**
 * A page of RAM with decoded code: its blocks by offset and decode bits, the first op that each instruction got by the
 * same, and which of its bytes are decoded.
 */
interface CodePage {
  readonly blocks: Map<number, Block>;
  readonly ops: Map<number, number>;
  readonly covered: Uint8Array;
  /** Pages with an instruction that runs into this one. */
  readonly before: Set<number>;
  /** Table indices of the functions of its runs. */
  readonly functions: number[];
}

/** A run of a page. */
interface RunAt {
  /** Among the page's blocks. */
  readonly key: number;
  readonly offset: number;
  /** As decoded: the ops are not those of a region. */
  readonly block: Block;
  readonly instructions: readonly Instruction[];
}

/** An address space (PCID) of a processor with fast TLBs. */
interface Space {
  pcid: number;
  /** Identifies what its jump cache entries rest on; 0 where they hold no longer. */
  generation: number;
  /** Addresses of the fast TLBs' entries that may be valid: for reading and fetching, and for writing. */
  reads: number[];
  writes: number[];
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
  /** Table indices of handlers by mnemonic and `formNumber`: quicker to find than by the form's key. */
  private readonly knownHandlers = new Map<string, Map<number, number>>();
  /** By the number of an op, what its instruction is, until all code is forgotten: any handler may hand it over. */
  private readonly instructions: (Instruction | undefined)[] = [];
  private readonly pages = new Map<number, CodePage>();
  /** The ops of runs as they were decoded, by those that regions put in their place. */
  private readonly decodedOps = new Map<number, number>();
  private nextOp: number;
  /** FAST_SPACES a processor, and the number of the one in use. */
  private readonly spaces: Space[] = [];
  private readonly inUse: number[] = [];
  /** NOTED, NOTED_GLOBAL or 0, by the number of an entry of the fast TLBs. */
  private readonly notes: Uint8Array;
  private lastGeneration = 0;
  /** How many functions there are. */
  private functions = 0;
  /** Which runs had functions when all code was last forgotten: {@link runKey}. */
  private wereHot: ReadonlySet<number> = new Set();
  /** How many instructions of a run that is decoded from now on are executed before it becomes a function; 0 for never. */
  static hotAfter = HOT_AFTER;
  /** How many functions a machine has at the most; when it has as many, those that are still hot are made anew. */
  static mostFunctions = MOST_FUNCTIONS;
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
    this.notes = new Uint8Array((layout.cpus * FAST_SPACES * FAST_SPACE_BYTES) / FAST_TLB_ENTRY);
    dispatcher ??= new WebAssembly.Module(dispatchModule());
    const instance = this.handlers.instantiate(dispatcher);
    this.dispatch = instance.exports.run as (cpu: number, op: number) => number;
    for (let cpu = 0; cpu < layout.cpus; cpu++) {
      this.view.setUint32(layout.state(cpu) + offsetOf('jumpCache'), layout.jumpCache(cpu), true);
      this.view.setUint32(layout.state(cpu) + offsetOf('codeTable'), layout.codeTable, true);
      const from = layout.fastSpace(cpu, 0);
      this.words.fill(BigInt(INVALID_TAG), from / 8, (from + FAST_SPACES * FAST_SPACE_BYTES) / 8);
      for (let n = 0; n < FAST_SPACES; n++)
        this.spaces.push({ pcid: n === 0 ? 0 : NO_PCID, generation: 0, reads: [], writes: [] });
      this.inUse.push(cpu * FAST_SPACES);
    }
    this.newGeneration();
  }

  /** Ops of a processor that are scratch: for an instruction that is not kept, and for the beginning of a run. */
  private scratchOps(cpu: number): number {
    return this.layout.ops + cpu * SCRATCH_OPS * OP_SIZE;
  }

  private firstOp(): number {
    return this.scratchOps(this.layout.cpus);
  }

  private instructionAt(op: number): Instruction {
    const instruction = this.instructions[this.numberOf(op)];
    if (!instruction) throw new Error(`no instruction is kept for op ${op}`);
    return instruction;
  }

  private numberOf(op: number): number {
    return (op - this.layout.ops) / OP_SIZE;
  }

  /** Instructions of its run that follow the one whose handler is in a slow path. */
  afterSlowOp(cpu: number): number {
    const op = this.view.getUint32(this.layout.state(cpu) + SLOW_OP, true);
    return this.view.getUint32(op + OP_AFTER, true);
  }

  /**
   * Part of a processor's context that differs whenever decoded code or translations may have become stale, or others
   * are in use.
   */
  generation(cpu: number): number {
    return (this.spaces[this.inUse[cpu]].generation << CONTEXT_BITS) >>> 0;
  }

  /** Where code was found before holds no longer: for any processor, or for one. */
  newGeneration(only?: number): void {
    const { cpus } = this.layout;
    const [from, to] = only === undefined ? [0, cpus] : [only, only + 1];
    for (let n = from * FAST_SPACES; n < to * FAST_SPACES; n++) this.spaces[n].generation = 0;
    for (let cpu = from; cpu < to; cpu++) this.renew(cpu);
  }

  /** Gives the space that a processor uses a generation, if it needs a new one, and the processor's context that. */
  private renew(cpu: number): void {
    const space = this.spaces[this.inUse[cpu]];
    if (space.generation === 0) {
      if (++this.lastGeneration >= 1 << (32 - CONTEXT_BITS)) {
        // A new round: entries of the last one must not be mistaken for current.
        this.lastGeneration = 0;
        const start = this.layout.jumpCache(0);
        this.bytes.fill(0, start, start + this.layout.cpus * JUMP_CACHE_ENTRIES * JUMP_CACHE_ENTRY);
        this.newGeneration();
        return;
      }
      space.generation = this.lastGeneration;
    }
    const at = this.layout.state(cpu) + CONTEXT;
    const context = this.view.getUint32(at, true);
    this.view.setUint32(at, ((context & ((1 << CONTEXT_BITS) - 1)) | this.generation(cpu)) >>> 0, true);
  }

  /**
   * The fast TLBs of a processor for the address space `pcid`, which is in use from now on: what was known of one that was in use
   * lately is known still.
   * @returns their address; `fastTlbOffset` tells the places in them
   */
  fastTlbs(cpu: number, pcid: number): number {
    let number = this.inUse[cpu];
    if (this.spaces[number].pcid !== pcid) {
      number = this.spaceOf(cpu, pcid);
      this.inUse[cpu] = number;
      this.renew(cpu);
    }
    return this.layout.fastSpace(0, number);
  }

  /** The number of the space that stands for `pcid`; if there is none, the one after the present becomes it. */
  private spaceOf(cpu: number, pcid: number): number {
    const first = cpu * FAST_SPACES;
    for (let n = first; n < first + FAST_SPACES; n++) if (this.spaces[n].pcid === pcid) return n;
    const next = first + ((this.inUse[cpu] + 1 - first) % FAST_SPACES);
    this.forget(this.spaces[next], true);
    this.spaces[next].pcid = pcid;
    return next;
  }

  /**
   * Forgets a processor's fast translations, and where it found its code: all of it, or what it knows under `pcid`.
   * @param globals those of global pages, too
   */
  flushTranslations(cpu: number, pcid?: number, globals = true): void {
    const first = cpu * FAST_SPACES;
    for (let n = first; n < first + FAST_SPACES; n++)
      if (pcid === undefined || this.spaces[n].pcid === pcid) this.forget(this.spaces[n], globals);
    this.renew(cpu);
  }

  private forget(space: Space, globals: boolean): void {
    this.invalidate(space.reads, globals);
    this.invalidate(space.writes, globals);
    space.generation = 0;
  }

  /** Forgets one page's. @param code it may have been fetched from: where code was found holds no longer */
  flushPage(cpu: number, linear: bigint, code: boolean): void {
    const slot = ((lowHalf(linear) >>> 12) & (FAST_TLB_ENTRIES - 1)) * FAST_TLB_ENTRY;
    const first = cpu * FAST_SPACES;
    for (let n = first; n < first + FAST_SPACES; n++) {
      if (this.spaces[n].pcid === NO_PCID) continue;
      const space = this.layout.fastSpace(0, n) + slot;
      for (let context = 0; context < FAST_TLB_CONTEXTS; context++)
        for (const kind of FAST_KINDS) this.clearEntry(space + fastTlbOffset(context, kind));
    }
    if (code) this.newGeneration(cpu);
  }

  /** Forgets those of a page of 2 MiB or more, as {@link flushPage} does. @param bytes its size */
  flushLargePage(cpu: number, linear: bigint, bytes: number, code: boolean): void {
    const { dwords } = this;
    const from = lowHalf(linear);
    const high = highHalf(linear);
    // A page of up to 1 GiB, aligned to its size, lies within 4 GiB.
    const within = (entry: number) =>
      dwords[(entry >> 2) + 1] === high && (dwords[entry >> 2] & -bytes) >>> 0 === from;
    const first = cpu * FAST_SPACES;
    for (let n = first; n < first + FAST_SPACES; n++) {
      this.forgetWhere(this.spaces[n].reads, within);
      this.forgetWhere(this.spaces[n].writes, within);
    }
    if (code) this.newGeneration(cpu);
  }

  /** Forgets every processor's fast translations for writing, so that the next write of each page is seen. */
  flushWrites(): void {
    for (const { writes } of this.spaces) this.invalidate(writes, true);
  }

  private invalidate(filled: number[], globals: boolean): void {
    if (!globals) {
      this.forgetWhere(filled, (entry) => this.notes[this.noteOf(entry)] !== NOTED_GLOBAL);
      return;
    }
    for (const entry of filled) {
      this.clearEntry(entry);
      this.notes[this.noteOf(entry)] = 0;
    }
    filled.length = 0;
  }

  /** Forgets those of a space's entries for which `goes` holds. */
  private forgetWhere(filled: number[], goes: (entry: number) => boolean): void {
    let kept = 0;
    for (const entry of filled) {
      if (this.dwords[entry >> 2] !== INVALID_TAG && !goes(entry)) {
        filled[kept++] = entry;
        continue;
      }
      this.clearEntry(entry);
      this.notes[this.noteOf(entry)] = 0;
    }
    filled.length = kept;
  }

  private clearEntry(entry: number): void {
    this.dwords[entry >> 2] = INVALID_TAG;
    this.dwords[(entry >> 2) + 1] = 0;
  }

  private noteOf(entry: number): number {
    return (entry - this.layout.fastSpace(0, 0)) / FAST_TLB_ENTRY;
  }

  /**
   * Makes a fast translation of the page at `linear` to RAM at WebAssembly address `host` (page-aligned both).
   * @param tlb `tlbRead`, `tlbWrite` or `tlbFetch` of the processor
   */
  fillTranslation(cpu: number, tlb: number, linear: bigint, host: number): void {
    const page = lowHalf(linear) & -PAGE_SIZE;
    const entry = tlb + ((page >>> 12) & (FAST_TLB_ENTRIES - 1)) * FAST_TLB_ENTRY;
    this.note(entry, this.callbacks.isGlobal(cpu, linear));
    const at = entry >> 2;
    this.dwords[at] = page;
    this.dwords[at + 1] = highHalf(linear);
    this.dwords[at + 2] = host - page;
  }

  /** An entry of a fast TLB is about to be valid. */
  private note(entry: number, global: boolean): void {
    const number = this.noteOf(entry);
    const noted = this.notes[number] !== 0;
    this.notes[number] = global ? NOTED_GLOBAL : NOTED;
    if (noted) return;
    const offset = number * FAST_TLB_ENTRY;
    const space = this.spaces[Math.floor(offset / FAST_SPACE_BYTES)];
    (fastAccessAt(offset) === FAST_WRITE ? space.writes : space.reads).push(entry);
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
    const wereHot = new Set<number>();
    for (const [number, page] of this.pages) {
      this.releaseFunctions(page);
      for (const [key, { op }] of page.blocks) if (this.decodedOps.has(op)) wereHot.add(runKey(number, key));
    }
    this.wereHot = wereHot;
    this.pages.clear();
    this.decodedOps.clear();
    this.instructions.fill(undefined);
    const { codeTable } = this.layout;
    this.bytes.fill(0, codeTable, codeTable + CODE_TABLE_ENTRIES * CODE_TABLE_ENTRY);
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
    this.drop(number);
    for (const before of page.before) this.drop(before);
    this.newGeneration();
    return true;
  }

  /** Forgets the decoded code of a page. */
  private drop(number: number): void {
    const page = this.pages.get(number);
    if (!page) return;
    this.pages.delete(number);
    // The functions of its runs will not be called again.
    this.releaseFunctions(page);
    const host = this.callbacks.ramOffset(number * PAGE_SIZE);
    for (const [key, { op }] of page.blocks) {
      this.decodedOps.delete(op);
      const at = host + offsetOfKey(key);
      const slot = this.layout.codeTable + codeSlot(at) * CODE_TABLE_ENTRY;
      if (this.view.getUint32(slot + CODE_HOST, true) === at) this.view.setUint32(slot + CODE_HOST, 0, true);
    }
  }

  private releaseFunctions(page: CodePage): void {
    for (const index of page.functions) this.handlers.release(index);
    this.functions -= page.functions.length;
    page.functions.length = 0;
  }

  /** Takes all functions away; what is hot gets one anew, and soon. */
  private cool(): void {
    for (const [number, page] of this.pages) {
      if (page.functions.length === 0) continue;
      this.releaseFunctions(page);
      const host = this.callbacks.ramOffset(number * PAGE_SIZE);
      for (const [key, { op, bytes }] of page.blocks) {
        const decoded = this.decodedOps.get(op);
        if (decoded === undefined) continue;
        const count = this.view.getUint32(decoded + OP_AFTER, true) + 1;
        this.view.setUint32(decoded + OP_HEAT, heatOf(count, HOT_AGAIN_PART), true);
        page.blocks.set(key, { op: decoded, bytes });
        this.publish(host + offsetOfKey(key), key & DECODE_BITS, decoded);
      }
    }
    this.decodedOps.clear();
    // What has been found is found anew, at ops with handlers.
    this.newGeneration();
  }

  /** From now on the dispatch loop finds code at WebAssembly address `host` by itself. */
  private publish(host: number, decodeBits: number, op: number): void {
    const slot = this.layout.codeTable + codeSlot(host) * CODE_TABLE_ENTRY;
    this.view.setUint32(slot + CODE_HOST, host, true);
    this.view.setUint32(slot + CODE_BITS, decodeBits, true);
    this.view.setUint32(slot + CODE_OP, op, true);
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
        const first = this.view.getUint32(state + SLOW_OP, true);
        this.makeFunction(first, this.view.getUint32(state + CONTEXT, true) & DECODE_BITS);
        status = this.dispatch(state, 0);
        continue;
      }
      // The fetch of an instruction beyond the budget may fault, and what is due before it comes first.
      const remaining = this.view.getInt32(state + REMAINING, true);
      if (remaining <= 0) return BUDGET;
      const op =
        status === SHORT
          ? this.beginning(cpu, this.view.getUint32(state + SLOW_OP, true), remaining)
          : this.find(cpu, state);
      status = this.dispatch(state, op);
    }
    return status;
  }

  /** A run of the first `count` instructions of a longer one, in place of that. */
  private beginning(cpu: number, first: number, count: number): number {
    const from = this.decodedOps.get(first) ?? first;
    const op = this.scratchOps(cpu);
    this.bytes.copyWithin(op, from, from + count * OP_SIZE);
    for (let i = 0; i < count; i++) {
      this.view.setUint32(op + i * OP_SIZE + OP_AFTER, count - 1 - i, true);
      this.instructions[this.numberOf(op) + i] = this.instructions[this.numberOf(from) + i];
    }
    this.view.setUint32(op + OP_HEAT, 0, true);
    this.putEnd(op + count * OP_SIZE, this.view.getUint16(op + (count - 1) * OP_SIZE + OP_NEXT, true));
    return op;
  }

  /**
   * Makes a function of the run whose first op is at `first`, and of those in its page that it leads to.
   * @param decodeBits as it was decoded
   */
  private makeFunction(first: number, decodeBits: number): void {
    // An instruction by itself is as quick by its handler.
    if (this.view.getUint32(first + OP_AFTER, true) === 0) return;
    const host = this.view.getUint32(first + OP_CODE, true);
    const offset = host % PAGE_SIZE;
    const page = this.pages.get((host - offset - this.layout.ram) / PAGE_SIZE);
    if (!page) return;
    const runs = this.regionOf(page, host, decodeBits);
    if (runs.length === 0) return;
    const ops = runs.reduce((sum, { instructions }) => sum + opsOfRun(instructions.length), 0);
    if (this.nextOp + ops * OP_SIZE > this.layout.ops + OP_COUNT * OP_SIZE) {
      this.flushAll();
      return;
    }
    if (this.functions >= Interpreter.mostFunctions) {
      this.cool();
      return;
    }
    const lowest = runs[0].offset;
    const code = runs.map(({ offset: at, block }) =>
      [at - lowest, ...this.bytes.subarray(host - offset + at, host - offset + at + block.bytes)].join(' '),
    );
    const region = runs.map(({ offset: at, instructions }) => ({ start: at - lowest, instructions }));
    const module = regionModule(
      `${this.callbacks.lesser?.key ?? ''} ${decodeBits}: ${code.join()}`,
      region,
      sizesOf(decodeBits).stackSize,
      (decodeBits & CONTEXT_FLAT) !== 0,
    );
    const index = this.handlers.add(this.handlers.instantiate(module).exports.run);
    page.functions.push(index);
    this.functions++;
    const start = this.nextOp;
    runs.forEach(({ key, offset: at, block, instructions }, number) => {
      const op = this.nextOp;
      const count = instructions.length;
      this.nextOp += opsOfRun(count) * OP_SIZE;
      this.copyOps(block.op, op, 1, at - lowest);
      this.copyOps(block.op, op + OP_SIZE, count, at - lowest);
      this.putEnd(this.nextOp - OP_SIZE, at - lowest + block.bytes);
      this.view.setUint32(op + OP_HANDLER, index, true);
      this.view.setUint32(op + OP_HEAT, 0, true);
      this.view.setUint16(op + OP_RUN, number, true);
      this.view.setUint16(op + OP_POSITION, (op - start) / OP_SIZE, true);
      this.decodedOps.set(op, block.op);
      page.blocks.set(key, { op, bytes: block.bytes });
      this.publish(host - offset + at, decodeBits, op);
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
      for (const field of [OP_START, OP_NEXT])
        this.view.setUint16(at + field, this.view.getUint16(at + field, true) + moved, true);
      this.instructions[this.numberOf(at)] = this.instructions[this.numberOf(from) + i];
    }
  }

  /** The runs of a page that the one at `host` leads to, and itself, as far as they are decoded; by their offsets. */
  private regionOf(page: CodePage, host: number, decodeBits: number): RunAt[] {
    const offset = host % PAGE_SIZE;
    const runs = new Map<number, RunAt>();
    const waiting = [offset];
    let ops = 0;
    for (let at = waiting.shift(); at !== undefined && runs.size < REGION_RUNS; at = waiting.shift()) {
      if (runs.has(at)) continue;
      const key = blockKey(at, decodeBits);
      const known = page.blocks.get(key);
      if (!known || known.into !== undefined) continue;
      const count = this.view.getUint32(known.op + OP_AFTER, true) + 1;
      if (runs.size > 0 && !this.isWarm(known.op, count)) continue;
      const op = this.decodedOps.get(known.op) ?? known.op;
      const instructions = Array.from({ length: count }, (_, i) => this.instructionAt(op + i * OP_SIZE));
      const last = instructions[count - 1];
      // What stops the machine need not be fast.
      if (last.mnemonic === 'unimplemented') continue;
      ops += count;
      if (runs.size > 0 && ops > REGION_OPS) break;
      runs.set(at, { key, offset: at, block: { op, bytes: known.bytes }, instructions });
      if ((decodeBits & (CONTEXT_CODE_32 | CONTEXT_CODE_64)) === 0) break;
      let next = at;
      for (const { length, operands } of instructions) {
        next += length;
        const [operand] = operands;
        if (operand?.kind === 'relative') waiting.push(next + Number(operand.displacement));
      }
      if (last.mnemonic === 'call' || !ends.has(last.mnemonic)) waiting.push(next);
    }
    return [...runs.values()].sort((a, b) => a.offset - b.offset);
  }

  /** Whether a run has been executed so often, if not as often as a hot one, that it is worth its place in a function. */
  private isWarm(op: number, count: number): boolean {
    const all = heatOf(count);
    return all - this.view.getInt32(op + OP_HEAT, true) >= all / WARM_PART;
  }

  /** The op for the processor's RIP, decoding it if need be. */
  private find(cpu: number, state: number): number {
    const linear = this.callbacks.codeAddress(cpu);
    const physical = this.callbacks.fetch(cpu, linear);
    const host = this.callbacks.ramOffset(physical);
    const before = this.view.getUint32(state + CONTEXT, true);
    if (host >= 0 && (before & CONTEXT_LIMITED) === 0) {
      const slot = (this.layout.codeTable + codeSlot(host) * CODE_TABLE_ENTRY) >> 2;
      const { dwords } = this;
      if (dwords[slot + CODE_HOST / 4] === host && dwords[slot + CODE_BITS / 4] === (before & DECODE_BITS)) {
        const fetches = this.view.getUint32(state + TLB_FETCH, true);
        this.fillTranslation(cpu, fetches, linear, host - (host % PAGE_SIZE));
        return dwords[slot + CODE_OP / 4];
      }
    }
    const block = host < 0 ? undefined : this.block(cpu, linear, physical, host, before);
    if (!block) return this.scratch(cpu, linear, physical, before);
    // Decoding may have begun a new generation.
    const context = this.view.getUint32(state + CONTEXT, true);
    if (context & CONTEXT_LIMITED) {
      const rip = this.view.getBigUint64(state + RIP, true);
      if (rip + BigInt(block.bytes - 1) > this.callbacks.codeLimit(cpu))
        return this.scratch(cpu, linear, physical, context);
    }
    const at = this.layout.jumpCache(cpu) + jumpSlot(linear) * JUMP_CACHE_ENTRY;
    this.view.setBigUint64(at + JUMP_LINEAR, linear, true);
    this.view.setUint32(at + JUMP_CONTEXT, context, true);
    this.view.setUint32(at + JUMP_OP, block.op, true);
    // What runs into another page depends on two translations.
    if (block.into === undefined) {
      this.publish(host, context & DECODE_BITS, block.op);
      const fetches = this.view.getUint32(state + TLB_FETCH, true);
      this.fillTranslation(cpu, fetches, linear, host - (host % PAGE_SIZE));
    }
    return block.op;
  }

  /** The run at an address in RAM; undefined for what cannot be kept. */
  private block(
    cpu: number,
    linear: bigint,
    physical: number,
    host: number,
    context: number,
  ): Block | undefined {
    const offset = physical % PAGE_SIZE;
    const number = (physical - offset) / PAGE_SIZE;
    const key = blockKey(offset, context);
    const known = this.pages.get(number)?.blocks.get(key);
    if (known && (known.into === undefined || known.into === this.pageAfter(cpu, linear, context)))
      return known;

    this.makeRoom(BLOCK_INSTRUCTIONS);
    const { codeSize } = sizesOf(context);
    const end = host - offset + PAGE_SIZE;
    const ops = this.pages.get(number)?.ops;
    const decoded: Instruction[] = [];
    let at = host;
    let rest: number | undefined;
    while (decoded.length < BLOCK_INSTRUCTIONS) {
      rest = ops?.get(blockKey(offset + at - host, context));
      if (rest !== undefined) break;
      const instruction = legalIn(context, this.decode(this.bytes, at, end, codeSize));
      if (!instruction) break;
      decoded.push(instruction);
      at += instruction.length;
      if (ends.has(instruction.mnemonic)) break;
    }
    if (rest === undefined && decoded.length === 0)
      return this.crossing(cpu, linear, physical, host, context);
    return this.keep(physical, host, context, decoded, rest);
  }

  /** An instruction that runs from one page of RAM into another; undefined for what cannot be kept. */
  private crossing(
    cpu: number,
    linear: bigint,
    physical: number,
    host: number,
    context: number,
  ): Block | undefined {
    if (context & CONTEXT_LIMITED) return undefined;
    const into = this.pageAfter(cpu, linear, context);
    const second = this.callbacks.ramOffset(into * PAGE_SIZE);
    if (second < 0) return undefined;
    const inFirst = PAGE_SIZE - (physical % PAGE_SIZE);
    const bytes = new Uint8Array(MOST_BYTES);
    bytes.set(this.bytes.subarray(host, host + inFirst));
    bytes.set(this.bytes.subarray(second, second + MOST_BYTES - inFirst), inFirst);
    const instruction = legalIn(context, this.decode(bytes, 0, MOST_BYTES, sizesOf(context).codeSize));
    if (!instruction) throw new Error('the decoder wants more than 15 bytes');
    const page = this.pageOf(into);
    page.before.add(Math.floor(physical / PAGE_SIZE));
    page.covered.fill(1, 0, instruction.length - inFirst);
    return this.keep(physical, host, context, [instruction], undefined, into);
  }

  /** The number of the physical page that follows the one of `linear` in linear addresses. Throws the fault of its fetch. */
  private pageAfter(cpu: number, linear: bigint, context: number): number {
    const next = (linear & ~0xfffn) + 0x1000n;
    const width = context & CONTEXT_CODE_64 ? 64 : 32;
    return Math.floor(this.callbacks.fetch(cpu, BigInt.asUintN(width, next)) / PAGE_SIZE);
  }

  private makeRoom(ops: number): void {
    const full = this.nextOp + (ops + 1) * OP_SIZE > this.layout.ops + OP_COUNT * OP_SIZE;
    if (full || this.pages.size >= MOST_PAGES) this.flushAll();
  }

  /** How many compiled functions are kept; {@link mostFunctions} bounds them. */
  get keptFunctions(): number {
    return this.functions;
  }

  private pageOf(number: number): CodePage {
    let page = this.pages.get(number);
    if (!page) {
      page = {
        blocks: new Map(),
        ops: new Map(),
        covered: new Uint8Array(PAGE_SIZE),
        before: new Set(),
        functions: [],
      };
      this.pages.set(number, page);
      // Writes to the page must be seen from now on.
      const host = this.callbacks.ramOffset(number * PAGE_SIZE);
      const { dwords } = this;
      const toPage = (entry: number) => (dwords[entry >> 2] + dwords[(entry >> 2) + 2]) >>> 0 === host;
      for (const { writes } of this.spaces) this.forgetWhere(writes, toPage);
    }
    return page;
  }

  /**
   * Makes the block of a run.
   * @param rest the op in another run where the instructions go on that follow `decoded`
   * @param into number of the page that the only instruction runs into
   */
  private keep(
    physical: number,
    host: number,
    context: number,
    decoded: readonly Instruction[],
    rest: number | undefined,
    into?: number,
  ): Block {
    const offset = physical % PAGE_SIZE;
    const page = this.pageOf((physical - offset) / PAGE_SIZE);
    const first = this.nextOp;
    this.nextOp = this.putRun(first, decoded, sizesOf(context).stackSize, rest);
    let at = offset;
    for (let op = first; op < this.nextOp - OP_SIZE; op += OP_SIZE) {
      const key = blockKey(at, context);
      if (into === undefined && !page.ops.has(key)) page.ops.set(key, op);
      at += this.view.getUint16(op + OP_NEXT, true) - this.view.getUint16(op + OP_START, true);
    }
    const count = (this.nextOp - first) / OP_SIZE - 1;
    this.view.setUint32(first + OP_CODE, host, true);
    const wasHot = this.wereHot.has(runKey((physical - offset) / PAGE_SIZE, blockKey(offset, context)));
    this.view.setUint32(first + OP_HEAT, heatOf(count, wasHot ? HOT_AGAIN_PART : 1), true);
    page.covered.fill(1, offset, at);
    const block = { op: first, bytes: at - offset, ...(into === undefined ? {} : { into }) };
    page.blocks.set(blockKey(offset, context), block);
    return block;
  }

  /** Decodes an instruction as the processors have it; null as {@link decode}. */
  private decode(bytes: Uint8Array, start: number, end: number, codeSize: CodeSize): Instruction | null {
    const instruction = decode(bytes, start, end, codeSize);
    const { lesser } = this.callbacks;
    return instruction && lesser ? lesser.adapt(instruction) : instruction;
  }

  /** Decodes one instruction that is not kept: it crosses a page, or is not in RAM, or nears the segment's limit. */
  private scratch(cpu: number, linear: bigint, physical: number, context: number): number {
    const { codeSize, stackSize } = sizesOf(context);
    const bytes = new Uint8Array(MOST_BYTES);
    const state = this.layout.state(cpu);
    const rip = this.view.getBigUint64(state + RIP, true);
    const limit = context & CONTEXT_LIMITED ? this.callbacks.codeLimit(cpu) : -1n;
    let at = physical;
    let instruction: Instruction | null = null;
    for (let count = 0; count < MOST_BYTES && !instruction; count++) {
      if (count > 0 && limit >= 0n && rip + BigInt(count) > limit) throw this.callbacks.limitFault();
      const next = linear + BigInt(count);
      if (count > 0 && (next & 0xfffn) === 0n) {
        at = this.callbacks.fetch(cpu, codeSize === 64 ? BigInt.asUintN(64, next) : next & 0xffffffffn);
      }
      const host = this.callbacks.ramOffset(at);
      bytes[count] = host < 0 ? this.callbacks.readByte(at) : this.bytes[host];
      at++;
      instruction = legalIn(context, this.decode(bytes, 0, count + 1, codeSize));
    }
    if (!instruction) throw new Error('the decoder wants more than 15 bytes');
    const op = this.scratchOps(cpu);
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
    const number = formNumber(instruction, stackSize);
    if (number < 0) return this.newHandlerOf(instruction, stackSize);
    let numbers = this.knownHandlers.get(instruction.mnemonic);
    if (!numbers) {
      numbers = new Map();
      this.knownHandlers.set(instruction.mnemonic, numbers);
    }
    let index = numbers.get(number);
    if (index === undefined) {
      index = this.newHandlerOf(instruction, stackSize);
      numbers.set(number, index);
    }
    return index;
  }

  private newHandlerOf(instruction: Instruction, stackSize: CodeSize): number {
    const form = () => formOf(instruction, stackSize);
    const bare = () => formOf({ ...instruction, operands: [] }, stackSize);
    if (system.has(instruction.mnemonic)) return this.handlers.index(SYSTEM_KEY, bare);
    if (instruction.mnemonic === 'unimplemented') return this.handlers.index(UNIMPLEMENTED_KEY, bare);
    return this.handlers.index(formKey(form()), form);
  }

  /**
   * Writes a run of instructions and its end at `op`; returns the address after it.
   * @param rest the op in another run from which on that run follows, as far as there is room
   */
  private putRun(op: number, run: readonly Instruction[], stackSize: CodeSize, rest?: number): number {
    const more =
      rest === undefined
        ? 0
        : Math.min(this.view.getUint32(rest + OP_AFTER, true) + 1, BLOCK_INSTRUCTIONS - run.length);
    const count = run.length + more;
    if (rest !== undefined) this.bytes.copyWithin(op + run.length * OP_SIZE, rest, rest + more * OP_SIZE);
    let at = op;
    let start = 0;
    for (let i = 0; i < count; i++) {
      let length: number;
      let instruction: Instruction | undefined;
      if (rest === undefined || i < run.length) {
        instruction = run[i];
        writeOp(this.view, at, instruction, this.handlerOf(instruction, stackSize));
        length = instruction.length;
      } else {
        length = this.view.getUint16(at + OP_NEXT, true) - this.view.getUint16(at + OP_START, true);
        instruction = this.instructions[this.numberOf(rest) + i - run.length];
      }
      this.view.setUint16(at + OP_START, start, true);
      start += length;
      this.view.setUint16(at + OP_NEXT, start, true);
      this.view.setUint32(at + OP_AFTER, count - 1 - i, true);
      this.instructions[this.numberOf(at)] = instruction;
      at += OP_SIZE;
    }
    this.putEnd(at, start);
    this.handlers.install();
    return at + OP_SIZE;
  }

  /** Writes the end of a run of `bytes` bytes. */
  private putEnd(op: number, bytes: number): void {
    this.view.setUint32(op + OP_HANDLER, END_HANDLER, true);
    this.view.setUint16(op + OP_START, bytes, true);
    this.view.setUint32(op + OP_AFTER, 0, true);
  }
}

/** How many times a run of `count` instructions is entered before it is hot, or for a part of that. */
function heatOf(count: number, part = 1): number {
  return Math.ceil(Interpreter.hotAfter / part / count);
}

/** The key among a page's blocks of code at `offset` in a context. */
function blockKey(offset: number, context: number): number {
  return offset * (1 << CONTEXT_BITS) + (context & DECODE_BITS);
}

function offsetOfKey(key: number): number {
  return key >>> CONTEXT_BITS;
}

/** A block's key among all pages'. */
function runKey(page: number, key: number): number {
  return page * (PAGE_SIZE << CONTEXT_BITS) + key;
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
