/**
 * The local APIC of one processor, as xAPIC (registers in memory) and x2APIC (MSRs). SDM vol. 3A chapter 10.
 *
 * The timer counts guest time, one count a tick divided by the divide configuration. Lowest-priority arbitration is
 * deterministic (apic-message.ts). SMIs are accepted from nowhere. The performance-counter and thermal LVT entries
 * hold what is written to them and never fire.
 */
import type { InterruptController } from '../../arch/bus.ts';
import { gp } from '../../arch/fault.ts';
import {
  type ApicMessage,
  type ApicTarget,
  EXTINT,
  FIXED,
  INIT,
  LOWEST_PRIORITY,
  NMI_MODE,
  SMI,
  STARTUP,
} from './apic-message.ts';
import { NEVER, type Saved, type TimedDevice } from './device.ts';

export const LOCAL_APIC_BASE = 0xfee0_0000;

/** IA32_APIC_BASE bits (10.4.4). */
export const APIC_BASE_EXTD = 0x400n;
export const APIC_BASE_EN = 0x800n;

const MSR_APIC_BASE = 0x1b;
const MSR_TSC_DEADLINE = 0x6e0;
const MSR_X2APIC = 0x800;

/** Register numbers: xAPIC offset >> 4, x2APIC MSR - 800H (tables 10-1 and 10-6). */
const ID = 0x02;
const VERSION = 0x03;
const TPR = 0x08;
const APR = 0x09;
const PPR = 0x0a;
const EOI = 0x0b;
const RRD = 0x0c;
const LDR = 0x0d;
const DFR = 0x0e;
const SVR = 0x0f;
const ISR = 0x10;
const TMR = 0x18;
const IRR = 0x20;
const ESR = 0x28;
const ICR_LOW = 0x30;
const ICR_HIGH = 0x31;
const LVT_TIMER = 0x32;
const LVT_ERROR = 0x37;
const INITIAL_COUNT = 0x38;
const CURRENT_COUNT = 0x39;
const DIVIDE = 0x3e;
const SELF_IPI = 0x3f;

/** Index of LVT entries, as from LVT_TIMER. */
const TIMER = 0;
const LINT0 = 3;
const LINT1 = 4;
const ERROR = 5;
const LVT_ENTRIES = 6;

/** Version 14H, six LVT entries, no EOI-broadcast suppression (10.4.8). */
const VERSION_VALUE = 0x0005_0014;

const LVT_MASKED = 1 << 16;
const LVT_LEVEL = 1 << 15;
const LVT_REMOTE_IRR = 1 << 14;
/** Bits of the LVT entries that software may set (figure 10-8). */
const LVT_WRITABLE = [0x0007_00ff, 0x0001_07ff, 0x0001_07ff, 0x0001_a7ff, 0x0001_a7ff, 0x0001_00ff] as const;

/** Timer modes (LVT timer bits 18:17). */
const ONE_SHOT = 0;
const PERIODIC = 1;
const TSC_DEADLINE = 2;

const SVR_ENABLED = 0x100;
const SVR_WRITABLE = 0x1ff;

/** ESR bits (10.5.3). */
const ESR_SEND_ILLEGAL_VECTOR = 0x20;
const ESR_RECEIVE_ILLEGAL_VECTOR = 0x40;
const ESR_ILLEGAL_REGISTER = 0x80;

/** ICR: what software may write of the low dword (figure 10-12). */
const ICR_WRITABLE = 0x000c_cfff;

/** What a local APIC needs of its processor. */
export interface ApicProcessor {
  readonly index: number;
  apicBase: bigint;
  tscOffset: bigint;
  nmiPending: number;
  initPending: number;
  sipiPending: number;
  sipiVector: number;
  activity: number;
}

/** `activity` of a processor that waits for a start-up IPI. */
const WAIT_FOR_SIPI = 2;

