/** Runs of instructions that have become functions, beside the same instructions one by one: random programs. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Interpreter } from '../engine/interpreter/interpreter.ts';
import {
  type Assembler,
  ah,
  al,
  ax,
  bh,
  byte,
  cl,
  cr0,
  cr3,
  cr4,
  ds,
  dword,
  eax,
  ebp,
  ebx,
  ecx,
  edx,
  es,
  esi,
  mem,
  sym,
  times,
  word,
  wordRegisters,
} from '../kernel/assembler.ts';
import { flatImage } from '../peers/flat-image.fixture.ts';
import { Machine } from './machine.ts';

const usual = Interpreter.hotAfter;
beforeAll(() => {
  Interpreter.hotAfter = 3;
});
afterAll(() => {
  Interpreter.hotAfter = usual;
});

type Bits = 32 | 64;

const PAGE_TABLES = 0x20_0000;
const IDT = 0x20_3000;
/** Where `flatImage` puts the code. */
const IMAGE_PAGE = 0x10_0000;
const DATA = 0x30_0000;
const DATA_BYTES = 0x2000;
const STACK = 0x30_4000;
/** Selectors of data segments: flat, and with a base of 64 bytes. */
const FLAT = 0x10;
const BASED = 0x20;
/** Not mapped. */
const NOWHERE = 0x7000_0000;

/** What a block may do. rSI points to data, rCX is small, the stack is balanced; `at` is unique. */
const pieces: readonly ((a: Assembler, bits: Bits, at: string) => void)[] = [
  (a, bits) => a.add(wordRegisters(bits).ax, wordRegisters(bits).bx),
  (a, bits) => a.instruction('adc', wordRegisters(bits).dx, wordRegisters(bits).ax),
  (a) => a.instruction('sbb', edx, ebx),
  (a) => a.xor(eax, edx),
  (a) => a.add(al, ah),
  (a) => a.mov(bh, al),
  (a) => a.instruction('xchg', ah, al),
  (a) => a.add(ax, 0x7f7f),
  (a) => a.instruction('inc', ebx),
  (a) => a.instruction('rcl', edx, cl),
  (a) => a.instruction('rol', eax, 7),
  (a) => a.instruction('sar', ebx, cl),
  (a) => a.instruction('setb', al),
  (a) => a.instruction('cmovs', eax, edx),
  (a) => a.instruction('imul', edx, ebx),
  (a) => a.instruction('lahf'),
  (a) => a.instruction('bsf', eax, edx),
  (a, bits) => {
    const { ax: index, dx, di } = wordRegisters(bits);
    a.lea(di, mem(index, times(dx, 4), -9));
  },
  (a, bits) => {
    const { bx, dx } = wordRegisters(bits);
    a.mov(edx, 3);
    a.instruction('or', bx, 0x4000_0000);
    a.instruction('div', bx);
    a.add(bx, dx);
  },
  (a, bits) => a.mov(eax, mem(wordRegisters(bits).si, 8)),
  (a, bits) => a.mov(mem(wordRegisters(bits).si, 16), wordRegisters(bits).dx),
  // Across pages.
  (a, bits) => a.add(dword(wordRegisters(bits).si, 0xffd), 3),
  (a, bits) => a.xor(word(wordRegisters(bits).si, 20), 0x55),
  (a, bits) => a.instruction('xadd', mem(wordRegisters(bits).si, 24), wordRegisters(bits).bx),
  (a, bits) => {
    const { ax: first, dx } = wordRegisters(bits);
    a.push(first);
    a.push(dx);
    a.pop(first);
    a.pop(dx);
  },
  (a) => a.call('leaf'),
  // A repeated string instruction in the middle of a run.
  (a, bits) => {
    a.mov(wordRegisters(bits).di, DATA + 0x100);
    a.mov(ecx, 3);
    a.db(0xf3, 0xab);
  },
  // Faults, mended by the handlers: a division by zero, and a page that is not there.
  (a) => {
    a.mov(ecx, 0);
    a.mov(edx, 0);
    a.instruction('div', ecx);
  },
  (a, bits) => {
    a.mov(esi, NOWHERE);
    a.add(eax, 5);
    a.mov(mem(wordRegisters(bits).si, 32), eax);
  },
  // Stores into the code that follows them.
  (a, _bits, at) => {
    a.instruction('inc', byte(sym(`${at}_patched`, 1)));
    a.label(`${at}_patched`);
    a.mov(edx, 0x1234);
  },
  // Segments that are not flat, for a while or for good.
  (a, bits) => {
    if (bits === 64) return;
    a.mov(ecx, BASED);
    a.mov(ds, ecx);
    a.mov(eax, mem(esi, 8));
    a.mov(mem(esi, 0x30), edx);
    a.mov(ecx, FLAT);
    a.mov(ds, ecx);
    a.add(edx, mem(esi, 0x70));
  },
  (a, bits) => {
    a.mov(ecx, 2);
    a.test(edx, 1);
    a.instruction('cmove', ecx, eax);
    a.and(ecx, BASED - FLAT);
    a.add(ecx, FLAT);
    if (bits === 32) a.mov(es, ecx);
    a.mov(ecx, 3);
  },
  // System instructions.
  (a) => a.cli(),
  (a, bits) => a.mov(wordRegisters(bits).ax, cr3),
];

