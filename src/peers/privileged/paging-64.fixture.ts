/** 4-level paging, accesses and code across pages, self-modifying code. SDM vol. 3A 4.5 to 4.8, 4.10, 8.1.3. */
import type { Case } from '../privileged.fixture.ts';

export const cases: Case[] = [];
const P = '0x40000000';
// tables: PDPT[1] at 0x211008 -> PD 0x220000 -> PT 0x221000; frame 0x301000
const map = (o: { pml4?: string; pdpt?: string; pd?: string; pt?: string; watch?: string }) => `
  mov edi, 0x220000; mov ecx, 0x800; mov eax, 0; rep stosd
  mov rax, ${o.pml4 ?? '0x211007'}; mov qword [0x210000], rax
  mov rax, ${o.pdpt ?? '0x220007'}; mov qword [0x211008], rax
  mov rax, ${o.pd ?? '0x221007'}; mov qword [0x220000], rax
  mov rax, ${o.pt ?? '0x301007'}; mov qword [0x221000], rax
  mov dword [watched], ${o.watch ?? '0x221000'}
  mov rax, cr3; mov cr3, rax
  mov dword [0x301000], 0x11112222; mov dword [0x302000], 0x33334444; mov byte [0x301ff0], 0xc3; mov byte [0x301010], 0xc3;`;
const cr4 = (bits: string) => `mov rax, cr4; or eax, ${bits}; mov cr4, rax;`;
const base = `mov eax, 0x80000011; mov cr0, rax; mov eax, 0x20; mov cr4, rax; mov ecx, 0xc0000080; rdmsr; mov eax, 0xd01; wrmsr;`;
const wp = 'mov eax, 0x80010011; mov cr0, rax;';
const nx = 'mov ecx, 0xc0000080; rdmsr; or eax, 0x800; wrmsr;';
const add = (name: string, cpl: 0 | 3, body: string, setup = '', turns = 1) =>
  cases.push({ name, cpl, body, setup: base + setup, turns });
const R = `mov esi, ${P}; mov eax, dword [rsi]`,
  W = `mov esi, ${P}; mov dword [rsi], ecx`,
  X = `mov esi, 0x40000010; call rsi`,
  RW = `mov esi, ${P}; add dword [rsi], ecx`;
const acc = { R, W, X, RW };
// every combination of P/W/U at PT level by turn, U/W upper levels
for (const [n, op] of Object.entries(acc))
  for (const cpl of [0, 3] as const)
    for (const w of ['', wp])
      for (const lvl of ['pt', 'pd', 'pdpt', 'pml4'] as const) {
        const at = { pt: '0x221000', pd: '0x220000', pdpt: '0x211008', pml4: '0x210000' }[lvl];
        if (lvl !== 'pt') continue;
        add(
          `${n} cpl${cpl} ${w ? 'wp' : ''} ${lvl} sweep`,
          cpl,
          op,
          w +
            map({ watch: at }) +
            `mov eax, dword [turn]; and dword [${at}], 0xfffffff8; or dword [${at}], eax; mov rax, cr3; mov cr3, rax`,
          8,
        );
      }
// NX, SMEP, SMAP
for (const cpl of [0, 3] as const)
  for (const [n, op] of Object.entries(acc)) {
    add(`${n} nx cpl${cpl}`, cpl, op, map({ pt: '0x8000000000301007' }) + nx);
    add(`${n} nx pd cpl${cpl}`, cpl, op, map({ pd: '0x8000000000221007' }) + nx);
    add(
      `${n} nx without nxe cpl${cpl}`,
      cpl,
      op,
      `${map({ pt: '0x8000000000301007' })}mov ecx, 0xc0000080; mov eax, 0x501; mov edx, 0; wrmsr`,
    );
  }
