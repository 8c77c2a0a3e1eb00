/** Virtual-8086 mode: entry, sensitive instructions, interrupts, I/O. SDM vol. 3A chapter 20. */
import { type Case, segment } from '../privileged.fixture.ts';

export const cases: Case[] = [];
let n = 0;
// runs `code` in v86 at 1000:0, flags given, ss:sp = 2000:1000
const v86 = (
  name: string,
  flags: number,
  code: string,
  setup = '',
  more: { ip?: number; sp?: number; ss?: number } = {},
) => {
  const i = n++;
  cases.push({
    name: `v86 ${name}`,
    setup: `mov esi, v${i}_code; mov edi, 0x10000; mov ecx, 200; rep movsb; mov edi, 0x20000; mov ecx, 0x800; mov eax, 0; rep stosd; ${setup}`,
    body: `push 0x6666; push 0x5555; push 0x4444; push 0x3333; push ${more.ss ?? 0x2000}; push ${more.sp ?? 0x1000}; push ${flags | 0x20002}; push 0x1000; push ${more.ip ?? 0}; iretd; v${i}_code: bits 16\n${code}\n${'hlt;'.repeat(200)}`,
  });
};
const i3 = 0x3000;
v86('hlt', 0, 'hlt');
v86('hlt iopl3', i3, 'hlt');
v86('segments', i3, 'mov ax, ds; mov bx, es; mov cx, fs; mov dx, gs');
for (const io of [0, i3]) {
  for (const ins of (io ? (x: string[]) => x.filter((y) => !y.startsWith('iret')) : (x: string[]) => x)([
    'cli',
    'sti',
    'pushfw',
    'popfw',
    'pushfd',
    'popfd',
    'iretw',
    'iretd',
    'int 0x31',
    'int3',
    'into',
    'int1',
    'in al, dx',
    'out dx, al',
    'lock inc word [bx]',
    'lgdt [bx]',
    'sgdt [bx]',
    'sldt ax',
    'lldt ax',
    'ltr ax',
    'lar ax, bx',
    'verr ax',
    'arpl ax, bx',
    'smsw ax',
    'lmsw ax',
    'clts',
    'invlpg [bx]',
    'rdmsr',
    'wrmsr',
    'rdtsc',
    'mov eax, cr0',
    'mov cr0, eax',
    'mov eax, dr7',
    'mov dr7, eax',
    'sysenter',
    'sysexit',
    'wbinvd',
    'invd',
    'ud2',
    'syscall',
    'sysret',
  ]))
    v86(`${ins} iopl ${io}`, io, ins + (ins === 'rdtsc' ? '; mov ax, 0; cwde; mov dx, 0; mov edx, 0' : ''));
}
v86('int iopl3 dpl3 gate', i3, 'mov ax, 0x77; int 0x30');
v86('int iopl3 stack', i3 | 0x200, 'int 0x31', 'mov byte [idt_base+0x18d], 0xee');
v86('pushf pop', i3 | 0x247, 'pushfw; pop ax; pushfd; pop ebx');
v86('popf', i3, 'push 0x0fd7; popfw; pushfw; pop ax');
v86('popfd', i3, 'mov eax, 0xffffffff; and eax, 0xfffffeff; push eax; popfd; mov bx, 1; pushfd; pop eax');
v86('iretw', i3, 'pushw 0x3202; push 0x1001; push 0x33; iretw'.replace('pushw', 'push'));
v86('iretw here', i3, 'push 0x0202; push 0x1000; push 0x0b; iretw; nop; mov ax, 5; pushfw; pop cx');
v86('retf', i3, 'push 0x1001; push 0; retf');
v86('jmpf', i3, 'jmpf 0x1001:0x22');
v86('callf', i3, 'callf 0x1001:0x22');
v86('ss limit', i3, 'mov ax, word [bp]', '', { sp: 0x1000 });
v86('limit 16', i3, 'mov bx, 0xffff; mov ax, word [bx]');
v86('limit ss', i3, 'mov bp, 0xffff; mov ax, word [bp]');
v86('limit 32', i3, 'mov ebx, 0x10000; mov al, byte [ebx]');
v86('push sp1', i3, 'push ax', '', { sp: 1 });
v86('push sp0', i3, 'push ax', '', { sp: 0 });
v86('pushd sp2', i3, 'push eax', '', { sp: 2 });
v86('pop ffff', i3, 'pop ax', '', { sp: 0xffff });
v86('pusha wrap', i3, 'pushaw', '', { sp: 8 });
v86('pusha wrap odd', i3, 'pushaw', '', { sp: 9 });
v86('jmp beyond', i3, 'mov eax, 0x10000; jmp eax');
v86('call beyond', i3, 'mov eax, 0x12345; call eax');
v86('mov seg', i3, 'mov ax, 0xffff; mov ds, ax; mov bx, 0x11; mov al, byte [bx]; mov cx, ds');
v86('lds', i3, 'push 0x1234; push 0x5678; mov bp, sp; lds bx, [bp]; mov ax, ds', '');
v86('pop ss', i3, 'push 0x1234; pop ss; mov ax, ss; mov cx, sp');
v86('io allowed', 0, 'mov dx, 0x80; mov al, 0; out dx, al; mov ax, 0x1', 'mov word [tss_base+0x66], 0x68');
v86(
  'io denied bit',
  0,
  'mov dx, 0x80; mov al, 0; out dx, al; mov ax, 0x1',
  'mov word [tss_base+0x66], 0x68; mov byte [tss_base+0x78], 1',
);
v86(
  'io word denied',
  0,
  'mov dx, 0x80; mov al, 0; out dx, ax',
  'mov word [tss_base+0x66], 0x68; mov byte [tss_base+0x78], 2',
);
v86(
  'io iopl3 denied',
  i3,
  'mov dx, 0x80; mov al, 0; out dx, ax',
  'mov word [tss_base+0x66], 0x68; mov byte [tss_base+0x78], 2',
);
v86('entry ip big', i3, 'nop', '', { ip: 0x10000 });
v86('entry ip end', i3, 'nop', '', { ip: 0xffff });
v86('entry esp big', i3, 'mov eax, esp; push bx; mov ecx, esp', '', { sp: 0x12345678 });
v86('TF', i3 | 0x100, 'nop; nop');
v86('div', i3, 'mov bl, 0; div bl');
v86('NT RF AC', i3 | 0x54000, 'nop');
v86('VIF VIP', i3 | 0x180000, 'nop');
v86('gate conforming', i3, 'int 0x31', 'mov byte [idt_base+0x18d], 0xee; mov word [idt_base+0x18a], 0x28');
v86('gate dpl3 code', i3, 'int 0x31', 'mov byte [idt_base+0x18d], 0xee; mov word [idt_base+0x18a], 0x1b');
v86(
  'gate dpl1 code',
  i3,
  'int 0x31',
  'mov byte [idt_base+0x18d], 0xee; mov word [idt_base+0x18a], 0x50; mov dword [tss_base+12], 0x209000; mov dword [tss_base+16], 0x71;' +
    segment('slot0', { access: 0xbb }) +
    segment('slot2', { access: 0xb3 }),
);
v86(
  'gate 16',
  i3,
  'int 0x31',
  'mov byte [idt_base+0x18d], 0xe6; mov word [idt_base+0x18a], 0x50; mov word [idt_base+0x188], vg16-0x100000;' +
    segment('slot0', { base: 0x100000, access: 0x9b }),
);
cases.push({ name: 'vg16 body', body: 'nop; int 0x30; vg16: pop eax; pop ecx; pop edx; pop ebx' });
const tssv =
  segment('slot2', { base: 0x300000, limit: 0x67, access: 0xe9, flags: 0 }) +
  `mov edi, 0x300000; mov ecx, 0x40; mov eax, 0; rep stosd; mov dword [0x300020], 0; mov dword [0x300024], 0x23002; mov dword [0x300038], 0x1000; mov dword [0x300048], 0x1111; mov dword [0x30004c], 0x1000; mov dword [0x300050], 0x2000; mov dword [0x300054], 0x3333; mov dword [0x300058],0x4444; mov dword [0x30005c],0x5555; mov dword [0x300064], 0x680000; mov dword [0x300004], kernel_stack; mov dword [0x300008], 0x10;`;
cases.push({
  name: 'task to v86',
  setup: `mov esi, tv1; mov edi, 0x10000; mov ecx, 100; rep movsb;${tssv}`,
  body: `jmpf 0x70:0; tv1: bits 16\n mov ax, ds; mov bx, fs; hlt`,
});
cases.push({
  name: 'iret16 vm',
  body: `push 0x2; push 8; push vmx; mov dword [esp+8], 0x20002; iretw; vmx: nop`,
});
cases.push({
  name: 'iretd vm cpl3',
  cpl: 3,
  body: `push 0x20002; push 0x1b; push vmy; iretd; vmy: pushfd; pop eax; and eax, 0x20000`,
});
