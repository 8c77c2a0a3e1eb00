/**
 * Guest images that do nothing but one loop, in 64-bit mode, in batches that double in length. After each batch
 * the guest prints a line on COM1; the host takes the times of the lines. The difference of the last two
 * batches is the time of a known amount of guest work, with start-up and the line's own cost cancelled, and the
 * same image runs on every machine.
 */
import {
  type Assembler,
  al,
  cr0,
  cr2,
  cr3,
  cr4,
  ds,
  dx,
  eax,
  ecx,
  edx,
  es,
  esp,
  mem,
  qword,
  r8q,
  r9,
  r10,
  r12,
  r14,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  ss,
  sym,
  times,
} from '../src/kernel/assembler.ts';
import { flatImage, initializeSerial } from '../src/peers/flat-image.fixture.ts';

/** Turns of the loop in the first batch; batch k (from 0) has this times 2^k. */
export const FIRST_BATCH = 1024n;

const KERNEL_CODE = 0x08;
const KERNEL_DATA = 0x10;
const USER_DATA = 0x18 | 3;
const USER_CODE = 0x20 | 3;
const TASK_STATE = 0x28;

/** Where page tables, the IDT, the TSS and the loops' data stand: free memory above the image. */
const PML4 = 0x20_0000;
const PDPT = PML4 + 0x1000;
const PAGE_DIRECTORY = PML4 + 0x2000;
const IDT = PML4 + 0x3000;
const TSS = PML4 + 0x4000;
const KERNEL_STACK = PML4 + 0x6000;
const INTERRUPT_STACK = PML4 + 0x8000;
const USER_STACK = PML4 + 0xa000;
const DATA = 0x30_0000;

export interface Loop {
  readonly name: string;
  /** What one turn does, for a person. */
  readonly turn: string;
  /** Instructions that one turn retires, without faults. */
  readonly instructions: number;
  /** Runs at CPL 3. */
  readonly user: boolean;
  /** Code run once, before the first batch, at CPL 0. */
  prepare?(a: Assembler): void;
  /** The turns: R15 of them, more than zero. RAX to R14 are free. Falls out at the end. */
  body(a: Assembler): void;
}

/** Ends the loop: three instructions a turn are the loop's own. */
function again(a: Assembler, label: string): void {
  a.dec(r14);
  a.jnz(label);
}

