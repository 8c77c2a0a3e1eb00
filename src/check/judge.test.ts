/** Judgement of single cases. */
import { describe, expect, it } from 'vitest';
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

const stackNotPresent = { vector: 12, error: 0x24 };

it.each<[string, Partial<CaseLine>, string, boolean]>([
  ['every bit its own', {}, 'own', true],
  ['kernel bits', { seen: 0x0300_c0de, result: 'kernel', ok: false }, 'kernel', false],
  ['kernel bits that the image calls fine', { seen: 0x0300_c0de }, 'kernel', false],
  ['other bits', { seen: 0x1234_c0de, result: 'other', ok: false }, 'other', false],
  ['wrong low half', { seen: 0x5aad_0000, result: 'other', ok: false }, 'own', false],
  ['wrong low half that the image calls fine', { seen: 0x5aad_0000 }, 'own', false],
  ['own bits that are the kernel bits too', { set: 0x0300_c0de, seen: 0x0300_c0de }, 'own', true],
  ['a fault that nothing called for, and the image calls fine', { result: 'fault:ss:0024' }, 'own', false],
  ['the kernel died', { seen: 0, result: 'oops:df', ok: false }, 'lost', false],
  ['the event never came', { result: 'missed', ok: false }, 'lost', false],
  ['another register changed', { result: 'registers', ok: false }, 'own', false],
  ['another register changed, and the image calls it fine', { result: 'registers' }, 'own', false],
])('%s', (_name, change, found, ok) => {
  expect(judge({ ...line, ...change }, { expected: undefined })).toMatchObject({ found, ok });
});

describe('a frame that IRET must refuse', () => {
  it.each<[string, Partial<CaseLine>, boolean]>([
    ['the fault told to the task, which repaired its frame', { result: 'fault:ss:0024' }, true],
    ['the same, but the image finds fault with it', { result: 'fault:ss:0024', ok: false }, false],
    ['another exception', { result: 'fault:np:0024' }, false],
    ['another error code', { result: 'fault:ss:0000' }, false],
    ['no fault', { result: 'own' }, false],
    ['kernel bits after the repair', { result: 'fault:ss:0024', seen: 0x0300_c0de }, false],
  ])('%s', (_name, change, ok) => {
    expect(judge({ ...line, ...change }, { expected: stackNotPresent }).ok).toBe(ok);
  });
});

it('takes no case that was not built into the image', () => {
  expect(judge(line, undefined).ok).toBe(false);
});
