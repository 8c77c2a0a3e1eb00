/**
 * Assembly as text, for test guests: one instruction, label (`name:`) or directive a line or between semicolons, in the
 * manual's operand order. A thin layer over the assembler of the kernel.
 *
 *     mov eax, dword [gs:ebx+ecx*4+8]   memory; the width may be left out where a register tells it
 *     mov eax, name+4                   the address of a label
 *     bits 16                           width of the code that follows
 *     db 1, 2 / dw / dd / dq / zero n / align n
 *     callf 8:label / jmpf 8:label      direct far transfers, offsets of the code's width
 *     rep movsd / lock inc dword [x]
 */

import type {
  Assembler,
  CodeBits,
  Memory,
  MemoryPart,
  Operand,
  Register,
  Width,
} from '../kernel/assembler.ts';
import * as operands from '../kernel/assembler.ts';

const registers = new Map<string, Register>();
for (const value of Object.values(operands)) {
  if (typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'register')
    registers.set(value.name, value);
}
registers.set('r8', operands.r8q);

const WIDTHS: Record<string, Width> = { byte: 8, word: 16, dword: 32, qword: 64 };
const isNumber = (text: string) => /^-?(0x[0-9a-f]+|\d+)$/i.test(text);
const number = (text: string) => (text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text));

function reference(text: string): operands.SymbolReference {
  const match = /^([.\w]+)\s*([+-]\s*\w+)?$/.exec(text);
  if (!match) throw new SyntaxError(`operand: ${text}`);
  return operands.sym(match[1], number((match[2] ?? '0').replace(/[+\s]/g, '')));
}

function memory(width: string | undefined, text: string): Memory {
  const parts: MemoryPart[] = [];
  let rest = text.trim();
  const override = /^(\w\w):/.exec(rest);
  if (override) {
    parts.push(registers.get(override[1]) as Register);
    rest = rest.slice(3);
  }
  for (const term of rest.replace(/-/g, '+-').split('+')) {
    const part = term.trim();
    if (part === '') continue;
    const scaled = /^(\w+)\*([1248])$/.exec(part);
    if (scaled)
      parts.push(operands.times(registers.get(scaled[1]) as Register, Number(scaled[2]) as 1 | 2 | 4 | 8));
    else parts.push(registers.get(part) ?? (isNumber(part) ? number(part) : part));
  }
  return { ...operands.mem(...parts), bits: width === undefined ? undefined : WIDTHS[width] };
}

function operand(text: string): Operand {
  const inMemory = /^(?:(byte|word|dword|qword)\s*)?\[(.*)\]$/.exec(text);
  if (inMemory) return memory(inMemory[1], inMemory[2]);
  return registers.get(text) ?? (isNumber(text) ? number(text) : reference(text));
}

const list = (text: string) => text.split(',').map((part) => part.trim());
const BRANCH = /^(j\w+|loop\w*|call)$/;

function statement(a: Assembler, text: string, bits: CodeBits): CodeBits {
  const label = /^([.\w]+):(?!\S)\s*/.exec(text);
  if (label) {
    a.label(label[1]);
    const rest = text.slice(label[0].length);
    return rest === '' ? bits : statement(a, rest, bits);
  }
  const [, mnemonic, rest] = /^(\w+)\s*(.*)$/.exec(text) ?? [];
  switch (mnemonic) {
    case 'bits':
      a.bits(Number(rest) as CodeBits);
      return Number(rest) as CodeBits;
    case 'db':
      a.db(...list(rest).map((value) => Number(value)));
      return bits;
    case 'dw':
    case 'dd':
    case 'dq':
      a[mnemonic](...list(rest).map((value) => operand(value) as bigint));
      return bits;
    case 'zero':
    case 'align':
      a[mnemonic](Number(rest));
      return bits;
    case 'rep':
    case 'lock':
      a[mnemonic]();
      return statement(a, rest, bits);
    case 'callf':
    case 'jmpf': {
      const [selector, target] = rest.split(':');
      a.db(mnemonic === 'callf' ? 0x9a : 0xea);
      a[bits === 16 ? 'dw' : 'dd'](operand(target) as bigint);
      a.dw(Number(selector));
      return bits;
    }
    default:
  }
  const alias = { jz: 'je', jnz: 'jne', jc: 'jb', jnc: 'jae' }[mnemonic] ?? mnemonic;
  const operandsOf = rest === '' ? [] : list(rest).map(operand);
  const [first] = operandsOf;
  if (BRANCH.test(alias) && typeof first === 'object' && first.kind === 'symbol') a.branch(alias, first.name);
  else a.instruction(alias, ...operandsOf);
  return bits;
}

/** Assembles `text`, which starts in code of width `bits` and leaves the assembler in whatever `bits` it said last. */
export function assemble(a: Assembler, text: string, bits: CodeBits): void {
  let width = bits;
  a.bits(bits);
  for (const line of text.replace(/#.*/g, '').split(/[\n;]/)) {
    const bare = line.trim();
    if (bare === '') continue;
    try {
      width = statement(a, bare, width);
    } catch (error) {
      throw new SyntaxError(`${bare}: ${error instanceof Error ? error.message : error}`);
    }
  }
}