/** What a local APIC is wired to. */
export interface ApicWiring {
  /** Time as this processor sees it. */
  now(): number;
  /** Puts a message on the bus. */
  send(message: ApicMessage): void;
  /** Sends a fixed, NMI, INIT or start-up message to others by shorthand: all processors, `self` included or not. */
  broadcast(mode: number, vector: number, level: boolean, self: boolean): void;
  /** A level-triggered interrupt ended. */
  endOfInterrupt(vector: number): void;
  /** The 8259s' acknowledge cycle. */
  acknowledgeExternal(): number;
  /** Something awaits the processor, or its timer was set: it must look again soon. */
  kick(): void;
  /** The processor takes its pending INIT now, unless it is the one that is running. */
  takeInit(): void;
  /** Raises what stops the machine if the registers cannot stand at `base`. */
  checkBase(base: number): void;
}

interface LocalApicState {
  readonly [name: string]: number | bigint | boolean | Uint32Array;
  readonly registers: Uint32Array;
  readonly isr: Uint32Array;
  readonly tmr: Uint32Array;
  readonly irr: Uint32Array;
  readonly tscDeadline: bigint;
  readonly timerSince: number;
  readonly timerRemaining: number;
  readonly timerRunning: boolean;
  readonly intr: boolean;
  readonly externalRequested: boolean;
}

/** Slots of `#registers`: the plain registers, by use. */
const R_ID = 0;
const R_TPR = 1;
const R_LDR = 2;
const R_DFR = 3;
const R_SVR = 4;
const R_ESR = 5;
/** Errors since ESR was last written. */
const R_ERRORS = 6;
const R_ICR_LOW = 7;
const R_ICR_HIGH = 8;
const R_INITIAL = 9;
const R_DIVIDE = 10;
const R_LVT = 11;
const R_COUNT = R_LVT + LVT_ENTRIES;

export class LocalApic implements InterruptController, ApicTarget, TimedDevice, Saved<LocalApicState> {
  readonly #registers = new Uint32Array(R_COUNT);
  readonly #isr = new Uint32Array(8);
  readonly #tmr = new Uint32Array(8);
  readonly #irr = new Uint32Array(8);
  /** Highest vector in service and requested, -1 for none: what `pending` looks at. */
  #inService = -1;
  #requested = -1;
  /** Level of the INTR wire from the 8259s, at LINT0. */
  #intr = false;
  /** An ExtINT message from the I/O APIC awaits. */
  #externalRequested = false;
  /** IA32_TSC_DEADLINE; 0 disarmed. */
  #tscDeadline = 0n;
  /** The countdown: counts left at a time; it runs from then. */
  #timerSince = 0;
  #timerRemaining = 0;
  #timerRunning = false;
  /** Something may have changed since this was last made false. */
  changed = true;

  readonly #wiring: ApicWiring;
  #processor: ApicProcessor | undefined;

  constructor(wiring: ApicWiring) {
    this.#wiring = wiring;
  }

  /** Must be called once before use. */
  attach(processor: ApicProcessor): void {
    this.#processor = processor;
    this.reset();
  }

