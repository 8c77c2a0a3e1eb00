/** Cases picked by hand, each with the place in the manual that says so. */
import { describe, expect, it } from 'vitest';
import type { CodeSize, Instruction, Operand } from '../instruction.ts';
import { decode } from './decode.ts';
import { vexMnemonics } from './vex.ts';

const bytesOf = (hex: string) => Uint8Array.from(hex.split(' '), (byte) => Number.parseInt(byte, 16));

const r64 = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');
const segments = 'es cs ss ds fs gs'.split(' ');

function operandText(operand: Operand): string {
  switch (operand.kind) {
    case 'register':
      return `${r64[operand.index]}.${operand.high ? 'high' : operand.width}`;
    case 'memory': {
      const parts = [
        operand.ripRelative ? 'rip' : '',
        operand.base >= 0 ? r64[operand.base] : '',
        operand.index >= 0 ? `${r64[operand.index]}*${1 << operand.scale}` : '',
        operand.displacement === 0n ? '' : String(operand.displacement),
      ];
      return `${segments[operand.segment]}:[${parts.filter((part) => part !== '').join(' ')}].${operand.width}`;
    }
    case 'immediate':
      return `0x${operand.value.toString(16)}.${operand.width}`;
    case 'relative':
      return `$${operand.displacement}`;
    case 'far':
      return `${operand.selector.toString(16)}:${operand.offset.toString(16)}`;
    default:
      return `${operand.kind}${operand.index}`;
  }
}

/** One line for an instruction: prefixes that count, mnemonic, condition, operation width / address size, operands. */
function text(instruction: Instruction | null): string {
  if (instruction === null) return 'null';
  const { mnemonic, lock, repeat, condition, operandSize, addressSize, operands } = instruction;
  if (mnemonic === 'invalid' || mnemonic === 'toolong' || mnemonic === 'unimplemented') return mnemonic;
  const words = [lock ? 'lock' : '', repeat, mnemonic + (condition === 0 ? '' : condition)];
  words.push(`${operandSize}/${addressSize}`, operands.map(operandText).join(', '));
  return words.filter((word) => word !== '').join(' ');
}

type Row = readonly [reference: string, size: CodeSize, bytes: string, expected: string];

