/** Limits and types of code, data and stack segments; 16-bit stacks. SDM vol. 3A 5.3, 5.4; vol. 1 6.2. */
import { type Case, segment } from '../privileged.fixture.ts';

export const cases: Case[] = [];
let n = 0;
const add = (name: string, cpl: 0 | 3, body: string, setup = '', turns = 1) => {
  const i = n++;
  const f = (s: string) => s.replace(/\bL(\d*)\b/g, `q${i}_$1`);
  cases.push({ name, cpl, body: f(body), setup: f(setup), turns });
};
// data segments at scratch
const kinds = {
  up: [0x93, 0],
  upbig: [0x93, 4],
  down16: [0x97, 0],
  down32: [0x97, 4],
  ro: [0x91, 4],
  downro: [0x95, 4],
  code: [0x9b, 4],
  codexo: [0x99, 4],
  conf: [0x9f, 4],
} as const;
for (const [k, [access, flags]] of Object.entries(kinds))
  for (const op of [
    'mov eax, dword [ds:ebx]',
    'mov dword [ds:ebx], eax',
    'mov al, byte [ds:ebx]',
    'add word [ds:ebx], 1',
  ])
    for (const off of [
      0, 0xffc, 0xffd, 0xfff, 0x1000, 0xfffc, 0xfffd, 0xffff, 0x10000, 0xfffffffc, 0xfffffffe, 0xffffffff,
    ]) {
      if (off > 0x20000 && k === 'down32') continue; // wraps to low memory
      add(
        `${k} ${op} @${off.toString(16)}`,
        0,
        `mov eax, 0x50; mov ds, ax; mov ebx, ${off}; mov eax, 0; ${op}; mov eax, 0x77`,
        segment('slot0', { base: 0x300000, limit: 0xfff, access, flags }),
      );
    }
// SS: #SS vs #GP, with override and ebp
for (const op of [
  'mov eax, dword [ebp]',
  'mov eax, dword [ss:eax]',
  'mov eax, dword [ds:ebp]',
  'push eax',
  'pop eax',
  'pop dword [esp]',
  'pushad',
  'popad',
  'db 0xc8,8,0,2',
  'leave',
  'call L1; L1: nop',
  'retf',
  'pushfd',
  'popfd',
  'iretd',
  'push ss',
  'pop ds',
  'push dword [ebp]',
  'callf 0x1b:L1; L1: nop',
])
  for (const [sp, bp] of [
    [0, 0],
    [2, 0xffe],
    [4, 0x1000],
    [0xffe, 2],
    [0x1000, 0xfff],
    [0x10, 0x10],
    [0x12345, 0],
  ])
    for (const big of [0, 4])
      add(
        `ss ${op} sp=${sp?.toString(16)} B=${big}`,
        3,
        `mov eax, 0x53; mov ebp, ${bp}; mov ss, ax; mov esp, ${sp}; mov eax, 0; ${op}; mov ebx, esp; mov ecx, ebp; mov eax, 0x77`,
        segment('slot0', { base: 0x300000, limit: 0xfff, access: 0xf3, flags: big }) +
          'mov edi, 0x300000; mov ecx, 0x500; mov eax, 0; rep stosd',
      );
// 16-bit stacks with garbage in the upper half
for (const op of [
  'push eax',
  'pop eax',
  'push ax',
  'pushad',
  'popad',
  'db 0xc8,8,0,0',
  'db 0xc8,8,0,2',
  'leave',
  'call L1; L1: nop',
  'pushfd',
  'popfd',
  'push ss',
  'pop es',
  'push dword [esp]',
  'pop dword [esp]',
  'push esp',
  'pop esp',
  'mov eax, dword [esp]',
  'db 0xc8,0xff,0xff,0',
  'callf 0x1b:L1; L1: nop',
])
  for (const sp of [0x12340004, 0x12340000, 0x1234ffff, 0x12340002, 0x12341000, 0x1])
    add(
      `sp16 ${op} sp=${sp.toString(16)}`,
      3,
      `mov eax, 0x53; mov ebp, 0xabcd0ffc; mov ss, ax; mov esp, ${sp}; mov eax, 0; ${op}; mov ebx, esp; mov ecx, ebp; mov edx, eax`,
      segment('slot0', { base: 0x300000, limit: 0xffff, access: 0xf3, flags: 0 }) +
        'mov edi, 0x300000; mov ecx, 0x4000; mov eax, 0; rep stosd',
    );
// code limits: code segment at scratch with limit 0xff
const cs = (bytes: number[], off: number, limit = 0xff, flags = 4) =>
  segment('slot0', { base: 0x300000, limit, access: 0xfb, flags }) +
  'mov edi, 0x300000; mov ecx, 0x100; mov eax, 0xf4f4f4f4; rep stosd;' +
  bytes.map((b, i) => `mov byte [${0x300000 + off + i}], ${b};`).join('');