/** Some instructions, and a branch to another block or the next. */
interface Block {
  readonly pieces: readonly number[];
  readonly branch: string;
  readonly target: number;
}

const programs = fc.array(
  fc.record<Block>({
    pieces: fc.array(fc.nat({ max: pieces.length - 1 }), { maxLength: 5 }),
    branch: fc.constantFrom('jmp', 'jb', 'jne', 'jne', 'js', 'jp', 'jle', 'call'),
    target: fc.nat(),
  }),
  { minLength: 1, maxLength: 6 },
);

function emitProgram(a: Assembler, blocks: readonly Block[], bits: Bits): void {
  const { sp, si } = wordRegisters(bits);
  a.mov(sp, STACK);
  a.mov(si, DATA);
  a.mov(ecx, 3);
  a.mov(ebx, 0x8765_4321);
  blocks.forEach((block, i) => {
    a.label(`block${i}`);
    block.pieces.forEach((piece, n) => {
      pieces[piece](a, bits, `piece_${i}_${n}`);
    });
    a.instruction('dec', ebp);
    const target = `block${block.target % blocks.length}`;
    if (block.branch === 'call') {
      // The return address is given up, so that the stack does not grow.
      a.call(`called${i}`);
      a.jmp(target);
      a.label(`called${i}`);
      a.test(edx, 1);
      a.jnz(`keep${i}`);
      a.ret();
      a.label(`keep${i}`);
      a.add(sp, bits / 8);
    } else a.branch(block.branch, target);
  });
  a.jmp('block0');
  a.label('leaf');
  a.add(edx, 0x1111);
  a.instruction('ror', edx, 3);
  a.ret();

  a.label('on_divide_error');
  a.mov(ecx, 3);
  a.instruction(bits === 64 ? 'iretq' : 'iretd');
  a.label('on_page_fault');
  a.mov(esi, DATA);
  a.add(sp, bits / 8);
  a.instruction(bits === 64 ? 'iretq' : 'iretd');
}

/** Switches paging on, in IA-32e mode for 64-bit code, and goes to the program. */
function emitStart(a: Assembler, bits: Bits): void {
  a.lgdt(mem('gdt_pointer'));
  a.lidt(mem('idt_pointer'));
  a.mov(eax, PAGE_TABLES);
  a.mov(cr3, eax);
  a.mov(eax, bits === 64 ? 0x20 : 0x10); // CR4.PAE, CR4.PSE
  a.mov(cr4, eax);
  if (bits === 64) {
    a.mov(ecx, 0xc000_0080);
    a.mov(eax, 0x100); // IA32_EFER.LME
    a.mov(edx, 0);
    a.wrmsr();
  }
  a.mov(eax, 0x8001_0011); // CR0: PG WP ET PE
  a.mov(cr0, eax);
  a.jmpFar(bits === 64 ? 0x18 : 8, 'program');
  a.align(8);
  a.label('gdt');
  a.dq(0, 0x00cf_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn, 0x00af_9b00_0000_ffffn, 0x00cf_9300_0040_ffffn);
  a.label('gdt_pointer');
  a.dw(5 * 8 - 1);
  a.dd(sym('gdt'));
  a.label('idt_pointer');
  a.dw(0x7ff);
  a.dd(IDT);
}

