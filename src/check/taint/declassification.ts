/** What a kernel means to return to user space, as a subject declares it. */

/** How a visit to the kernel began: a vector, or the instruction. */
export type EntryCause = number | 'syscall' | 'sysenter';

/** Registers that are judged when user mode is reached again. */
export const judgedRegisters = [
  'rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15',
  'rip', 'rflags', 'es', 'cs', 'ss', 'ds', 'fs', 'gs', 'fs.base', 'gs.base',
] as const; // biome-ignore format: a table
export type JudgedRegister = (typeof judgedRegisters)[number];

/** A register may return kernel data: a system call's result. */
export interface DeclaredRegister {
  readonly kind: 'register';
  readonly register: JudgedRegister;
  /** The bits that may; all where absent. */
  readonly bits?: bigint;
  /** In visits that began so only; in all where absent. */
  readonly when?: EntryCause;
}

/** User memory may receive kernel data: a buffer that a system call fills. Linear addresses, end excluded. */
export interface DeclaredMemory {
  readonly kind: 'memory';
  readonly start: bigint;
  readonly end: bigint;
  readonly when?: EntryCause;
}

/**
 * Kernel memory that holds no secret: saved user state, constants. Linear addresses, end excluded; memory is known by
 * its physical address, so every alias of the range is meant.
 */
export interface DeclaredKernelMemory {
  readonly kind: 'kernelMemory';
  readonly start: bigint;
  readonly end: bigint;
  /**
   * Bits of each aligned quadword that are no secret, such as address bits that are alike in every kernel; all where
   * absent.
   */
  readonly bits?: bigint;
  /** The addresses are physical ones: for memory that the page tables of user mode do not map. */
  readonly physical?: true;
}

export type Declassification = DeclaredRegister | DeclaredMemory | DeclaredKernelMemory;
