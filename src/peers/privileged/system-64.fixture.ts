/** Fast system calls, FS and GS bases, MSRs, control registers, canonical addresses, IST and double faults. SDM vol. 3A 5.8.7, 5.8.8, 6.14, 6.15. */
import { type Case, segment } from '../privileged.fixture.ts';

export const cases: Case[] = [];
const add = (name: string, cpl: 0 | 3, body: string, setup = '', width?: 32 | 64) =>
  cases.push({ name, cpl, body, setup, width });
const msr = (n: string, lo: string | number, hi: string | number = 0) =>
  `mov ecx, ${n}; mov eax, ${lo}; mov edx, ${hi}; wrmsr;`;
const STAR = '0xc0000081',
  LSTAR = '0xc0000082',
  FMASK = '0xc0000084',
  EFER = '0xc0000080',
  FS = '0xc0000100',
  GS = '0xc0000101',
  KGS = '0xc0000102';
let n = 0;
// 9. SYSCALL and friends. STAR: kernel 8, user base 0x18 (32-bit cs 0x1b, ss 0x23, 64-bit cs 0x2b)
const star = msr(STAR, 0, 0x180008) + msr(FMASK, 0x200);
const sc = (
  name: string,
  cpl: 0 | 3,
  pre: string,
  _flags = 0x2,
  post = 'mov eax, cs; mov ebx, ss; mov rdx, r11',
  setup = '',
  width?: 32 | 64,
) => {
  const i = n++;
  cases.push({
    name: `syscall ${name}`,
    cpl,
    width,
    setup: star + msr(LSTAR, `sc${i}`) + setup,
    body: `${pre}; syscall; ud2; bits 64\n sc${i}: ${post}; int 0x30`,
  });
};
sc('user', 3, 'nop');
sc('kernel', 0, 'nop');
sc('user32', 3, 'nop', 2, 'nop', '', 32);
sc('flags', 3, 'mov eax, 0x254dd7; push rax; popfq');
sc('tf', 3, 'mov eax, 0x102; push rax; popfq');
sc('tf masked', 3, 'mov eax, 0x102; push rax; popfq', 2, 'nop', msr(FMASK, 0x300));
sc('sce off', 3, 'nop', 2, 'nop', msr(EFER, 0x900));
sc('odd star', 3, 'nop', 2, 'mov eax, cs; mov ebx, ss', msr(STAR, 0, 0x18000b));
const sr = (
  name: string,
  q: string,
  rcx: string,
  r11: string,
  setup = '',
  code = 'mov eax, cs; mov ebx, ss; int 0x30',
  w = 64,
) => {
  const i = n++;
  cases.push({
    name: `sysret ${name}`,
    setup: star + setup,
    body: `mov rcx, ${rcx.replace('LBL', `sr${i}`)}; mov r11, ${r11}; mov esp, user_stack; ${q}; ud2; sr${i}: bits ${w}\n ${code}\nbits 64`,
  });
};
sr('64', 'sysretq', 'LBL', '0x202');
sr('32', 'sysret', 'LBL', '0x202', '', undefined, 32);
sr('flags', 'sysretq', 'LBL', '0x257dd7');
sr('flags all', 'sysretq', 'LBL', '0xfffffeff', '', 'mov eax, cs; pushfq; pop rbx; int 0x30');
sr('tf', 'sysretq', 'LBL', '0x102');
sr('noncanonical', 'sysretq', '0x800000000000', '2');
sr('noncanonical 32', 'sysret', '0x80000000ffffffff', '2', '', undefined, 32);
sr('32 high rcx', 'sysret', '0x1200000000', '2', '', undefined, 32);
sr('sce off', 'sysretq', 'LBL', '2', msr(EFER, 0x900));
add('sysret cpl3', 3, 'sysretq');
add('sysret compat cpl3', 3, 'db 0x0f,7', '', 32);
add('sysret compat cpl0', 0, 'db 0x0f,7', star, 32);
// SYSENTER
const se = msr('0x174', 8) + msr('0x175', 'kernel_stack');
const sen = (
  name: string,
  cpl: 0 | 3,
  setup = '',
  width?: 32 | 64,
  post = 'mov eax, cs; mov ebx, ss; mov rcx, rsp; pushfq; pop rdx',
) => {
  const i = n++;
  cases.push({
    name: `sysenter ${name}`,
    cpl,
    width,
    setup: se + msr('0x176', `se${i}`) + setup,
    body: `sysenter; ud2; bits 64\n se${i}: ${post}; int 0x30`,
  });
};
sen('user', 3);
sen('user32', 3, '', 32);
sen('kernel', 0);
sen('cs 0', 3, msr('0x174', 3));
sen('cs odd', 3, msr('0x174', 0xb));
sen('cs high', 3, msr('0x174', 0x10008));
const sx = (name: string, q: string, rdx: string, rcx: string, setup = '', w = 64) => {
  const i = n++;
  cases.push({
    name: `sysexit ${name}`,
    setup: msr('0x174', 8) + setup,
    body: `mov rdx, ${rdx.replace('LBL', `sx${i}`)}; mov rcx, ${rcx}; ${q}; ud2; sx${i}: bits ${w}\n mov eax, cs; mov ebx, ss; int 0x30; bits 64`,
  });
};
sx('32', 'sysexit', 'LBL', 'user_stack', '', 32);
sx('64', 'sysexitq', 'LBL', 'user_stack');
sx('nc rcx', 'sysexitq', 'LBL', '0x800000000000');
sx('nc rdx', 'sysexitq', '0x800000000000', '0');
sx('32 high', 'sysexit', 'LBL', '0xff00000020a000', '', 32);
sx('cs0', 'sysexit', 'LBL', '0', msr('0x174', 0));
add('sysexit cpl3', 3, 'sysexit');
// SWAPGS, FSGSBASE
add('swapgs cpl3', 3, 'swapgs');
add('swapgs compat', 0, 'db 0x0f,1,0xf8', '', 32);
add(
  'swapgs',
  0,
  `swapgs; mov ecx, ${GS}; rdmsr; mov ebx, eax; mov ecx, ${KGS}; rdmsr`,
  msr(GS, 0x1111) + msr(KGS, 0x2222),
);
for (const op of ['rdfsbase rax', 'wrgsbase rax']) {
  add(op, 3, op);
  add(
    `${op} on`,
    3,
    `mov rax, 0x123456789a; ${op}; mov ecx, 7`,
    'mov rax, cr4; or eax, 0x10000; mov cr4, rax',
  );
  add(
    `${op} compat`,
    0,
    op
      .replace('rax', 'eax')
      .replace('rdfsbase eax', 'db 0xf3,0x0f,0xae,0xc0')
      .replace('wrgsbase eax', 'db 0xf3,0x0f,0xae,0xd8'),
    'mov rax, cr4; or eax, 0x10000; mov cr4, rax',
    32,
  );
}
add('wrfsbase nc', 3, 'mov rax, 0x800000000000; wrfsbase rax', 'mov rax, cr4; or eax, 0x10000; mov cr4, rax');
add(
  'wrfsbase 32',
  3,
  'mov rax, 0xffffffff80000000; wrfsbase eax; rdfsbase rbx',
  'mov rax, cr4; or eax, 0x10000; mov cr4, rax',
);
add('fsgsbase off again', 0, 'mov rax, cr4; and eax, 0xfffeffff; mov cr4, rax; mov eax, 0');
add('mov fs null base', 0, `mov eax, 0; mov fs, ax; mov ecx, ${FS}; rdmsr`, msr(FS, 0x5555, 1));
add(
  'mov fs sel base',
  0,
  `mov eax, 0x50; mov fs, ax; mov ecx, ${FS}; rdmsr`,
  segment('slot0', { base: 0x80001000, access: 0x93 }) + msr(FS, 0x5555, 1),
);
add(
  'iret null gs to user',
  0,
  `mov ecx, ${GS}; mov eax, 0x1234; wrmsr; push 0x23; push user_stack; push 2; push 0x2b; push igl; iretq; igl: mov eax, gs; mov ebx, ds`,
);
add(
  'iret gs dpl0 to user',
  0,
  `mov eax, 0x10; mov gs, ax; mov ecx, ${GS}; mov eax, 0x1234; wrmsr; push 0x23; push user_stack; push 2; push 0x2b; push igl2; iretq; igl2: mov eax, gs; mov ebx, es; mov ecx, dword [gs:0x300000]`,
);
// MSRs and CRs
for (const [nm, m, lo, hi] of [
  ['lstar nc', LSTAR, 0, 0x8000],
  ['fsbase nc', FS, 0, 0x8000],
  ['kgs nc', KGS, 0, 0xffff0000],
  ['efer reserved', EFER, 0x902, 0],
  ['efer lme off', EFER, 0x801, 0],
  ['efer svme', EFER, 0x1901, 0],
  ['fmask high', FMASK, 0, 1],
  ['sysenter esp nc', '0x175', 0, 0x8000],
  ['pat bad', '0x277', 0x02, 0],
  ['pat ok', '0x277', 0x01, 0],
  ['mtrr def bad', '0x2ff', 2, 0],
  ['unknown', '0x12345678', 0, 0],
  ['tsc aux high', '0xc0000103', 0, 1],
  ['star', STAR, 0xffffffff, 0x180008],
  ['efer lma clear', EFER, 0x901, 0],
  ['pat restore', '0x277', 0x70406, 0x70406],
] as const)
  add(`wrmsr ${nm}`, 0, `mov ecx, ${m}; mov eax, ${lo}; mov edx, ${hi}; wrmsr; rdmsr`);
