/** Call gates, far returns and hardware task switches. SDM vol. 3A 5.8, chapter 7. */
import { type Case, gate, segment } from '../privileged.fixture.ts';

export const cases: Case[] = [];
const add = (name: string, cpl: 0 | 3, body: string, setup = '', turns = 1) =>
  cases.push({ name, cpl, body, setup, turns });
// 1. call gates with parameters: print the inner stack
for (const params of [0, 1, 3, 31])
  add(
    `callgate32 params ${params}`,
    3,
    `push 0x11; push 0x22; push 0x33; callf 0x60:0; db 0x0f,0x0b; cg${params}: pop eax; pop ecx; pop edx; pop ebx`,
    gate('slot1', { selector: 8, target: `cg${params}`, access: 0xec, parameters: params }),
  );
add(
  `callgate32 params 3 tail`,
  3,
  `push 0x11; push 0x22; push 0x33; callf 0x60:0; db 0x0f,0x0b; cgt: add esp, 16; pop eax; pop ecx; pop edx`,
  gate('slot1', { selector: 8, target: `cgt`, access: 0xec, parameters: 3 }),
);
add(
  `callgate32 retf 12`,
  3,
  `push 0x11; push 0x22; push 0x33; callf 0x60:0; mov eax, esp; mov ebx, 7; int 0x30; cgr: retf 12`,
  gate('slot1', { selector: 8, target: `cgr`, access: 0xec, parameters: 3 }),
);
add(
  `callgate16 base`,
  3,
  `push 0x11; push 0x22; push 0x33; callf 0x60:0; db 0x0f,0x0b; cg16b: pop eax; pop ecx; pop edx; pop ebx`,
  segment('slot0', { base: 0x100000, access: 0x9b }) +
    gate('slot1', { selector: 0x50, target: `cg16b-0x100000`, access: 0xe4, parameters: 3 }),
);
add(
  `callgate same level`,
  0,
  `push 0x11; callf 0x60:0; ud2; cgs: pop eax; pop ecx; pop edx`,
  gate('slot1', { selector: 8, target: `cgs`, access: 0xec, parameters: 3 }),
);
add(
  `callgate conforming`,
  3,
  `push 0x11; callf 0x60:0; ud2; cgc: pop eax; pop ecx; pop edx; mov ebx, cs`,
  gate('slot1', { selector: 0x28, target: `cgc`, access: 0xec, parameters: 3 }),
);
add(
  `callgate notpresent`,
  3,
  `callf 0x60:0`,
  gate('slot1', { selector: 8, target: `cgs`, access: 0x6c, parameters: 3 }),
);
add(
  `callgate dpl0`,
  3,
  `callf 0x60:0`,
  gate('slot1', { selector: 8, target: `cgs`, access: 0x8c, parameters: 3 }),
);
add(
  `callgate tss.ss null`,
  3,
  `callf 0x60:0; ud2`,
  gate('slot1', { selector: 0x51, target: `cgs`, access: 0xec, parameters: 3 }) +
    segment('slot0', { access: 0xbb }),
);
for (const [n, acc, sel] of [
  ['np', 0x33, 0x71],
  ['ro', 0xb1, 0x71],
  ['rpl', 0xb3, 0x70],
  ['dpl', 0xd3, 0x71],
  ['code', 0xbb, 0x71],
  ['ok', 0xb2, 0x71],
  ['limit', 0xb3, 0xfff9],
] as const)
  add(
    `callgate tss.ss1 ${n}`,
    3,
    `push 5; callf 0x60:0; ud2; cgss${n}: pop eax; pop ecx; pop edx; pop ebx`,
    gate('slot1', { selector: 0x50, target: `cgss${n}`, access: 0xec, parameters: 1 }) +
      segment('slot0', { access: 0xbb }) +
      segment('slot2', { access: acc }) +
      `mov dword [tss_base+12], 0x209000; mov dword [tss_base+16], ${sel}`,
  );
