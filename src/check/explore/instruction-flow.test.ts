/** What instructions are said to do with registers and flags, for each kind of which a footprint has to know. */
import { ConditionCode } from 'iced-x86';
import { describe, expect, it } from 'vitest';
import { RAX, RBX, RCX, RDI, RSI, RSP } from '../../isa/state.ts';
import { type InstructionFlow, instructionFlow } from './instruction-flow.ts';

const R8 = 8;
const bits = (...registers: number[]) => registers.reduce((set, register) => set | (1 << register), 0);

/** In 64-bit code; what is not named is empty or absent. */
const cases: readonly { text: string; bytes: string; flow: Partial<InstructionFlow> }[] = [
  { text: 'mov rax, rcx', bytes: '4889c8', flow: { writes: bits(RAX), move: { from: RCX, to: RAX } } },
  { text: 'mov eax, ecx', bytes: '89c8', flow: { reads: bits(RCX), writes: bits(RAX) } },
  { text: 'mov al, cl', bytes: '88c8', flow: { reads: bits(RCX), alters: bits(RAX) } },
  {
    text: 'mov [rbx], rax',
    bytes: '488903',
    flow: { reads: bits(RBX), move: { from: RAX, to: 'memory' } },
  },
  {
    text: 'mov [rax], rax',
    bytes: '488900',
    flow: { reads: bits(RAX), move: { from: RAX, to: 'memory' } },
  },
  {
    text: 'push r8',
    bytes: '4150',
    flow: { reads: bits(RSP), writes: bits(RSP), move: { from: R8, to: 'memory' } },
  },
  {
    text: 'pop rdi',
    bytes: '5f',
    flow: { reads: bits(RSP), writes: bits(RSP, RDI), move: { from: 'memory', to: RDI } },
  },
  {
    text: 'movsq',
    bytes: '48a5',
    flow: { reads: bits(RSI, RDI), writes: bits(RSI, RDI), move: { from: 'memory', to: 'memory' } },
  },
  { text: 'xor eax, eax', bytes: '31c0', flow: { writes: bits(RAX), flags: 'set' } },
  { text: 'xor eax, ecx', bytes: '31c8', flow: { reads: bits(RAX, RCX), writes: bits(RAX), flags: 'set' } },
  { text: 'inc rax', bytes: '48ffc0', flow: { reads: bits(RAX), writes: bits(RAX), flags: 'altered' } },
  {
    text: 'shl rax, cl',
    bytes: '48d3e0',
    flow: { reads: bits(RAX, RCX), writes: bits(RAX), flags: 'altered' },
  },
  { text: 'cmp rax, rcx', bytes: '4839c8', flow: { flags: 'set', compare: { left: RAX, right: RCX } } },
  {
    text: 'cmp rax, -1',
    bytes: '4883f8ff',
    flow: { flags: 'set', compare: { left: RAX, right: 2n ** 64n - 1n } },
  },
  {
    text: 'cmp [rsp+8], rax',
    bytes: '4839442408',
    flow: { reads: bits(RSP), flags: 'set', compare: { left: 'memory', right: RAX } },
  },
  { text: 'cmp eax, ecx', bytes: '39c8', flow: { reads: bits(RAX, RCX), flags: 'set' } },
  { text: 'jb +0', bytes: '7200', flow: { readsFlags: true, condition: ConditionCode.b } },
  { text: 'setb cl', bytes: '0f92c1', flow: { alters: bits(RCX), readsFlags: true } },
  {
    text: 'or dword [rdi], 10000h',
    bytes: '810f00000100',
    flow: { reads: bits(RDI), flags: 'set', mayChange: 0x1_0000 },
  },
  {
    text: 'and dword [rdi], ~100h',
    bytes: '8127fffeffff',
    flow: { reads: bits(RDI), flags: 'set', mayChange: 0x100 },
  },
  { text: 'popfq', bytes: '9d', flow: { reads: bits(RSP), writes: bits(RSP), flags: 'set', rflags: 0 } },
  { text: 'ret', bytes: 'c3', flow: { reads: bits(RSP), writes: bits(RSP), rip: 0 } },
];

describe('of an instruction', () => {
  it.each(cases)('$text', ({ bytes, flow }) => {
    const code = Buffer.from(bytes, 'hex');
    expect(instructionFlow(code)).toEqual({
      length: code.length,
      reads: 0,
      writes: 0,
      alters: 0,
      readsFlags: false,
      flags: 'kept',
      ...flow,
    });
  });

  it('IRETQ takes RIP and RFLAGS from the stack', () => {
    expect(instructionFlow(Buffer.from('48cf', 'hex'))).toMatchObject({ rip: 0, rflags: 16 });
  });

  it.each([
    ['rdtsc', '0f31'],
    ['in al, dx', 'ec'],
    ['mov cr3, rax', '0f22d8'],
    ['invlpg [rax]', '0f0138'],
    ['mov ds, eax', '8ed8'],
    ['hlt', 'f4'],
    ['cpuid', '0fa2'],
    ['addps xmm0, xmm1', '0f58c1'],
    ['no instruction', '06'],
  ])('%s: no footprint', (_, bytes) => {
    expect(instructionFlow(Buffer.from(bytes, 'hex'))).toBeUndefined();
  });
});
