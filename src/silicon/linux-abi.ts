/**
 * What the native programs use of the Linux x86-64 system-call interface: numbers, flags and structure offsets
 * (arch/x86/include/uapi/asm: unistd_64.h, sigcontext.h, ucontext.h, ldt.h; include/uapi/linux/prctl.h).
 */

/** System-call numbers. */
export const SYS = {
  read: 0,
  write: 1,
  mmap: 9,
  mprotect: 10,
  rt_sigaction: 13,
  rt_sigprocmask: 14,
  rt_sigreturn: 15,
  setitimer: 38,
  fork: 57,
  exit: 60,
  wait4: 61,
  ftruncate: 77,
  sigaltstack: 131,
  modify_ldt: 154,
  prctl: 157,
  sched_setaffinity: 203,
  sched_getaffinity: 204,
  exit_group: 231,
  memfd_create: 319,
} as const;

export const SIGNAL = {
  SIGILL: 4,
  SIGTRAP: 5,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPROF: 27,
  SIGSYS: 31,
} as const;

export const SA_SIGINFO = 4;
export const SA_RESTORER = 0x04000000;
export const SA_ONSTACK = 0x08000000;
export const SA_RESTART = 0x10000000;
export const SA_NODEFER = 0x40000000;

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_POPULATE = 0x8000;

/** Timer of processor time used by the process and by the kernel for it; SIGPROF. */
export const ITIMER_PROF = 2;

export const PR_SET_PDEATHSIG = 1;
export const PR_SET_SYSCALL_USER_DISPATCH = 59;
export const PR_SYS_DISPATCH_ON = 1;
export const SYSCALL_DISPATCH_FILTER_BLOCK = 1;

/** Offset of the machine context in `struct ucontext`. */
export const UC_MCONTEXT = 40;

/** Offsets in `struct sigcontext_64`. General registers are by their ModRM number. */
export const SIGCONTEXT = {
  gpr: [104, 112, 96, 88, 120, 80, 72, 64, 0, 8, 16, 24, 32, 40, 48, 56],
  rip: 128,
  rflags: 136,
  cs: 144,
  ss: 150,
  err: 152,
  trapno: 160,
  oldmask: 168,
  cr2: 176,
  fpstate: 184,
  size: 256,
} as const;

/** `uc_flags` of a 64-bit signal frame: SS is in the context and restored as it stands. */
export const UC_SIGCONTEXT_SS = 2;
export const UC_STRICT_RESTORE_SS = 4;

/** Selectors of the flat user segments, RPL 3. */
export const USER_CS = 0x33;
export const USER_DS = 0x2b;
export const USER32_CS = 0x23;

/** modify_ldt function: write an entry, with AVL and conforming code segments allowed (1 is the older form without). */
export const MODIFY_LDT_WRITE = 0x11;

/** What modify_ldt is told of one entry (`struct user_desc`). */
export interface UserDescriptor {
  readonly base: number;
  /** In bytes, or in 4-KiB units with `pages`. */
  readonly limit: number;
  readonly bits32: boolean;
  readonly type: 'data' | 'expand-down' | 'code' | 'conforming';
  /** Data: not writable. Code: not readable. */
  readonly restricted?: boolean;
  readonly pages?: boolean;
  readonly absent?: boolean;
}

const CONTENTS = { data: 0, 'expand-down': 1, code: 2, conforming: 3 } as const;

/** The 16 bytes of `struct user_desc`. */
export function encodeUserDescriptor(entry: number, descriptor: UserDescriptor): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, entry, true);
  view.setUint32(4, descriptor.base, true);
  view.setUint32(8, descriptor.limit, true);
  const flags =
    (descriptor.bits32 ? 1 : 0) |
    (CONTENTS[descriptor.type] << 1) |
    (descriptor.restricted ? 8 : 0) |
    (descriptor.pages ? 16 : 0) |
    (descriptor.absent ? 32 : 0) |
    64; // useable (AVL)
  view.setUint32(12, flags, true);
  return bytes;
}

/** Reads `struct user_desc` back; the inverse of {@link encodeUserDescriptor}. */
export function decodeUserDescriptor(bytes: Uint8Array): { entry: number; descriptor: UserDescriptor } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const flags = view.getUint32(12, true);
  const types = ['data', 'expand-down', 'code', 'conforming'] as const;
  return {
    entry: view.getUint32(0, true),
    descriptor: {
      base: view.getUint32(4, true),
      limit: view.getUint32(8, true),
      bits32: (flags & 1) !== 0,
      type: types[(flags >> 1) & 3],
      restricted: (flags & 8) !== 0,
      pages: (flags & 16) !== 0,
      absent: (flags & 32) !== 0,
    },
  };
}

/**
 * The descriptor that modify_ldt makes of it: DPL 3, S, accessed, AVL, P unless absent (SDM vol. 3A 3.4.5).
 */
export function segmentDescriptor(descriptor: UserDescriptor): bigint {
  const type = 1 | (descriptor.restricted ? 0 : 2) | (CONTENTS[descriptor.type] << 2);
  const attributes =
    type |
    0x10 |
    0x60 |
    (descriptor.absent ? 0 : 0x80) |
    0x1000 |
    (descriptor.bits32 ? 0x4000 : 0) |
    (descriptor.pages ? 0x8000 : 0);
  const base = BigInt(descriptor.base);
  const limit = BigInt(descriptor.limit);
  return (
    (limit & 0xffffn) |
    ((base & 0xffffffn) << 16n) |
    (BigInt(attributes & 0xff) << 40n) |
    ((limit >> 16n) << 48n) |
    (BigInt(attributes >> 12) << 52n) |
    ((base >> 24n) << 56n)
  );
}