add('reserved pt bit 51', 0, R, map({ pt: '0x8000000301007' }));
add('reserved pdpt ps', 0, R, map({ pdpt: '0x220087' }));
add('1G page', 0, `${R}; mov ebx, dword [rsi+0x301000]`, map({ pdpt: '0x87', watch: '0x211008' }));
add(
  '1G page write',
  3,
  'mov esi, 0x40301000; mov dword [rsi], ecx',
  map({ pdpt: '0x87', watch: '0x211008' }),
);
add('1G reserved', 0, R, map({ pdpt: '0x2087', watch: '0x211008' }));
add('2M', 0, 'mov esi, 0x40101000; mov eax, dword [rsi]', map({ pd: '0x200087', watch: '0x220000' }));
add('2M write', 0, 'mov esi, 0x40101000; mov dword [rsi], eax', map({ pd: '0x200087', watch: '0x220000' }));
add('2M reserved', 0, R, map({ pd: '0x202087', watch: '0x220000' }));
add('2M pat', 0, R, map({ pd: '0x201087', watch: '0x220000' }));
add('pml4 ps', 0, R, `${map({})}mov rax, 0x211087; mov qword [0x210008], rax; mov rax, 0x8000000000; `);
cases.push({
  name: 'pml4 ps access',
  setup: `${base + map({})}mov rax, 0x211087; mov qword [0x210008], rax`,
  body: 'mov rsi, 0x8000000000; mov eax, dword [rsi]',
});
add('np error', 0, R, map({ pt: '0' }));
add('np write user', 3, W, map({ pt: '0' }));
add('np fetch user', 3, X, map({ pt: '0' }));
add('np fetch nx', 3, X, map({ pt: '0' }) + nx);
add('rsvd with P0', 0, R, map({ pt: '0x8000000301006' }));
// crossing
add('cross read np', 0, 'mov esi, 0x40000ffd; mov eax, dword [rsi]', map({}));
add(
  'cross write np',
  0,
  'mov esi, 0x40000ffd; mov ecx, 0x55667788; mov dword [rsi], ecx',
  `${map({ watch: '0x301ffc' })}mov dword [0x301ffc], 0x99aabbcc`,
);
add(
  'cross write first np',
  0,
  'mov esi, 0x40000ffd; mov dword [rsi], ecx',
  `${map({ pt: '0' })}mov dword [0x221008], 0x302007`,
);
add(
  'cross write ro second',
  3,
  'mov esi, 0x40000ffd; mov dword [rsi], ecx',
  `${map({ watch: '0x301ffc' })}mov dword [0x221008], 0x302005`,
);
add('cross both np', 3, 'mov esi, 0x40000ffd; mov dword [rsi], ecx', map({ pt: '0' }));
add(
  'cross rmw',
  3,
  'mov esi, 0x40000ffd; add dword [rsi], 1',
  `${map({ watch: '0x301ffc' })}mov dword [0x221008], 0x302005`,
);
add(
  'cross ok',
  3,
  'mov esi, 0x40000ffd; mov ecx, 0x11223344; mov dword [rsi], ecx; mov eax, dword [rsi]; mov ebx, dword [rsi+3]',
  `${map({ watch: '0x302000' })}mov dword [0x221008], 0x302007`,
);
add('push cross', 3, 'mov esp, 0x40001004; push 0x12345678', map({ watch: '0x301ffc' }));
add(
  'push np',
  3,
  'mov esp, 0x40001008; push 0x12345678',
  `${map({ watch: '0x301ffc' })}mov dword [0x221000],0`,
);
add('pop rsp np', 3, 'mov esp, 0x40000ff8; pop rax; pop rax', map({}));
add('pop mem np', 3, 'mov esi, 0x40001000; push 5; pop qword [rsi]', map({}));
add(
  'pop mem rsp-based',
  3,
  'mov esp, 0x40000ff0; mov qword [rsp], rcx; pop qword [rsp]; mov rax, rsp',
  map({}),
);
add(
  'enter np',
  3,
  'mov esp, 0x40001010; mov ebp, 0x40001080; db 0xc8,0,0x10,0',
  `${map({})}mov dword [0x221008], 0x302007`,
);
add(
  'enter nested',
  3,
  'mov esp, 0x40000018; mov ebp, 0x40000080; db 0xc8,8,0,3',
  `${map({})}mov dword [0x221008], 0x302007`,
);
add('call np stack', 3, 'mov esp, 0x40000000; call pg_c; pg_c: nop', map({}));
add('rep movs', 3, 'mov esi, 0x300000; mov edi, 0x40000ff0; mov ecx, 0x20; rep movsb', map({}));
add('rep movsq', 3, 'mov esi, 0x300000; mov edi, 0x40000fec; mov ecx, 0x20; rep movsq', map({}));
add('rep stos back', 3, 'mov edi, 0x40000010; mov ecx, 0x20; std; rep stosd', map({}));
add('rep lods', 3, 'mov esi, 0x40000ff8; mov ecx, 0x20; rep lodsd', map({}));
add('movs src np dst np', 3, 'mov esi, 0x40001000; mov edi, 0x40002000; movsd', map({}));
add('cmps', 3, 'mov esi, 0x40001000; mov edi, 0x40002000; cmpsd', map({}));
add('xchg ro', 3, 'mov esi, 0x40000000; xchg dword [rsi], eax', map({ pt: '0x301005' }));
add('cmpxchg ro', 3, 'mov esi, 0x40000000; mov eax, 1; cmpxchg dword [rsi], ecx', map({ pt: '0x301005' }));
add('cmpxchg8b ro', 3, 'mov esi, 0x40000000; mov eax, 1; cmpxchg8b qword [rsi]', map({ pt: '0x301005' }));
add('bts ro', 3, 'mov esi, 0x40000000; mov eax, 8; bts dword [rsi], eax', map({ pt: '0x301005' }));
add('bts far', 3, 'mov esi, 0x40000000; mov eax, 0x8000; bts dword [rsi], eax', map({ pt: '0x301007' }));
add('shl 0 ro', 3, 'mov esi, 0x40000000; mov ecx, 0; shl dword [rsi], cl', map({ pt: '0x301005' }));
add('cmov np', 3, 'mov esi, 0x40001000; cmp eax, eax; cmovne eax, dword [rsi]', map({}));
add('setcc ro', 3, 'mov esi, 0x40000000; sete byte [rsi]', map({ pt: '0x301005' }));
// code crossing page
const code = (bytes: string, off: number, setup = '') =>
  map({}) +
  setup +
  bytes
    .split(',')
    .map((b, i) => `mov byte [0x${(0x301000 + off + i).toString(16)}], 0x${b};`)
    .join('');
