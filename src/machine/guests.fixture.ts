/** Guests for tests of the machine, in 32-bit protected mode. */
import { Code, multibootImage } from './image.fixture.ts';

/** Linear addresses that these guests use. */
const IDT = 0x8_0000;
const STACK = 0x9_0000;
const FLAG = 0x5000;
const TRAMPOLINE = 0x8000;
const LOCAL_APIC = 0xfee0_0000;
const IO_APIC = 0xfec0_0000;

/** Prints and exits with 5. */
export function helloImage(): Uint8Array {
  const code = new Code();
  for (const character of 'hello\n') code.put(character);
  return multibootImage(code.exit(5).spin());
}

/** Echoes COM1 until a q arrives. */
export function echoImage(): Uint8Array {
  const code = new Code()
    .label('poll')
    // MOV DX, 3FDH; IN AL, DX; TEST AL, 1; JZ poll
    .bytes(0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74)
    .relative('poll')
    // MOV DX, 3F8H; IN AL, DX; OUT DX, AL; CMP AL, 'q'; JNE poll
    .bytes(0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0x3c, 0x71, 0x75)
    .relative('poll')
    .exit(0)
    .spin();
  return multibootImage(code);
}

/**
 * Starts a guest with a stack, a GDT (selector 8 code, 10H data) and an IDT whose gates `vectors` lead to labels; the
 * IDT is built at run time, as its entries split addresses.
 */
function withInterrupts(vectors: Readonly<Record<number, string>>): Code {
  const code = new Code();
  // LGDT; MOV ESP; LIDT
  code.bytes(0x0f, 0x01, 0x15).address('gdtr').mov(4, STACK).bytes(0x0f, 0x01, 0x1d).address('idtr');
  for (const [vector, handler] of Object.entries(vectors)) {
    const gate = IDT + Number(vector) * 8;
    // MOV EAX, handler; MOV [gate], AX; SHR EAX, 16; MOV [gate + 6], AX
    code.bytes(0xb8).address(handler);
    code
      .bytes(0x66, 0xa3)
      .u32(gate)
      .bytes(0xc1, 0xe8, 16)
      .bytes(0x66, 0xa3)
      .u32(gate + 6);
    // MOV word [gate + 2], 8; MOV word [gate + 4], 8E00H
    code
      .bytes(0x66, 0xc7, 0x05)
      .u32(gate + 2)
      .u16(8);
    code
      .bytes(0x66, 0xc7, 0x05)
      .u32(gate + 4)
      .u16(0x8e00);
  }
  // JMP 8:here; MOV EAX, 10H; MOV SS, AX; MOV DS, AX; MOV ES, AX
  code.bytes(0xea).address('reloaded').u16(8).label('reloaded');
  return code.mov(0, 0x10).bytes(0x8e, 0xd0, 0x8e, 0xd8, 0x8e, 0xc0);
}

function tables(code: Code): Code {
  code.align(8).label('gdt').u32(0).u32(0);
  code.u32(0x0000_ffff).u32(0x00cf_9b00).u32(0x0000_ffff).u32(0x00cf_9300);
  // 18H code and 20H data of DPL 3.
  code.u32(0x0000_ffff).u32(0x00cf_fb00).u32(0x0000_ffff).u32(0x00cf_f300);
  code.label('gdtr').u16(0x27).address('gdt');
  return code.label('idtr').u16(0x7ff).u32(IDT);
}

/** A handler that counts in EBX, says a character, ends the interrupt as `end` does, and returns. */
function handler(code: Code, label: string, character: string, end: (c: Code) => Code): Code {
  code.label(label).bytes(0x50, 0x52, 0x43).put(character);
  // POP EDX; POP EAX; IRETD
  return end(code).bytes(0x5a, 0x58, 0xcf);
}

/** STI; waits in HLT until EBX reaches `count`, then exits with it. */
function waitFor(code: Code, count: number): Code {
  code.mov(3, 0).label('wait').bytes(0xfb, 0xf4, 0xfa, 0x83, 0xfb, count, 0x75).relative('wait');
  return code.exit(count).spin();
}

/** The local APIC's timer, every 100,000 ticks, three times. */
export function localTimerImage(): Uint8Array {
  const code = withInterrupts({ 64: 'tick' });
  code.store(LOCAL_APIC + 0xf0, 0x1ff).store(LOCAL_APIC + 0x3e0, 0xb);
  code.store(LOCAL_APIC + 0x320, 0x2_0040).store(LOCAL_APIC + 0x380, 100_000);
  waitFor(code, 3);
  handler(code, 'tick', 't', (c) => c.store(LOCAL_APIC + 0xb0, 0));
  return multibootImage(tables(code));
}

/**
 * Waits for 200,000 ticks of the TSC in a loop of seven instructions, with a PAUSE and an OUT to port 80H, while the local APIC's
 * timer interrupts every 5,000 ticks.
 */
