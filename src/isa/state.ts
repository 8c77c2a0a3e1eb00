/**
 * The state of one virtual processor, declared once.
 *
 * Each field has an offset in the processor's area of WebAssembly memory, a width and a name. The accessors
 * of {@link State}, the offsets in generated code, snapshots and dumps all derive from this table.
 *
 * SDM vol. 1 chapter 3 (basic execution environment), vol. 3A chapter 2 (system registers).
 */

/** General-purpose register numbers as encoded in ModRM/REX (SDM vol. 2A table 3-1). */
export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;

/** Segment register numbers as encoded in the reg field of MOV Sreg, then LDTR and TR. */
export const ES = 0;
export const CS = 1;
export const SS = 2;
export const DS = 3;
export const FS = 4;
export const GS = 5;
export const LDTR = 6;
export const TR = 7;
export type SegmentNumber = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7;

type FieldType = 'u8' | 'u16' | 'u32' | 'i32' | 'u64';
const BYTES: Record<FieldType, number> = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8 };

interface Declaration {
  readonly type: FieldType;
  /** Number of elements; absent means a scalar. */
  readonly count?: number;
  /** Distance in bytes between elements, where other than the element's size. */
  readonly stride?: number;
}

/**
 * One element a segment register (ES CS SS DS FS GS LDTR TR), in arrays by field.
 *
 * `segAttributes` holds descriptor bits 55:40 as they stand in the descriptor's high dword >> 8, that is
 * type (3:0), S (4), DPL (6:5), P (7), AVL (12), L (13), D/B (14), G (15); 0 with `segUsable` 0 for null.
 * `segReadLow..segReadHigh` and `segWriteLow..segWriteHigh` are the offsets (inclusive, 32 bits) that may be
 * read and written through the segment outside 64-bit mode; low > high where none may. They are derived from
 * limit and type by `setSegment` in arch/segmentation.ts and read by generated code.
 */
