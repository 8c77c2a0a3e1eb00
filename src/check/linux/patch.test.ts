/** Changes of a kernel in memory: how they are written, what is refused, and that a refused one changes nothing. */
import { describe, expect, it } from 'vitest';
import { Machine } from '../../machine/machine.ts';
import { applyPatches, parsePatch } from './patch.ts';
import { PatchError } from './patch-error.ts';

const bytes = (...list: number[]) => Uint8Array.from(list);

it.each([
  ['entry=90', 'entry', 0n, undefined, bytes(0x90)],
  ['entry+0x1a=7502:9090', 'entry', 0x1an, bytes(0x75, 2), bytes(0x90, 0x90)],
  ['ret.part.0+10=EB:75', 'ret.part.0', 10n, bytes(0xeb), bytes(0x75)],
  ['0xffffffff81000000=0f0b', '0xffffffff81000000', 0n, undefined, bytes(0x0f, 0x0b)],
] as const)('%s', (text, symbol, offset, old, to) => {
  expect(parsePatch(text)).toEqual({ text, symbol, offset, old, bytes: to });
});

it.each([
  ['entry', 'expected SYMBOL+OFFSET=OLD:NEW'],
  ['entry+1f=90', 'expected SYMBOL+OFFSET=OLD:NEW'],
  ['=90', 'expected SYMBOL+OFFSET=OLD:NEW'],
  ['entry=', 'expected SYMBOL+OFFSET=OLD:NEW'],
  ['entry=90 90', 'expected SYMBOL+OFFSET=OLD:NEW'],
  ['entry=909', 'expected two hexadecimal digits a byte'],
  ['entry=750:9090', 'expected two hexadecimal digits a byte'],
  ['entry=75:9090', 'expected as many new bytes as old ones'],
  [`entry=${'90'.repeat(4097)}`, 'expected at most 4096 bytes'],
])('%s is refused', (text, expected) => {
  expect(() => parsePatch(text)).toThrow(PatchError);
  expect(() => parsePatch(text)).toThrow(`${text}: ${expected}`);
});

describe('in memory', () => {
  const AT = 0x3000n;
  const symbols = new Map([['entry', AT]]);
  const withCode = () => {
    const machine = Machine.create({ memory: 1 });
    machine.writePhysical(Number(AT), bytes(0x74, 0x05, 0xc3, 0x00));
    return machine;
  };
  const apply = (machine: Machine, ...texts: string[]) =>
    applyPatches(machine, 0, texts.map(parsePatch), (name) => symbols.get(name));

  it('is what was asked for, and told', () => {
    const machine = withCode();
    expect(apply(machine, 'entry=7405:9090', '0x3003=cc')).toEqual([
      'patched in memory: entry+0x0 from 7405 to 9090',
      'patched in memory: 0x3003+0x0 from 00 to cc',
    ]);
    expect(machine.readPhysical(Number(AT), 4)).toEqual(bytes(0x90, 0x90, 0xc3, 0xcc));
  });

  it.each([
    ['entry+1=06:07', 'entry+1=06:07: the bytes there are 05, expected 06'],
    ['exit=90', 'exit=90: the kernel has no symbol "exit"'],
    ['0xffff800000000000=90', '0xffff800000000000=90: 0xffff800000000000 is not in memory'],
  ])('%s changes nothing, nor does what came before it', (text, message) => {
    const machine = withCode();
    expect(() => apply(machine, 'entry=90', text)).toThrow(message);
    expect(machine.readPhysical(Number(AT), 4)).toEqual(bytes(0x74, 0x05, 0xc3, 0x00));
  });
});
