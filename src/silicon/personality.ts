/**
 * Just enough of Linux for a small static x86-64 program to run on the machine in user mode: the ELF loader, a
 * few system calls, and exceptions delivered as signals with the frame that the kernel's ABI gives them.
 *
 * There is no kernel code: the run stops where the processor would enter the kernel, the kernel's part is played
 * here, and the run goes on in user mode.
 */
import { TripleFault } from '../arch/fault.ts';
import { readFlags, writeFlags } from '../isa/flags.ts';
import { CS, SHADOW_NONE, SS } from '../isa/state.ts';
import {
  decodeUserDescriptor,
  MAP_ANONYMOUS,
  MAP_FIXED,
  PROT_EXEC,
  PROT_WRITE,
  SIGCONTEXT,
  SIGNAL,
  SYS,
  UC_MCONTEXT,
  UC_SIGCONTEXT_SS,
  UC_STRICT_RESTORE_SS,
  USER_CS,
  USER_DS,
  type UserDescriptor,
} from './linux-abi.ts';
import { World } from './world.ts';

const PAGE = 0x1000n;
const EINVAL = -22n;
const EFAULT = -14n;
const ENOSYS = -38n;
const ENOMEM = -12n;

const PT_LOAD = 1;
const STACK_TOP = 0x7fff_ffff_0000n;
const STACK_BYTES = 0x4000;

/** Bytes below the interrupted stack pointer that a signal frame leaves alone. */
const RED_ZONE = 128n;
/** struct siginfo, and struct ucontext with the machine context and a 64-bit signal mask. */
const SIGINFO_BYTES = 128n;
const UCONTEXT_BYTES = BigInt(UC_MCONTEXT + SIGCONTEXT.size + 8);

const RF = 0x1_0000n;
const DF = 0x400n;
const TF = 0x100n;
/** What sigreturn restores of RFLAGS: AC OF DF TF SF ZF AF PF CF RF. */
const RESTORED_FLAGS = 0x5_0dd5n;

const PAGE_FAULT = 14;
const DEBUG = 1;

/** The signal that Linux sends for each exception of user code. */
const SIGNALS: Readonly<Record<number, number>> = {
  0: SIGNAL.SIGFPE, 1: SIGNAL.SIGTRAP, 3: SIGNAL.SIGTRAP, 4: SIGNAL.SIGSEGV, 5: SIGNAL.SIGSEGV, 6: SIGNAL.SIGILL,
  10: SIGNAL.SIGSEGV, 11: SIGNAL.SIGBUS, 12: SIGNAL.SIGBUS, 13: SIGNAL.SIGSEGV, 14: SIGNAL.SIGSEGV, 17: SIGNAL.SIGBUS,
}; // biome-ignore format: a table

/** How a program ended: by exit, or by a signal that it did not handle. */
export interface Ending {
  readonly status?: number;
  readonly signal?: number;
  /** The exception behind the signal. */
  readonly vector?: number;
  /** What it wrote to standard output. */
  readonly output: Uint8Array;
}

/** The program is not an ELF64 static executable that this loader takes, or did what no system call here covers. */
export class ProgramError extends Error {}

interface Action {
  readonly handler: bigint;
  readonly flags: bigint;
  readonly restorer: bigint;
}

/** One process. */
class Process {
  readonly #world = new World();
  readonly #ldt: (UserDescriptor | undefined)[] = [];
  readonly #actions = new Map<number, Action>();
  #alternate: { base: bigint; size: bigint } | undefined;
  readonly #output: number[] = [];
  #stopped: { vector: number; error: number } | undefined;
  /** CR2 as the kernel remembers it for the process: of the last page fault that became a signal. */
  #cr2 = 0n;
  #ending: Ending | undefined;