export function spinningImage(): Uint8Array {
  const code = withInterrupts({ 64: 'tick' });
  code.store(LOCAL_APIC + 0xf0, 0x1ff).store(LOCAL_APIC + 0x3e0, 0xb);
  code.store(LOCAL_APIC + 0x320, 0x2_0040).store(LOCAL_APIC + 0x380, 5000);
  // STI; RDTSC; MOV ESI, EAX
  code.mov(3, 0).mov(1, 0).bytes(0xfb, 0x0f, 0x31, 0x89, 0xc6);
  // INC ECX; PAUSE; OUT 80H, AL; RDTSC; SUB EAX, ESI; CMP EAX, 200000; JB wait
  code.label('wait').bytes(0x41, 0xf3, 0x90, 0xe6, 0x80, 0x0f, 0x31, 0x29, 0xf0, 0x3d).u32(200_000);
  code.bytes(0x72).relative('wait').exit(1).spin();
  handler(code, 'tick', 't', (c) => c.store(LOCAL_APIC + 0xb0, 0));
  return multibootImage(tables(code));
}

/** The 8254 at 1 kHz through the 8259s, twice; or another line of them, whose device the test is. */
export function picTimerImage({ line }: { line: number } = { line: 0 }): Uint8Array {
  const code = withInterrupts({ [0x20 + line]: 'tick' });
  code
    .out(0x20, 0x11)
    .out(0x21, 0x20)
    .out(0x21, 4)
    .out(0x21, 1)
    .out(0x21, 0xff & ~(1 << line));
  if (line === 0)
    code
      .out(0x43, 0x34)
      .out(0x40, 1193 & 0xff)
      .out(0x40, 1193 >> 8);
  waitFor(code, 2);
  handler(code, 'tick', 'p', (c) => c.out(0x20, 0x20));
  return multibootImage(tables(code));
}

/** The 8254 through input 2 of the I/O APIC, with the 8259s masked. */
export function ioApicTimerImage(): Uint8Array {
  const code = withInterrupts({ 80: 'tick' });
  code
    .out(0x21, 0xff)
    .out(0xa1, 0xff)
    .store(LOCAL_APIC + 0xf0, 0x1ff);
  code
    .store(IO_APIC, 0x15)
    .store(IO_APIC + 0x10, 0)
    .store(IO_APIC, 0x14)
    .store(IO_APIC + 0x10, 0x50);
  code
    .out(0x43, 0x36)
    .out(0x40, 1193 & 0xff)
    .out(0x40, 1193 >> 8);
  waitFor(code, 2);
  handler(code, 'tick', 'i', (c) => c.store(LOCAL_APIC + 0xb0, 0));
  return multibootImage(tables(code));
}

/**
 * Divides by 0 with CR0.NE as it is, says a, and waits for the x87 error. Interrupt 75H says e, and i after an instruction that would wait
 * but for port F0H, and clears the error; at last comes w. Exception 16 says m and clears it.
 * @param interrupts whether IF is set
 */
export function numericErrorImage({
  interrupts,
  native,
}: {
  interrupts: boolean;
  native: boolean;
}): Uint8Array {
  const code = withInterrupts({ 16: 'native', 117: 'error' }).out(0xa1, 0xdf);
  // MOV EAX, CR0; OR EAX, 20H; MOV CR0, EAX
  if (native) code.bytes(0x0f, 0x20, 0xc0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xc0);
  // FNINIT; FLDCW [control]; FLD1; FLDZ; FDIVP; STI
  code.bytes(0xdb, 0xe3, 0xd9, 0x2d).address('control').bytes(0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9);
  if (interrupts) code.bytes(0xfb);
  code.put('a').bytes(0x9b).put('w').exit(9).spin();
  // FLDZ; FNCLEX; IRETD
  code.label('error').put('e').out(0xf0, 0).bytes(0xd9, 0xee).put('i').bytes(0xdb, 0xe2);
  code.out(0xa0, 0x20).out(0x20, 0x20).bytes(0xcf);
  code.label('native').put('m').bytes(0xdb, 0xe2, 0xcf);
  return multibootImage(tables(code.align(4).label('control').u32(0x37b)));
}

/** Loops until an NMI, whose handler exits with 7. */
export function nmiImage(): Uint8Array {
  const code = withInterrupts({ 2: 'nmi' });
  code.label('loop').bytes(0x43, 0xeb).relative('loop');
  code.label('nmi').put('n').exit(7).spin();
  return multibootImage(tables(code));
}

/** Goes to CPL 3 by IRET and loops there. */
export function userImage(): Uint8Array {
  const code = withInterrupts({});
  // PUSH 23H; PUSH ESP; PUSH 2; PUSH 1BH; PUSH user; IRETD
  code.bytes(0x6a, 0x23, 0x54, 0x6a, 0x02, 0x6a, 0x1b, 0x68).address('user').bytes(0xcf).label('user').spin();
  return multibootImage(tables(code));
}

/**
 * The first processor prints A, copies a trampoline and starts the second, which prints B in real mode and sets a
 * flag, with which the first exits.
 */