add(
  'callgate tss limit',
  3,
  `callf 0x60:0; ud2`,
  gate('slot1', { selector: 0x50, target: `cgs`, access: 0xec }) +
    segment('slot0', { access: 0xbb }) +
    `mov dword [gdt+0x78], 0; ` +
    segment(0xa0, { base: 0x20d000, limit: 12, access: 0x89, flags: 0 }) +
    'mov eax, 0xa0; ltr ax',
);
add(
  'callgate stack no room',
  3,
  `push 5; callf 0x60:0; ud2`,
  gate('slot1', { selector: 0x50, target: `cgs`, access: 0xec, parameters: 1 }) +
    segment('slot0', { access: 0xbb }) +
    segment('slot2', { access: 0xb3, limit: 0x2ff, flags: 4 }) +
    `mov dword [tss_base+12], 0x10; mov dword [tss_base+16], 0x71`,
);
add(
  'retf to outer null ds',
  0,
  `mov eax, 0x10; mov ds, ax; mov es, ax; mov fs, ax; mov eax, 0x23; mov gs, ax; push 0x23; push 0x20a000; push 0x1b; push ro1; retf; ro1: mov eax, ds; mov ebx, gs`,
);
add(
  'retf 8 to outer',
  0,
  `push 0x23; push 0x20a000; push 1; push 2; push 0x1b; push ro2; retf 8; ro2: mov eax, esp`,
);
// int through 16-bit gates
add(
  'int 16-bit gate',
  3,
  `int 0x31`,
  `mov byte [idt_base+0x18d], 0xe6; mov word [idt_base+0x18a], 0x50; mov word [idt_base+0x188], ig16-0x100000;` +
    segment('slot0', { base: 0x100000, access: 0x9b }),
);
cases.push({ name: 'ig16 body', body: 'nop; int 0x30; ig16: pop eax; pop ecx; pop edx; pop ebx' });
// 2. task switches. TSS2 at scratch, TSS desc slot2
const tss2 = (label: string, extra = '') =>
  segment('slot2', { base: 0x300000, limit: 0x67, access: 0xe9, flags: 0 }) +
  `
 mov edi, 0x300000; mov ecx, 0x40; mov eax, 0; rep stosd
 mov dword [0x300020], ${label}; mov dword [0x300024], 2; mov dword [0x300028], 0x1111; mov dword [0x30002c], 0x2222; mov dword [0x300030], 0x3333; mov dword [0x300034], 0x4444
 mov dword [0x300038], 0x209000; mov dword [0x300048], 0x10; mov dword [0x30004c], 8; mov dword [0x300050], 0x10; mov dword [0x300054], 0x10; mov dword [0x300058],0x10; mov dword [0x30005c],0x10; mov dword [0x300064], 0x680000; ${extra}\n`;
const look =
  'mov eax, dword [tss_base]; mov ecx, dword [0x300000]; mov edx, dword [gdt+0x34]; mov ebx, dword [gdt+0x74]; shr edx, 8; shr ebx, 8; mov dh, bl; mov ebx, cr0; and ebx, 0xff';
