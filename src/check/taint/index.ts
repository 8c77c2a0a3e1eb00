/** The taint check: every kernel bit that reaches user mode, with its story. */
export type {
  DeclaredKernelMemory,
  DeclaredMemory,
  DeclaredRegister,
  Declassification,
  EntryCause,
  JudgedRegister,
} from './declassification.ts';