export const declarations = {
  gpr: { type: 'u64', count: 16 },
  rip: { type: 'u64' },
  /** Always zero: stands for an absent base or index register and for the base of a flat segment. */
  zero: { type: 'u64' },

  /** RFLAGS but for CF PF AF ZF SF OF, which are in the three lazy fields below. Bit 1 is set. */
  flagsRest: { type: 'u64' },
  /** ZF is set if and only if this is zero. */
  flagsZero: { type: 'u64' },
  /** SF is bit 63; PF is the even parity of bits 7:0. */
  flagsSign: { type: 'u64' },
  /** CF is bit 63; OF is bit 63 XOR bit 62; AF is bit 3. */
  flagsCarry: { type: 'u64' },

  segSelector: { type: 'u16', count: 8 },
  segAttributes: { type: 'u16', count: 8 },
  segUsable: { type: 'u8', count: 8 },
  segBase: { type: 'u64', count: 8 },
  segLimit: { type: 'u32', count: 8 },
  segReadLow: { type: 'u32', count: 8 },
  segReadHigh: { type: 'u32', count: 8 },
  segWriteLow: { type: 'u32', count: 8 },
  segWriteHigh: { type: 'u32', count: 8 },

  gdtrBase: { type: 'u64' },
  gdtrLimit: { type: 'u32' },
  idtrBase: { type: 'u64' },
  idtrLimit: { type: 'u32' },

  cr0: { type: 'u64' },
  cr2: { type: 'u64' },
  cr3: { type: 'u64' },
  cr4: { type: 'u64' },
  xcr0: { type: 'u64' },
  dr: { type: 'u64', count: 8 },
  /** Page-directory-pointer registers of PAE paging (SDM vol. 3A 4.4.1). */
  pdpte: { type: 'u64', count: 4 },

  efer: { type: 'u64' },
  star: { type: 'u64' },
  lstar: { type: 'u64' },
  cstar: { type: 'u64' },
  sfmask: { type: 'u64' },
  kernelGsBase: { type: 'u64' },
  sysenterCs: { type: 'u64' },
  sysenterEsp: { type: 'u64' },
  sysenterEip: { type: 'u64' },
  tscAux: { type: 'u64' },
  /** Added to the machine's time to give the TSC. */
  tscOffset: { type: 'u64' },
  apicBase: { type: 'u64' },
  pat: { type: 'u64' },
  miscEnable: { type: 'u64' },
  mtrrDefType: { type: 'u64' },
  mtrrFixed: { type: 'u64', count: 11 },
  mtrrBase: { type: 'u64', count: 8 },
  mtrrMask: { type: 'u64', count: 8 },
  mcgStatus: { type: 'u64' },

  /** 0, 1 or 2 user, as CPL: 0..3. Kept apart from SS.DPL so that readers need not decode it. */
  cpl: { type: 'u8' },
  /** What the processor is doing: an `Activity`. */
  activity: { type: 'u8' },
  /** Interrupts held off until the next instruction has run: 0, `SHADOW_STI` or `SHADOW_MOV_SS`. */
  shadow: { type: 'u8' },
  /** NMIs are blocked until IRET (SDM vol. 3A 6.7.1). */
  nmiBlocked: { type: 'u8' },
  /** An NMI has been latched. */
  nmiPending: { type: 'u8' },
  /** A machine check has been latched. */
  machineCheckPending: { type: 'u8' },
  /** INIT latched (wait-for-SIPI follows); SIPI latched; and its vector. */
  initPending: { type: 'u8' },
  sipiPending: { type: 'u8' },
  sipiVector: { type: 'u8' },
  /** RIP is at a repeated string instruction that has made some of its iterations: events push RF as 1. */
  repeating: { type: 'u8' },
  /** Vector + 1 of an external interrupt that was acknowledged but that a hook kept from delivery; else 0. */
  acknowledged: { type: 'u16' },
  /** DR6 bits of debug traps to be delivered at the coming instruction boundary. */
  pendingDebug: { type: 'u32' },

  /** Instructions retired since reset. */
  instructions: { type: 'u64' },

  x87: { type: 'u64', count: 16 },
  fcw: { type: 'u16' },
  fsw: { type: 'u16' },
  ftw: { type: 'u16' },
  fop: { type: 'u16' },
  mxcsr: { type: 'u32' },
  fip: { type: 'u64' },
  fdp: { type: 'u64' },
  /** YMM0..YMM15, four quadwords each. */
  ymm: { type: 'u64', count: 64 },

  /**
   * The rest is the engine's: meaningless between two runs of the interpreter, and not part of what the
   * guest can see.
   */
  /** Instructions that may run before the interpreter returns, less those of the run it is in. */
  remaining: { type: 'i32' },
  /** Identifies what decoded code depends on (code size, stack width, paging generation, CPL). */
  context: { type: 'u32' },
  /** Linear base of code in the current mode: CS.base, or 0 in 64-bit mode. */
  codeBase: { type: 'u64' },
  /** Addresses in WebAssembly memory of the fast TLBs for reads, writes and fetches in the current context. */
  tlbRead: { type: 'u32' },
  tlbWrite: { type: 'u32' },
  tlbFetch: { type: 'u32' },
  /** The fault raised by the handler that returned FAULT: vector, and error code where it has one. */
  faultVector: { type: 'u32' },
  faultHasError: { type: 'u32' },
  faultError: { type: 'u32' },
  /** Address of the processor's jump cache. */
  jumpCache: { type: 'u32' },
  /** Address of the table that finds decoded code by where it stands in RAM. */
  codeTable: { type: 'u32' },
  /** Address of the first instruction of the run of decoded instructions that is being executed. */
  blockRip: { type: 'u64' },
  /** The op whose handler last left generated code for a slow path. */
  slowOp: { type: 'u32' },
  /** Nonzero when the interpreter must return after the instruction in progress: the status STOP of op.ts. */
  stop: { type: 'u32' },
  /** Guest-linear address and host address of an access that goes byte by byte (see engine/access). */
  bounce: { type: 'u64', count: 8 },
} as const satisfies Record<string, Declaration>;

export type FieldName = keyof typeof declarations;

/** Where a field stands in the processor's area. */
export interface Field {
  readonly name: FieldName;
  readonly type: FieldType;
  readonly offset: number;
  readonly bytes: number;
  readonly count: number;
}

function layOut(): { fields: Record<FieldName, Field>; size: number } {
  let offset = 0;
  const fields: Partial<Record<FieldName, Field>> = {};
  for (const [name, declaration] of Object.entries(declarations) as [FieldName, Declaration][]) {
    const bytes = BYTES[declaration.type];
    const count = declaration.count ?? 1;
    offset = (offset + bytes - 1) & -bytes;
    fields[name] = { name, type: declaration.type, offset, bytes, count };
    offset += bytes * count;
  }
  return { fields: fields as Record<FieldName, Field>, size: (offset + 63) & -64 };
}

const laidOut = layOut();

/** Every field by name. */
export const fields: Readonly<Record<FieldName, Field>> = laidOut.fields;