// biome-ignore format: a table
const rows: readonly Row[] = [
  // Operand and address size
  ['vol. 1 3.6.1 default 16', 16, '01 d8', 'add 16/16 rax.16, rbx.16'],
  ['vol. 1 3.6.1 66 in 16-bit', 16, '66 01 d8', 'add 32/16 rax.32, rbx.32'],
  ['vol. 1 3.6.1 67 in 16-bit', 16, '67 8b 04 24', 'mov 16/32 rax.16, ss:[rsp].16'],
  ['vol. 1 3.6.1 66 in 32-bit', 32, '66 01 d8', 'add 16/32 rax.16, rbx.16'],
  ['vol. 1 3.6.2 REX.W over 66', 64, '66 48 01 d8', 'add 64/64 rax.64, rbx.64'],
  ['vol. 1 3.6.2 67 in 64-bit', 64, '67 01 00', 'add 32/32 ds:[rax].32, rax.32'],
  // ModR/M and SIB
  ['vol. 2A table 2-1 [bp+si]', 16, '8a 02', 'mov 8/16 rax.8, ss:[rbp rsi*1].8'],
  ['vol. 2A table 2-1 disp16', 16, '8a 06 34 f2', 'mov 8/16 rax.8, ds:[-3532].8'],
  ['vol. 2A table 2-1 [bp]+disp8', 16, '8a 46 ff', 'mov 8/16 rax.8, ss:[rbp -1].8'],
  ['vol. 2A table 2-2 disp32', 32, '8a 05 78 56 34 12', 'mov 8/32 rax.8, ds:[305419896].8'],
  ['vol. 2A table 2-3 no base', 32, '8a 04 9d 00 00 00 80', 'mov 8/32 rax.8, ds:[rbx*4 -2147483648].8'],
  ['vol. 2A table 2-3 no index', 32, '8a 44 24 08', 'mov 8/32 rax.8, ss:[rsp 8].8'],
  ['vol. 2A 2.2.1.6 RIP-relative', 64, '48 8b 05 fc ff ff ff', 'mov 64/64 rax.64, ds:[rip -4].64'],
  ['vol. 2A 2.2.1.6 EIP-relative', 64, '67 8b 05 04 00 00 00', 'mov 32/32 rax.32, ds:[rip 4].32'],
  ['vol. 2A table 2-5 R12 needs SIB', 64, '41 8b 04 24', 'mov 32/64 rax.32, ds:[r12].32'],
  ['vol. 2A table 2-5 R13 needs disp', 64, '41 8b 45 00', 'mov 32/64 rax.32, ds:[r13].32'],
  ['vol. 2A table 2-5 R12 as index', 64, '42 8b 04 60', 'mov 32/64 rax.32, ds:[rax r12*2].32'],
  ['vol. 2A 2.2.1.3 moffs64', 64, 'a0 88 77 66 55 44 33 22 91', 'mov 8/64 rax.8, ds:[-7988766420418267256].8'],
  ['vol. 2A 2.2.1.3 moffs32', 64, '67 a1 78 56 34 12', 'mov 32/32 rax.32, ds:[305419896].32'],
  // REX
  ['vol. 2A 2.2.1.2 AH without REX', 64, '88 e0', 'mov 8/64 rax.8, rax.high'],
  ['vol. 2A 2.2.1.2 SPL with REX', 64, '40 88 e0', 'mov 8/64 rax.8, rsp.8'],
  ['vol. 2A 2.2.1 REX not last', 64, '48 66 01 d8', 'add 16/64 rax.16, rbx.16'],
  ['vol. 2A 2.2.1 two REX', 64, '48 44 01 d8', 'add 32/64 rax.32, r11.32'],
  ['vol. 2B NOP', 64, '90', 'nop 32/64'],
  ['vol. 2C XCHG r8', 64, '41 90', 'xchg 32/64 r8.32, rax.32'],
  ['vol. 2B PAUSE', 64, 'f3 90', 'pause 32/64'],
  ['silicon: PAUSE with REX.B', 64, 'f3 41 90', 'pause 32/64'],
  ['vol. 2A INC 40+ outside 64-bit', 32, '40', 'inc 32/32 rax.32'],
  // Segment overrides
  ['vol. 1 3.3.7.1 ignored in 64-bit', 64, '3e 8b 45 00', 'mov 32/64 rax.32, ss:[rbp].32'],
  ['vol. 1 3.3.7.1 FS stays', 64, '64 2e 8b 00', 'mov 32/64 rax.32, fs:[rax].32'],
  ['vol. 2A 2.1.1 the last counts', 32, '64 26 8b 00', 'mov 32/32 rax.32, es:[rax].32'],
  // LOCK
  ['vol. 2A LOCK', 64, 'f0 48 0f b1 0a', 'lock cmpxchg 64/64 ds:[rdx].64, rcx.64'],
  ['vol. 2A LOCK, register', 64, 'f0 01 d8', 'invalid'],
  ['vol. 2A LOCK, source in memory', 64, 'f0 03 00', 'invalid'],
  ['vol. 2A LOCK, MOV', 64, 'f0 89 00', 'invalid'],
  ['vol. 2A LOCK, BT', 64, 'f0 0f a3 00', 'invalid'],
  ['vol. 2A LOCK, CMP', 32, 'f0 80 38 01', 'invalid'],
  ['vol. 2A CMPXCHG8B', 64, 'f0 0f c7 09', 'lock cmpxchg8b 32/64 ds:[rcx].0'],
  ['vol. 2A CMPXCHG16B', 64, '48 0f c7 09', 'cmpxchg16b 64/64 ds:[rcx].0'],
  // Length
  ['vol. 2A 2.3.11 15 bytes', 64, '66 66 66 66 66 66 66 66 66 66 66 66 66 66 90', 'nop 16/64'],
  ['vol. 2A 2.3.11 16 bytes', 64, '66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90', 'toolong'],
  // Immediates
  ['vol. 2A ADD imm8', 64, '48 83 c0 80', 'add 64/64 rax.64, 0xffffffffffffff80.64'],
  ['vol. 2A ADD imm32', 64, '48 05 00 00 00 80', 'add 64/64 rax.64, 0xffffffff80000000.64'],
  ['vol. 2B MOV imm64', 64, '49 b8 08 07 06 05 04 03 02 01', 'mov 64/64 r8.64, 0x102030405060708.64'],
  ['vol. 2B PUSH imm8', 64, '6a ff', 'push 64/64 0xffffffffffffffff.64'],
  ['vol. 2B PUSH imm16', 64, '66 68 34 12', 'push 16/64 0x1234.16'],
  ['vol. 2A ENTER', 64, 'c8 10 00 01', 'enter 64/64 0x10.16, 0x1.8'],
  ['vol. 2A BT imm8', 64, '48 0f ba e0 ff', 'bt 64/64 rax.64, 0xff.8'],
  ['vol. 2B SHL by 1', 32, 'd1 e0', 'shl 32/32 rax.32, 0x1.8'],
  ['vol. 2B SHL by CL', 32, 'd3 e0', 'shl 32/32 rax.32, rcx.8'],
  ['vol. 2D A.4 shift /6', 32, 'c1 f0 03', 'shl 32/32 rax.32, 0x3.8'],
  ['vol. 2D A.4 F7 /1', 32, 'f7 c8 01 00 00 00', 'test 32/32 rax.32, 0x1.32'],
  ['vol. 2A A.3 82 outside 64-bit', 32, '82 c0 ff', 'add 8/32 rax.8, 0xff.8'],
  ['vol. 2A A.3 82 in 64-bit', 64, '82 c0 ff', 'invalid'],
  // 64-bit defaults
  ['vol. 2B PUSH', 64, '41 57', 'push 64/64 r15.64'],
  ['vol. 2B PUSH with 66', 64, '66 57', 'push 16/64 rdi.16'],
  ['vol. 2B POP m64', 64, '8f 04 24', 'pop 64/64 ss:[rsp].64'],
  ['vol. 2B POP /1', 64, '8f c8', 'invalid'],
  ['vol. 1 6.3.7 near branch ignores 66', 64, '66 e8 01 00 00 80', 'call 64/64 $-2147483647'],
  ['vol. 1 6.3.7 Jcc ignores 66', 64, '66 0f 84 01 00 00 00', 'jcc4 64/64 $1'],
  ['vol. 1 6.3.7 indirect', 64, '66 ff e0', 'jmp 64/64 rax.64'],
  ['vol. 1 6.3.7 RET', 64, '66 c2 08 00', 'ret 64/64 0x8.16'],
  ['vol. 2B JMP rel16', 32, '66 e9 fe ff', 'jmp 16/32 $-2'],
  ['vol. 2A JRCXZ/JECXZ', 64, '67 e3 fe', 'jcxz 64/32 $-2'],
  ['vol. 2A LOOP', 16, '67 e2 fe', 'loop 16/32 $-2'],
  ['vol. 2A IRET', 64, 'cf', 'iret 32/64'],
  ['vol. 2A IRETQ', 64, '48 cf', 'iret 64/64'],
  ['vol. 2B RET far', 64, '48 ca 04 00', 'retf 64/64 0x4.16'],
  ['vol. 2A LGDT', 64, '0f 01 10', 'lgdt 64/64 ds:[rax].0'],
  ['vol. 2A LGDT', 32, '66 0f 01 10', 'lgdt 16/32 ds:[rax].0'],
  ['vol. 2B MOVSXD', 64, '48 63 c1', 'movsx 64/64 rax.64, rcx.32'],
  ['vol. 2B MOVSXD without REX.W', 64, '63 c1', 'movsx 32/64 rax.32, rcx.32'],
  ['vol. 2B MOVSXD with 66', 64, '66 63 c1', 'movsx 16/64 rax.16, rcx.16'],
  ['vol. 2A ARPL', 32, '63 c1', 'arpl 16/32 rcx.16, rax.16'],
  // Far transfers
  ['vol. 2A CALL ptr16:32', 32, '9a 78 56 34 12 08 00', 'callf 32/32 8:12345678'],
  ['vol. 2A CALL ptr16:16', 16, '9a 34 12 08 00', 'callf 16/16 8:1234'],
  ['vol. 2A CALL ptr in 64-bit', 64, '9a 78 56 34 12 08 00', 'invalid'],
  ['vol. 2B JMP m16:64', 64, '48 ff 28', 'jmpf 64/64 ds:[rax].0'],
  ['vol. 2B JMP far register', 64, 'ff e8', 'invalid'],
  // Opcodes that 64-bit mode lacks
  ...['06', '0e', '27', '2f', '37', '3f', '60', '61', 'ce', 'd4 0a', 'd5 0a', 'd6'].map(
    (bytes): Row => ['vol. 2D A.3 i64', 64, bytes, 'invalid'],
  ),
  ['vol. 2D A.3 PUSH ES', 32, '06', 'pushsreg 32/32 segment0'],
  ['vol. 2D A.3 SALC', 16, 'd6', 'salc 8/16'],
  // Strings
  ['vol. 2B REP', 64, 'f3 48 a5', 'rep movs 64/64'],
  ['vol. 2B REP', 16, '66 f3 ab', 'rep stos 32/16'],
  ['vol. 2B REPNE', 64, 'f2 ae', 'repne scas 8/64'],
  ['vol. 2B REPNE before MOVS', 64, 'f2 a4', 'rep movs 8/64'],
  ['vol. 2B REP before another', 64, 'f3 01 c0', 'add 32/64 rax.32, rax.32'],
  ['vol. 2B INS, REX.W', 64, '48 6d', 'inss 32/64'],
  ['vol. 2A IN', 64, '48 ed', 'in 32/64 rax.32, rdx.16'],
  ['vol. 2B OUT', 32, '66 e7 80', 'out 16/32 0x80.8, rax.16'],
  // Segment, control, debug registers
  ['vol. 2B MOV Sreg', 64, '48 8e d0', 'movsreg 16/64 segment2, rax.16'],
  ['vol. 2B MOV Sreg, REX.R', 64, '44 8e d8', 'movsreg 16/64 segment3, rax.16'],
  ['vol. 2B MOV CS', 64, '8e c8', 'invalid'],
  ['vol. 2B MOV segment 6', 64, '8c f0', 'invalid'],
  ['vol. 2B MOV from Sreg', 64, '48 8c d8', 'movfromsreg 64/64 rax.64, segment3'],
  ['vol. 2B MOV from Sreg', 64, '48 8c 18', 'movfromsreg 64/64 ds:[rax].16, segment3'],
  ['vol. 2B MOV CR is a register form', 64, '0f 20 00', 'movfromcr 64/64 rax.64, control0'],
  ['vol. 2B MOV CR8', 64, '44 0f 22 c0', 'movcr 64/64 control8, rax.64'],
  ['vol. 2B MOV CR, 66', 32, '66 0f 22 d8', 'movcr 32/32 control3, rax.32'],
  ['vol. 2B MOV CR1', 64, '0f 22 c8', 'invalid'],
  ['vol. 2B MOV DR', 64, '0f 23 f8', 'movdr 64/64 debug7, rax.64'],
  ['vol. 2B MOV DR8', 64, '44 0f 23 c0', 'invalid'],
  ['vol. 2B SMSW', 64, '48 0f 01 e0', 'smsw 64/64 rax.64'],
  ['vol. 2B LAR', 64, '48 0f 02 c1', 'lar 64/64 rax.64, rcx.16'],
  ['vol. 2B LSS', 64, '48 0f b2 00', 'lss 64/64 rax.64, ds:[rax].0'],
  ['vol. 2B LSS register', 64, '0f b2 c0', 'invalid'],
  ['vol. 2B PUSH FS', 64, '0f a0', 'pushsreg 64/64 segment4'],
  ['vol. 2B SWAPGS outside 64-bit', 32, '0f 01 f8', 'invalid'],
  ['vol. 2B SYSCALL outside 64-bit', 32, '0f 05', 'invalid'],
  ['vol. 2B SYSRET', 64, '48 0f 07', 'sysret 64/64'],
  ['vol. 2A INVPCID', 64, '66 0f 38 82 08', 'invpcid 64/64 rcx.64, ds:[rax].0'],
  ['vol. 2A INVPCID without 66', 64, '0f 38 82 08', 'invalid'],
  ['vol. 2B VERR', 32, '0f 00 e0', 'verr 16/32 rax.16'],
  // Mandatory prefixes
  ['vol. 2B POPCNT', 64, '66 f3 48 0f b8 c1', 'popcnt 64/64 rax.64, rcx.64'],
  ['vol. 2B POPCNT without F3', 64, '0f b8 c1', 'invalid'],
  ['vol. 2B TZCNT', 32, 'f3 0f bc c1', 'tzcnt 32/32 rax.32, rcx.32'],
  ['vol. 2A BSF with F2', 32, 'f2 0f bc c1', 'bsf 32/32 rax.32, rcx.32'],
  ['vol. 2B MOVBE with 66', 64, '66 0f 38 f0 00', 'movbe 16/64 rax.16, ds:[rax].16'],
  ['vol. 2B MOVBE register', 64, '0f 38 f0 c0', 'invalid'],
  ['vol. 2B MOVBE with F3', 64, 'f3 0f 38 f0 00', 'invalid'],
  ['vol. 2A CRC32', 64, 'f2 48 0f 38 f0 c1', 'crc32 8/64 rax.64, rcx.8'],
  ['vol. 2A CRC32 with 66', 64, '66 f2 0f 38 f1 c1', 'crc32 16/64 rax.32, rcx.16'],
  ['vol. 2A ADCX', 64, '66 0f 38 f6 c1', 'adcx 32/64 rax.32, rcx.32'],
  ['vol. 2A ADOX', 64, 'f3 66 48 0f 38 f6 c1', 'adox 64/64 rax.64, rcx.64'],
  ['vol. 2B RDFSBASE', 64, 'f3 48 0f ae c0', 'rdfsbase 64/64 rax.64'],
  ['vol. 2B RDFSBASE outside 64-bit', 32, 'f3 0f ae c0', 'invalid'],
  ['vol. 2B RDPID', 64, 'f3 0f c7 f8', 'rdpid 64/64 rax.64'],
  ['vol. 2B RDRAND', 64, '66 0f c7 f0', 'rdrand 16/64 rax.16'],
  ['vol. 2B RDRAND with F3', 64, 'f3 0f c7 f0', 'invalid'],
  ['vol. 2A CLFLUSHOPT', 64, '66 0f ae 3f', 'clflushopt 8/64 ds:[rdi].8'],
  ['vol. 2B LFENCE', 64, '0f ae e8', 'fence 32/64'],
  ['vol. 2B LFENCE with 66', 64, '66 0f ae e8', 'invalid'],
  ['vol. 2C XGETBV with F3', 64, 'f3 0f 01 d0', 'invalid'],
  // NOPs and what is always #UD
  ['vol. 2B NOP r/m', 64, '66 0f 1f 84 00 00 00 00 00', 'nop 16/64'],
  ['vol. 2A ENDBR64', 64, 'f3 0f 1e fa', 'endbr 32/64'],
  ['vol. 2B RDSSP without CET', 64, 'f3 48 0f 1e c8', 'nop 64/64'],
  ['vol. 1 BNDLDX without MPX', 64, '0f 1a 00', 'nop 32/64'],
  ['vol. 2A CLDEMOTE without it', 64, '0f 1c 00', 'nop 32/64'],
  ['vol. 2B PREFETCHW', 64, '0f 0d 08', 'prefetch 32/64'],
  ['vol. 2B WBNOINVD without it', 64, 'f3 0f 09', 'wbinvd 32/64'],
  ['vol. 2B UD0 has ModR/M', 64, '0f ff 40 01', 'ud 32/64'],
  ['vol. 2B UD1', 64, '0f b9 c0', 'ud 32/64'],
  ['vol. 2B UD2', 64, '0f 0b', 'ud 32/64'],
  ['vol. 2C VMCALL', 64, '0f 01 c1', 'vmcall 32/64'],
  ['vol. 2C XBEGIN without TSX', 64, 'c7 f8 00 00 00 00', 'invalid'],
  ['vol. 2B SERIALIZE without it', 64, '0f 01 e8', 'invalid'],
  ['vol. 2B MOVDIRI without it', 64, '0f 38 f9 00', 'invalid'],
  // VEX
  ['vol. 2A ANDN', 64, 'c4 e2 70 f2 c2', 'andn 32/64 rax.32, rcx.32, rdx.32'],
  ['vol. 2A ANDN, W1', 64, 'c4 42 f0 f2 c2', 'andn 64/64 r8.64, rcx.64, r10.64'],
  ['vol. 2A ANDN, W1 outside 64-bit', 32, 'c4 e2 f0 f2 c2', 'andn 32/32 rax.32, rcx.32, rdx.32'],
  ['vol. 2A ANDN, L1', 64, 'c4 e2 74 f2 c2', 'invalid'],
  ['vol. 2A BLSR', 64, 'c4 e2 78 f3 08', 'blsr 32/64 rax.32, ds:[rax].32'],
  ['vol. 2A BEXTR', 64, 'c4 e2 70 f7 c2', 'bextr 32/64 rax.32, rdx.32, rcx.32'],
  ['vol. 2B MULX', 64, 'c4 e2 73 f6 c2', 'mulx 32/64 rax.32, rcx.32, rdx.32'],
  ['vol. 2B RORX', 64, 'c4 e3 fb f0 c2 41', 'rorx 64/64 rax.64, rdx.64, 0x41.8'],
  ['vol. 2A 2.3.5.6 unused vvvv', 64, 'c4 e3 73 f0 c2 01', 'invalid'],
  ['silicon: all of vvvv, outside 64-bit too', 32, 'c4 e3 3b f0 c2 01', 'invalid'],
  ['vol. 2A 2.3.2 66 before VEX', 64, '66 c4 e2 70 f2 c2', 'invalid'],
  ['vol. 2A 2.3.4 REX before VEX', 64, '48 c4 e2 70 f2 c2', 'invalid'],
  ['vol. 2A 2.3.3 LOCK before VEX', 64, 'f0 c4 e2 70 f2 02', 'invalid'],
  ['vol. 2A 2.3.5 LES', 32, 'c4 02', 'les 32/32 rax.32, ds:[rdx].0'],
  ['vol. 2A 2.3.5 LDS', 16, 'c5 02', 'lds 16/16 rax.16, ss:[rbp rsi*1].0'],
  ['vol. 2A 2.7.1 BOUND', 32, '62 02', 'bound 32/32 rax.32, ds:[rdx].0'],
  // What is not there yet
  // SIMD
  ['vol. 2B MOVAPS', 64, '45 0f 28 c1', 'movaps 32/64 xmm8, xmm9'],
  ['vol. 2B MOVAPS, extensions outside 64-bit', 32, '0f 28 00', 'movaps 32/32 xmm0, ds:[rax].128'],
  ['vol. 2B MOVHLPS and MOVLPS', 64, '0f 12 c1', 'movhlps 32/64 xmm0, xmm1'],
  ['vol. 2B MOVHLPS and MOVLPS', 64, '0f 12 01', 'movlps 32/64 xmm0, ds:[rcx].64'],
  ['vol. 2B MOVNTI', 64, '48 0f c3 00', 'movnti 64/64 ds:[rax].64, rax.64'],
  ['vol. 2B MOVD', 64, '66 0f 6e c8', 'movd 32/64 xmm1, rax.32'],
  ['vol. 2B MOVQ', 64, '66 48 0f 6e c8', 'movq 64/64 xmm1, rax.64'],
  ['vol. 2A 2.2.1.2: REX.B does not extend MM', 64, '41 0f ef c8', 'pxor 32/64 mm1, mm0'],
  ['vol. 2A 2.1.2: F3 goes before 66', 64, '66 f3 0f 6f 01', 'movdqu 32/64 xmm0, ds:[rcx].128'],
  ['vol. 2B PUNPCKLBW of memory', 64, '0f 60 01', 'punpcklbw 32/64 mm0, ds:[rcx].32'],
  ['vol. 2B PINSRB of memory', 64, '66 0f 3a 20 01 0f', 'pinsrb 32/64 xmm0, ds:[rcx].8, 0xf.8'],
  ['vol. 2B PSRLDQ', 64, '66 0f 73 d9 02', 'psrldq 32/64 xmm1, 0x2.8'],
  ['vol. 2B PSRLDQ of MM', 64, '0f 73 d9 02', 'invalid'],
  ['vol. 2A ADDPS', 64, '0f 58 c1', 'addps 32/64 xmm0, xmm1'],
  // The rest
  ['vol. 2A FLD', 64, 'd9 00', 'x87 32/64 ds:[rax].0'],
  ['vol. 2C WAIT', 64, '9b', 'wait 32/64'],
  ['vol. 2A FXSAVE', 64, '0f ae 00', 'fxsave 32/64 ds:[rax].0'],
  ['vol. 2C VZEROUPPER', 64, 'c5 f8 77', 'vzeroupper 32/64'],
  ['vol. 2C VZEROALL', 64, 'c5 fc 77', 'vzeroall 32/64'],
  ['vol. 2A ADDPS of VEX', 64, 'c5 f4 58 c2', 'vaddps 32/64 ymm0, ymm1, ymm2'],
  ['vol. 2B VPADDD', 64, 'c5 f5 fe 00', 'vpaddd 32/64 ymm0, ymm1, ds:[rax].256'],
  ['vol. 2C VBROADCASTSS, W0', 64, 'c4 e2 7d 18 c1', 'vbroadcastss 32/64 ymm0, xmm1'],
  ['vol. 2C VBROADCASTSS, W1', 64, 'c4 e2 fd 18 c1', 'invalid'],
  ['vol. 2C VPERM2F128, L0', 64, 'c4 e3 71 06 c1 01', 'invalid'],
  ['vol. 2C VPSRLVQ outside 64-bit mode', 32, 'c4 e2 f1 45 c2', 'vpsrlvq 32/32 xmm0, xmm1, xmm2'],
  ['vol. 2D VPGATHERDD', 64, 'c4 e2 75 90 44 a6 08', 'vpgatherdd 32/64 ymm0, ds:[rsi 8].32, ymm1, ymm4'],
  ['vol. 2D VPGATHERQD', 64, 'c4 e2 75 91 04 3e', 'vpgatherqd 32/64 ymm0, ds:[rsi].32, ymm1, ymm7'],
  ['vol. 2D VPGATHERDD, mask and index the same', 64, 'c4 e2 75 90 04 0e', 'invalid'],
  ['vol. 2D VPGATHERDD without SIB', 64, 'c4 e2 75 90 06', 'invalid'],
  ['vol. 2C VPBLENDVB, a fourth register', 64, 'c4 e3 71 4c c2 90', 'vpblendvb 32/64 xmm0, xmm1, xmm2, xmm9'],
  ['vol. 2C VMOVDQU64', 64, '62 f1 fe 48 6f 00', 'unimplemented'],
];