  constructor(image: Uint8Array) {
    const entry = this.#load(image);
    const { cpu } = this.#world;
    this.#world.map(STACK_TOP - BigInt(STACK_BYTES), STACK_BYTES, { write: true, execute: false });
    // argc = 0, no arguments, no environment, an empty auxiliary vector.
    cpu.gpr[4] = STACK_TOP - 0x100n;
    cpu.rip = entry;
    writeFlags(cpu, 0x202n);
    this.#userSegments();
    cpu.hooks = {
      deliver: (_cpu, vector, error, source) => {
        if (source === 'software' && vector !== 3 && vector !== 4) return false;
        this.#stopped = { vector, error: error ?? 0 };
        return true;
      },
    };
  }

  #userSegments(): void {
    for (const segment of [0, 3, 4, 5] as const) this.#world.loadSegment(segment, 0);
    this.#world.loadSegment(CS, USER_CS);
    this.#world.loadSegment(SS, USER_DS);
    this.#world.cpu.cpl = 3;
  }

  #load(image: Uint8Array): bigint {
    const view = new DataView(image.buffer, image.byteOffset, image.length);
    if (
      image.length < 64 ||
      view.getUint32(0, false) !== 0x7f454c46 ||
      image[4] !== 2 ||
      view.getUint16(18, true) !== 62
    )
      throw new ProgramError('not an ELF64 file for x86-64');
    if (view.getUint16(16, true) !== 2) throw new ProgramError('not a static executable (ET_EXEC)');
    const headers = Number(view.getBigUint64(32, true));
    const count = view.getUint16(56, true);
    if (headers + count * 56 > image.length)
      throw new ProgramError('the program headers lie beyond the end of the file');
    for (let i = 0; i < count; i++) {
      const at = headers + i * 56;
      if (view.getUint32(at, true) !== PT_LOAD) continue;
      const flags = view.getUint32(at + 4, true);
      const offset = Number(view.getBigUint64(at + 8, true));
      const address = view.getBigUint64(at + 16, true);
      const fileSize = Number(view.getBigUint64(at + 32, true));
      const memorySize = Number(view.getBigUint64(at + 40, true));
      if (offset + fileSize > image.length || fileSize > memorySize)
        throw new ProgramError(`segment ${i} lies beyond the end of the file`);
      const first = address & ~(PAGE - 1n);
      const bytes = Number((address + BigInt(memorySize) - first + PAGE - 1n) & ~(PAGE - 1n));
      this.#world.map(first, bytes, { write: (flags & 2) !== 0, execute: (flags & 1) !== 0 });
      this.#copyOut(address, image.subarray(offset, offset + fileSize));
    }
    return view.getBigUint64(24, true);
  }

  /** Bytes of user memory; undefined where any is not mapped. */
  #copyIn(address: bigint, length: number): Uint8Array | undefined {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const physical = this.#world.physical(address + BigInt(done));
      if (physical < 0) return undefined;
      const part = Math.min(length - done, 0x1000 - (physical & 0xfff));
      bytes.set(this.#world.ram(physical, part), done);
      done += part;
    }
    return bytes;
  }

  #copyOut(address: bigint, bytes: Uint8Array): boolean {
    for (let done = 0; done < bytes.length; ) {
      const physical = this.#world.physical(address + BigInt(done));
      if (physical < 0) return false;
      const part = Math.min(bytes.length - done, 0x1000 - (physical & 0xfff));
      this.#world.ram(physical, part).set(bytes.subarray(done, done + part));
      done += part;
    }
    return true;
  }

  #write64(address: bigint, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
    if (!this.#copyOut(address, bytes)) throw new ProgramError('a signal frame does not fit the stack');
  }

  #read64(address: bigint): bigint {
    const bytes = this.#copyIn(address, 8);
    if (!bytes) throw new ProgramError('a signal frame is not in memory');
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  /** Runs to the end. */
  run(budget: number): Ending {
    const { cpu, execution } = this.#world;
    const end = cpu.instructions + BigInt(budget);
    while (!this.#ending) {
      if (cpu.instructions >= end) throw new ProgramError(`did not end within ${budget} instructions`);
      this.#stopped = undefined;
      try {
        execution.run(cpu, budget);
      } catch (error) {
        if (error instanceof TripleFault) throw new ProgramError('triple fault');
        throw error;
      }
      if (!this.#stopped) continue;
      const { vector, error } = this.#stopped;
      if (cpu.cpl === 0) this.#systemCall();
      else this.#signal(vector, error);
    }
    return this.#ending;
  }

  /** The fetch at the system-call entry point failed, as there is no kernel: RCX and R11 hold RIP and RFLAGS. */
  #systemCall(): void {
    const { cpu } = this.#world;
    const { gpr } = cpu;
    const number = Number(gpr[0]);
    const back = () => {
      cpu.rip = gpr[1];
      writeFlags(cpu, gpr[11]);
      cpu.shadow = SHADOW_NONE;
      this.#world.loadSegment(CS, USER_CS);
      this.#world.loadSegment(SS, USER_DS);
      cpu.cpl = 3;
    };
    const [first, second, third] = [gpr[7], gpr[6], gpr[2]];
    let result = ENOSYS;
    switch (number) {
      case SYS.write: {
        const bytes = this.#copyIn(second, Number(third));
        if (bytes) for (const byte of bytes) this.#output.push(byte);
        result = bytes ? third : EFAULT;
        break;
      }
      case SYS.mmap:
        result = this.#map(first, second, Number(third), Number(gpr[10]));
        break;
      case SYS.modify_ldt:
        result = first === 1n || first === 0x11n ? this.#modifyLdt(second, third) : ENOSYS;
        break;
      case SYS.sigaltstack: {
        const bytes = this.#copyIn(first, 24);
        if (bytes) {
          const view = new DataView(bytes.buffer);
          this.#alternate = { base: view.getBigUint64(0, true), size: view.getBigUint64(16, true) };
        }
        result = bytes ? 0n : EFAULT;
        break;
      }
      case SYS.rt_sigaction: {
        const bytes = this.#copyIn(second, 32);
        if (bytes) {
          const view = new DataView(bytes.buffer);
          const [handler, flags, restorer] = [0, 8, 16].map((offset) => view.getBigUint64(offset, true));
          this.#actions.set(Number(first), { handler, flags, restorer });
        }
        result = bytes ? 0n : EFAULT;
        break;
      }
      case SYS.rt_sigreturn:
        this.#sigreturn();
        return;
      case SYS.exit:
      case SYS.exit_group:
        this.#ending = { status: Number(first & 0xffn), output: Uint8Array.from(this.#output) };
        return;
    }
    back();
    gpr[0] = BigInt.asUintN(64, result);
  }

  #map(address: bigint, length: bigint, protection: number, flags: number): bigint {
    const needed = MAP_FIXED | MAP_ANONYMOUS;
    if ((flags & needed) !== needed || address & (PAGE - 1n)) return EINVAL;
    if (length > 0x10_0000n) return ENOMEM;
    const bytes = Number((length + PAGE - 1n) & ~(PAGE - 1n));
    this.#world.map(address, bytes, {
      write: (protection & PROT_WRITE) !== 0,
      execute: (protection & PROT_EXEC) !== 0,
    });
    return address;
  }

  #modifyLdt(pointer: bigint, length: bigint): bigint {
    const bytes = length === 16n ? this.#copyIn(pointer, 16) : undefined;
    if (!bytes) return EINVAL;
    const { entry, descriptor } = decodeUserDescriptor(bytes);
    if (entry >= 64) return EINVAL;
    while (this.#ldt.length <= entry) this.#ldt.push(undefined);
    this.#ldt[entry] = descriptor;
    this.#world.setLdt(this.#ldt);
    return 0n;
  }

  /** An exception in user mode becomes a signal. */
  #signal(vector: number, error: number): void {
    const { cpu } = this.#world;
    const signal = SIGNALS[vector] ?? SIGNAL.SIGSEGV;
    const action = this.#actions.get(signal);
    if (!action || action.handler <= 1n) {
      this.#ending = { signal, vector, output: Uint8Array.from(this.#output) };
      return;
    }
    if (vector === PAGE_FAULT) this.#cr2 = cpu.cr2;
    let pointer = cpu.gpr[4] - RED_ZONE;
    if (this.#alternate) pointer = this.#alternate.base + this.#alternate.size;
    // struct rt_sigframe: return address, ucontext, siginfo. The stack is aligned as after a call.
    const frame = ((pointer - 8n - UCONTEXT_BYTES - SIGINFO_BYTES) & ~15n) - 8n;
    const context = frame + 8n;
    const info = context + UCONTEXT_BYTES;
    for (let at = frame; at < info + SIGINFO_BYTES; at += 8n) this.#write64(at, 0n);
    this.#write64(frame, action.restorer);
    this.#write64(context, BigInt(UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS));
    const machine = context + BigInt(UC_MCONTEXT);
    SIGCONTEXT.gpr.forEach((offset, register) => {
      this.#write64(machine + BigInt(offset), cpu.gpr[register]);
    });
    // Faults push RFLAGS with RF set, traps without.
    const trap = vector === 3 || vector === 4 || vector === DEBUG;
    this.#write64(machine + BigInt(SIGCONTEXT.rip), cpu.rip);
    this.#write64(machine + BigInt(SIGCONTEXT.rflags), readFlags(cpu) | (trap ? 0n : RF));
    this.#write64(
      machine + BigInt(SIGCONTEXT.cs),
      BigInt(cpu.segSelector[CS]) | (BigInt(cpu.segSelector[SS]) << 48n),
    );
    this.#write64(machine + BigInt(SIGCONTEXT.err), BigInt(error));
    this.#write64(machine + BigInt(SIGCONTEXT.trapno), BigInt(vector));
    this.#write64(machine + BigInt(SIGCONTEXT.cr2), this.#cr2);
    this.#write64(info, BigInt(signal));

    cpu.gpr[7] = BigInt(signal);
    cpu.gpr[6] = info;
    cpu.gpr[2] = context;
    cpu.gpr[0] = 0n;
    cpu.gpr[4] = frame;
    cpu.rip = action.handler;
    cpu.shadow = SHADOW_NONE;
    cpu.pendingDebug = 0;
    writeFlags(cpu, readFlags(cpu) & ~(DF | TF | RF));
    this.#world.loadSegment(CS, USER_CS);
    this.#world.loadSegment(SS, USER_DS);
  }

  #sigreturn(): void {
    const { cpu } = this.#world;
    // The handler's RET has taken the return address.
    const machine = cpu.gpr[4] + BigInt(UC_MCONTEXT);
    SIGCONTEXT.gpr.forEach((offset, register) => {
      if (register !== 4) cpu.gpr[register] = this.#read64(machine + BigInt(offset));
    });
    const selectors = this.#read64(machine + BigInt(SIGCONTEXT.cs));
    cpu.rip = this.#read64(machine + BigInt(SIGCONTEXT.rip));
    const flags = this.#read64(machine + BigInt(SIGCONTEXT.rflags));
    writeFlags(cpu, (readFlags(cpu) & ~RESTORED_FLAGS) | (flags & RESTORED_FLAGS) | 0x200n);
    this.#world.loadSegment(CS, Number(selectors & 0xffffn) | 3);
    this.#world.loadSegment(SS, Number(selectors >> 48n) | 3);
    cpu.gpr[4] = this.#read64(machine + BigInt(SIGCONTEXT.gpr[4]));
    cpu.cpl = 3;
    cpu.shadow = SHADOW_NONE;
  }
}

/** Runs a static x86-64 Linux program on the machine. Throws {@link ProgramError}. */
export function runProgram(image: Uint8Array, budget = 10_000_000): Ending {
  return new Process(image).run(budget);
}
