/**
 * Follows one processor of a machine, instruction by instruction, and keeps the shadow of its registers and of memory.
 *
 * Before each step the instruction is worked out on the machine's state with shadows beside the values, then the machine
 * itself takes the step, and what the two made of it is compared. If an event came instead, or the instruction faulted,
 * its shadow effects are dropped and those of the delivery applied.
 */
import type { Cpu, EventSource } from '../../arch/cpu.ts';
import {
  extract,
  insert,
  known,
  type Shadow,
  UNKNOWN,
  uniform,
  union,
  within,
} from '../../engine/taint/shadow.ts';
import {
  type Access,
  Evaluation,
  INTEGER_FLAGS,
  type Outcome,
  type TaintedBits,
  type TaintGuest,
} from '../../engine/taint/taint-builder.ts';
import { decode } from '../../isa/decode/decode.ts';
import { DEFINED_FLAGS, readFlagsDword } from '../../isa/flags.ts';
import type { CodeSize, Instruction } from '../../isa/instruction.ts';
import { ones } from '../../isa/integers.ts';
import {
  floatMnemonics,
  type SystemMnemonic,
  systemMnemonics,
  vexFloatMnemonics,
} from '../../isa/mnemonics.ts';
import { meanings } from '../../isa/semantics/index.ts';
import { CS, FS, GS, offsetOf, RSP, type SegmentNumber, SS, TR } from '../../isa/state.ts';
import type { Machine, Stop } from '../../machine/machine.ts';
import { userPages } from '../user-pages.ts';
import { type BirthKind, Births } from './births.ts';
import type { DeclaredKernelMemory, Declassification, EntryCause } from './declassification.ts';
import { attemptedStack, type Delivery, deliver, faultAddressOf } from './delivery.ts';
import { floatRule } from './float-rule.ts';
import type { Held, Location } from './location.ts';
import { Log } from './log.ts';
import { locate, type Piece, peek, peekCode, peekLinear } from './memory-view.ts';
import { RegisterShadows } from './register-shadows.ts';
import { ShadowMemory } from './shadow-memory.ts';
import { systemRules } from './system-rules.ts';
import type { Before, Place, SystemStep } from './system-step.ts';
import { stackPointerName } from './transfer-rules.ts';

/** The checker and the machine disagree on what an instruction does: an error of the checker. */
export class TaintMismatch extends Error {
  override readonly name = 'TaintMismatch';
  readonly rip: bigint;
  readonly instruction: string;
  constructor(rip: bigint, instruction: string, what: string) {
    super(`${instruction} at 0x${rip.toString(16)}: ${what}`);
    this.rip = rip;
    this.instruction = instruction;
  }
}

/** Something that shadows do not follow, or follow only roughly. */
export interface TaintNote {
  /** The first instruction that it is of, counted from the start of tracking, and its address. */
  readonly index: number;
  readonly rip: bigint;
  /** Its mnemonic. */
  readonly instruction: string;
  readonly what: string;
  /** What it depends on. */
  readonly birth: string;
  /** How often it came. */
  count: number;
}

/** Takes one step of a processor: an instruction or a delivery. */
export type Advance = (machine: Machine, cpu: number) => Stop;

export interface TrackerOptions {
  /** Default: `machine.step(cpu)`. */
  readonly advance?: Advance;
  readonly declassify?: readonly Declassification[];
}

/** How a delivery arose and what it is. */
interface Told extends Delivery {
  readonly source: EventSource;
}

const SOFTWARE: ReadonlySet<EventSource> = new Set(['software', 'int1', 'int3', 'into']);
/** Floating-point arithmetic on vectors, and other instructions whose meaning is in isa. */
const FLOATS: ReadonlySet<string> = new Set<string>([...floatMnemonics, ...vexFloatMnemonics]);
const BUILT: ReadonlySet<string> = new Set(Object.keys(meanings).filter((name) => !FLOATS.has(name)));
const SYSTEM: ReadonlySet<string> = new Set([...systemMnemonics, ...FLOATS]);
/** Kinds of secrets that addresses are made of all the time: where the kernel keeps its things. */
const POINTERS: ReadonlySet<BirthKind> = new Set(['stack-pointer', 'gs-base', 'code-address']);
const PAGE = 4096;
/** Dword of the first general-purpose register in the state. */
const GPR = offsetOf('gpr') / 4;
/** RFLAGS bits that are not always the same. */
const VARIABLE_FLAGS = DEFINED_FLAGS & ~2n;

/** Part of declared kernel memory, by physical address within a page. */
interface DeclaredPart {
  readonly start: number;
  readonly end: number;
  readonly bits: bigint;
}

interface PlannedStore extends TaintedBits {
  readonly pieces: readonly Piece[];
}

