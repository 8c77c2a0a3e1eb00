/** Where everything lies: linear addresses, selectors, and the structures that assembly code shares. */

/** Physical address at which the image is loaded. */
export const LOAD_ADDRESS = 0x10_0000n;
/** The kernel's code and data: linear = physical + KERNEL_BASE. In PGD slot 511, as the code model wants. */
export const KERNEL_BASE = 0xffff_ffff_8000_0000n;
/** The first 64 MiB of physical memory, writable, never executable. */
export const PHYSICAL_MAP = 0xffff_8880_0000_0000n;
/** Physical memory that the physical map covers. */
export const PHYSICAL_MAP_SIZE = 64 << 20;
/** Kernel stacks lie above this address, each alone in a 64 KiB region so that bits 31:16 name it. */
export const STACKS_BASE = 0xffff_c900_0000_0000n;
/** Offset of a stack's first page in its 64 KiB region; pages around it are not mapped. */
export const STACK_OFFSET = 0x2000n;
/** The local APIC as the kernel sees it. */
export const LAPIC = 0xffff_ffff_ff5f_b000n;
/** The local APIC's physical address after reset (SDM Vol. 3A, Section 10.4.1). */
export const LAPIC_PHYSICAL = 0xfee0_0000n;
/** Where application processors begin in real mode; the start-up IPI's vector is this address >> 12. */
export const TRAMPOLINE = 0x8000n;

/** The second-to-last PGD slot, the home of espfix64's aliases. */
export const ESPFIX_BASE = 0xffff_ff00_0000_0000n;
export const ESPFIX_PGD_SLOT = 510;
/** Linear bytes that one PGD slot maps. */
export const PGD_SLOT_SIZE = 1n << 39n;
export const ESPFIX_STACK_SIZE = 64;
/** Aliases of a ministack: one for each value of address bits 31:16. */
export const ESPFIX_ALIASES = 1 << 16;
export const PAGE_SIZE = 4096;

/** User space, below 4 GiB so that compatibility-mode code reaches it. */
export const USER_TEXT = 0x0040_0000n;
export const USER_RODATA = 0x0050_0000n;
/** The local APIC mapped for user space: the test tasks raise interrupts at an instruction of their choice. */
export const USER_LAPIC = 0x0070_0000n;
/** Each CPU's user pages: one that the kernel alone writes, then the task's data and stacks. */
export const USER_AREA = 0x0080_0000n;
export const USER_AREA_STRIDE = 0x8000n;
/** Pages of the user area that are the task's own, after the kernel-written page. */
export const USER_AREA_PAGES = 5;

/** GDT selectors. The order is what SYSCALL and SYSRET need (SDM Vol. 3A, Section 5.8.8). */
export const selector = {
  kernelCode: 0x10,
  kernelData: 0x18,
  userCode32: 0x23,
  userData: 0x2b,
  userCode64: 0x33,
  /** The stack segment of the segment-base trick, whose base each return sets. */
  espfix: 0x38,
  tss: 0x40,
  ldt: 0x50,
  /** The first of the slots that a kernel with thread-local segments lets tasks fill. */
  tls: 0x63,
} as const;
/** Bytes of the GDT without such slots. */
export const GDT_SIZE = 0x60;

/** LDT selectors that the test task makes with modify_ldt. */
export const ldtSelector = {
  code32: 0x07,
  code16: 0x0f,
  data16: 0x17,
  data32: 0x1f,
  absentData16: 0x27,
  readOnlyData16: 0x2f,
  absentCode32: 0x37,
  /** Beyond the limit of an LDT of LDT_ENTRIES. */
  outOfLimit: 0x10f,
} as const;
export const LDT_ENTRIES = 32;

/** Interrupt vectors beyond the exceptions. */
export const vector = {
  /** The 8259s' 16 lines, all masked. */
  legacy: 0x20,
  timer: 0x40,
  ipi: 0x41,
  wake: 0x42,
  syscall: 0x80,
  /**
   * INT that stands in for a machine check, which an image cannot provoke: the same entry and handler, but a stack
   * of its own, as it does not hold off real machine checks.
   */
  machineCheckStandIn: 0x92,
  spurious: 0xff,
} as const;

/** Codes beyond the vectors that say how else the kernel was entered. */
export const cause = { syscall: 0x100, raise: 0x101, step: 0x102 } as const;

/** Offsets of consecutive fields of 8 bytes. */
function words<const N extends readonly string[]>(
  names: N,
): Record<N[number], number> & { readonly size: number } {
  const offsets = Object.fromEntries(names.map((name, i) => [name, 8 * i]));
  return { ...(offsets as Record<N[number], number>), size: 8 * names.length };
}

/**
 * The registers of an interrupted task as the entry code leaves them on the stack, lowest address first. The
 * last five words are what the processor pushed (SDM Vol. 3A, Figure 6-9).
 */
export const regs = words([
  'r15',
  'r14',
  'r13',
  'r12',
  'r11',
  'r10',
  'r9',
  'r8',
  'rdi',
  'rsi',
  'rbp',
  'rbx',
  'rdx',
  'rcx',
  'rax',
  'vector',
  'error',
  'rip',
  'cs',
  'rflags',
  'rsp',
  'ss',
]);
/** The processor's part of `regs`: RIP, CS, RFLAGS, RSP, SS. */
export const FRAME_SIZE = 40;
/** The frame relative to RSP at IRETQ. */
export const frame = words(['rip', 'cs', 'rflags', 'rsp', 'ss']);

