/** Kernel images as subjects. */
import type { Subject } from '../check/subject.ts';
import { UserError } from './failure.ts';

export interface ImageSubjectOptions {
  readonly name: string;
  readonly cpus: number;
  readonly memory: number;
  readonly commandLine?: string;
  readonly initrd?: Uint8Array;
  readonly symbols?: Uint8Array;
}

export function imageSubject(_image: Uint8Array, { name }: ImageSubjectOptions): Subject {
  throw new UserError(`${name}: images are not explored yet`);
}