  /** Power-up and INIT state (10.4.7.1, 10.4.7.3); the ID is the processor's number. */
  reset(): void {
    this.changed = true;
    const r = this.#registers;
    r.fill(0);
    r[R_ID] = this.#cpu.index;
    r[R_DFR] = 0xffff_ffff;
    r[R_SVR] = 0xff;
    for (let i = 0; i < LVT_ENTRIES; i++) r[R_LVT + i] = LVT_MASKED;
    for (const bits of [this.#isr, this.#tmr, this.#irr]) bits.fill(0);
    this.#inService = -1;
    this.#requested = -1;
    this.#externalRequested = false;
    this.#tscDeadline = 0n;
    this.#timerRunning = false;
    this.#timerRemaining = 0;
  }

  /** As PC firmware hands over the bootstrap processor: enabled, LINT0 ExtINT ("virtual wire"), LINT1 NMI. */
  initialiseAsFirmware(): void {
    this.changed = true;
    const r = this.#registers;
    r[R_SVR] = 0x1ff;
    r[R_LVT + LINT0] = EXTINT << 8;
    r[R_LVT + LINT1] = NMI_MODE << 8;
  }

  // --- what the processor asks --------------------------------------------------------------------------------

  pending(): boolean {
    if (this.#requested >= 16 && this.#requested >> 4 > this.#processorPriority() >> 4 && this.#enabled)
      return true;
    return this.#externalPending();
  }

  acknowledge(): number {
    this.changed = true;
    const vector = this.#requested;
    if (vector >= 16 && this.#enabled && vector >> 4 > this.#processorPriority() >> 4) {
      this.#irr[vector >> 5] &= ~(1 << (vector & 31));
      this.#isr[vector >> 5] |= 1 << (vector & 31);
      this.#requested = highest(this.#irr);
      this.#inService = vector;
      return vector;
    }
    if (this.#externalPending()) {
      this.#externalRequested = false;
      return this.#wiring.acknowledgeExternal();
    }
    return this.#registers[R_SVR] & 0xff;
  }

  /** Requested and in-service interrupts, IRR and ISR: 8 dwords each, to be read only. */
  get requests(): { readonly requested: Uint32Array; readonly inService: Uint32Array } {
    return { requested: this.#irr, inService: this.#isr };
  }

  get taskPriority(): number {
    return (this.#registers[R_TPR] >> 4) & 15;
  }

  set taskPriority(value: number) {
    this.changed = true;
    this.#setTpr((value & 15) << 4);
  }

  readMsr(index: number): bigint {
    this.changed = true;
    if (index === MSR_APIC_BASE) return this.#cpu.apicBase;
    if (index === MSR_TSC_DEADLINE) {
      this.advance(this.#wiring.now());
      return this.#timerMode === TSC_DEADLINE ? this.#tscDeadline : 0n;
    }
    const register = index - MSR_X2APIC;
    if (!this.#x2apic || !READABLE_MSRS.has(register)) throw gp();
    if (register === ICR_LOW)
      return BigInt(this.#registers[R_ICR_LOW]) | (BigInt(this.#registers[R_ICR_HIGH]) << 32n);
    return BigInt(this.#readRegister(register) >>> 0);
  }

  writeMsr(index: number, value: bigint): void {
    this.changed = true;
    if (index === MSR_APIC_BASE) {
      this.#writeApicBase(value);
      return;
    }
    if (index === MSR_TSC_DEADLINE) {
      if (this.#timerMode !== TSC_DEADLINE) return;
      this.#tscDeadline = value;
      this.#wiring.kick();
      return;
    }
    const register = index - MSR_X2APIC;
    if (!this.#x2apic) throw gp();
    const reserved = RESERVED_MSR_BITS.get(register);
    if (reserved === undefined || value & reserved) throw gp();
    if (register === ICR_LOW) this.#registers[R_ICR_HIGH] = Number(value >> 32n);
    this.#writeRegister(register, Number(value & 0xffff_ffffn));
  }

  // --- memory-mapped registers --------------------------------------------------------------------------------

  /** Physical address of the registers, or -1 where they are not in memory (disabled, or x2APIC mode). */
  get base(): number {
    const { apicBase } = this.#cpu;
    if ((apicBase & (APIC_BASE_EN | APIC_BASE_EXTD)) !== APIC_BASE_EN) return -1;
    return Number(apicBase & 0xff_ffff_f000n);
  }

  read(offset: number, size: 1 | 2 | 4): number {
    this.changed = true;
    // Registers stand in the low dword of each 16 bytes; accesses elsewhere are undefined (10.4.1) and give 0.
    const byte = offset & 15;
    if (byte + size > 4) return 0;
    const shifted = this.#readRegister(offset >> 4) >>> (8 * byte);
    return size === 4 ? shifted : size === 2 ? shifted & 0xffff : shifted & 0xff;
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    this.changed = true;
    if (size !== 4 || offset & 15) return;
    this.#writeRegister(offset >> 4, value >>> 0);
  }

  // --- messages and wires -------------------------------------------------------------------------------------

  get present(): boolean {
    return (this.#cpu.apicBase & APIC_BASE_EN) !== 0n;
  }

  get accepting(): boolean {
    return (this.#registers[R_SVR] & SVR_ENABLED) !== 0;
  }

  get arbitrationPriority(): number {
    return this.#arbitrationPriority();
  }

  matches(message: ApicMessage): boolean {
    const { destination, wide } = message;
    const broadcast = wide ? 0xffff_ffff : 0xff;
    if (destination === broadcast) return true;
    const id = this.#registers[R_ID];
    if (!message.logical) return destination === id;
    if (this.#x2apic) {
      const ldr = x2apicLdr(id);
      return destination >>> 16 === ldr >>> 16 && (destination & ldr & 0xffff) !== 0;
    }
    if (destination > 0xff) return false;
    const ldr = this.#registers[R_LDR] >>> 24;
    const flat = this.#registers[R_DFR] >>> 28 === 0xf;
    if (flat) return (destination & ldr) !== 0;
    return destination >> 4 === ldr >> 4 && (destination & ldr & 15) !== 0;
  }

  accept(mode: number, vector: number, level: boolean): void {
    this.changed = true;
    const cpu = this.#cpu;
    switch (mode) {
      case FIXED:
      case LOWEST_PRIORITY:
        this.#acceptFixed(vector, level);
        break;
      case NMI_MODE:
        cpu.nmiPending = 1;
        this.#wiring.kick();
        break;
      case INIT:
        this.reset();
        cpu.sipiPending = 0;
        if (cpu.activity === WAIT_FOR_SIPI) break;
        cpu.initPending = 1;
        this.#wiring.kick();
        break;
      case STARTUP:
        // An INIT that the processor has not come to yet went before.
        if (cpu.initPending !== 0) this.#wiring.takeInit();
        if (cpu.activity !== WAIT_FOR_SIPI) break;
        cpu.sipiPending = 1;
        cpu.sipiVector = vector;
        this.#wiring.kick();
        break;
      case EXTINT:
        this.#externalRequested = true;
        this.#wiring.kick();
        break;
    }
  }

  /** The wire from the 8259s changes: it ends at LINT0, or at the processor itself where the APIC is disabled. */
  setIntr(asserted: boolean): void {
    this.changed = true;
    if (asserted === this.#intr) return;
    this.#intr = asserted;
    if (!asserted) return;
    const lvt = this.#registers[R_LVT + LINT0];
    const mode = (lvt >> 8) & 7;
    if (this.present && (lvt & LVT_MASKED) === 0 && mode !== EXTINT) this.#localInterrupt(lvt);
    else if (this.#externalPending()) this.#wiring.kick();
  }

  /** The 8259s' wire is taken as an NMI, which wakes a processor whatever RFLAGS.IF. */
  get hasUnmaskable(): boolean {
    const lvt = this.#registers[R_LVT + LINT0];
    return this.present && (lvt & LVT_MASKED) === 0 && ((lvt >> 8) & 7) === NMI_MODE;
  }

  /** The NMI pin is pulsed: LINT1, or the processor's own pin where the APIC is disabled. */
  pulseLint1(): void {
    this.changed = true;
    if (!this.present) {
      this.accept(NMI_MODE, 0, false);
      return;
    }
    const lvt = this.#registers[R_LVT + LINT1];
    if ((lvt & LVT_MASKED) === 0) this.#localInterrupt(lvt);
  }

  // --- time ---------------------------------------------------------------------------------------------------

  deadline(): number {
    if (this.#registers[R_LVT + TIMER] & LVT_MASKED || !this.present) return NEVER;
    if (this.#timerMode === TSC_DEADLINE) {
      if (this.#tscDeadline === 0n) return NEVER;
      const now = this.#wiring.now();
      const left = Number(this.#untilTscDeadline(now));
      return now + left > Number.MAX_SAFE_INTEGER ? NEVER : now + left;
    }
    if (!this.#timerRunning) return NEVER;
    return this.#timerSince + this.#timerRemaining * this.#divisor;
  }

  advance(now: number): void {
    this.changed = true;
    if (this.#timerMode === TSC_DEADLINE) {
      if (this.#tscDeadline === 0n || this.#untilTscDeadline(now) > 0n) return;
      this.#tscDeadline = 0n;
      this.#fireTimer();
      return;
    }
    if (!this.#timerRunning) return;
    const divisor = this.#divisor;
    const end = this.#timerSince + this.#timerRemaining * divisor;
    if (now < end) return;
    if (this.#timerMode === PERIODIC) {
      const initial = this.#registers[R_INITIAL];
      const period = initial * divisor;
      this.#timerSince = end + Math.floor((now - end) / period) * period;
      this.#timerRemaining = initial;
    } else {
      this.#timerRunning = false;
      this.#timerRemaining = 0;
    }
    this.#fireTimer();
  }

  save(): LocalApicState {
    return {
      registers: this.#registers.slice(),
      isr: this.#isr.slice(),
      tmr: this.#tmr.slice(),
      irr: this.#irr.slice(),
      tscDeadline: this.#tscDeadline,
      timerSince: this.#timerSince,
      timerRemaining: this.#timerRemaining,
      timerRunning: this.#timerRunning,
      intr: this.#intr,
      externalRequested: this.#externalRequested,
    };
  }

  restore(state: LocalApicState): void {
    this.changed = true;
    this.#registers.set(state.registers);
    this.#isr.set(state.isr);
    this.#tmr.set(state.tmr);
    this.#irr.set(state.irr);
    this.#inService = highest(this.#isr);
    this.#requested = highest(this.#irr);
    this.#tscDeadline = state.tscDeadline;
    this.#timerSince = state.timerSince;
    this.#timerRemaining = state.timerRemaining;
    this.#timerRunning = state.timerRunning;
    this.#intr = state.intr;
    this.#externalRequested = state.externalRequested;
  }

  // --- inside -------------------------------------------------------------------------------------------------

  get #cpu(): ApicProcessor {
    if (!this.#processor) throw new Error('local APIC without its processor');
    return this.#processor;
  }

  get #x2apic(): boolean {
    const both = APIC_BASE_EN | APIC_BASE_EXTD;
    return (this.#cpu.apicBase & both) === both;
  }

  /** Interrupts already accepted stay deliverable when software disables the APIC (10.4.7.2). */
  get #enabled(): boolean {
    return this.present;
  }

  get #timerMode(): number {
    return (this.#registers[R_LVT + TIMER] >> 17) & 3;
  }

  /** Ticks until the TSC reaches its deadline; 0 once it has. */
  #untilTscDeadline(now: number): bigint {
    const tsc = BigInt.asUintN(64, BigInt(now) + this.#cpu.tscOffset);
    return tsc >= this.#tscDeadline ? 0n : this.#tscDeadline - tsc;
  }

  /** Divide configuration bits 3 and 1:0 (figure 10-10): 2, 4, ... 128, 1. */
  get #divisor(): number {
    const value = this.#registers[R_DIVIDE];
    const code = ((value & 8) >> 1) | (value & 3);
    return code === 7 ? 1 : 2 << code;
  }

  /** 10.8.3.1. */
  #processorPriority(): number {
    const tpr = this.#registers[R_TPR];
    const inService = Math.max(this.#inService, 0);
    return tpr >> 4 >= inService >> 4 ? tpr : inService & 0xf0;
  }

  /** 10.6.2.4 (xAPIC register; P6 only in hardware, but readable). */
  #arbitrationPriority(): number {
    const tpr = this.#registers[R_TPR];
    const classes = [tpr >> 4, Math.max(this.#requested, 0) >> 4, Math.max(this.#inService, 0) >> 4] as const;
    if (classes[0] >= classes[1] && classes[0] > classes[2]) return tpr;
    return Math.max(...classes) << 4;
  }

  #externalPending(): boolean {
    if (this.#externalRequested) return true;
    if (!this.#intr) return false;
    if (!this.present) return this.#cpu.index === 0;
    const lvt = this.#registers[R_LVT + LINT0];
    return (lvt & LVT_MASKED) === 0 && ((lvt >> 8) & 7) === EXTINT;
  }

  #setTpr(value: number): void {
    this.#registers[R_TPR] = value;
    if (this.pending()) this.#wiring.kick();
  }

  #acceptFixed(vector: number, level: boolean): void {
    if (!this.accepting) return;
    if (vector < 16) {
      this.#error(ESR_RECEIVE_ILLEGAL_VECTOR);
      return;
    }
    const word = vector >> 5;
    const bit = 1 << (vector & 31);
    this.#irr[word] |= bit;
    if (level) this.#tmr[word] |= bit;
    else this.#tmr[word] &= ~bit;
    if (vector > this.#requested) this.#requested = vector;
    if (this.pending()) this.#wiring.kick();
  }

  /** An LVT entry fires by its delivery mode (10.5.1). */
  #localInterrupt(lvt: number): void {
    const mode = (lvt >> 8) & 7;
    if (mode === FIXED) this.#acceptFixed(lvt & 0xff, (lvt & LVT_LEVEL) !== 0);
    else if (mode === NMI_MODE || mode === INIT || mode === EXTINT) this.accept(mode, lvt & 0xff, false);
  }

  #fireTimer(): void {
    const lvt = this.#registers[R_LVT + TIMER];
    if ((lvt & LVT_MASKED) === 0) this.#acceptFixed(lvt & 0xff, false);
  }

  #error(bits: number): void {
    const r = this.#registers;
    const news = bits & ~r[R_ERRORS];
    r[R_ERRORS] |= bits;
    const lvt = r[R_LVT + ERROR];
    // An illegal vector in the error entry itself only sets its bit.
    if (news && (lvt & LVT_MASKED) === 0 && (lvt & 0xff) >= 16) this.#acceptFixed(lvt & 0xff, false);
    else if (news && (lvt & LVT_MASKED) === 0) r[R_ERRORS] |= ESR_RECEIVE_ILLEGAL_VECTOR;
  }

  #endOfInterrupt(): void {
    const vector = this.#inService;
    if (vector < 0) return;
    const bit = 1 << (vector & 31);
    this.#isr[vector >> 5] &= ~bit;
    this.#inService = highest(this.#isr);
    if (this.#tmr[vector >> 5] & bit) {
      this.#wiring.endOfInterrupt(vector);
      const lvt = this.#registers[R_LVT + LINT0];
      if (lvt & LVT_LEVEL && (lvt & 0xff) === vector && this.#intr && (lvt & LVT_MASKED) === 0)
        this.#localInterrupt(lvt);
    }
    if (this.pending()) this.#wiring.kick();
  }

  #currentCount(): number {
    if (this.#timerMode === TSC_DEADLINE || !this.#timerRunning) return 0;
    const elapsed = Math.max(0, this.#wiring.now() - this.#timerSince);
    return Math.max(0, this.#timerRemaining - Math.floor(elapsed / this.#divisor));
  }

  #readRegister(register: number): number {
    const r = this.#registers;
    if (register >= ISR && register < ISR + 8) return this.#isr[register - ISR];
    if (register >= TMR && register < TMR + 8) return this.#tmr[register - TMR];
    if (register >= IRR && register < IRR + 8) return this.#irr[register - IRR];
    if (register >= LVT_TIMER && register <= LVT_ERROR) return r[R_LVT + register - LVT_TIMER];
    switch (register) {
      case ID:
        return this.#x2apic ? r[R_ID] : r[R_ID] << 24;
      case VERSION:
        return VERSION_VALUE;
      case TPR:
        return r[R_TPR];
      case APR:
        return this.#arbitrationPriority();
      case PPR:
        return this.#processorPriority();
      case EOI:
      case RRD:
        return 0;
      case LDR:
        return this.#x2apic ? x2apicLdr(r[R_ID]) : r[R_LDR];
      case DFR:
        return r[R_DFR];
      case SVR:
        return r[R_SVR];
      case ESR:
        return r[R_ESR];
      case ICR_LOW:
        return r[R_ICR_LOW];
      case ICR_HIGH:
        return r[R_ICR_HIGH];
      case INITIAL_COUNT:
        return this.#timerMode === TSC_DEADLINE ? 0 : r[R_INITIAL];
      case CURRENT_COUNT:
        this.advance(this.#wiring.now());
        return this.#currentCount();
      case DIVIDE:
        return r[R_DIVIDE];
      default:
        this.#error(ESR_ILLEGAL_REGISTER);
        return 0;
    }
  }

  #writeRegister(register: number, value: number): void {
    const r = this.#registers;
    if (register >= LVT_TIMER && register <= LVT_ERROR) {
      this.#writeLvt(register - LVT_TIMER, value);
      return;
    }
    switch (register) {
      case ID:
      case VERSION:
      case APR:
      case PPR:
      case RRD:
      case CURRENT_COUNT:
        // Read only. (The xAPIC ID is writable on some processors; on those since Nehalem it is not.)
        break;
      case TPR:
        this.#setTpr(value & 0xff);
        break;
      case EOI:
        this.#endOfInterrupt();
        break;
      case LDR:
        r[R_LDR] = value & 0xff00_0000;
        break;
      case DFR:
        r[R_DFR] = value | 0x0fff_ffff;
        break;
      case SVR:
        r[R_SVR] = value & SVR_WRITABLE;
        if ((value & SVR_ENABLED) === 0) for (let i = 0; i < LVT_ENTRIES; i++) r[R_LVT + i] |= LVT_MASKED;
        break;
      case ESR:
        r[R_ESR] = r[R_ERRORS];
        r[R_ERRORS] = 0;
        break;
      case ICR_LOW:
        r[R_ICR_LOW] = value & ICR_WRITABLE;
        this.#sendIpi();
        break;
      case ICR_HIGH:
        r[R_ICR_HIGH] = value & 0xff00_0000;
        break;
      case INITIAL_COUNT:
        if (this.#timerMode === TSC_DEADLINE) break;
        this.advance(this.#wiring.now());
        r[R_INITIAL] = value;
        this.#timerSince = this.#wiring.now();
        this.#timerRemaining = value;
        this.#timerRunning = value !== 0;
        this.#wiring.kick();
        break;
      case DIVIDE:
        this.#writeDivide(value & 0xb);
        break;
      case SELF_IPI:
        if (!this.#x2apic) this.#error(ESR_ILLEGAL_REGISTER);
        else this.#acceptFixed(value & 0xff, false);
        break;
      default:
        if ((register >= ISR && register < ESR) || register === EOI) break;
        this.#error(ESR_ILLEGAL_REGISTER);
    }
  }

  #writeDivide(value: number): void {
    const now = this.#wiring.now();
    this.advance(now);
    if (this.#timerRunning) {
      this.#timerRemaining = this.#currentCount();
      this.#timerSince = now;
    }
    this.#registers[R_DIVIDE] = value;
    this.#wiring.kick();
  }

  #writeLvt(entry: number, value: number): void {
    const r = this.#registers;
    const at = R_LVT + entry;
    if (entry === TIMER) this.advance(this.#wiring.now());
    const before = r[at];
    let next = value & LVT_WRITABLE[entry];
    if (!this.accepting) next |= LVT_MASKED;
    r[at] = next | (before & LVT_REMOTE_IRR);
    if (entry === TIMER) {
      // To and from TSC-deadline mode the timer is disarmed (10.5.4.1).
      const was = (before >> 17) & 3;
      const is = this.#timerMode;
      if ((was === TSC_DEADLINE) !== (is === TSC_DEADLINE)) {
        this.#tscDeadline = 0n;
        this.#timerRunning = false;
        this.#timerRemaining = 0;
      } else if (was === ONE_SHOT && is === PERIODIC && !this.#timerRunning) this.#timerRemaining = 0;
      this.#wiring.kick();
    }
    if (entry === LINT0 && this.#externalPending()) this.#wiring.kick();
  }

  /** Writing the ICR's low dword sends (10.6.1). */
  #sendIpi(): void {
    const r = this.#registers;
    const low = r[R_ICR_LOW];
    const mode = (low >> 8) & 7;
    const vector = low & 0xff;
    const shorthand = (low >> 18) & 3;
    const assert = (low & 0x4000) !== 0;
    const level = (low & 0x8000) !== 0;
    if (mode === SMI || mode === 3 || mode === EXTINT) return;
    // The INIT level de-assert only sets arbitration IDs, of which there are none.
    if (mode === INIT && level && !assert) return;
    if ((mode === FIXED || mode === LOWEST_PRIORITY) && vector < 16) {
      this.#error(ESR_SEND_ILLEGAL_VECTOR);
      return;
    }
    switch (shorthand) {
      case 1:
        if (mode === FIXED) this.accept(FIXED, vector, false);
        break;
      case 2:
      case 3:
        // Lowest priority with a shorthand is not defined but for "all excluding self"; sent as fixed.
        this.#wiring.broadcast(mode === LOWEST_PRIORITY ? FIXED : mode, vector, false, shorthand === 2);
        break;
      default: {
        const wide = this.#x2apic;
        this.#wiring.send({
          mode,
          vector,
          level: false,
          logical: (low & 0x800) !== 0,
          destination: wide ? r[R_ICR_HIGH] : r[R_ICR_HIGH] >>> 24,
          wide,
        });
      }
    }
  }

  /** IA32_APIC_BASE (10.4.4) and the transitions between modes (10.12.5). */
  #writeApicBase(value: bigint): void {
    const cpu = this.#cpu;
    if (value & 0xffff_ff00_0000_02ffn) throw gp();
    const mode = (v: bigint) => Number((v >> 10n) & 3n);
    const [was, is] = [mode(cpu.apicBase), mode(value)];
    // EXTD without EN; xAPIC from x2APIC; x2APIC from disabled.
    if (is === 1 || (was === 3 && is === 2) || (was === 0 && is === 3)) throw gp();
    if (is === 2) this.#wiring.checkBase(Number(value & 0xff_ffff_f000n));
    if (is === 0 && was !== 0) this.reset();
    cpu.apicBase = value;
    if (is === 3 && was === 2) {
      this.#registers[R_ICR_HIGH] = 0;
      this.#registers[R_LDR] = 0;
    }
    if (was !== is && this.pending()) this.#wiring.kick();
  }
}

/** 10.12.10.2: cluster in bits 31:16, one bit of 15:0. */
function x2apicLdr(id: number): number {
  return ((id >>> 4) << 16) | (1 << (id & 15));
}

/** The highest bit set of 256, or -1. */
function highest(bits: Uint32Array): number {
  for (let word = 7; word >= 0; word--) if (bits[word] !== 0) return word * 32 + 31 - Math.clz32(bits[word]);
  return -1;
}

const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

/** Registers that RDMSR may read in x2APIC mode (table 10-6). */
const READABLE_MSRS: ReadonlySet<number> = new Set([
  ID,
  VERSION,
  TPR,
  PPR,
  LDR,
  SVR,
  ...range(ISR, 8),
  ...range(TMR, 8),
  ...range(IRR, 8),
  ESR,
  ICR_LOW,
  ...range(LVT_TIMER, LVT_ENTRIES),
  INITIAL_COUNT,
  CURRENT_COUNT,
  DIVIDE,
]);

const ALL = 0xffff_ffff_ffff_ffffn;
const reserved = (writable: number) => ALL & ~BigInt(writable >>> 0);

/** Registers that WRMSR may write in x2APIC mode, with the bits that must be 0 (10.12.1.2, table 10-6). */
const RESERVED_MSR_BITS: ReadonlyMap<number, bigint> = new Map([
  [TPR, reserved(0xff)],
  [EOI, ALL],
  [SVR, reserved(SVR_WRITABLE)],
  [ESR, ALL],
  [ICR_LOW, 0xfff3_2000n],
  ...range(LVT_TIMER, LVT_ENTRIES).map((register, i): [number, bigint] => [
    register,
    reserved(LVT_WRITABLE[i] | 0x1000 | (i === 3 || i === 4 ? LVT_REMOTE_IRR : 0)),
  ]),
  [INITIAL_COUNT, reserved(0xffff_ffff)],
  [DIVIDE, reserved(0xb)],
  [SELF_IPI, reserved(0xff)],
]);
