/** The engine as a whole, seen through a machine: budgets, stepping, self-modifying code, page crossings, faults. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Assembler,
  byte,
  cl,
  dword,
  eax,
  ebp,
  ebx,
  ecx,
  edi,
  edx,
  esi,
  esp,
  mem,
  sym,
} from '../kernel/assembler.ts';
import { flatImage } from '../peers/flat-image.fixture.ts';
import { Machine } from './machine.ts';

/** A machine that stands at the start of `body`. */
function machineWith(body: (a: Assembler) => void): {
  machine: Machine;
  symbols: ReadonlyMap<string, bigint>;
} {
  const { elf, symbols } = flatImage(body);
  const machine = Machine.create({ memory: 16 });
  machine.boot(elf);
  return { machine, symbols };
}

/** Arithmetic, branches, memory, calls and a repeated string instruction, for ever. */
function busy(a: Assembler): void {
  a.mov(esp, 0x20_0000);
  a.mov(ebx, 1);
  a.label('again');
  a.add(ebx, ebx);
  a.adc(edx, 7);
  a.mov(mem(sym('data')), ebx);
  a.xor(edx, mem(sym('data')));
  a.test(edx, 4);
  a.jz('skip');
  a.call('leaf');
  a.label('skip');
  a.mov(edi, 0x30_0000);
  a.mov(eax, ebx);
  a.mov(ecx, 5);
  a.db(0xf3, 0xab);
  a.instruction('inc', ebp);
  a.jmp('again');
  a.label('leaf');
  a.push(ebx);
  a.instruction('shr', ebx, 3);
  a.xadd(edx, ebx);
  a.pop(ebx);
  a.ret();
  a.label('data');
  a.dd(0);
}

describe('budgets', () => {
  it('a run of n instructions is n steps, however it is cut', () => {
    const { machine } = machineWith(busy);
    const start = machine.snapshot();
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 8 }), (cuts) => {
        const total = cuts.reduce((sum, cut) => sum + cut, 0);
        machine.restore(start);
        for (const cut of cuts) expect(machine.run({ maxInstructions: cut }).reason).toBe('limit');
        const cutUp = machine.registers();
        expect(machine.instructions).toBe(total);
        machine.restore(start);
        machine.run({ maxInstructions: total });
        expect(machine.registers()).toEqual(cutUp);
        machine.restore(start);
        for (let i = 0; i < total; i++) machine.step();
        expect(machine.registers()).toEqual(cutUp);
        expect(machine.instructions).toBe(total);
      }),
      { numRuns: 40 },
    );
  });
});

const TIMER_VECTOR = 0x40;

/** Works under the interrupts of a timer of `period` ticks, which is about as short as the stretches between STI and CLI. */
function interrupted(a: Assembler, period: number): void {
  const LOCAL_APIC = 0xfee0_0000;
  const apic = (register: number, value: number) => {
    a.mov(eax, LOCAL_APIC + register);
    a.mov(dword(eax), value);
  };
  a.mov(esp, 0x20_0000);
  a.lgdt(mem(sym('gdt_pointer')));
  a.lidt(mem(sym('idt_pointer')));
  a.jmpFar(8, 'start');
  a.label('start');
  // Software enable; divide by one; periodic.
  apic(0xf0, 0x1ff);
  apic(0x3e0, 0xb);
  apic(0x320, 0x2_0000 | TIMER_VECTOR);
  apic(0x380, period);
  a.mov(ebx, 1);
  a.label('again');
  a.cli();
  a.add(ebx, 3);
  a.sti();
  a.label('shadowed_first');
  a.instruction('inc', edx);
  a.instruction('pushfd');
  a.cli();
  a.xor(ebp, ebx);
  a.instruction('popfd');
  a.sti();
  a.sti();
  a.jmp('next');
  a.label('next');
  a.instruction('dec', esi);
  a.cli();
  a.sti();
  a.label('shadowed_last');
  a.cli();
  a.jmp('again');

  a.label('on_timer');
  // Where it struck is seen.
  a.instruction('rol', edi, 5);
  a.add(edi, mem(esp));
  a.push(eax);
  for (const label of ['shadowed_first', 'shadowed_last']) {
    a.mov(eax, sym(label));
    a.cmp(eax, mem(esp, 4));
    a.jnz(`not_${label}`);
    a.instruction('inc', dword(sym('struck_in_shadow')));
    a.label(`not_${label}`);
  }
  apic(0xb0, 0);
  a.pop(eax);
  // RF in the image.
  a.instruction('or', dword(esp, 8), 0x1_0000);
  a.instruction('iretd');

  a.align(8);
  a.label('struck_in_shadow');
  a.dq(0);
  a.label('gdt');
  a.dq(0, 0x00cf_9b00_0000_ffffn);
  a.label('idt');
  for (let vector = 0; vector <= TIMER_VECTOR; vector++) a.dq(0);
  a.label('gdt_pointer');
  a.dw(2 * 8 - 1);
  a.dd(sym('gdt'));
  a.label('idt_pointer');
  a.dw(0x7ff);
  a.dd(sym('idt'));
}

