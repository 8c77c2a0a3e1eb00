/** Single-stepping, breakpoints, RF and the MOV SS shadow. SDM vol. 3B 17.2, 17.3. */
import type { Case } from '../privileged.fixture.ts';

export const cases: Case[] = [];
/** Numbers the cases, whose label L is renamed so. */
let n = 0;
/** No breakpoints. */
const D = 'mov rax, 0; mov dr6, rax; mov rax, 0x400; mov dr7, rax;';
// body: `L` is replaced by a unique label prefix; the #DB handler prints; dr6 shown via rdx? -> handler of vector 1 redirected to dbh which loads rdx=dr6 and jumps to stub
const add = (name: string, cpl: 0 | 3, body: string, setup = '', width?: 32 | 64) => {
  const i = n++;
  const f = (s: string) => s.replace(/\bL(\d*)\b/g, `d${i}_$1`);
  cases.push({
    name: `${name}, CPL ${cpl}`,
    cpl,
    width,
    setup: `${D}mov eax, dbh; mov word [idt_base+16], ax; shr eax, 16; mov word [idt_base+22], ax;${f(setup)}`,
    body: f(body),
  });
};
/** Code that enables breakpoint `i` at `addr`. Changes EAX and ECX. */
const bp = (i: number, addr: string, rw: number, len: number) =>
  `mov eax, ${addr}; mov dr${i}, rax; mov rcx, dr7; or ecx, ${((2 << (2 * i)) | (rw << (16 + 4 * i)) | (len << (18 + 4 * i))) >>> 0}; mov dr7, rcx;`;
