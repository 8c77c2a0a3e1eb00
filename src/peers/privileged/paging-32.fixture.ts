/** 32-bit and PAE paging. SDM vol. 3A 4.3, 4.4, 4.6 to 4.8, 4.10. */
import type { Case } from '../privileged.fixture.ts';

export const cases: Case[] = [];
const off = `mov eax, cr0; and eax, 0x7ffeffff; mov cr0, eax; mov eax, cr4; and eax, 0xffffff4f; mov cr4, eax;`;
cases.length = 0;
// 32-bit: PD 0x220000, PT for 0x40000000 at 0x221000 (PDE 0x100)
const legacy = (o: {
  pde?: string;
  pte?: string;
  pte1?: string;
  cr4?: string;
  wp?: boolean;
  watch?: string;
}) =>
  off +
  `
 mov edi, 0x220000; mov ecx, 0x800; mov eax, 0; rep stosd
 mov dword [0x220000], 0x87; mov dword [0x220004], 0x400087
 mov dword [0x220400], ${o.pde ?? '0x221007'}; mov dword [0x221000], ${o.pte ?? '0x301007'}; mov dword [0x221004], ${o.pte1 ?? '0'}
 mov dword [0x301000], 0x11112222; mov dword [0x302000], 0x33334444; mov dword [0x400000], 0x55556666; mov dword [0x401000], 0x77778888; mov byte [0x301010], 0xc3
 mov dword [watched], ${o.watch ?? '0x221000'}
 mov eax, cr4; or eax, ${o.cr4 ?? '0x10'}; mov cr4, eax; mov eax, 0x220000; mov cr3, eax; mov eax, cr0; or eax, ${o.wp ? '0x80010000' : '0x80000000'}; mov cr0, eax;`;
// PAE: PDPT 0x223000, PD0 0x220000, PD1 0x222000 (1-2 GiB), PT 0x221000
const pae = (o: {
  pdpte?: string;
  pde?: string;
  pdeh?: string;
  pte?: string;
  pteh?: string;
  cr4?: string;
  wp?: boolean;
  nx?: boolean;
  watch?: string;
}) =>
  off +
  `
 mov edi, 0x220000; mov ecx, 0x1000; mov eax, 0; rep stosd
 mov dword [0x223000], 0x220001; mov dword [0x223008], ${o.pdpte ?? '0x222001'}
 mov dword [0x220000], 0x87; mov dword [0x220008], 0x200087; mov dword [0x220010], 0x400087
 mov dword [0x222000], ${o.pde ?? '0x221007'}; mov dword [0x222004], ${o.pdeh ?? '0'}; mov dword [0x221000], ${o.pte ?? '0x301007'}; mov dword [0x221004], ${o.pteh ?? '0'}
 mov dword [0x301000], 0x11112222; mov dword [0x302000], 0x33334444; mov byte [0x301010], 0xc3
 mov dword [watched], ${o.watch ?? '0x221000'}
 mov ecx, 0xc0000080; rdmsr; ${o.nx ? 'or eax, 0x800' : 'and eax, 0xfffff7ff'}; wrmsr
 mov eax, cr4; or eax, ${o.cr4 ?? '0x20'}; mov cr4, eax; mov eax, 0x223000; mov cr3, eax; mov eax, cr0; or eax, ${o.wp ? '0x80010000' : '0x80000000'}; mov cr0, eax;`;
const P = '0x40000000';
const R = `mov esi, ${P}; mov eax, dword [esi]`,
  W = `mov esi, ${P}; mov dword [esi], ecx`,
  X = `mov esi, 0x40000010; call esi`;
const add = (name: string, cpl: 0 | 3, body: string, setup: string, turns = 1) =>
  cases.push({ name, cpl, body, setup, turns });
for (const [n, op] of [
  ['R', R],
  ['W', W],
  ['X', X],
] as const)
  for (const cpl of [0, 3] as const)
    for (const wp of [false, true]) {
      add(
        `legacy ${n} cpl${cpl} wp${wp} pte`,
        cpl,
        op,
        legacy({ wp }) +
          'mov eax, dword [turn]; or eax, 0x301000; mov dword [0x221000], eax; mov eax, cr3; mov cr3, eax',
        8,
      );
      add(
        `legacy ${n} cpl${cpl} wp${wp} pde`,
        cpl,
        op,
        legacy({ wp, watch: '0x220400' }) +
          'mov eax, dword [turn]; or eax, 0x221000; mov dword [0x220400], eax; mov eax, cr3; mov cr3, eax',
        8,
      );
      add(
        `pae ${n} cpl${cpl} wp${wp} pte`,
        cpl,
        op,
        pae({ wp }) +
          'mov eax, dword [turn]; or eax, 0x301000; mov dword [0x221000], eax; mov eax, cr3; mov cr3, eax',
        8,
      );
      add(`pae nx ${n} cpl${cpl} wp${wp}`, cpl, op, pae({ wp, nx: true, pteh: '0x80000000' }));
      add(`pae nx pde ${n} cpl${cpl} wp${wp}`, cpl, op, pae({ wp, nx: true, pdeh: '0x80000000' }));
    }