describe('decode', () => {
  it.each(rows)('%s (%i-bit): %s', (_, size, hex, expected) => {
    const bytes = bytesOf(hex);
    const instruction = decode(bytes, 0, bytes.length, size);
    expect(text(instruction)).toBe(expected);
    expect(instruction?.length).toBe(Math.min(bytes.length, 15));
    for (let available = 0; available < Math.min(bytes.length, 15); available++) {
      expect(decode(bytes, 0, available, size)).toBeNull();
    }
  });

  it('reads from the start it is given', () => {
    const bytes = bytesOf('cc cc 48 01 d8 cc');
    expect(text(decode(bytes, 2, 6, 64))).toBe('add 64/64 rax.64, rbx.64');
  });

  it('gives the segment of the memory operand, or of the source of a string', () => {
    expect(decode(bytesOf('36 a4'), 0, 2, 32)?.segment).toBe(2);
    expect(decode(bytesOf('36 a4'), 0, 2, 64)?.segment).toBe(3);
    expect(decode(bytesOf('65 d7'), 0, 2, 64)?.segment).toBe(5);
    expect(decode(bytesOf('8b 45 00'), 0, 3, 32)?.segment).toBe(2);
  });

  // The processor finds the length first: as measured on silicon, with the rest of the bytes on a page not present.
  it.each([
    ['06', 64, 1],
    ['9a 00 00 00 00 00 00', 64, 7],
    ['c6 38 01', 64, 3],
    ['0f 04', 64, 2],
    ['0f a6 c0', 64, 3],
    ['0f 38 fd 45 00', 64, 5],
    ['0f 3a f0 45 00 00', 64, 6],
    ['0f 3b 00 c0 00', 64, 5],
    ['0f 3c 00 c0', 64, 4],
    ['66 0f b8 c0', 64, 4],
    ['0f ba 00 00', 64, 4],
    ['c4 e1 78 a0', 64, 4],
    ['c4 e1 78 ac c0 00', 64, 6],
    ['c4 e0', 64, 2],
    ['c4 a4 45 00 00 00 00', 64, 7],
    ['c4 e7 78 00 c0 00', 64, 6],
  ] as const)('undefined %s (%i-bit) takes %i bytes', (hex, size, length) => {
    const bytes = bytesOf(hex);
    expect(decode(bytes, 0, length - 1, size)).toBeNull();
    const instruction = decode(bytes, 0, length, size);
    expect(instruction?.mnemonic).toBe('invalid');
    expect(instruction?.length).toBe(length);
  });

  it('lists what only VEX encodes', () => {
    const found = new Set<string>();
    const bytes = new Uint8Array(15);
    for (let map = 1; map <= 3; map++) {
      for (let prefix = 0; prefix < 4; prefix++) {
        for (let opcode = 0; opcode < 256; opcode++) {
          for (let reg = 0; reg < 8; reg++) {
            // vvvv unused or not, with L and W.
            for (const fields of [0x78, 0x70, 0x7c, 0x74, 0xf8, 0xf0, 0xfc, 0xf4]) {
              for (const mod of [0, 4, 0xc0]) {
                bytes.set([0xc4, 0xe0 | map, fields | prefix, opcode, mod | (reg << 3), 0x20]);
                const mnemonic = decode(bytes, 0, 15, 64)?.mnemonic;
                if (mnemonic !== undefined && mnemonic !== 'invalid' && mnemonic !== 'unimplemented') {
                  found.add(mnemonic);
                }
              }
            }
          }
        }
      }
    }
    expect([...found].sort()).toEqual([...vexMnemonics].sort());
  });
});