export const loops: readonly Loop[] = [
  {
    name: 'integer',
    turn: 'integer and memory: load, add, multiply, rotate, xor, store over 16 KiB',
    instructions: 12,
    user: false,
    body(a) {
      a.mov(rsi, DATA);
      a.xor(rcx, rcx);
      a.label('integer_turn');
      a.mov(rax, mem(rsi, times(rcx, 8)));
      a.add(rax, r14);
      a.mov(rdx, rax);
      a.rol(rdx, 7);
      a.xor(rax, rdx);
      a.lea(rdx, mem(rax, times(rax, 4), 1));
      a.mov(mem(rsi, times(rcx, 8)), rdx);
      a.add(mem(rsi, 0x8000), rax);
      a.inc(rcx);
      a.and(rcx, 0x7ff);
      again(a, 'integer_turn');
    },
  },
  {
    name: 'branchy',
    turn: 'data-dependent branches: four tests of a pseudo-random number',
    instructions: 20,
    user: false,
    body(a) {
      a.mov(rax, 0x9e37_79b9);
      a.label('branchy_turn');
      // Xorshift: 6 instructions. Each test then takes one of two ways of equal length.
      for (const [shift, count] of [
        ['shl', 13],
        ['shr', 7],
      ] as const) {
        a.mov(rdx, rax);
        a[shift](rdx, count);
        a.xor(rax, rdx);
      }
      for (const bit of [1, 4, 16]) {
        const [set, join] = [`branchy_set_${bit}`, `branchy_join_${bit}`];
        a.test(al, bit);
        a.jnz(set);
        a.inc(rbx);
        a.jmp(join);
        a.label(set);
        a.dec(rbx);
        a.nop();
        a.label(join);
      }
      again(a, 'branchy_turn');
    },
  },
  {
    name: 'call',
    turn: 'call and return: two nested calls, four pushes and pops',
    instructions: 16,
    user: false,
    body(a) {
      a.jmp('call_turn');
      a.label('call_outer');
      a.push(rbx);
      a.push(rbp);
      a.mov(rbp, rsp);
      a.call('call_inner');
      a.pop(rbp);
      a.pop(rbx);
      a.ret();
      a.label('call_inner');
      a.push(rdi);
      a.push(rsi);
      a.add(rdi, 1);
      a.pop(rsi);
      a.pop(rdi);
      a.ret();
      a.label('call_turn');
      a.call('call_outer');
      again(a, 'call_turn');
    },
  },
  {
    name: 'interrupt',
    turn: 'INT 0x80 at CPL 3, IRETQ at CPL 0, and back',
    instructions: 4,
    user: true,
    body(a) {
      a.label('interrupt_turn');
      a.int(0x80);
      again(a, 'interrupt_turn');
    },
  },
  {
    name: 'interrupt-same',
    turn: 'INT 0x80 and IRETQ at CPL 0: no change of privilege, no TSS',
    instructions: 4,
    user: false,
    body(a) {
      a.label('interrupt_same_turn');
      a.int(0x80);
      again(a, 'interrupt_same_turn');
    },
  },
  {
    name: 'iret-same',
    turn: 'five pushes and IRETQ at CPL 0',
    instructions: 9,
    user: false,
    body(a) {
      a.lea(rsi, mem('iret_same_back'));
      a.mov(rdi, KERNEL_DATA);
      a.mov(r8q, KERNEL_CODE);
      a.mov(r9, rsp);
      a.mov(r10, 2);
      a.label('iret_same_turn');
      a.push(rdi);
      a.push(r9);
      a.push(r10);
      a.push(r8q);
      a.push(rsi);
      a.iretq();
      a.label('iret_same_back');
      a.nop();
      again(a, 'iret_same_turn');
    },
  },
  {
    name: 'pushes',
    turn: 'the five pushes alone',
    instructions: 9,
    user: false,
    body(a) {
      a.label('pushes_turn');
      for (const register of [rdi, r9, r10, r8q, rsi]) a.push(register);
      a.add(rsp, 40);
      a.nop();
      again(a, 'pushes_turn');
    },
  },
  {
    name: 'syscall',
    turn: 'SYSCALL at CPL 3, SYSRETQ at CPL 0, and back',
    instructions: 4,
    user: true,
    body(a) {
      a.label('syscall_turn');
      a.syscall();
      again(a, 'syscall_turn');
    },
  },
  {
    name: 'fault',
    turn: 'UD2 at CPL 0, a handler that steps over it, IRETQ',
    instructions: 5,
    user: false,
    body(a) {
      a.label('fault_turn');
      a.ud2();
      again(a, 'fault_turn');
    },
  },
  {
    name: 'system',
    turn: 'MOV RAX, CR2: the cheapest call from running code into the privileged architecture',
    instructions: 3,
    user: false,
    body(a) {
      a.label('system_turn');
      a.mov(rax, cr2);
      again(a, 'system_turn');
    },
  },
  {
    name: 'empty',
    turn: 'nothing but the loop',
    instructions: 2,
    user: false,
    body(a) {
      a.label('empty_turn');
      again(a, 'empty_turn');
    },
  },
];

/** The loop of that name; a RangeError if there is none. */
export function findLoop(name: string): Loop {
  const found = loops.find((loop) => loop.name === name);
  if (!found)
    throw new RangeError(`no loop "${name}": there are ${loops.map((loop) => loop.name).join(', ')}`);
  return found;
}

/** 32-bit code: page tables that map the first GiB to itself with 2-MiB user pages, then long mode. */
function enterLongMode(a: Assembler): void {
  a.mov(esp, KERNEL_STACK);
  initializeSerial(a);
  a.mov({ ...mem(PML4), bits: 32 }, PDPT | 7);
  a.mov({ ...mem(PDPT), bits: 32 }, PAGE_DIRECTORY | 7);
  a.mov(ecx, 0);
  a.label('map');
  a.mov(eax, ecx);
  a.shl(eax, 21);
  a.or(eax, 0x87);
  a.mov(mem(PAGE_DIRECTORY, times(ecx, 8)), eax);
  a.inc(ecx);
  a.cmp(ecx, 512);
  a.jne('map');
  a.mov(eax, PML4);
  a.mov(cr3, eax);
  a.mov(eax, 0x20); // CR4.PAE
  a.mov(cr4, eax);
  a.mov(ecx, 0xc000_0080); // IA32_EFER: LME and SCE
  a.mov(eax, 0x101);
  a.xor(edx, edx);
  a.wrmsr();
  a.mov(eax, 0x8000_0011); // CR0.PG, ET, PE
  a.mov(cr0, eax);
  a.lgdt(mem('gdt_pointer'));
  a.jmpFar(KERNEL_CODE, 'long_mode');

  a.align(8);
  a.label('gdt');
  a.dq(0, 0x00af_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn, 0x00cf_f300_0000_ffffn, 0x00af_fb00_0000_ffffn);
  // A 64-bit TSS, available, of 0x68 bytes.
  const base = BigInt(TSS);
  a.dq(0x67n | ((base & 0xff_ffffn) << 16n) | (0x89n << 40n) | ((base >> 24n) << 56n), base >> 32n);
  a.label('gdt_pointer');
  a.dw(7 * 8 - 1);
  a.dq(sym('gdt'));
}