describe('shadows of STI, and RF', () => {
  it.each([11, 13, 16, 23, 37])('end alike in runs and in steps, with a timer of %i ticks', (period) => {
    const { machine, symbols } = machineWith((a) => interrupted(a, period));
    const handler = symbols.get('on_timer') ?? 0n;
    const gate = (handler & 0xffffn) | (8n << 16n) | (0x8e00n << 32n) | ((handler >> 16n) << 48n);
    machine.writePhysical(
      Number(symbols.get('idt')) + TIMER_VECTOR * 8,
      new Uint8Array(BigUint64Array.of(gate).buffer),
    );
    const start = machine.snapshot();
    const marks = [500, 3, 1, 700, 2, 900];
    const found = marks.map((count) => {
      expect(machine.run({ maxInstructions: count }).reason).toBe('limit');
      return { ...machine.registers(), shadow: machine.cpus[0].shadow };
    });
    machine.restore(start);
    const stepped = marks.map((count) => {
      for (let i = 0; i < count; i++) machine.step();
      return { ...machine.registers(), shadow: machine.cpus[0].shadow };
    });
    expect(found).toEqual(stepped);
    expect(machine.registers().rdi).not.toBe(0n);
    expect([...machine.readPhysical(Number(symbols.get('struck_in_shadow')), 4)]).toEqual([0, 0, 0, 0]);
  });
});

describe('self-modifying code (SDM vol. 3A 8.1.3, 11.6)', () => {
  it('a store into the instructions that follow it takes effect at once', () => {
    const { machine } = machineWith((a) => {
      a.mov(ecx, 1);
      a.mov(byte(sym('immediate', 1)), 0x55);
      a.label('immediate');
      a.mov(eax, 0x11);
      a.label('end');
      a.jmp('end');
    });
    machine.run({ maxInstructions: 4 });
    expect(machine.registers().rax).toBe(0x55n);
  });

  it('code that was run before is decoded anew after a store', () => {
    const { machine } = machineWith((a) => {
      a.mov(esp, 0x20_0000);
      a.mov(ebx, 0);
      a.mov(ecx, 3);
      a.label('again');
      a.call('victim');
      a.instruction('inc', byte(sym('victim', 1)));
      a.instruction('dec', ecx);
      a.jnz('again');
      a.label('end');
      a.jmp('end');
      a.label('victim');
      a.mov(eax, 0x20);
      a.add(ebx, eax);
      a.ret();
    });
    machine.run({ maxInstructions: 40 });
    expect(machine.registers().rbx).toBe(0x20n + 0x21n + 0x22n);
  });

  it('data beside code may be written without end, and both keep their value', () => {
    const { machine, symbols } = machineWith((a) => {
      a.mov(ecx, 1000);
      a.label('again');
      a.instruction('inc', dword(sym('counter')));
      a.instruction('dec', ecx);
      a.jnz('again');
      a.label('end');
      a.jmp('end');
      a.label('counter');
      a.dd(0);
    });
    machine.run({ maxInstructions: 3100 });
    const counter = machine.readPhysical(Number(symbols.get('counter')), 4);
    expect(new DataView(counter.buffer).getUint32(0, true)).toBe(1000);
  });
});