/** Sets TF: the trap is after the next instruction. */
const TF = 'pushfq; or qword [rsp], 0x100; popfq;';
for (const cpl of [0, 3] as const) {
  add('tf nop', cpl, `${TF}nop; nop; nop`);
  add('tf popf clear', cpl, `${TF + 'nop;'.replace('nop;', 'push 2; popfq')}; nop`);
  add('tf int', cpl, TF.replace('popfq;', 'popfq; int 0x30'));
  add('tf int31', cpl, `${TF}int 0x31; nop`, 'mov byte [idt_base+0x315], 0xee');
  add('tf int3', cpl, `${TF}int3`, 'mov byte [idt_base+0x35], 0xee');
  add('tf fault', cpl, `${TF}ud2`);
  add('tf icebp', cpl, `${TF}db 0xf1; nop`);
  add('tf rep', cpl, `mov esi, 0x300000; mov edi, 0x301000; mov ecx, 3; ${TF}rep movsb; nop`);
  add('tf rep 0', cpl, `mov ecx, 0;${TF}rep movsb; nop; nop`);
  add('tf mov ss', cpl, `mov eax, ss; ${TF} mov ss, ax; nop; nop`);
  add('tf pop ss..mov ss', cpl, `mov eax, ss; ${TF} mov ss, ax; mov ss, ax; nop; nop`);
  add('mov ss then popf tf', cpl, `mov eax, ss; push 0x102; mov ss, ax; popfq; nop; nop`);
  add('mov ss int3', cpl, `mov eax, ss; mov ss, ax; int3`, 'mov byte [idt_base+0x35], 0xee');
  add('tf jmp', cpl, `${TF}jmp L1; nop; L1: nop; nop`);
  add('tf syscall-less pushf', cpl, `${TF}pushfq; pop rbx; nop`);
  add(
    'iretq tf',
    cpl,
    `mov ecx, ss; mov rdx, rsp; mov eax, cs; push rcx; push rdx; push 0x102; push rax; push L1; iretq; L1: nop; nop; nop`,
  );
  add(
    'iretq rf',
    cpl,
    `mov ecx, ss; mov rdx, rsp; mov eax, cs; push rcx; push rdx; push 0x10002; push rax; push L1; iretq; L1: nop; nop; nop`,
    bp(0, 'L1', 0, 0),
  );
  add(
    'iretq rf tf',
    cpl,
    `mov ecx, ss; mov rdx, rsp; mov eax, cs; push rcx; push rdx; push 0x10102; push rax; push L1; iretq; L1: nop; L2: nop; nop`,
    bp(0, 'L1', 0, 0) + bp(1, 'L2', 0, 0),
  );
  add('exec bp', cpl, 'nop; L1: nop', bp(0, 'L1', 0, 0));
  add('exec bp on faulting', cpl, 'nop; L1: ud2', bp(0, 'L1', 0, 0));

  add(
    'exec bp two',
    cpl,
    'nop; L1: nop',
    `${bp(0, 'L1', 0, 0) + bp(2, 'L1', 0, 0)}mov eax, L1; mov dr3, rax`,
  );
  add('exec bp after mov ss', cpl, 'mov eax, ss; mov ss, ax; L1: nop; nop', bp(0, 'L1', 0, 0));
  add('data write', cpl, 'mov esi, 0x300000; mov dword [rsi], eax; nop; nop', bp(0, '0x300000', 1, 3));
  add(
    'data write read-only access',
    cpl,
    'mov esi, 0x300000; mov eax, dword [rsi]; nop',
    bp(0, '0x300000', 1, 3),
  );
  add('data rw read', cpl, 'mov esi, 0x300000; mov eax, dword [rsi]; nop', bp(0, '0x300000', 3, 3));
  for (const len of [0, 1, 3, 2])
    for (const at of [-1, 0, 1, 2, 3, 4, 7, 8]) {
      if (cpl === 0)
        add(
          `data len ${len} at ${at}`,
          cpl,
          `mov esi, ${0x300000 + at}; mov byte [rsi], al; nop`,
          bp(1, '0x300000', 1, len),
        );
    }
  add('data unaligned cross', cpl, 'mov esi, 0x2ffffe; mov dword [rsi], eax; nop', bp(1, '0x300000', 1, 0));
  add(
    'data rep movs',
    cpl,
    'mov esi, 0x302000; mov edi, 0x2ffffc; mov ecx, 10; rep movsb; nop',
    bp(1, '0x300000', 1, 0),
  );
  add('data push', cpl, 'mov esp, 0x206008; push rax; nop', bp(1, '0x206000', 1, 2));
  add('data with fault', cpl, 'mov esi, 0x300000; push rax; pop qword [rsi]; ud2', bp(1, '0x300000', 1, 2));
  add(
    'data mov ss shadow',
    cpl,
    'mov eax, ss; mov dword [0x300000], eax; mov esi, 0x300000; mov ss, word [rsi]; nop; nop',
    bp(1, '0x300000', 3, 3),
  );
  add(
    'data mov ss shadow 2',
    cpl,
    'mov esi, 0x300000; mov ss, word [rsi]; nop; nop',
    `mov dword [0x300000], ${cpl ? 0x23 : 0x10};${bp(1, '0x300000', 3, 3)}`,
  );
  add(
    'data mov ss shadow int',
    cpl,
    'mov esi, 0x300000; mov ss, word [rsi]; int3; nop',
    `mov byte [idt_base+0x35], 0xee; mov dword [0x300000], ${cpl ? 0x23 : 0x10};${bp(1, '0x300000', 3, 3)}`,
  );
  add(
    'data mov ss shadow ud',
    cpl,
    'mov esi, 0x300000; mov ss, word [rsi]; ud2; nop',
    `mov dword [0x300000], ${cpl ? 0x23 : 0x10};${bp(1, '0x300000', 3, 3)}`,
  );
  add('data xchg', cpl, 'mov esi, 0x300000; xchg dword [rsi], eax; nop', bp(1, '0x300000', 1, 3));
  add(
    'data bit disabled sets B',
    cpl,
    'mov esi, 0x300000; mov dword [rsi], eax; nop',
    bp(1, '0x300000', 1, 3) +
      'mov eax, 0x300000; mov dr2, rax; mov rcx, dr7; or ecx, 0x0d000000; mov dr7, rcx;',
  );
  add('data tf', cpl, `mov esi, 0x300000;${TF}mov dword [rsi], eax; nop`, bp(1, '0x300000', 1, 3));
  add('icebp', cpl, 'db 0xf1; nop');
  add('bp far jmp', cpl, 'jmp L1; nop; L1: nop', bp(0, 'L1', 0, 0));
}
add('gd mov dr', 0, 'mov rax, dr3; nop', 'mov rax, 0x2400; mov dr7, rax');
add('gd mov to dr', 0, 'mov dr3, rax; nop', 'mov rax, 0x2400; mov dr7, rax');
add('gd cpl3', 3, 'mov rax, dr3; nop', 'mov rax, 0x2400; mov dr7, rax');
add('gd dr6 sticky', 0, 'mov rax, dr3; nop', 'mov eax, 0x4000; mov dr6, rax; mov rax, 0x2400; mov dr7, rax');
add(
  'io bp',
  0,
  'mov edx, 0x80; mov eax, 0; out dx, al; nop',
  `mov rax, cr4; or eax, 8; mov cr4, rax;${bp(0, '0x80', 2, 0)}`,
);
add(
  'io bp no DE',
  0,
  'mov edx, 0x80; mov eax, 0; out dx, al; nop',
  `mov rax, cr4; and eax, 0xfffffff7; mov cr4, rax;${bp(0, '0x80', 2, 0)}`,
);
add('exec bp compat', 3, 'nop; L1: nop', bp(0, 'L1', 0, 0), 32);
add('tf compat', 3, 'pushfd; or dword [esp], 0x100; popfd; nop; nop', '', 32);
add(
  'tf far jmp compat',
  3,
  'pushfd; or dword [esp], 0x100; popfd; jmpf 0x2b:L1; bits 64\nL1: nop; nop; int 0x30',
  '',
  32,
);
add('bp high linear', 0, 'nop', 'mov rax, 0x800000000000; mov dr0, rax; mov rbx, dr0');
// The handler of #DB shows DR6 in EDX and DR7 in EBX.
cases.push({
  name: 'dbh',
  body: 'mov eax, 0x400; mov dr7, rax; int 0x30; dbh: mov rdx, dr6; mov rbx, dr7; mov eax, 0x400; mov dr7, rax; mov eax, stubs+16; jmp rax',
});