/** Writes the 64-bit interrupt gate of `vector` with the handler's address in RAX. */
function setGate(a: Assembler, vector: number, handler: string): void {
  const gate = IDT + 16 * vector;
  a.mov(rax, sym(handler));
  a.mov(rdi, gate);
  a.mov(qword(rdi, 0), rax);
  a.mov(qword(rdi, 8), 0);
  // The image lies below 16 MiB: offset bits 23:16 alone go up beside the attributes (P, DPL 3, interrupt gate).
  a.shr(rax, 16);
  a.mov({ ...mem(rdi, 2), bits: 16 }, KERNEL_CODE);
  a.mov({ ...mem(rdi, 4), bits: 16 }, 0xee00);
  a.mov(mem(rdi, 6), { ...rax, name: 'ax', bits: 16 });
}

/** Builds the image of one loop. */
export function buildGuest(loop: Loop): Uint8Array {
  return flatImage((a) => {
    enterLongMode(a);

    a.bits(64);
    a.label('long_mode');
    a.mov(eax, KERNEL_DATA);
    for (const segment of [ds, es, ss]) a.mov(segment, eax);
    a.mov(rsp, KERNEL_STACK);
    a.mov(rdi, TSS);
    a.mov(qword(rdi, 4), INTERRUPT_STACK); // RSP0
    setGate(a, 0x80, 'on_int80');
    setGate(a, 0x81, 'on_batch_end');
    setGate(a, 6, 'on_invalid_opcode');
    a.lidt(mem('idt_pointer'));
    a.mov(eax, TASK_STATE);
    a.ltr({ ...eax, name: 'ax', bits: 16 });
    // STAR: SYSCALL loads CS 0x08, SS 0x10; SYSRETQ loads SS 0x18 | 3, CS 0x20 | 3.
    writeMsr(a, 0xc000_0081, 0x0013_0008_0000_0000n);
    a.mov(rax, sym('on_syscall'));
    a.mov(rdx, rax);
    a.shr(rdx, 32);
    a.mov(ecx, 0xc000_0082);
    a.wrmsr();
    loop.prepare?.(a);

    a.mov(r12, FIRST_BATCH);
    a.label('next_batch');
    a.mov(r14, r12);
    a.mov(rsp, KERNEL_STACK);
    if (loop.user) {
      for (const word of [USER_DATA, USER_STACK, 2, USER_CODE]) {
        a.mov(rax, word);
        a.push(rax);
      }
      a.lea(rax, mem('run'));
      a.push(rax);
      a.iretq();
    }
    a.label('run');
    loop.body(a);
    if (loop.user) a.int(0x81);
    a.label('on_batch_end');
    a.mov(rsp, KERNEL_STACK);
    for (const [i, character] of ['*', '\n'].entries()) {
      a.mov(dx, 0x3fd);
      a.label(`wait_${i}`);
      a.in(al, dx);
      a.test(al, 0x20);
      a.jz(`wait_${i}`);
      a.mov(dx, 0x3f8);
      a.mov(al, character.charCodeAt(0));
      a.out(dx, al);
    }
    a.add(r12, r12);
    a.jmp('next_batch');

    a.label('on_int80');
    a.iretq();
    a.label('on_syscall');
    a.sysretq();
    a.label('on_invalid_opcode');
    a.add(qword(rsp), 2);
    a.iretq();

    a.label('idt_pointer');
    a.dw(16 * 256 - 1);
    a.dq(IDT);
  }).elf;
}

function writeMsr(a: Assembler, msr: number, value: bigint): void {
  a.mov(ecx, msr);
  a.mov(eax, Number(value & 0xffff_ffffn));
  a.mov(edx, Number(value >> 32n));
  a.wrmsr();
}
