/** Symbols from a file, for a kernel that has moved itself. Those that a kernel has in memory: src/peers/linux/boot-1cpu.test.ts. */
import { expect, it } from 'vitest';
import { Machine } from '../../machine/machine.ts';
import { kernelSymbols } from './boot.ts';

const MAP = `0000000000014000 D espfix_waddr
ffffffff81000000 T _text
ffffffff81c00080 T entry_SYSCALL_64
ffffffff82a00000 B _end
`;

it.each([
  ['where it was linked', 0n],
  ['up', 0x2540_0000n],
  ['down', -0x20_0000n],
])("are moved with the kernel, %s, and those of a processor's own memory are not", (_, slide) => {
  const machine = Machine.create({ memory: 1 });
  machine.cpus[0].lstar = 0xffff_ffff_81c0_0080n + slide;
  const { address, describe } = kernelSymbols(machine, new TextEncoder().encode(MAP));
  expect(address('_text')).toBe(0xffff_ffff_8100_0000n + slide);
  expect(describe(0xffff_ffff_8100_0012n + slide)).toBe('_text+0x12');
  expect(address('espfix_waddr')).toBe(0x14000n);
  expect(describe(0x14000n)).toBe('espfix_waddr');
  expect(describe(0x40033dn)).toBe('0x40033d');
});