add('jmp task', 0, `jmpf 0x70:0; ud2; tj1: nop`, tss2('tj1'));
add('jmp task look', 0, `jmpf 0x70:0; ud2; tj2: ${look}`, tss2('tj2'));
add('call task look', 0, `callf 0x70:0; ud2; tj3: ${look}`, tss2('tj3'));
add('call task iret back', 0, `mov esi, 0x55; callf 0x70:0; ${look}; int 0x30; tj4: iretd`, tss2('tj4'));
add(
  'call task iret back twice',
  0,
  `callf 0x70:0; callf 0x70:0; ${look}; int 0x30; tj5: mov eax, 9; iretd; mov eax, 10; iretd`,
  tss2('tj5'),
);
add(
  'jmp task user via gate',
  3,
  `jmpf 0x60:0; ud2; tj6: nop`,
  `${tss2('tj6')}mov word [gdt+0x62], 0x70; mov dword [gdt+0x64], 0xe500`,
);
add(
  'call task from user direct',
  3,
  `callf 0x70:0; mov eax, 0x77; int 0x30; tj7: mov ebx, 5; iretd`,
  tss2('tj7'),
);
add('call task busy', 0, `callf 0x70:0`, tss2('tj7', 'mov byte [gdt+0x75], 0xeb'));
add('call task dpl0 user', 3, `callf 0x70:0`, tss2('tj7', 'mov byte [gdt+0x75], 0x89'));
add('call task np', 0, `callf 0x70:0`, tss2('tj7', 'mov byte [gdt+0x75], 0x69'));
add('call task limit', 0, `callf 0x70:0`, tss2('tj7', 'mov word [gdt+0x70], 0x66'));
add('call task self', 0, `callf 0x30:0`);
add(
  'int task gate',
  0,
  `int 0x31; mov eax, 0x66; int 0x30; tj8: ${look}`,
  `${tss2('tj8')}mov word [idt_base+0x18a], 0x70; mov byte [idt_base+0x18d], 0xe5`,
);
add(
  'int task gate iret',
  3,
  `int 0x31; mov eax, 0x66; int 0x30; tj9: iretd`,
  `${tss2('tj9')}mov word [idt_base+0x18a], 0x70; mov byte [idt_base+0x18d], 0xe5`,
);
add(
  'int task gate busy',
  3,
  `int 0x31; mov eax, 0x66`,
  tss2('tj9', 'mov byte [gdt+0x75], 0xeb') +
    'mov word [idt_base+0x18a], 0x70; mov byte [idt_base+0x18d], 0xe5',
);
add(
  'int task gate np tss',
  3,
  `int 0x31; mov eax, 0x66`,
  tss2('tj9', 'mov byte [gdt+0x75], 0x69') +
    'mov word [idt_base+0x18a], 0x70; mov byte [idt_base+0x18d], 0xe5',
);
add(
  '#GP task gate error code',
  3,
  `mov ebp, 0x99; mov eax, 0x50; mov ds, ax; ud2; tj10: pop eax; mov ecx, dword [0x20d000+0x20]; mov edx, dword [0x20d000+0x24]; and edx, 0x10000; mov ebx, dword [0x20d000+0x4c]`,
  `${tss2('tj10')}mov word [idt_base+0x6a], 0x70; mov byte [idt_base+0x6d], 0x85`,
);
add(
  '#UD ext task gate busy tss',
  3,
  `ud2`,
  tss2('tj10', 'mov byte [gdt+0x75], 0x8b') +
    'mov word [idt_base+0x32], 0x70; mov byte [idt_base+0x35], 0x85',
);
const tgs = [0x60, 0x68, 0xa0, 0xa8];
const tg =
  `;mov edi, 0x300400; mov ecx, 0x100; mov eax, 0; rep stosd; ` +
  [10, 11, 12, 13]
    .map((v, i) => {
      const b = 0x300400 + i * 0x100;
      const h = (o: number) => `0x${(b + o).toString(16)}`;
      return (
        `mov word [idt_base+${v * 8 + 2}], ${tgs[i]}; mov byte [idt_base+${v * 8 + 5}], 0x85; mov dword [${h(0x20)}], stubs+${v * 16}; mov dword [${h(0x24)}], 2; mov dword [${h(0x38)}], 0x208100; mov dword [${h(0x48)}], 0x10; mov dword [${h(0x4c)}], 8; mov dword [${h(0x50)}], 0x10; mov dword [${h(0x54)}], 0x10; mov dword [${h(0x64)}], 0x680000;` +
        segment(tgs[i], { base: b, limit: 0x67, access: 0xe9, flags: 0 })
      );
    })
    .join('');
