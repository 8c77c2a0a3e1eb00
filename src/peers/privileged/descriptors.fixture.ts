/** Every access byte of a descriptor by every instruction that looks at one. SDM vol. 3A 3.4.5, 3.5, 5.4 to 5.8, 5.10. */
import { type Case, type GuestBits, gate } from '../privileged.fixture.ts';

const SCRATCH = 0x30_0000;

/** Slot 0 with [turn] as its access byte; available TSSs are made void, as no task stands behind them. */
const descriptor = (flags: number) =>
  `
  mov dword [gdt+slot0_], 0xffff
  mov eax, dword [turn]
  mov ebx, eax
  and ebx, 0x17
  cmp ebx, 1
  jne .kept
  and eax, 0xe0
  .kept:
  shl eax, 8
  or eax, ${((flags << 20) | 0xf_0000 | (flags & 2 ? 0 : SCRATCH >>> 16)) >>> 0}
  mov dword [gdt+slot0_+4], eax
  mov dword [gdt+slot0_+8], 0
  mov dword [gdt+slot0_+12], 0
`.replaceAll('slot0_', '80');

/** @param flags G D L AVL of the descriptor; with L its base is 0 */
export function cases(bits: GuestBits, flags: number): Case[] {
  const all: Case[] = [];
  const base = flags & 2 ? 0 : SCRATCH;
  const wide = bits === 64;
  const [a, c, sp] = wide ? ['rax', 'rcx', 'rsp'] : ['eax', 'ecx', 'esp'];
  const add = (name: string, cpl: 0 | 3, body: string, more: Partial<Case> = {}) => {
    const label = `descriptor${bits}_${flags}_${all.length}`;
    all.push({
      name: `${name}, CPL ${cpl}`,
      cpl,
      turns: 256,
      ...more,
      setup: `${descriptor(flags)}${(more.setup ?? '').replaceAll('LABEL', label)}`,
      body: body.replaceAll('LABEL', label),
    });
  };
  const frame = (rpl: number) => `mov eax, ${0x20 | rpl}; mov ${c}, ${sp}; push ${a}; push ${c};`;
  for (const [cpl, rpl] of [
    [0, 0],
    [0, 3],
    [3, 3],
  ] as const) {
    const selector = 0x50 | rpl;
    const add3 = (name: string, body: string, more?: Partial<Case>) =>
      add(`${name}, RPL ${rpl}`, cpl, body, more);
    add3('mov ds', `mov eax, ${selector}; mov ds, ax; mov ebx, ds`);
    add3('mov ss', `mov eax, ${selector}; mov ecx, ss; mov ss, ax; mov ss, cx; mov ebx, 1`);
    for (const query of ['lar', 'lsl'])
      add3(query, `mov eax, ${selector}; mov ebx, 0x1234; ${query} ebx, eax`);
    for (const query of ['verr', 'verw']) add3(query, `mov eax, ${selector}; ${query} ax`);
    if (cpl === 0) {
      add3('lldt', `mov eax, ${selector}; lldt ax; sldt ebx`);
      add3('ltr', `mov eax, ${selector}; ltr ax; str ebx`);
    }
    add3('jmp far', `jmpf ${selector}:LABEL-${base}; LABEL: mov ebx, cs`, { width: 32 });
    if (!wide) add3('call far', `callf ${selector}:LABEL-${base}; LABEL: mov ebx, cs; pop ecx; pop edx`);
    add3(
      'ret far',
      `${frame(rpl)} push ${selector}; push LABEL-${base}; ${wide ? 'retfq' : 'retf'}; LABEL: mov ebx, cs`,
    );
    add3(
      'iret',
      `${frame(rpl)} push 2; push ${selector}; push LABEL-${base}; ${wide ? 'iretq' : 'iretd'}; LABEL: mov ebx, cs`,
    );
  }
  const entry = 0x31 * (bits / 4);
  for (const cpl of [0, 3] as const) {
    add('int to', cpl, 'int 0x31; LABEL: mov ebx, cs', {
      setup: `
        mov word [idt_base+${entry + 2}], 0x50
        mov byte [idt_base+${entry + 5}], 0xee
        mov eax, LABEL-${base}
        mov word [idt_base+${entry}], ax
        shr eax, 16
        mov word [idt_base+${entry + 6}], ax
      `,
    });
    const gated = gate('slot1', { selector: 0x50, target: `LABEL-${base}`, access: 0xec });
    if (wide) {
      // CALL and JMP m16:64 with RDI at the pointer.
      const far = (op: number) => `mov edi, scratch; db 0x48, 0xff, ${op}; LABEL: mov ebx, cs`;
      for (const [name, op] of [
        ['call', 0x1f],
        ['jmp', 0x2f],
      ] as const)
        add(`${name} through a gate to`, cpl, far(op), {
          setup: `${gated}mov word [scratch+8], 0x60; mov qword [scratch], 0`,
        });
    } else {
      for (const name of ['callf', 'jmpf'])
        add(`${name} through a gate to`, cpl, `${name} 0x60:0; LABEL: mov ebx, cs`, { setup: gated });
    }
  }
  return all;
}
