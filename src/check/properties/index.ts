/** All properties that single runs are judged by; `kernel-bits` is judged by taint and by two worlds. */
import { assertion } from './assertion.ts';
import { gs } from './gs.ts';
import { ministack } from './ministack.ts';
import { progress } from './progress.ts';
import type { Property } from './property.ts';
import { stack } from './stack.ts';
import { transparent } from './transparent.ts';

export const properties: readonly Property[] = [progress, gs, stack, ministack, transparent, assertion];
export type { Property } from './property.ts';