function put(machine: Machine, address: number, ...words: readonly bigint[]): void {
  machine.writePhysical(address, new Uint8Array(BigUint64Array.from(words).buffer));
}

/** The first 16 MiB mapped to themselves, by pages of 2 or 4 MiB. */
function writePageTables(machine: Machine, bits: Bits): void {
  if (bits === 32) {
    put(machine, PAGE_TABLES, 0x0040_0083_0000_0083n, 0x00c0_0083_0080_0083n);
    return;
  }
  put(machine, PAGE_TABLES, BigInt(PAGE_TABLES + 0x1003));
  put(machine, PAGE_TABLES + 0x1000, BigInt(PAGE_TABLES + 0x2003));
  put(machine, PAGE_TABLES + 0x2000, ...Array.from({ length: 8 }, (_, i) => BigInt(i * 0x20_0000 + 0x83)));
}

/** A machine at the start of a program; faults go to `on_divide_error` and `on_page_fault`. */
function machineWith(emit: (a: Assembler) => void, bits: Bits): Machine {
  const { elf, symbols } = flatImage((a) => {
    emitStart(a, bits);
    a.bits(bits);
    a.label('program');
    emit(a);
  });
  const machine = Machine.create({ memory: 16 });
  machine.boot(elf);
  writePageTables(machine, bits);
  for (const [vector, name] of [
    [0, 'on_divide_error'],
    [14, 'on_page_fault'],
  ] as const) {
    const offset = symbols.get(name) ?? 0n;
    const selector = bits === 64 ? 0x18n : 8n;
    const gate = (offset & 0xffffn) | (selector << 16n) | (0x8e00n << 32n) | ((offset >> 16n) << 48n);
    if (bits === 64) put(machine, IDT + vector * 16, gate, 0n);
    else put(machine, IDT + vector * 8, gate);
  }
  return machine;
}

/** All that a program can change but code. */
function seen(machine: Machine): unknown {
  return {
    ...machine.registers(),
    instructions: machine.instructions,
    data: machine.readPhysical(DATA, DATA_BYTES).join(),
    stack: machine.readPhysical(STACK - 256, 256).join(),
  };
}

const cuts = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 5 });

describe.each([32, 64] as const)('random %i-bit programs', (bits) => {
  it('do the same in functions as one by one, wherever a run is cut', () => {
    fc.assert(
      fc.property(programs, cuts, fc.integer({ min: 200, max: 600 }), (blocks, lengths, warm) => {
        const machine = machineWith((a) => emitProgram(a, blocks, bits), bits);
        const start = machine.snapshot();
        machine.run({ maxInstructions: warm });
        machine.restore(start);
        const found = lengths.map((length) => {
          expect(machine.run({ maxInstructions: length }).reason).toBe('limit');
          return seen(machine);
        });
        machine.restore(start);
        lengths.forEach((length, i) => {
          for (let n = 0; n < length; n++) machine.step();
          expect(found[i]).toEqual(seen(machine));
        });
      }),
      { numRuns: 40 },
    );
  });
});

/** REP MOVS or REP STOS, time and again. */
const strings = fc.record({
  opcode: fc.constantFrom(0xa4, 0xa5, 0xaa, 0xab),
  prefix: fc.constantFrom([], [0x66], [0x48]),
  from: fc.nat({ max: 0x1100 }),
  /** Often so near that what is written is read again. */
  to: fc.oneof(fc.nat({ max: 0x1100 }), fc.integer({ min: -9, max: 40 })),
  near: fc.boolean(),
  count: fc.oneof(fc.nat({ max: 20 }), fc.nat({ max: 0x1c0 })),
  value: fc.constantFrom(0, 0x5a5a_5a5a, 0x1234_5678),
  down: fc.boolean(),
});

