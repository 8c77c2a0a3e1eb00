/**
 * COM1 by polling (16550: data at 3F8, line status at 3FD). Functions of the kernel in 32- or 64-bit code;
 * arguments in RDI and RSI (EDI and ESI), no register but RAX, RCX, RDX, RSI, RDI changed.
 */

import { type Assembler, al, byte, cl, dx, eax, ecx, edx, mem, wordRegisters } from './assembler.ts';

const COM1 = 0x3f8;

/** Emits serial_init, put_char, put_string, put_hex and put_decimal. */
export function emitSerial(a: Assembler, bits: 32 | 64): void {
  const { ax: rax, bx: rbx, cx: rcx, dx: rdx, si: rsi, di: rdi } = wordRegisters(bits);
  a.section('.text').bits(bits);
  a.label('serial_init');
  // 115,200 baud, 8N1, FIFOs on, no interrupts, DTR and RTS.
  const settings: [number, number][] = [
    [1, 0x00],
    [3, 0x80],
    [0, 0x01],
    [1, 0x00],
    [3, 0x03],
    [2, 0x07],
    [4, 0x03],
  ];
  for (const [register, value] of settings) {
    a.mov(edx, COM1 + register);
    a.mov(eax, value);
    a.out(dx, al);
  }
  a.ret();

  // put_char(character in DIL)
  a.label('put_char');
  a.mov(edx, COM1 + 5);
  a.label('.wait');
  a.in(al, dx);
  a.test(al, 0x20);
  a.jz('.wait');
  a.mov(edx, COM1);
  a.mov(rax, rdi);
  a.out(dx, al);
  a.ret();

  // put_string(address, length)
  a.label('put_string');
  a.mov(rcx, rsi);
  a.mov(rsi, rdi);
  a.label('.next');
  if (bits === 64) a.jrcxz('.done');
  else a.jecxz('.done');
  a.xor(eax, eax);
  a.lodsb();
  a.mov(rdi, rax);
  a.call('put_char');
  a.dec(rcx);
  a.jmp('.next');
  a.label('.done');
  a.ret();

  // put_hex(value, digits)
  a.label('put_hex');
  a.push(rbx);
  a.mov(rbx, rdi);
  a.mov(ecx, bits / 4);
  a.sub(rcx, rsi);
  a.shl(ecx, 2);
  a.shl(rbx, cl);
  a.label('.next');
  a.rol(rbx, 4);
  a.mov(rdi, rbx);
  a.and(rdi, 15);
  a.lea(rax, mem('hex_digits'));
  a.movzx(edx, byte(rax, rdi));
  a.mov(rdi, rdx);
  a.call('put_char');
  a.dec(rsi);
  a.jnz('.next');
  a.pop(rbx);
  a.ret();

  // put_decimal(value)
  a.label('put_decimal');
  a.push(rbx);
  a.mov(rax, rdi);
  a.xor(ecx, ecx);
  a.mov(rbx, 10);
  a.label('.divide');
  a.xor(edx, edx);
  a.div(rbx);
  a.push(rdx);
  a.inc(ecx);
  a.test(rax, rax);
  a.jnz('.divide');
  a.label('.next');
  a.pop(rdi);
  a.add(rdi, 0x30);
  a.call('put_char');
  a.dec(ecx);
  a.jnz('.next');
  a.pop(rbx);
  a.ret();

  a.section('.rodata');
  a.label('hex_digits');
  a.db('0123456789abcdef');
}