const go = (off: number) => `mov esi, esp; push 0x53; push ${off}; retf`;
for (const [nm, bytes, off] of [
  ['nop end', [0x90], 0xff],
  ['nop 2', [0x90, 0x90], 0xfe],
  ['mov imm cross', [0xb8, 1, 2, 3, 4], 0xfd],
  ['mov imm fits', [0xb8, 1, 2, 3, 4], 0xfb],
  ['prefix end', [0x66], 0xff],
  ['ud2 at end', [0x0f, 0x0b], 0xfe],
  ['0f cut', [0x0f], 0xff],
  ['jmp back', [0xeb, 0xf0], 0xfe],
  ['jmp over', [0xeb, 0x10], 0xf0],
  ['jmp next', [0xeb, 0], 0xfe],
  ['call over', [0xe8, 0, 1, 0, 0], 0x10],
  ['jcc over taken', [0x39, 0xc0, 0x74, 0x7f], 0x90],
  ['jcc over not', [0x39, 0xc0, 0x75, 0x7f], 0x90],
  ['loop over', [0xe2, 0x7f], 0x90],
  ['jmp reg over', [0xb8, 0, 1, 0, 0, 0xff, 0xe0], 0x10],
  ['jmp16 over', [0x66, 0xe9, 0xff, 0x00], 0x10],
  ['ret over', [0x68, 0, 1, 0, 0, 0xc3], 0x10],
  ['call reg over', [0xb8, 0, 1, 0, 0, 0xff, 0xd0], 0x10],
  ['jmp negative', [0xeb, 0x80], 0x10],
  ['retf over', [0x6a, 0x53, 0x68, 0, 1, 0, 0], 0x10],
  ['cs write', [0x2e, 0xc6, 5, 0, 0, 0, 0, 1], 0x10],
  ['cs read over', [0x2e, 0xa0, 0, 1, 0, 0], 0x10],
  ['cs read', [0x2e, 0xa0, 0xff, 0, 0, 0], 0x10],
  ['15 pfx', [...Array(15).fill(0x66), 0x90], 0x10],
  ['14 pfx', [...Array(14).fill(0x66), 0x90], 0x10],
  ['15 pfx limit', [...Array(15).fill(0x66)], 0xf1],
  ['10 pfx limit', [...Array(10).fill(0x66)], 0xf6],
] as const)
  add(`cs limit ${nm}`, 3, go(off), cs([...bytes], off));
for (const [nm, bytes, off] of [
  ['16 wrap jmp', [0xeb, 0x7f], 0xfff0],
  ['16 nop end', [0x90], 0xffff],
  ['16 mov cross', [0xb8, 1, 2], 0xfffe],
  ['16 call wrap', [0xe8, 0xf0, 0xff], 0x20],
  ['16 jmp rel32 over', [0x66, 0xe9, 0, 0, 1, 0], 0x20],
  ['16 nop wrap call', [0xe8, 0, 0], 0xfffd],
] as const)
  add(
    `cs ${nm}`,
    3,
    go(off),
    segment('slot0', { base: 0x300000, limit: 0xffff, access: 0xfb, flags: 0 }) +
      'mov edi, 0x300000; mov ecx, 0x4001; mov eax, 0xf4f4f4f4; rep stosd;' +
      [...bytes].map((b, i) => `mov byte [${0x300000 + off + i}], ${b};`).join(''),
  );
// same linear code under different limits, bases and sizes (jump cache)
add(
  'limit change same base',
  3,
  `${go(0x10)}; L1: push 0x63; push 0x10; retf`,
  `${cs([0xeb, 0x20], 0x10)}mov byte [0x300032], 0xcd; mov byte [0x300033], 0x30`,
);
add(
  '32 then 16 at same linear',
  0,
  `call L1; mov ecx, eax; push 0x50; push L1-0x100000; mov dword [0x300010], L2; jmpf 0x50:L1-0x100000; L1: db 0xb8,0x11,0x22,0xeb,0x00; L3: ret; L2: nop`,
  segment('slot0', { base: 0x100000, access: 0x9b, flags: 8 }),
);

// Decoded code is known by linear address: slot 1 runs what stands at 3000F8H to its end, slot 0, whose base is 16 bytes
// lower, reaches its limit on the way, before EBX is counted again.
const at = (address: number, bytes: number[]) =>
  bytes.map((value, i) => `mov byte [${address + i}], ${value};`).join('');
cases.push({
  name: 'code limit after a change of base alone',
  setup:
    segment('slot0', { base: 0x300000, limit: 0xff, access: 0x9b, flags: 4 }) +
    segment('slot1', { base: 0x300010, limit: 0xff, access: 0x9b, flags: 4 }) +
    'mov edi, 0x300000; mov ecx, 0x80; mov eax, 0x90909090; rep stosd;' +
    // SMSW EAX; JMP 0E8H
    at(0x300020, [0x0f, 0x01, 0xe0, 0xe9, 0xd0, 0, 0, 0]) +
    // INC EBX; JMP 50H:30H
    at(0x300101, [0x43]) +
    at(0x300104, [0xea, 0x30, 0, 0, 0, 0x50, 0]) +
    // CMP EBX, 2; JAE 3AH; JMP 0F8H; INT 30H
    at(0x300030, [0x83, 0xfb, 2, 0x73, 5, 0xe9, 0xbe, 0, 0, 0, 0xcd, 0x30]),
  body: 'jmpf 0x60:0x10',
});