describe.each([32, 64] as const)('repeated string instructions of %i-bit code', (bits) => {
  it('do the same at once as one by one, wherever a run is cut', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(strings, lengths, (string, cuts) => {
        const { si, di, ax, cx } = wordRegisters(bits);
        const from = DATA + 0x80 + string.from;
        const to = string.near ? from + (string.to % 64) : DATA + 0x80 + Math.abs(string.to);
        const machine = machineWith((a) => {
          a.mov(ax, string.value);
          if (string.down) a.instruction('std');
          a.label('turn');
          a.mov(si, from);
          a.mov(di, to);
          a.mov(cx, string.count);
          a.db(0xf3, ...(bits === 32 && string.prefix[0] === 0x48 ? [] : string.prefix), string.opcode);
          a.instruction('inc', ebp);
          a.jmp('turn');
          a.label('on_divide_error');
          a.label('on_page_fault');
          a.jmp('turn');
        }, bits);
        machine.writePhysical(
          DATA,
          Uint8Array.from({ length: DATA_BYTES }, (_, i) => (i * 7) ^ (i >> 5)),
        );
        const start = machine.snapshot();
        const found = cuts.map((length) => {
          machine.run({ maxInstructions: length });
          return seen(machine);
        });
        machine.restore(start);
        cuts.forEach((length, i) => {
          for (let n = 0; n < length; n++) machine.step();
          expect(found[i]).toEqual(seen(machine));
        });
      }),
      { numRuns: 25 },
    );
  });
});

describe('of more hot code than may have functions', () => {
  it('no more are kept, and it does the same', () => {
    const most = 8;
    const pages = 40;
    const machine = machineWith((a) => {
      for (let i = 0; i < pages; i++) {
        a.label(`page${i}`);
        a.mov(ecx, 30);
        a.label(`turn${i}`);
        a.add(eax, ecx);
        a.instruction('adc', ebx, eax);
        a.sub(ecx, 1);
        a.jnz(`turn${i}`);
        a.jmp(`page${(i + 1) % pages}`);
        a.align(4096);
      }
    }, 32);
    const usually = Interpreter.mostFunctions;
    const run = vi.spyOn(Interpreter.prototype, 'run');
    const functions = () => (run.mock.contexts[0] as Interpreter).keptFunctions;
    try {
      Interpreter.mostFunctions = most;
      const start = machine.snapshot();
      const found = Array.from({ length: 100 }, () => {
        machine.run({ maxInstructions: 400 });
        expect(functions()).toBeLessThanOrEqual(most);
        return machine.registers();
      });
      expect(functions()).toBeGreaterThan(0);
      machine.restore(start);
      for (const registers of found) {
        for (let i = 0; i < 400; i++) machine.step();
        expect(machine.registers()).toEqual(registers);
      }
    } finally {
      Interpreter.mostFunctions = usually;
      run.mockRestore();
    }
  });
});

describe('a loop that stays in its function', () => {
  it('notices that its own page has left the TLB: the walk for the next fetch sets the accessed bit anew', () => {
    // Pages of 4 KiB; those that are touched share their set of the TLB with that of the code.
    const table = PAGE_TABLES + 0x4000;
    const codeEntry = table + (IMAGE_PAGE >> 10);
    const machine = machineWith((a) => {
      a.mov(esi, 0x40_0000);
      a.mov(ebp, 0);
      a.label('turn');
      a.add(dword(esi), 1);
      a.add(esi, IMAGE_PAGE);
      a.instruction('and', esi, 0x7f_ffff);
      a.instruction('or', esi, 0x40_0000);
      a.instruction('bt', dword(codeEntry), 5);
      a.instruction('adc', ebp, 0);
      a.instruction('and', dword(codeEntry), ~0x20);
      a.jmp('turn');
    }, 32);
    const entries = Array.from({ length: 2048 }, (_, i) => BigInt(i * 0x1000 + 3));
    put(
      machine,
      table,
      ...Array.from({ length: 1024 }, (_, i) => entries[2 * i] | (entries[2 * i + 1] << 32n)),
    );
    put(machine, PAGE_TABLES, BigInt(table + 3) | (BigInt(table + 0x1003) << 32n));
    const start = machine.snapshot();
    machine.run({ maxInstructions: 3000 });
    const found = machine.registers();
    machine.restore(start);
    for (let i = 0; i < 3000; i++) machine.step();
    expect(found).toEqual(machine.registers());
    expect(found.rbp).toBeGreaterThan(10n);
  });
});