add('pse', 0, `mov esi, 0x40001000; mov eax, dword [esi]`, legacy({ pde: '0x400087', watch: '0x220400' }));
add(
  'pse write user',
  3,
  `mov esi, 0x40001000; mov dword [esi], eax`,
  legacy({ pde: '0x400087', watch: '0x220400' }),
);
add(
  'pse bit21 reserved',
  0,
  `mov esi, 0x40001000; mov eax, dword [esi]`,
  legacy({ pde: '0x600087', watch: '0x220400' }),
);
add(
  'pse36 high',
  0,
  `mov esi, 0x40001000; mov eax, dword [esi]; mov eax, 0`,
  legacy({ pde: '0x402087', watch: '0x220400' }),
);
add(
  'ps without pse',
  0,
  R,
  off +
    legacy({ pde: '0x221087', watch: '0x220400' })
      .replace('or eax, 0x10;', 'or eax, 0;')
      .replace(
        'mov dword [0x220000], 0x87; mov dword [0x220004], 0x400087',
        `mov dword [0x220000], 0x224007; mov edi, 0x224000; mov eax, 7; mov ecx, 0x400; id1: mov dword [edi], eax; add edi, 4; add eax, 0x1000; dec ecx; jnz id1`,
      ),
);
add('legacy cross', 3, 'mov esi, 0x40000ffe; mov ecx, 0x12345678; mov dword [esi], ecx', legacy({}));
add(
  'legacy cross ok',
  3,
  'mov esi, 0x40000ffe; mov ecx, 0x12345678; mov dword [esi], ecx; mov eax, dword [esi]; movzx ebx, word [esi+2]',
  legacy({ pte1: '0x302007' }),
);
add(
  'legacy global',
  0,
  `${R}; mov dword [0x221000], 0x302107; mov ecx, cr3; mov cr3, ecx; mov ebx, dword [esi]`,
  legacy({ pte: '0x301107', cr4: '0x90' }),
);
add('legacy wrap 4G', 0, 'mov esi, 0xfffffffe; mov eax, dword [esi]', legacy({}));
add(
  'legacy wrap 4G np low',
  0,
  'mov esi, 0xfffffffe; mov eax, dword [esi]',
  `${legacy({})}mov dword [0x220ffc], 0x400087`,
);
add(
  'pae 2m',
  3,
  'mov esi, 0x40101000; mov dword [esi], eax; mov eax, dword [esi]',
  pae({ pde: '0x400087', watch: '0x222000' }),
);
add('pae 2m reserved', 3, R, pae({ pde: '0x402087', watch: '0x222000' }));
add('pae pdpte np', 0, R, pae({ pdpte: '0' }));
add(
  'pae pdpte changed',
  0,
  `${R}; mov dword [0x223008], 0; invlpg [esi]; mov ebx, dword [esi]; mov ecx, cr3; mov cr3, ecx; mov edx, dword [esi]`,
  pae({}),
);
add('pae pdpte reserved cr3', 0, 'mov dword [0x223008], 0x222003; mov ecx, cr3; mov cr3, ecx', pae({}));
add(
  'pae pdpte reserved np',
  0,
  'mov dword [0x223008], 0x222002; mov ecx, cr3; mov cr3, ecx; mov eax, 5',
  pae({}),
);
add('pae reserved pte', 0, R, pae({ pteh: '0x00100000' }));
add('pae reserved 62', 0, R, pae({ pteh: '0x40000000' }));
add('pae nx without nxe', 0, R, pae({ pteh: '0x80000000' }));
add('pae reserved pde', 0, R, pae({ pdeh: '0x00100000' }));
add('cr0 pg without pe', 0, 'mov eax, 0x80000000; mov cr0, eax', off);
add(
  'cr0 pg off on',
  0,
  `${R}; mov ecx, cr0; and ecx, 0x7fffffff; mov cr0, ecx; mov dword [0x221000], 0x302007; or ecx, 0x80000000; mov cr0, ecx; mov ebx, dword [esi]`,
  legacy({}),
);
add('lmsw', 0, 'mov eax, 0; lmsw ax; mov ebx, cr0; and ebx, 0xffff', off);
add('lmsw pe', 0, 'mov eax, 0xfff1; lmsw ax; mov ebx, cr0; and ebx, 0xffff', off);
cases.push({ name: 'gdtx', setup: off, body: 'nop; int 0x30; gdtx: nop' });
add(
  'accessed bit in ro page',
  0,
  'mov eax, 0x18; mov es, ax; nop',
  legacy({ pte: '0x301001', wp: true }) +
    'mov dword [0x301018], 0xffff; mov dword [0x30101c], 0xcff200; mov dword [0x301008], 0xffff; mov dword [0x30100c], 0xcf9b00; mov dword [0x301010], 0xffff; mov dword [0x301014], 0xcf9300; mov dword [0x300004], 0x40000000; mov word [0x300002], 0xff; lgdt [0x300002]',
);
add(
  'user reads supervisor gdt',
  3,
  'mov eax, 0x23; mov es, ax; mov ebx, es',
  legacy({ pte: '0x301001', wp: true }) +
    'mov dword [0x301020], 0xffff; mov dword [0x301024], 0xcff300; mov dword [0x301018], 0xffff; mov dword [0x30101c], 0xcffb00; mov dword [0x301008], 0xffff; mov dword [0x30100c], 0xcf9b00; mov dword [0x301010], 0xffff; mov dword [0x301014], 0xcf9300; mov dword [0x300004], 0x40000000; mov word [0x300002], 0xff; lgdt [0x300002]',
);
add(
  'idt page np',
  0,
  'ud2',
  `${legacy({ pte: '0' })}mov dword [0x300004], 0x40000000; mov word [0x300002], 0xff; nop`,
);
cases.push({ name: 'end', setup: off, body: 'nop' });
