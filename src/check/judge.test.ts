/** Judgement of single cases. */
import { expect, it } from 'vitest';
import type { CaseLine } from '../kernel/report.ts';
import { judge } from './judge.ts';

const line: CaseLine = {
  cpu: 0,
  path: 'int80',
  cs: 'cs32-ldt',
  ss: 'ss16-ldt',
  set: 0x5aad_c0de,
  seen: 0x5aad_c0de,
  rsp: 0x5aad_c0den,
  kernel: 0x0300_0000,
  result: 'own',
  ok: true,
  name: '-',
};

it.each<[string, Partial<CaseLine>, string, boolean]>([
  ['every bit its own', {}, 'own', true],
  ['kernel bits', { seen: 0x0300_c0de, result: 'kernel', ok: false }, 'kernel', false],
  ['kernel bits that the image calls fine', { seen: 0x0300_c0de }, 'kernel', false],
  ['other bits', { seen: 0x1234_c0de, result: 'other', ok: false }, 'other', false],
  ['wrong low half', { seen: 0x5aad_0000, result: 'other', ok: false }, 'own', false],
  ['wrong low half that the image calls fine', { seen: 0x5aad_0000 }, 'own', false],
  ['own bits that are the kernel bits too', { set: 0x0300_c0de, seen: 0x0300_c0de }, 'own', true],
  ['a fault told to the task, which repaired its frame', { result: 'fault:ss:0024' }, 'own', true],
  ['the kernel died', { seen: 0, result: 'oops:df', ok: false }, 'lost', false],
  ['the event never came', { result: 'missed', ok: false }, 'lost', false],
  ['another register changed', { result: 'registers', ok: false }, 'own', false],
])('%s', (_name, change, found, ok) => {
  expect(judge({ ...line, ...change })).toMatchObject({ found, ok });
});