for (const [nm, cr, v] of [
  ['cr0 pg off', 'cr0', '0x11'],
  ['cr0 pe off', 'cr0', '0x80000010'],
  ['cr0 high', 'cr0', '0x180000011'],
  ['cr0 nw', 'cr0', '0xa0000011'],
  ['cr4 pae off', 'cr4', '0'],
  ['cr4 high', 'cr4', '0x100000020'],
  ['cr4 vmx', 'cr4', '0x80000020'],
  ['cr4 bit12', 'cr4', '0x1020'],
  ['cr3 bit63', 'cr3', '0x8000000000210000'],
  ['cr3 bit52', 'cr3', '0x10000000210000'],
  ['cr8 big', 'cr8', '0x10'],
  ['cr8 ok', 'cr8', '0xf'],
  ['cr4 pcide low cr3', 'cr4', '0x20020'],
  ['cr2', 'cr2', '0x123456789abcdef0'],
] as const)
  add(
    nm,
    0,
    `${nm.includes('low cr3') ? 'mov rax, 0x210018; mov cr3, rax;' : ''} mov rbx, ${v}; mov ${cr}, rbx; mov rcx, ${cr}${nm.includes('low cr3') ? '' : ''}`,
  );
add('cr3 restore', 0, 'mov eax, 0x210000; mov cr3, rax; mov cr8, rcx');
add('mov cr1', 0, 'db 0x0f,0x20,0xc8');
add('mov cr5', 0, 'db 0x0f,0x20,0xe8');
add('mov cr9', 3, 'db 0x44,0x0f,0x20,0xc8');
add('mov cr0 cpl3', 3, 'mov rax, cr0');
add('mov dr8', 0, 'db 0x44,0x0f,0x21,0xc0');
add('mov dr4 de', 0, 'db 0x0f,0x21,0xe0', 'mov rax, cr4; or eax, 8; mov cr4, rax');
add('mov dr4', 0, 'mov rax, cr4; and eax, 0xfffffff7; mov cr4, rax; db 0x0f,0x21,0xe0');
add('dr6 high', 0, 'mov rax, 0x100000000; mov dr6, rax');
add('dr7 high', 0, 'mov rax, 0x100000000; mov dr7, rax');
add('dr7 bits', 0, 'mov rax, 0xd800; mov dr7, rax; mov rbx, dr7; mov rax, 0x400; mov dr7, rax');
add(
  'dr6 bits',
  0,
  'mov rax, 0x0; mov dr6, rax; mov rbx, dr6; mov rcx, 0xffffffff; mov dr6, rcx; mov rdx, dr6; mov dr6, rax',
);
// 64-bit instrs
for (const op of [
  'pushaw:60',
  'bound:62,0',
  'lds:c5,0',
  'les:c4,0',
  'into:ce',
  'daa:27',
  'aam:d4,10',
  'push es:6',
  'pop ds:1f',
  'callf:9a,0,0,0,0,0,0',
  'jmpf:ea,0,0,0,0,0,0',
  'salc:d6',
  'arpl/movsxd:63,c0',
  'lss:0f,b2,c0',
  'icebp:f1',
  'vmcall:0f,1,c1',
  'rsm:0f,aa',
  'monitor:0f,1,c8',
  'xgetbv:0f,1,d0',
  'rdpmc:0f,33',
  'stac cpl',
  'ud0:0f,ff,c0',
  'lock nop:f0,90',
  'lock add reg:f0,1,c0',
  'lock mov:f0,89,6',
  'lgdt reg:0f,1,d0',
  'sgdt reg:0f,1,c0',
  'invlpg reg:0f,1,f8',
  'cmpxchg16b reg:0f,c7,c8',
  'mov cs:8e,c8',
  'mov seg6:8e,f0',
] as const) {
  const [nm, bytes] = op.split(':');
  if (bytes)
    for (const cpl of [0, 3] as const)
      add(
        `op ${nm}, CPL ${cpl}`,
        cpl,
        `mov esi, 0x300000; db ${bytes
          .split(',')
          .map((b) => `0x${b}`)
          .join(',')}`,
      );
}
// noncanonical, stacks
add('load nc', 0, 'mov rsi, 0x800000000000; mov rax, qword [rsi]');
add('load nc ss', 0, 'mov rbp, 0x800000000000; mov rax, qword [rbp]');
add('load nc cross', 0, 'mov rsi, 0x7ffffffffffc; mov rax, qword [rsi]');
add('load nc ds:rbp', 0, 'mov rbp, 0x800000000000; mov rax, qword [ds:rbp]');
add('push nc', 3, 'mov rsp, 0x800000000000; mov rsp, 0x800000000008; push rax');
add('pop nc', 3, 'mov rsp, 0x800000000000; pop rax');
add('push at boundary', 3, 'mov rsp, 0xffff800000000000; push rax');
add('push at boundary2', 3, 'mov rsp, 0x800000000000; push rax');
add('call nc', 3, 'mov rax, 0x800000000000; call rax');
add('jmp nc', 3, 'mov rax, 0x800000000000; jmp rax');
add('ret nc', 3, 'mov rax, 0x800000000000; push rax; ret');
add('retfq nc', 3, 'mov rax, 0x800000000000; push 0x2b; push rax; retfq');
add(
  'iretq nc',
  3,
  'mov rcx, rsp; push 0x23; push rcx; push 2; push 0x2b; mov rax, 0x800000000000; push rax; iretq',
);
add(
  'lgdt nc base',
  0,
  'mov rax, 0x800000000000; mov dword [0x300000], 0; mov qword [0x300002], rax; lgdt [0x300000]',
);
add('fs nc', 3, 'mov rax, qword [fs:0]', `${msr(FS, 0, 0x7fff)}`);
add(
  'fs wrap nc',
  3,
  'mov esi, 0x7fffffff; shl rsi, 17; mov rax, qword [fs:rsi]',
  msr(FS, '0xffff0000', 0x7fff),
);
add('wrap -4', 0, 'mov rsi, 0xfffffffffffffffc; mov rax, qword [rsi]');
add('invlpg nc', 0, 'mov rsi, 0x800000000000; invlpg [rsi]');
// IST, double faults
const idt = (v: number, off: number, val: number | string, size = 'byte') =>
  `mov ${size} [idt_base+${v * 16 + off}], ${val};`;