/** An instruction worked out, before the machine takes it. */
interface Plan {
  readonly instruction: Instruction;
  readonly evaluation: Evaluation;
  readonly outcome: Outcome;
  readonly stores: readonly PlannedStore[];
  readonly reads: readonly Held[];
  /** Memory that no one can look at was read: values are not known. */
  readonly blind: boolean;
}

export class TaintTracker {
  readonly machine: Machine;
  readonly cpu: Cpu;
  readonly registers = new RegisterShadows();
  readonly memory = new ShadowMemory();
  readonly births = new Births();
  readonly log = new Log();
  readonly conservative: TaintNote[] = [];
  readonly implicit: TaintNote[] = [];
  /** Steps taken. */
  index = 0;
  /** How the kernel was last entered from user mode; undefined before. */
  entry: EntryCause | undefined;

  readonly #advance: Advance;
  readonly #detach: () => void;
  readonly #told: Told[] = [];
  readonly #code = new Uint8Array(15);
  readonly #decoded = new Map<number, { readonly instruction: Instruction; readonly bytes: Uint8Array }>();
  readonly #notes = new Map<string, TaintNote>();
  readonly #declared = new Map<number, DeclaredPart[]>();
  readonly #guest: MachineGuest;
  #userPages: ReadonlySet<number> | undefined;
  #userPagesOf = -1n;
  /** The instruction in progress. */
  #rip = 0n;

  /**
   * Begins at the processor's present state. In user mode all its registers are clean; in the kernel they are too, but for
   * the stack pointer and kernel GS bases: it is taken to stand at its first instruction.
   */
  constructor(machine: Machine, cpu: number, options: TrackerOptions = {}) {
    this.machine = machine;
    this.cpu = machine.cpus[cpu];
    this.#advance = options.advance ?? ((m, n) => m.step(n));
    this.#guest = new MachineGuest(this);
    for (const rule of options.declassify ?? []) if (rule.kind === 'kernelMemory') this.#declare(rule);
    this.#rip = this.cpu.rip;
    const begin = (kind: BirthKind, what: string, width: number) =>
      this.births.add({ kind, what, index: 0, rip: this.#rip }, width);
    const name = `of CPU ${cpu}`;
    for (let i = 0; i < 4; i++) this.registers.debug[i] = begin('system-register', `DR${i} ${name}`, 64);
    if (this.cpu.cpl === 3) {
      this.registers.kernelGsBase = begin('gs-base', `kernel GS base ${name}`, 64);
    } else {
      const { registers } = this;
      registers.gpr[RSP] = begin('stack-pointer', `kernel stack pointer ${name}`, 64);
      // Which of the two is the kernel's is only known from their being in its half of the address space.
      const secret = (base: bigint) => (base >> 63n ? begin('gs-base', `kernel GS base ${name}`, 64) : null);
      registers.gsBase = secret(this.cpu.segBase[GS]);
      registers.kernelGsBase = secret(this.cpu.kernelGsBase);
      this.#adoptFrame();
    }
    this.#detach = machine.on('deliver', (index, vector, errorCode, source) => {
      if (index === cpu) this.#told.push({ vector, errorCode, source });
      return false;
    });
  }

