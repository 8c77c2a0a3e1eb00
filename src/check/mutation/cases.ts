/** The cases that mutants run: each way into the kernel and each way out of it, once. */
import type { CaseInfo } from '../../kernel/image.ts';

const chosen = [
  ['int80', 'cs64', 'flat'],
  ['int80', 'cs32-gdt', 'ss16-ldt'],
  ['int80', 'null', 'flat'],
  ['int80', 'not-present', 'flat'],
  ['int80', 'non-canonical-rip', 'flat'],
  ['int80', 'cs32-gdt', 'not-present'],
  ['int80', 'not-present', 'ss16-ldt'],
  ['int80', 'non-canonical-rip', 'ss16-ldt'],
  ['syscall', 'cs32-gdt', 'flat'],
  ['syscall', 'cs64', 'ss16-ldt'],
  ['syscall', 'cs32-gdt', 'ss16-ldt'],
  ['syscall', 'non-canonical-rip', 'flat'],
  ['interrupt', 'cs64', 'flat'],
  ['interrupt', 'cs16-ldt', 'ss16-ldt'],
  ['exception', 'cs64', 'flat'],
  ['exception', 'cs32-gdt', 'flat'],
  ['exception', 'cs16-ldt', 'ss16-ldt'],
  ['breakpoint', 'cs32-gdt', 'flat'],
  ['nmi', 'cs64', 'flat'],
  ['nmi', 'cs32-gdt', 'ss16-ldt'],
  ['mc', 'cs64', 'flat'],
  ['mc', 'cs32-gdt', 'ss16-ldt'],
  ['db', 'cs64', 'flat'],
  ['db', 'cs32-gdt', 'ss16-ldt'],
  ['sigreturn', 'cs32-gdt', 'ss16-ldt'],
  ['first-entry', 'cs32-gdt', 'ss16-ldt'],
] as const;

/** Kernels of the gallery whose cases are run too: stack pointers that look like the NMI stack's. */
export const casesOf = ['cve-2015-3290', 'cve-2015-3291'] as const;

/** A filter for `buildImage`: of each of these combinations the first case, and all of `casesOf`. */
export function cases(): (c: CaseInfo) => boolean {
  const wanted = new Set(chosen.map((combination) => combination.join(' ')));
  return ({ path, cs, ss, name }) =>
    name.includes('nmi-stack') || (!name.startsWith('frame-') && wanted.delete([path, cs, ss].join(' ')));
}