describe('instructions across a page boundary', () => {
  it.each([1, 2, 3, 4])('with %i bytes in the first page, also after the second page changed', (bytes) => {
    const { machine } = machineWith((a) => {
      a.jmp('start');
      a.align(4096);
      a.db(...new Array(4096 - bytes - 12).fill(0x90));
      a.label('start');
      // As far as the instruction under test, which must stand `bytes` before the end of the page.
      a.db(...new Array(12).fill(0x90));
      a.label('crossing');
      a.mov(eax, 0x1234_5678);
      a.label('end');
      a.jmp('end');
    });
    const at = 0x10_2000 - bytes;
    const found = machine.readPhysical(at, 1)[0];
    expect(found).toBe(0xb8);
    const start = machine.snapshot();
    machine.run({ maxInstructions: 20 });
    expect(machine.registers().rax).toBe(0x1234_5678n);
    machine.restore(start);
    machine.writePhysical(
      0x10_2000,
      machine.readPhysical(0x10_2000, 1).map((value) => value ^ 0xff),
    );
    machine.run({ maxInstructions: 20 });
    const changed = BigInt(0xff) << BigInt(8 * (bytes - 1));
    expect(machine.registers().rax).toBe(0x1234_5678n ^ changed);
  });
});

describe('precise faults', () => {
  it('a fault leaves every register as it was, and the machine stops at a triple fault', () => {
    const { machine, symbols } = machineWith((a) => {
      a.mov(ebx, 5);
      a.mov(eax, 7);
      a.mov(edx, 9);
      a.mov(ecx, 0);
      a.label('faults');
      a.div(ecx);
    });
    const stop = machine.run({ maxInstructions: 100 });
    expect(stop).toMatchObject({ reason: 'triple-fault', rip: symbols.get('faults') });
    expect(machine.registers()).toMatchObject({ rax: 7n, rbx: 5n, rcx: 0n, rdx: 9n });
  });

  it('shifts by CL decode their count at run time', () => {
    const { machine } = machineWith((a) => {
      a.mov(eax, 1);
      a.mov(ecx, 5);
      a.instruction('shl', eax, cl);
      a.mov(esi, eax);
      a.label('end');
      a.jmp('end');
    });
    machine.run({ maxInstructions: 10 });
    expect(machine.registers().rsi).toBe(32n);
  });
});

describe('VEX-encoded instructions (SDM vol. 2A 2.3)', () => {
  // ANDN EAX, EBX, ECX
  const andn = [0xc4, 0xe2, 0x60, 0xf2, 0xc1];

  it('exist in protected mode', () => {
    const { machine } = machineWith((a) => {
      a.mov(ebx, 0x0f);
      a.mov(ecx, 0xff);
      a.db(...andn);
      a.label('end');
      a.jmp('end');
    });
    machine.run({ maxInstructions: 5 });
    expect(machine.registers().rax).toBe(0xf0n);
  });

  it('are #UD in real-address mode', () => {
    const machine = Machine.create({ memory: 16 });
    machine.writePhysical(0x8000, new Uint8Array(andn));
    machine.setRegister('cs', 0n);
    machine.setRegister('rip', 0x8000n);
    const vectors: number[] = [];
    machine.on('deliver', (_cpu, vector) => {
      vectors.push(vector);
      return true;
    });
    expect(machine.step().reason).toBe('hook');
    expect(vectors).toEqual([6]);
  });
});