add('ist', 0, 'ud2', `${idt(6, 4, 3)}mov dword [tss_base+0x24+16], 0x20900b`);
add('ist user', 3, 'ud2', `${idt(6, 4, 1)}mov dword [tss_base+0x24], 0x20900b`);
add('rsp0 odd', 3, 'ud2', 'mov dword [tss_base+4], 0x20900b');
add('rsp align', 0, 'mov esp, 0x209003; ud2');
add(
  'rsp0 nc -> df',
  3,
  'ud2',
  `mov dword [tss_base+8], 0x8000;${idt(8, 4, 1)}mov dword [tss_base+0x24], 0x209000`,
);
add(
  'ist nc -> df',
  0,
  'ud2',
  idt(6, 4, 2) +
    'mov dword [tss_base+0x24+12], 0x8000;' +
    idt(8, 4, 1) +
    'mov dword [tss_base+0x24], 0x209000',
);
add('ist pf -> pf', 0, 'ud2', `${idt(6, 4, 2)}mov dword [tss_base+0x24+12], 0x1000;`);
add('gate np -> np', 0, 'ud2', idt(6, 5, 0xe));
add('gp gate np -> df', 3, 'hlt', idt(13, 5, 0xe));
add('pf gate np -> df', 0, 'mov rax, 0x100000000000; mov rax, qword [rax]', idt(14, 5, 0xe));
add('de -> np df', 0, 'div ecx', idt(0, 5, 0xe));
add('bp gate dpl', 3, 'int3');
add('int dpl', 3, 'int 0x20');
add('int beyond', 3, 'int 0x40');
add('ud type bad', 3, 'ud2', idt(6, 5, 0x8c));
add('ud type 16', 3, 'ud2', idt(6, 5, 0x86));
add('task gate', 3, 'ud2', idt(6, 5, 0x85));
add('gate sel null', 3, 'ud2', idt(6, 2, 0, 'word'));
add('gate sel data', 3, 'ud2', idt(6, 2, 0x10, 'word'));
add('gate sel 32', 3, 'ud2', idt(6, 2, 0x80, 'word'));
add('gate nc', 3, 'ud2', idt(6, 8, 0x8000, 'dword'));
add('gate cs np', 3, 'ud2', idt(6, 2, 0x50, 'word') + segment('slot0', { access: 0x1b, flags: 0xa }));
add('trap gate if', 0, 'mov eax, 0x202; push rax; popfq; ud2', idt(6, 5, 0x8f));
add('compat kernel int', 0, 'mov eax, 0x11; int 0x30', '', 32);
add('compat user push', 3, 'mov esp, 0x20a004; push 0x12345678; pop ecx', '', 32);
for (const w of ['iretw', 'iretd']) {
  const i = n++;
  const sz = w === 'iretw' ? 2 : 4;
  add(
    `${w} 64`,
    0,
    `mov esp, 0x209000; mov ${sz === 2 ? 'word' : 'dword'} [0x209000], ${sz === 2 ? 0x1234 : `iw${i}`}; mov ${sz === 2 ? 'word' : 'dword'} [0x209000+${sz}], 8; mov ${sz === 2 ? 'word' : 'dword'} [0x209000+${2 * sz}], 2; mov ${sz === 2 ? 'word' : 'dword'} [0x209000+${3 * sz}], 0x8000; mov ${sz === 2 ? 'word' : 'dword'} [0x209000+${4 * sz}], 0x10; ${sz === 2 ? 'mov word [0x209002], 0;' : ''} ${w}; iw${i}: mov ebx, 5; mov rcx, rsp; mov esp, 0x209000`,
  );
}
add('NT iretq', 0, 'mov eax, 0x4002; push rax; popfq; iretq');