/** What a signal leaves on the user's signal stack. */
export const signalFrame = { ...regs, cr2: regs.size, size: regs.size + 16 } as const;

/** The per-CPU area; GS base points at it while the kernel runs. */
export const percpu = words([
  'self',
  /** Top of the running task's kernel stack. */
  'kernelStack',
  /** User RSP while SYSCALL finds a stack. */
  'userStack',
  'id',
  /** Tops of the two task stacks. */
  'mainStack',
  'childStack',
  /** Top of the stack that NMIs arrive on. */
  'nmiStack',
  /** Top of the stack that machine checks arrive on. */
  'machineCheckStack',
  /** Machine checks that came in kernel mode. */
  'machineChecks',
  /** Saved registers of the task that waits for its child. */
  'parentRegs',
  /** The user pages of this CPU's task, and the kernel's alias of the page that user space only reads. */
  'userArea',
  'userCounters',
  'signalHandler',
  'signalStack',
  /** Where the task wants to go on when the kernel had to drop what it was doing. */
  'recovery',
  /** The event whose return is to load another CS:RIP and SS, zero if none. */
  'pokeCause',
  'pokeCs',
  'pokeSs',
  'pokeRip',
  /** ESP at which the change is to be made: it tells the target from what runs before it. */
  'pokeRsp',
  /** RIP at which single-stepping ends. */
  'stepUntil',
  /** The alias of this CPU's ministack with bits 31:16 zero, and the address through which it is written. */
  'espfixStack',
  'espfixWrite',
  /** ESP and SS for LSS. */
  'espfixPointer',
  /** A register's value while the stack is moved. */
  'fixScratch',
  /** Faulting address as the entry code found it. */
  'cr2',
  /** Debug exceptions, for handlers that count them. */
  'debugExceptions',
]);

/** Offsets in a CPU's per-CPU page of the tables that the processor reads. */
export const percpuPage = { gdt: 0x200, tss: 0x300, ldt: 0x400, size: 0x1000 } as const;

/** Fields of the 64-bit TSS (SDM Vol. 3A, Figure 7-11). */
export const tss = { rsp0: 4, ist1: 36, ioMapBase: 102, size: 104 } as const;

/** Interrupt stack table entries by use. */
export const ist = { doubleFault: 1, nmi: 2, debug: 3, machineCheck: 4, standIn: 5 } as const;

/** Distance of a CPU's stacks from each other. */
export const STACK_STRIDE = 0x1_0000;
/** Stacks of a CPU in the order of their regions. NMI, debug and machine-check stay together: see the paranoid exit. */
export const stackNames = [
  'main',
  'child',
  'double-fault',
  'nmi',
  'debug',
  'machine-check',
  'stand-in',
] as const;
export const STACK_PAGES = 2;

/** System calls, by EAX. */
export const call = {
  /** modify_ldt(index, descriptor). */
  modifyLdt: 0,
  /** Counts an event and returns. */
  touch: 1,
  /** set_signal(handler, stack top). */
  setSignal: 2,
  /** sigreturn(frame). */
  sigreturn: 3,
  /** poke(cause, {cs, ss, rip, rsp}): as a debugger would, replaces CS:RIP and SS at the next return from that event with this ESP. */
  poke: 4,
  /** return_to({rip, cs, rflags, rsp, ss} in R9): goes on there. */
  returnTo: 5,
  /** spawn(frame in R9): runs a new task that begins with the frame, and waits for its end. */
  spawn: 6,
  exit: 7,
  /** raise(): delivers a signal to the caller. */
  raise: 8,
  report: 9,
  waitTurn: 10,
  finish: 11,
  /** set_recovery(rip). */
  setRecovery: 12,
  /** step_until(rip): single-stepping ends there. */
  stepUntil: 13,
} as const;

/**
 * What touch, return_to, spawn and raise answer, so that EAX is the same after every event. It is not zero, which
 * is what a return that loses EAX would most likely leave there.
 */
export const ANSWER = call.touch;

/** The page that the kernel writes and user space reads. */
export const userCounters = { events: 0 } as const;

/** The test task's data, in its user area after the counters page. */
export const user = {
  /** What the target code found; 32-bit fields. */
  esp: 0x1000,
  eax: 0x1004,
  ecx: 0x1008,
  edx: 0x100c,
  ebx: 0x1010,
  ebp: 0x1014,
  esi: 0x1018,
  edi: 0x101c,
  /** RSP as 64-bit code read it. */
  rsp: 0x1020,
  /** The running case. */
  case: 0x1028,
  /** Event count before the event. */
  eventsBefore: 0x1030,
  /** Vector + 1 of the fault that a signal told of, and its error code. */
  fault: 0x1034,
  faultError: 0x1038,
  /** Vector + 1 of the exception that killed the kernel's work for this case. */
  oops: 0x103c,
  registersChanged: 0x1040,
  missed: 0x1044,
  /** m16:32 for the far jump into the target. */
  farPointer: 0x1048,
  /** A frame for return_to and spawn. */
  frame: 0x1050,
  poke: 0x1080,
  /** The selectors that the target code found; 32-bit fields. */
  cs: 0x10a0,
  ss: 0x10a4,
  /** Tops of the stacks. */
  stack: 0x4000,
  signalStack: 0x6000,
} as const;