  /** A frame of user mode's on top of the stack, with an error code below it or not, is user mode's. */
  #adoptFrame(): void {
    const { cpu } = this;
    const slot = cpu.longMode ? 8 : 4;
    const base = cpu.mode64 ? 0n : cpu.segBase[SS];
    for (const below of [0, 1]) {
      const at = base + cpu.gpr[RSP] + BigInt(below * slot);
      const selector = peekLinear(cpu, at + BigInt(slot), slot);
      if (selector === undefined || (selector & 3n) !== 3n || selector > 0xffffn) continue;
      for (let i = 0; i < 5; i++)
        for (const { physical, bytes } of locate(cpu, at + BigInt(i * slot), slot) ?? [])
          if (physical < this.machine.configuration.ramBytes) this.memory.store(physical, bytes, null);
      return;
    }
  }

  /** Ends the tracker's attention to the machine. */
  close(): void {
    this.#detach();
  }

  /** One instruction, or one delivery. Throws {@link TaintMismatch}. */
  step(): Stop {
    const { cpu } = this;
    const before = this.#capture();
    this.#rip = before.rip;
    const plan = this.#plan();
    const ruled =
      plan && SYSTEM.has(plan.instruction.mnemonic) ? this.#rule(plan.instruction, before) : undefined;
    const executed = cpu.instructions;
    this.#told.length = 0;
    const stop = this.#advance(this.machine, cpu.index);
    // A listener may keep an event from being delivered: then nothing has happened, but that INT counts as executed.
    const kept = stop.reason === 'hook' && this.#told.length > 0 && cpu.rip === before.rip;
    if (cpu.instructions === executed || kept) return stop;
    if (stop.reason === 'triple-fault' || stop.reason === 'unimplemented') return stop;
    const delivered = this.#told.at(-1);
    if (delivered) this.#deliver(before, plan, ruled?.b ?? plan?.evaluation, delivered);
    else if (ruled) this.#applyRule(before, ruled);
    else if (plan) this.#apply(before, plan);
    this.#noteEntry(before, plan?.instruction, delivered);
    this.index++;
    return stop;
  }

  #capture(): Before {
    const { cpu } = this;
    return {
      rip: cpu.rip,
      cpl: cpu.cpl,
      gpr: cpu.gpr.slice(),
      flags: readFlagsDword(cpu),
      selectors: cpu.segSelector.slice() as Uint16Array,
      bases: cpu.segBase.slice(),
      mode64: cpu.mode64,
      longMode: cpu.longMode,
      realAddressing: cpu.realAddressing,
      virtual8086: cpu.virtual8086,
    };
  }

  #noteEntry(before: Before, instruction: Instruction | undefined, delivered: Told | undefined): void {
    if (before.cpl !== 3 || this.cpu.cpl === 3) return;
    if (delivered) this.entry = delivered.vector;
    else if (instruction?.mnemonic === 'syscall' || instruction?.mnemonic === 'sysenter')
      this.entry = instruction.mnemonic;
  }

  /** The instruction at RIP, if it can be fetched; worked out, if its meaning is in isa. */
  #plan(): Plan | undefined {
    const { cpu } = this;
    const { codeSize } = cpu;
    const linear = codeSize === 64 ? cpu.rip : BigInt.asUintN(32, cpu.segBase[CS] + cpu.rip);
    const instruction = this.#decode(linear, codeSize);
    if (instruction === null) return undefined;
    this.#guest.begin();
    const evaluation = new Evaluation(instruction, this.#guest, cpu.stackSize);
    const outcome: Outcome = BUILT.has(instruction.mnemonic) ? evaluation.run() : { kind: 'next' };
    return this.#planned(instruction, evaluation, outcome);
  }

  /** The instruction at a linear address; one that was there before, if its bytes are still the same. */
  #decode(linear: bigint, codeSize: CodeSize): Instruction | null {
    const length = peekCode(this.cpu, linear, this.#code);
    const key = Number(linear & 0xffff_ffff_ffffn) * 4 + codeSize / 32;
    const known = this.#decoded.get(key);
    if (known && known.instruction.length <= length && known.bytes.every((byte, i) => byte === this.#code[i]))
      return known.instruction;
    const instruction = decode(this.#code, 0, length, codeSize);
    if (instruction) this.#decoded.set(key, { instruction, bytes: this.#code.slice(0, instruction.length) });
    return instruction;
  }

  #planned(instruction: Instruction, evaluation: Evaluation, outcome: Outcome): Plan {
    const stores = evaluation.stores.map(({ linear, bytes, bits, shadow }) => ({
      bits,
      shadow,
      pieces: this.#guest.locate(linear, bytes) ?? [],
    }));
    const reads = this.#reads(evaluation);
    return { instruction, evaluation, outcome, stores, reads, blind: this.#guest.blind };
  }

  #reads({ sources }: Evaluation): Held[] {
    const reads: Held[] = [];
    for (const source of sources) {
      const { shadow } = source;
      if (source.kind === 'memory') {
        for (const { linear, physical, bytes, offset } of this.#guest.locate(source.linear, source.bytes) ??
          [])
          reads.push({
            location: { kind: 'memory', physical, linear, bytes },
            shadow: extract(shadow, 8 * offset, 8 * bytes),
          });
      } else if (source.kind === 'vector') {
        reads.push({ location: { kind: 'vector', part: source.part }, shadow });
      } else if (source.kind === 'flags') reads.push({ location: { kind: 'flags' }, shadow });
      else if (source.kind === 'base') reads.push({ location: source, shadow });
      else reads.push({ location: { kind: 'register', index: source.index }, shadow });
    }
    return reads;
  }

  #mismatch(instruction: Instruction | undefined, what: string): TaintMismatch {
    return new TaintMismatch(this.#rip, instruction?.mnemonic ?? 'delivery', what);
  }

  /** Compares what was worked out with what the machine did, and keeps the shadows. */
  #apply(before: Before, plan: Plan): void {
    const { cpu, registers } = this;
    const { instruction, evaluation, outcome } = plan;
    if (!BUILT.has(instruction.mnemonic)) throw this.#mismatch(instruction, 'completed');
    if (outcome.kind === 'fault')
      throw this.#mismatch(instruction, `completed, where exception ${outcome.vector} was worked out`);
    if (!plan.blind) {
      this.#compare(before, plan);
      const wide = instruction.codeSize === 64;
      const next =
        outcome.kind === 'jump'
          ? outcome.target.bits
          : before.rip + BigInt(outcome.kind === 'again' ? 0 : instruction.length);
      if (cpu.rip !== next && (wide || BigInt.asUintN(32, cpu.rip ^ next) !== 0n))
        throw this.#mismatch(instruction, `goes on at 0x${cpu.rip.toString(16)}, not 0x${next.toString(16)}`);
    }
    const writes: Held[] = [];
    this.#keep(plan, writes);
    if (evaluation.flagsShadow !== registers.flags) {
      registers.flags = plan.blind ? known(evaluation.flagsShadow) : evaluation.flagsShadow;
      writes.push({ location: { kind: 'flags' }, shadow: registers.flags });
    }
    this.log.add({
      index: this.index,
      rip: this.#rip,
      what: instruction.mnemonic,
      reads: plan.reads,
      writes,
    });
    this.#noteEvaluation(instruction, evaluation);
  }

  /** Registers and memory of a plan against the machine. */
  #compare({ flags, gpr }: Before, { instruction, evaluation, stores }: Plan): void {
    const { cpu } = this;
    const old = new Uint32Array(gpr.buffer);
    for (let i = 0; i < 16; i++) {
      const at = GPR + 2 * i;
      const written = evaluation.registers[i];
      if (written === undefined && cpu.u32[at] === old[2 * i] && cpu.u32[at + 1] === old[2 * i + 1]) continue;
      const expected = written?.bits ?? gpr[i];
      if (cpu.gpr[i] !== expected)
        throw this.#mismatch(
          instruction,
          `register ${i} is 0x${cpu.gpr[i].toString(16)}, 0x${expected.toString(16)} was worked out`,
        );
    }
    for (const [part, { bits }] of evaluation.vectors)
      if (vectorBits(cpu, part) !== bits)
        throw this.#mismatch(instruction, `vector part ${part}: 0x${bits.toString(16)} was worked out`);
    const changed = (readFlagsDword(cpu) ^ evaluation.flags) & INTEGER_FLAGS;
    if (changed !== 0 && BUILT.has(instruction.mnemonic))
      throw this.#mismatch(instruction, `flags ${changed.toString(16)} of ${flags.toString(16)} differ`);
    // The last of several stores to one place is what stays.
    const seen = new Set<number>();
    for (const { bits, pieces } of stores.toReversed()) {
      for (const piece of pieces) {
        if (seen.has(piece.physical)) continue;
        seen.add(piece.physical);
        const found = peek(cpu, piece);
        const expected = (bits >> BigInt(8 * piece.offset)) & ones(8 * piece.bytes);
        if (stores.length === 1 && found !== undefined && found !== expected)
          throw this.#mismatch(
            instruction,
            `0x${piece.linear.toString(16)} holds 0x${found.toString(16)}, 0x${expected.toString(16)} was worked out`,
          );
      }
    }
  }

  /** Takes over the shadows of registers and memory that a plan leaves. */
  #keep({ evaluation, stores, blind }: Plan, writes: Held[]): void {
    const { registers } = this;
    for (const [index, written] of evaluation.registers.entries()) {
      if (written === undefined) continue;
      const shadow = blind ? known(written.shadow) : written.shadow;
      registers.gpr[index] = shadow;
      writes.push({ location: { kind: 'register', index }, shadow });
    }
    for (const [part, written] of evaluation.vectors) {
      const shadow = blind ? known(written.shadow) : written.shadow;
      registers.vectors[part] = shadow;
      writes.push({ location: { kind: 'vector', part }, shadow });
    }
    for (const { shadow, pieces } of stores) this.#store(pieces, blind ? known(shadow) : shadow, writes);
  }

  #store(pieces: readonly Piece[], shadow: Shadow | null, writes: Held[]): void {
    const { ramBytes } = this.machine.configuration;
    for (const { physical, linear, bytes, offset } of pieces) {
      if (physical >= ramBytes) continue;
      this.memory.store(physical, bytes, shadow, 8 * offset);
      writes.push({
        location: { kind: 'memory', physical, linear, bytes },
        shadow: extract(shadow, 8 * offset, 8 * bytes),
      });
    }
  }

  #noteEvaluation(instruction: Instruction, { approximations, implicit }: Evaluation): void {
    for (const [what, label] of approximations) this.#note(this.conservative, instruction, what, label);
    for (const { kind, label, linear } of implicit) {
      if (label === UNKNOWN) continue;
      // What is stored in the kernel's own memory, wherever, user mode sees no sooner than it is loaded again.
      if (kind === 'store' && linear !== undefined && !this.#storesForUser(linear)) continue;
      const birth = this.births.find(label)?.birth;
      if (kind !== 'branch' && birth && POINTERS.has(birth.kind)) continue;
      const what = {
        branch: 'condition',
        target: 'target of a jump',
        load: 'address of a load',
        store: 'address of a store',
      }[kind];
      this.#note(this.implicit, instruction, what, label);
    }
  }

  #note(list: TaintNote[], instruction: Instruction | undefined, what: string, label: number): void {
    const birth = this.births.find(label)?.birth.what ?? 'unknown';
    const key = `${this.#rip} ${what} ${birth}`;
    const old = this.#notes.get(key);
    if (old) {
      old.count++;
      return;
    }
    const note = {
      index: this.index,
      rip: this.#rip,
      instruction: instruction?.mnemonic ?? 'delivery',
      what,
      birth,
      count: 1,
    };
    this.#notes.set(key, note);
    list.push(note);
  }

  /** Prepares the rule of a system instruction. */
  #rule(instruction: Instruction, before: Before): RuledStep {
    this.#guest.begin();
    const ruled = new RuledStep(
      this,
      instruction,
      before,
      new Evaluation(instruction, this.#guest, this.cpu.stackSize),
    );
    const { mnemonic } = instruction;
    const rule = FLOATS.has(mnemonic) ? floatRule : systemRules[mnemonic as SystemMnemonic];
    if (rule) ruled.outcome = ruled.b.attempt(() => rule(ruled));
    else ruled.giveUp('no rule');
    ruled.plan = this.#planned(instruction, ruled.b, ruled.outcome);
    return ruled;
  }

  #applyRule(before: Before, ruled: RuledStep): void {
    const { cpu, registers } = this;
    const { instruction, plan } = ruled;
    if (plan === undefined || ruled.outcome.kind === 'fault')
      throw this.#mismatch(instruction, 'completed, where a fault was worked out');
    const reads = [...plan.reads, ...ruled.reads];
    const writes: Held[] = [];
    ruled.finish();
    for (const [index, register] of ruled.b.registers.entries())
      if (register !== undefined && !plan.blind && cpu.gpr[index] !== register.bits && !ruled.sets(index))
        throw this.#mismatch(instruction, `register ${index} is 0x${cpu.gpr[index].toString(16)}`);
    this.#keep(plan, writes);
    this.#take(ruled, writes);
    for (let index = 0; index < 16; index++) {
      if (cpu.gpr[index] === before.gpr[index] || ruled.sets(index) || ruled.b.registers[index]) continue;
      ruled.giveUp(`changes register ${index}`);
    }
    if (ruled.givenUp !== undefined) this.#giveUp(before, instruction, ruled.givenUp, writes);
    registers.flags = plan.blind ? known(registers.flags) : registers.flags;
    this.log.add({ index: this.index, rip: this.#rip, what: instruction.mnemonic, reads, writes });
    this.#noteEvaluation(instruction, ruled.b);
  }

  /** Applies what a rule has set. */
  #take(ruled: RuledStep, writes: Held[]): void {
    for (const { place, shadow } of ruled.writes) {
      if (place.kind === 'memory') {
        this.#store(locate(this.cpu, place.linear, place.bytes) ?? [], shadow, writes);
      } else {
        this.registers.set(place, shadow);
        writes.push({ location: place, shadow });
      }
    }
  }

  /** Everything that an instruction has changed becomes secret. */
  #giveUp(before: Before, instruction: Instruction | undefined, reason: string, writes: Held[]): void {
    const { cpu, registers } = this;
    const what = `${instruction?.mnemonic ?? 'delivery'}: ${reason}`;
    const shadow = this.births.add({ kind: 'conservative', what, index: this.index, rip: this.#rip }, 64);
    const taint = (location: Exclude<Location, { kind: 'memory' }>, width: number, mask = ones(width)) => {
      registers.set(location, union(within(shadow, mask), registers.get(location)));
      writes.push({ location, shadow: registers.get(location) });
    };
    for (let index = 0; index < 16; index++)
      if (cpu.gpr[index] !== before.gpr[index]) taint({ kind: 'register', index }, 64);
    if (readFlagsDword(cpu) !== before.flags) taint({ kind: 'flags' }, 22, VARIABLE_FLAGS);
    for (const segment of [0, 1, 2, 3, 4, 5] as const)
      if (cpu.segSelector[segment] !== before.selectors[segment]) taint({ kind: 'selector', segment }, 16);
    if (cpu.segBase[FS] !== before.bases[FS]) taint({ kind: 'base', segment: FS }, 64);
    if (cpu.segBase[GS] !== before.bases[GS]) taint({ kind: 'base', segment: GS }, 64);
    this.#note(this.conservative, instruction, reason, shadow.any);
  }

  /** An event was delivered in place of the instruction, or the instruction was one that delivers. */
  #deliver(before: Before, plan: Plan | undefined, worked: Evaluation | undefined, told: Told): void {
    const software = SOFTWARE.has(told.source);
    if (!software && plan && told.source === 'exception') this.#keepPartly(before, plan);
    this.#guest.begin();
    const instruction = plan?.instruction ?? NO_INSTRUCTION;
    const ruled = new RuledStep(
      this,
      instruction,
      before,
      new Evaluation(instruction, this.#guest, this.cpu.stackSize),
    );
    if (this.#told.some(({ vector }) => vector === 14))
      this.#faultAddress(before, worked?.accesses ?? [], ruled);
    for (const failed of this.#told.slice(0, -1)) this.#spoil(attemptedStack(ruled, failed)?.pointer);
    const bits = software ? before.rip + BigInt(instruction.length) : before.rip;
    const shadow =
      before.cpl === 3 ? this.registers.rip : this.births.codeAddress(bits, this.index, this.#rip);
    const wrong = deliver(ruled, told, { bits, shadow });
    if (wrong !== undefined) throw this.#mismatch(undefined, `vector ${told.vector}: ${wrong}`);
    const writes: Held[] = [];
    const what = `delivery of vector ${told.vector}`;
    this.#take(ruled, writes);
    if (ruled.givenUp !== undefined) this.#giveUp(before, undefined, ruled.givenUp, writes);
    const reads: Held[] = [...ruled.reads];
    if (before.cpl === 3) reads.push({ location: { kind: 'rip' }, shadow: this.registers.rip });
    this.log.add({ index: this.index, rip: before.rip, what, reads, writes });
  }

  /** What a faulting instruction had stored or loaded before the fault, where it can be seen to have. */
  #keepPartly(before: Before, { evaluation, stores }: Plan): void {
    const { cpu, registers } = this;
    const { ramBytes } = this.machine.configuration;
    for (const { bits, shadow, pieces } of stores)
      for (const piece of pieces) {
        if (piece.physical >= ramBytes) continue;
        if (peek(cpu, piece) === ((bits >> BigInt(8 * piece.offset)) & ones(8 * piece.bytes)))
          this.memory.add(piece.physical, piece.bytes, shadow, 8 * piece.offset);
      }
    for (const [index, written] of evaluation.registers.entries())
      if (index !== RSP && written?.bits === cpu.gpr[index] && cpu.gpr[index] !== before.gpr[index])
        registers.gpr[index] = union(written.shadow, registers.gpr[index]);
  }

  /**
   * CR2 of a page fault of the instruction: as secret as the address that it formed, and no secret of user mode. Of one
   * that came up in a delivery: as secret as the stack.
   */
  #faultAddress(before: Before, accesses: readonly Access[], ruled: RuledStep): void {
    const nth = this.#told.findIndex(({ vector }) => vector === 14);
    const { cr2 } = this.cpu;
    const set = (shadow: Shadow | null) => ruled.set({ kind: 'cr2' }, shadow);
    if (nth > 0) set(faultAddressOf(ruled, this.#told[nth - 1]));
    else if (before.cpl === 3) set(null);
    else {
      const access = accesses.find(({ linear, bytes }) => cr2 >= linear && cr2 < linear + BigInt(bytes));
      if (access) set(access.address());
      else if (cr2 === before.rip) set(this.births.codeAddress(cr2, this.index, this.#rip));
      else set(ruled.born('system-register', 'address of a structure of the processor', 64));
    }
  }

  /** A frame may have been pushed in part, below `pointer`. */
  #spoil(pointer: bigint | undefined): void {
    if (pointer === undefined || (pointer & 0xfffn) >= 64n) return;
    const what = 'frame of an exception that could not be delivered';
    const shadow = this.births.add({ kind: 'conservative', what, index: this.index, rip: this.#rip }, 64);
    for (let slot = 1n; slot <= 8n; slot++)
      for (const { physical, bytes, offset } of locate(this.cpu, pointer - 8n * slot, 8) ?? [])
        if (physical < this.machine.configuration.ramBytes)
          this.memory.add(physical, bytes, shadow, 8 * offset);
  }

  #declare({ start, end, bits, physical }: DeclaredKernelMemory): void {
    for (let at = start; at < end; ) {
      const next = (at | 0xfffn) + 1n < end ? (at | 0xfffn) + 1n : end;
      const [piece] = physical ? [{ physical: Number(at) }] : (locate(this.cpu, at, 1) ?? []);
      if (piece) {
        const page = Math.floor(piece.physical / PAGE);
        const parts = this.#declared.get(page) ?? [];
        const first = piece.physical % PAGE;
        parts.push({ start: first, end: first + Number(next - at), bits: bits ?? ones(64) });
        this.#declared.set(page, parts);
      }
      at = next;
    }
  }

  /** Bits of the kernel memory byte at `physical` that are declared to be no secret. */
  #declaredBits(physical: number): number {
    const at = physical % PAGE;
    let bits = 0;
    for (const part of this.#declared.get(Math.floor(physical / PAGE)) ?? [])
      if (at >= part.start && at < part.end) bits |= Number((part.bits >> BigInt(8 * (at & 7))) & 0xffn);
    return bits;
  }

  /** Whether user mode can read physical memory at `physical`, by the page tables of the present CR3. */
  #isUsers(physical: number): boolean {
    if (this.#userPages === undefined || this.#userPagesOf !== this.cpu.cr3) {
      this.#userPages = new Set(userPages(this.machine, this.cpu.index).keys());
      this.#userPagesOf = this.cpu.cr3;
    }
    return this.#userPages.has(Math.floor(physical / PAGE));
  }

  #storesForUser(linear: bigint): boolean {
    const [piece] = this.#guest.locate(linear, 1) ?? [];
    return piece !== undefined && (piece.user || this.#isUsers(piece.physical));
  }

  /** The shadow of memory; what is read of supervisor memory for the first time is born there. */
  load(pieces: readonly Piece[]): Shadow | null {
    let shadow: Shadow | null = null;
    for (const piece of pieces) {
      this.#bear(piece);
      const part = this.memory.load(piece.physical, piece.bytes);
      shadow = pieces.length === 1 ? part : insert(shadow, part, 8 * piece.offset, 8 * piece.bytes);
    }
    return shadow;
  }

  #bear({ physical, bytes, linear, user }: Piece): void {
    let fresh = -1;
    for (let i = 0; i < bytes && fresh < 0; i++) if (!this.memory.touched(physical + i)) fresh = i;
    if (fresh < 0 || user || this.cpu.cpl === 3) return;
    if (this.#isUsers(physical)) {
      this.memory.store(physical + fresh, 1, null);
      if (fresh + 1 < bytes) this.#bear({ physical, bytes, linear, user, offset: 0 });
      return;
    }
    const stack = bytes === 8 ? this.#stackPointerAt(physical) : undefined;
    const kind = stack === undefined ? 'kernel-memory' : 'stack-pointer';
    const what = stack ?? `kernel memory 0x${linear.toString(16)}`;
    const birth = this.births.add(
      { kind, what, index: this.index, rip: this.#rip, linear, physical },
      8 * bytes,
    );
    for (let i = fresh; i < bytes; i++) {
      if (this.memory.touched(physical + i)) continue;
      const secret = BigInt(~this.#declaredBits(physical + i) & 0xff);
      const byte = extract(birth, 8 * i, 8);
      this.memory.store(physical + i, 1, secret === 0n ? null : withinByte(byte, secret));
    }
  }

  /** What the stack pointer is called that the present 64-bit TSS has there. SDM vol. 3A figure 7-11. */
  #stackPointerAt(physical: number): string | undefined {
    const { cpu } = this;
    if (!cpu.longMode) return undefined;
    const [tss] = locate(cpu, cpu.segBase[TR], 1) ?? [];
    const field = tss ? (physical - tss.physical - 4) / 8 : -1;
    const name = STACK_POINTERS_OF_TSS[field];
    return name === undefined ? undefined : stackPointerName(name, cpu.index);
  }

  /** For rules. */
  born(kind: BirthKind, what: string, width: number): Shadow {
    return this.births.add({ kind, what, index: this.index, rip: this.#rip }, width);
  }

  codeAddress(rip: bigint): Shadow | null {
    return this.cpu.cpl === 3 ? null : this.births.codeAddress(rip, this.index, this.#rip);
  }
}

/** By quadwords from the fifth byte on. */
const STACK_POINTERS_OF_TSS = [
  'RSP0',
  'RSP1',
  'RSP2',
  '',
  ...[1, 2, 3, 4, 5, 6, 7].map((i) => `IST${i}`),
].map((name) => name || undefined);

function withinByte(byte: Shadow | null, mask: bigint): Shadow | null {
  return byte && within(byte, mask);
}

/** Stands for the instruction that could not be fetched. */
const NO_INSTRUCTION: Instruction = {
  mnemonic: 'invalid',
  length: 0,
  codeSize: 64,
  operandSize: 64,
  addressSize: 64,
  operands: [],
  condition: 0,
  repeat: '',
  lock: false,
  segment: 3,
};

/** The machine's state as an instruction finds it. */
class MachineGuest implements TaintGuest {
  readonly #tracker: TaintTracker;
  readonly #located: { linear: bigint; bytes: number; pieces: readonly Piece[] | null }[] = [];
  /** Memory was read that cannot be looked at. */
  blind = false;

  constructor(tracker: TaintTracker) {
    this.#tracker = tracker;
  }
  /** To be called before each instruction. */
  begin(): void {
    this.blind = false;
    this.#located.length = 0;
  }
  /** As {@link locate}, for accesses of one instruction. */
  locate(linear: bigint, bytes: number): readonly Piece[] | null {
    for (const found of this.#located)
      if (found.linear === linear && found.bytes === bytes) return found.pieces;
    const pieces = locate(this.#tracker.cpu, linear, bytes);
    this.#located.push({ linear, bytes, pieces });
    return pieces;
  }
  get rip(): bigint {
    return this.#tracker.cpu.rip;
  }
  get flags(): number {
    return readFlagsDword(this.#tracker.cpu);
  }
  get flagsShadow(): Shadow | null {
    return this.#tracker.registers.flags;
  }
  get codeLimit(): bigint {
    return BigInt(this.#tracker.cpu.segLimit[CS]);
  }
  register(index: number): TaintedBits {
    return { bits: this.#tracker.cpu.gpr[index], shadow: this.#tracker.registers.gpr[index] };
  }
  vector(part: number): TaintedBits {
    const { cpu, registers } = this.#tracker;
    return { bits: vectorBits(cpu, part), shadow: registers.vectors[part] };
  }
  get x87Pending(): boolean {
    return (this.#tracker.cpu.fsw & 0x80) !== 0;
  }
  segmentBase(segment: SegmentNumber): TaintedBits {
    return { bits: this.#tracker.cpu.segBase[segment], shadow: this.#tracker.registers.base(segment) };
  }
  load(linear: bigint, bytes: number): TaintedBits | null {
    const { cpu } = this.#tracker;
    const pieces = this.locate(linear, bytes);
    if (pieces === null) return null;
    let bits = 0n;
    for (const piece of pieces) {
      const part = peek(cpu, piece);
      if (part === undefined) {
        this.blind = true;
        return { bits: 0n, shadow: uniform(ones(8 * bytes), UNKNOWN) };
      }
      bits |= part << BigInt(8 * piece.offset);
    }
    return { bits, shadow: this.#tracker.load(pieces) };
  }
  canStore(linear: bigint, bytes: number): boolean {
    return this.locate(linear, bytes) !== null;
  }
  codeAddress(rip: bigint): Shadow | null {
    return this.#tracker.codeAddress(rip);
  }
}

/** A part of a vector register, numbered as by `vectorPart`: 128 bits, of an MM register 64. */
function vectorBits(cpu: Cpu, part: number): bigint {
  if (part >= 32) return cpu.x87[2 * (part - 32)];
  return (cpu.ymm[2 * part + 1] << 64n) | cpu.ymm[2 * part];
}

/** A system instruction, or a delivery, at work. */
class RuledStep implements SystemStep {
  readonly instruction: Instruction;
  readonly before: Before;
  readonly b: Evaluation;
  readonly reads: Held[] = [];
  readonly writes: { readonly place: Place; readonly shadow: Shadow | null }[] = [];
  outcome: Outcome = { kind: 'next' };
  plan: Plan | undefined;
  givenUp: string | undefined;
  readonly #tracker: TaintTracker;
  readonly #later: (() => void)[] = [];

  constructor(tracker: TaintTracker, instruction: Instruction, before: Before, b: Evaluation) {
    this.#tracker = tracker;
    this.instruction = instruction;
    this.before = before;
    this.b = b;
  }
  get cpu(): Cpu {
    return this.#tracker.cpu;
  }
  get shadows(): RegisterShadows {
    return this.#tracker.registers;
  }
  read(place: Exclude<Location, { kind: 'memory' }>): Shadow | null {
    const shadow = this.shadows.get(place);
    if (shadow !== null) this.reads.push({ location: place, shadow });
    return shadow;
  }
  load(linear: bigint, bytes: number): Shadow | null {
    const pieces = locate(this.cpu, linear, bytes);
    if (pieces === null || pieces.some((piece) => peek(this.cpu, piece) === undefined)) return null;
    const shadow = this.#tracker.load(pieces);
    for (const { physical, linear, bytes, offset } of pieces)
      this.reads.push({
        location: { kind: 'memory', physical, linear, bytes },
        shadow: extract(shadow, 8 * offset, 8 * bytes),
      });
    return shadow;
  }
  born(kind: BirthKind, what: string, width: number): Shadow {
    return this.#tracker.born(kind, what, width);
  }
  set(place: Place, shadow: Shadow | null): void {
    this.writes.push({ place, shadow });
  }
  after(action: () => void): void {
    this.#later.push(action);
  }
  giveUp(reason: string): void {
    this.givenUp ??= reason;
  }
  /** What was left for after the instruction. */
  finish(): void {
    for (const action of this.#later) action();
  }
  /** Register `index` is given its shadow by the rule, not by its value. */
  sets(index: number): boolean {
    return this.writes.some(({ place }) => place.kind === 'register' && place.index === index);
  }
}