export function twoProcessorImage(): Uint8Array {
  const code = new Code().put('A').store(LOCAL_APIC + 0xf0, 0x1ff);
  // MOV ESI, trampoline; MOV EDI, 8000H; MOV ECX, 64; REP MOVSB
  code.bytes(0xbe).address('trampoline').mov(7, TRAMPOLINE).mov(1, 64).bytes(0xf3, 0xa4);
  code.store(LOCAL_APIC + 0x310, 1 << 24).store(LOCAL_APIC + 0x300, 0x4500);
  code.store(LOCAL_APIC + 0x300, 0x4600 | (TRAMPOLINE >> 12));
  // wait: MOV EAX, [FLAG]; TEST EAX, EAX; JZ wait; MOV DX, F4H; OUT DX, EAX
  code
    .label('wait')
    .load(FLAG)
    .bytes(0x85, 0xc0, 0x74)
    .relative('wait')
    .bytes(0x66, 0xba, 0xf4, 0x00, 0xef)
    .spin();
  // 16 bits: XOR AX, AX; MOV DS, AX; MOV DX, 3F8H; MOV AL, 'B'; OUT DX, AL; MOV word [FLAG], 1234H; CLI; HLT
  code.label('trampoline').bytes(0x31, 0xc0, 0x8e, 0xd8, 0xba, 0xf8, 0x03, 0xb0, 0x42, 0xee);
  code.bytes(0xc7, 0x06).u16(FLAG).u16(0x1234).bytes(0xfa, 0xf4).align(64);
  return multibootImage(code);
}

/** 32-bit paging: the first 4 MiB mapped to themselves, C0001000H to 200000H, C0002000H to 203000H; exits with 1. */
export function pagingImage(): Uint8Array {
  const [directory, low, high] = [0x1_0000, 0x1_1000, 0x1_2000];
  const code = new Code();
  // MOV EDI, low; MOV EAX, 3; MOV ECX, 1024; next: STOSD; ADD EAX, 1000H; LOOP next
  code
    .mov(7, low)
    .mov(0, 3)
    .mov(1, 1024)
    .label('next')
    .bytes(0xab, 0x05)
    .u32(0x1000)
    .bytes(0xe2)
    .relative('next');
  code.store(directory, low | 3).store(directory + 0x300 * 4, high | 3);
  code.store(high + 4, 0x20_0003).store(high + 8, 0x20_3003);
  // MOV EAX, directory; MOV CR3, EAX; MOV EAX, CR0; OR EAX, 80000000H; MOV CR0, EAX
  code
    .mov(0, directory)
    .bytes(0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xc0, 0x0d)
    .u32(0x8000_0000)
    .bytes(0x0f, 0x22, 0xc0);
  return multibootImage(code.exit(1).spin());
}

/** Enters x2APIC mode and exits with the version register's low byte. */
export const MSR_IMAGE: Uint8Array = multibootImage(
  // MOV ECX, 1BH; RDMSR; OR EAX, C00H; WRMSR; MOV ECX, 803H; RDMSR; MOVZX EAX, AL; MOV DX, F4H; OUT DX, EAX
  new Code()
    .mov(1, 0x1b)
    .bytes(0x0f, 0x32, 0x0d)
    .u32(0xc00)
    .bytes(0x0f, 0x30)
    .mov(1, 0x803)
    .bytes(0x0f, 0x32, 0x0f, 0xb6, 0xc0, 0x66, 0xba, 0xf4, 0x00, 0xef)
    .spin(),
);

/**
 * Two processors that each add to a shared counter without a lock, and to their own; each turn is seen in how the sum
 * falls short. The first exits with the shared counter after `turns` turns.
 */
export function racingImage(turns: number): Uint8Array {
  const code = new Code().store(LOCAL_APIC + 0xf0, 0x1ff);
  code.bytes(0xbe).address('trampoline').mov(7, TRAMPOLINE).mov(1, 64).bytes(0xf3, 0xa4);
  code.store(LOCAL_APIC + 0x310, 1 << 24).store(LOCAL_APIC + 0x300, 0x4500);
  code.store(LOCAL_APIC + 0x300, 0x4600 | (TRAMPOLINE >> 12)).mov(1, turns);
  // again: MOV EAX, [FLAG]; NOP; INC EAX; MOV [FLAG], EAX; LOOP again
  code.label('again').load(FLAG).bytes(0x90, 0x40, 0xa3).u32(FLAG).bytes(0xe2).relative('again');
  code.load(FLAG).bytes(0x66, 0xba, 0xf4, 0x00, 0xef).spin();
  // 16 bits: XOR AX, AX; MOV DS, AX; again: MOV EAX, [FLAG]; ADD EAX, 10000H; MOV [FLAG], EAX; JMP again
  code.label('trampoline').bytes(0x31, 0xc0, 0x8e, 0xd8, 0x66, 0xa1).u16(FLAG);
  code.bytes(0x66, 0x05).u32(0x1_0000).bytes(0x66, 0xa3).u16(FLAG).bytes(0xeb, 0xf0).align(64);
  return multibootImage(code);
}