/** Bytes in one processor's area; a multiple of 64. */
export const STATE_SIZE = laidOut.size;

/** Byte offset of element `index` of field `name` in a processor's area. */
export function offsetOf(name: FieldName, index = 0): number {
  const field = fields[name];
  return field.offset + index * field.bytes;
}

/** `activity` values. */
export const RUNNING = 0;
export const HALTED = 1;
export const WAIT_FOR_SIPI = 2;
/** After a triple fault. */
export const SHUTDOWN = 3;

/** `shadow` values. */
export const SHADOW_NONE = 0;
export const SHADOW_STI = 1;
export const SHADOW_MOV_SS = 2;

type Scalars = {
  [K in FieldName as (typeof declarations)[K] extends { count: number }
    ? never
    : K]: (typeof declarations)[K]['type'] extends 'u64' ? bigint : number;
};
type Arrays = {
  readonly [K in FieldName as (typeof declarations)[K] extends { count: number }
    ? K
    : never]: (typeof declarations)[K]['type'] extends 'u64'
    ? BigUint64Array
    : (typeof declarations)[K]['type'] extends 'u32'
      ? Uint32Array
      : (typeof declarations)[K]['type'] extends 'u16'
        ? Uint16Array
        : Uint8Array;
};

/**
 * A processor's fields as properties: a 64-bit scalar is a bigint, a narrower one a number, an array field
 * a typed array. Everything is a view of WebAssembly memory; nothing is copied.
 */
export type StateFields = Scalars & Arrays;

const VIEWS = {
  u8: Uint8Array,
  u16: Uint16Array,
  u32: Uint32Array,
  i32: Int32Array,
  u64: BigUint64Array,
} as const;

class StateViews {
  /** Byte offset of the area in `memory`. */
  readonly address: number;
  readonly memory: WebAssembly.Memory;
  protected readonly u8: Uint8Array;
  protected readonly u16: Uint16Array;
  /** The area as dwords, for those who would rather not make BigInts. */
  readonly u32: Uint32Array;
  protected readonly i32: Int32Array;
  protected readonly u64: BigUint64Array;

  /** @param address multiple of 64; the area is `STATE_SIZE` bytes. The memory must never grow. */
  constructor(memory: WebAssembly.Memory, address: number) {
    this.memory = memory;
    this.address = address;
    this.u8 = new Uint8Array(memory.buffer, address, STATE_SIZE);
    this.u16 = new Uint16Array(memory.buffer, address, STATE_SIZE / 2);
    this.u32 = new Uint32Array(memory.buffer, address, STATE_SIZE / 4);
    this.i32 = new Int32Array(memory.buffer, address, STATE_SIZE / 4);
    this.u64 = new BigUint64Array(memory.buffer, address, STATE_SIZE / 8);
    for (const field of Object.values(fields)) {
      if (!isArray(field.name)) continue;
      const value = new VIEWS[field.type](memory.buffer, address + field.offset, field.count);
      Object.defineProperty(this, field.name, { value, enumerable: true });
    }
  }

  /** A getter and setter of one scalar; one literal a type, so that each stays monomorphic. */
  static accessor(field: Field): PropertyDescriptor & ThisType<StateViews> {
    const at = field.offset / field.bytes;
    switch (field.type) {
      case 'u8':
        return {
          get() {
            return this.u8[at];
          },
          set(value: number) {
            this.u8[at] = value;
          },
        };
      case 'u16':
        return {
          get() {
            return this.u16[at];
          },
          set(value: number) {
            this.u16[at] = value;
          },
        };
      case 'u32':
        return {
          get() {
            return this.u32[at];
          },
          set(value: number) {
            this.u32[at] = value;
          },
        };
      case 'i32':
        return {
          get() {
            return this.i32[at];
          },
          set(value: number) {
            this.i32[at] = value;
          },
        };
      case 'u64':
        return {
          get() {
            return this.u64[at];
          },
          set(value: bigint) {
            this.u64[at] = value;
          },
        };
    }
  }
}

function isArray(name: FieldName): boolean {
  return 'count' in declarations[name];
}

for (const field of Object.values(fields)) {
  if (!isArray(field.name))
    Object.defineProperty(StateViews.prototype, field.name, StateViews.accessor(field));
}

/** The state of one virtual processor: a view of its area of WebAssembly memory. */
export type State = StateViews & StateFields;
export const State = StateViews as unknown as new (memory: WebAssembly.Memory, address: number) => State;