for (const [n, bytes, off] of [
  ['ud2 at end', '0f,0b', 0xffe],
  ['ud prefix', '66,0f', 0xffe],
  ['mov imm split', 'b8,1,2', 0xffd],
  ['rex only', '48', 0xfff],
  ['int n split', 'cd', 0xfff],
  ['hlt', 'f4', 0xfff],
  ['invalid op', '06', 0xfff],
  ['0f ff', '0f,ff', 0xffe],
  ['lock f0 90', 'f0,90', 0xffe],
  ['14 prefixes', Array(14).fill('66').join(','), 0xff2],
  ['15 prefixes', Array(15).fill('66').join(','), 0xff1],
  ['nop nop', '90,90', 0xffe],
  ['modrm sib', '8b,04', 0xffe],
  ['jmp short', 'eb', 0xfff],
  ['ret at end', 'c3', 0xfff],
  ['vex c5', 'c5', 0xfff],
] as const)
  add(
    `code ${n}`,
    3,
    `mov esi, 0x${(0x40000000 + off).toString(16)}; push ${'pgend'}; jmp rsi`,
    code(bytes, off),
  );
cases.push({ name: 'pgend', body: 'nop; int 0x30; pgend: int 0x30' });
// TLB staleness (all agree only if they cache): with invlpg always right
add('invlpg', 3, R, map({}));
add(
  'unmap invlpg',
  0,
  `mov esi, ${P}; mov eax, dword [rsi]; mov dword [0x221000], 0x302007; invlpg [rsi]; mov ebx, dword [rsi]; mov dword [0x221000], 0; invlpg [rsi]; mov ecx, dword [rsi]`,
  map({}),
);
add(
  'global survives cr3',
  0,
  `mov esi, ${P}; mov eax, dword [rsi]; mov dword [0x221000], 0x302107; mov rcx, cr3; mov cr3, rcx; mov ebx, dword [rsi]`,
  cr4('0x80') + map({ pt: '0x301107' }),
);
add(
  'global flush pge',
  0,
  `mov esi, ${P}; mov eax, dword [rsi]; mov dword [0x221000], 0x302107; mov rcx, cr4; and ecx, 0xffffff7f; mov cr4, rcx; mov ebx, dword [rsi]`,
  cr4('0x80') + map({ pt: '0x301107' }),
);
add(
  'global invlpg',
  0,
  `mov esi, ${P}; mov eax, dword [rsi]; mov dword [0x221000], 0x302107; invlpg [rsi]; mov ebx, dword [rsi]`,
  cr4('0x80') + map({ pt: '0x301107' }),
);
add(
  '2M invlpg in middle',
  0,
  `mov esi, 0x40101000; mov eax, dword [rsi]; mov dword [0x220000], 0x87; mov edi, 0x40030000; invlpg [rdi]; mov ebx, dword [rsi]; mov ebx, 0`,
  map({ pd: '0x200087', watch: '0x220000' }),
);
add(
  'dirty via second write',
  0,
  `mov esi, ${P}; mov eax, dword [rsi]; mov ebx, dword [0x221000]; mov dword [rsi], eax; mov ecx, dword [0x221000]`,
  map({}),
);
add(
  'clear A/D with flush',
  0,
  `mov esi, ${P}; mov dword [rsi], eax; mov dword [0x221000], 0x301007; invlpg [rsi]; mov eax, dword [rsi]; mov ecx, dword [0x221000]`,
  map({}),
);
add(
  'rw upgrade no flush',
  0,
  `mov esi, ${P}; mov eax, dword [rsi]; mov dword [0x221000], 0x301007; mov dword [rsi], 7; mov ebx, dword [rsi]`,
  wp + map({ pt: '0x301005' }),
);
add(
  'np to present no flush',
  0,
  `mov dword [0x221000], 0x302007; mov esi, ${P}; mov eax, dword [rsi]`,
  map({ pt: '0' }),
);
// alias: code through one mapping changed through another
add(
  'smc alias',
  0,
  `mov esi, 0x40000010; call rsi; mov byte [0x301010], 0xb3; mov byte [0x301011], 0x77; mov byte [0x301012], 0xc3; call rsi`,
  map({}),
);
add(
  'smc remap',
  0,
  `mov esi, 0x40000010; call rsi; mov dword [0x302010], 0xc30bb3; mov dword [0x221000], 0x302007; mov edi, ${P}; invlpg [rdi]; call rsi`,
  map({}),
);
add('smc next insn', 0, `mov byte [smc1+1], 0x55; smc1: mov bl, 0`, map({}));
add(
  'smc own bytes',
  0,
  `mov byte [smc2+7], 0x56; smc2: mov dword [smc2+7], 0x1234; mov eax, dword [smc2+7]`,
  map({}),
);

// supervisor implicit access with user pages; SMAP not in Bochs model? guarded by cpuid