for (const [n, off, val] of [
  ['cs null', 0x4c, 0],
  ['cs data', 0x4c, 0x10],
  ['cs rpl3', 0x4c, 0xb],
  ['cs beyond', 0x4c, 0xff8],
  ['cs conforming', 0x4c, 0x28],
  ['ss null', 0x50, 0],
  ['ss rpl', 0x50, 0x13],
  ['ss code', 0x50, 8],
  ['ss beyond', 0x50, 0xff8],
  ['ds code', 0x54, 0x28],
  ['ds beyond', 0x54, 0xff8],
  ['ds ldt', 0x54, 0x14],
  ['es tss', 0x48, 0x30],
  ['fs null', 0x58, 0],
  ['ldt bad', 0x60, 0x10],
  ['ldt beyond', 0x60, 0xff8],
  ['ldt ti', 0x60, 0x44],
  ['ldt ok', 0x60, 0x40],
  ['eip', 0x20, 0x90000000],
] as const)
  add(
    `task ${n}`,
    0,
    `jmpf 0x70:0; ud2; tk${off}_${val}: ${look}`,
    segment('slot0', { access: 0x9b, limit: 0x1ff, flags: 0xc }) +
      tss2(
        `tk${off}_${val}`,
        `mov dword [0x${(0x300000 + off).toString(16)}], ${val}` +
          (n === 'eip' ? '; mov dword [0x30004c], 0x50' : '') +
          tg,
      ),
  );
for (const [n, sel, acc] of [
  ['cs np', 0x4c, 0x1b],
  ['ss np', 0x50, 0x13],
  ['ds np', 0x54, 0x13],
  ['ds exec-only', 0x54, 0x99],
  ['ss ro', 0x50, 0x91],
  ['cs dpl3', 0x4c, 0xfb],
  ['ldt np', 0x60, 0x02],
] as const)
  add(
    `task ${n}`,
    0,
    `jmpf 0x70:0; ud2; tl${sel}_${acc}: ${look}`,
    segment('slot0', { access: acc }) +
      tss2(`tl${sel}_${acc}`, `mov dword [0x${(0x300000 + sel).toString(16)}], 0x50`) +
      tg,
  );
for (const [n, cs_, ss_, ds_] of [
  ['cs+ss', 0, 0, 0x10],
  ['cs+ss types', 0x10, 8, 0x10],
  ['cs+ds', 0x10, 0x10, 0x28],
  ['ss+ds', 8, 8, 0xff8],
  ['csdpl+ss', 0xb, 0xff8, 0x10],
] as const)
  add(
    `task ${n}`,
    0,
    `jmpf 0x70:0; ud2; tm${cs_}_${ss_}_${ds_}: ${look}`,
    tss2(
      `tm${cs_}_${ss_}_${ds_}`,
      `mov dword [0x30004c], ${cs_}; mov dword [0x300050], ${ss_}; mov dword [0x300054], ${ds_}`,
    ).replace('mov dword [0x300020]', 'mov dword [0x300020]') + tg,
  );
add(
  'task to user',
  0,
  `jmpf 0x70:0; ud2; tu1: mov eax, ds`,
  tss2(
    'tu1',
    'mov dword [0x30004c], 0x1b; mov dword [0x300050], 0x23; mov dword [0x300054], 0x23; mov dword [0x300048],0x23; mov dword [0x300058],0;mov dword [0x30005c],0; mov dword [0x300004], kernel_stack; mov dword [0x300008], 0x10',
  ),
);
add(
  'task T bit',
  0,
  `jmpf 0x70:0; ud2; tt1: mov eax, dr6; mov ebx, 5`,
  tss2('tt1', 'mov byte [0x300064], 1'),
);
add('task eflags', 0, `jmpf 0x70:0; ud2; tt2: nop`, tss2('tt2', 'mov dword [0x300024], 0x257102'));
add('task NT iret no link', 0, `mov eax, 0x4002; push eax; popfd; iretd`);
add(
  'task NT iret link avail',
  0,
  `mov eax, 0x4002; push eax; popfd; iretd`,
  tss2('tj1', 'mov word [tss_base], 0x70'),
);
add(
  'task NT iret link bad',
  0,
  `mov eax, 0x4002; push eax; popfd; iretd`,
  tss2('tj1', 'mov word [tss_base], 0x10'),
);
add(
  'task NT iret link ldt',
  0,
  `mov eax, 0x4002; push eax; popfd; iretd`,
  tss2('tj1', 'mov word [tss_base], 0x74'),
);
add(
  'task NT iret busy',
  0,
  `mov eax, 0x4002; push eax; popfd; iretd; ud2; tn1: ${look}`,
  tss2('tn1', 'mov word [tss_base], 0x70; mov byte [gdt+0x75], 0xeb'),
);
