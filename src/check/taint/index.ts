/** The taint check: every kernel bit that reaches user mode, with its story. */
export type { Birth, BirthKind } from './births.ts';
export { declassificationOf } from './builtin.ts';
export {
  type DeclaredKernelMemory,
  type DeclaredMemory,
  type DeclaredRegister,
  type Declassification,
  type EntryCause,
  type JudgedRegister,
  judgedRegisters,
} from './declassification.ts';
export { judge, type TaintFinding, type TaintHop, type TaintLeak } from './judge.ts';
export { type TrackedVisit, trackVisit, type VisitOptions } from './track-visit.ts';
export { type Advance, TaintMismatch, type TaintNote, TaintTracker, type TrackerOptions } from './tracker.ts';
