/** The assembler: instructions by iced-x86's decoder, labels, branches, data and linking. */
import { Decoder, DecoderOptions, FastFormatter } from 'iced-x86';
import { describe, expect, it } from 'vitest';
import {
  type Assembler,
  al,
  ax,
  byte,
  type CodeBits,
  cr3,
  createAssembler,
  dword,
  dx,
  eax,
  ebx,
  ecx,
  esi,
  esp,
  gs,
  LinkError,
  mem,
  qword,
  r9,
  rax,
  rbx,
  rcx,
  rdi,
  rsp,
  ss,
  sym,
  times,
  word,
} from './assembler.ts';

const ADDRESS = 0xffff_ffff_8010_0000n;

function assemble(bits: CodeBits, write: (a: Assembler) => void, address = bits === 64 ? ADDRESS : 0x8000n) {
  const a = createAssembler();
  a.section('.text').bits(bits);
  write(a);
  return a.link(new Map([['.text', address]]));
}

function bytes(bits: CodeBits, write: (a: Assembler) => void, address?: bigint): string {
  return Buffer.from(assemble(bits, write, address).sections.get('.text')?.bytes ?? []).toString('hex');
}

describe('instructions', () => {
  // Opcode bytes from SDM Vol. 2.
  const cases: [CodeBits, string, (a: Assembler) => void][] = [
    [64, '0f01f8', (a) => a.swapgs()],
    [64, '48cf', (a) => a.iretq()],
    [64, '480f07', (a) => a.sysretq()],
    [64, '48cb', (a) => a.retfq()],
    [32, 'cf', (a) => a.iretd()],
    [64, '65488b042518000000', (a) => a.mov(rax, mem(gs, 0x18))],
    [64, 'f644242004', (a) => a.test(byte(rsp, 32), 4)],
    [64, '0f22d8', (a) => a.mov(cr3, rax)],
    [64, '8ed0', (a) => a.mov(ss, eax)],
    [64, 'ec', (a) => a.in(al, dx)],
    [64, 'e7f4', (a) => a.out(0xf4, eax)],
    [64, 'f348a5', (a) => a.rep().movsq()],
    [64, 'f3a4', (a) => a.rep().movsb()],
    [64, 'f00fc101', (a) => a.lock().xadd(mem(rcx), eax)],
    [64, '48ff6804', (a) => a.jmpFarIndirect(mem(rax, 4), 64)],
    [64, 'ff6804', (a) => a.jmpFarIndirect(mem(rax, 4), 32)],
    [64, '4883e4f0', (a) => a.and(rsp, -16)],
    [64, '480fb6440c10', (a) => a.movzx(rax, byte(rsp, rcx, 16))],
    [64, '4c8b4ccb08', (a) => a.mov(r9, mem(rbx, times(rcx, 8), 8))],
    [64, '0f02442408', (a) => a.lar(eax, mem(rsp, 8))],
    [32, '0fb22424', (a) => a.lss(esp, mem(esp))],
    [32, '60', (a) => a.pushad()],
    [16, '6667896604', (a) => a.mov(mem(esi, 4), esp)],
    [16, '6667395e08', (a) => a.cmp(dword(esi, 8), ebx)],
    // A pushed immediate has the width of the code, whatever encodes shorter.
    [64, '6a2b', (a) => a.push(0x2b)],
    [64, '6802020000', (a) => a.push(0x202)],
    [32, '6802020000', (a) => a.push(0x202)],
    [64, '6880000000', (a) => a.push(0x80)],
    // Immediates take the shortest field that says them.
    [64, '48c7c0fbffffff', (a) => a.mov(rax, -5)],
    [64, 'b8ffffffff', (a) => a.mov(eax, 0xffff_ffff)],
    [64, '48b89a78563412000000', (a) => a.mov(rax, 0x12_3456_789an)],
  ];
  it.each(cases)('%i-bit %s', (bits, expected, write) => {
    expect(bytes(bits, write)).toBe(expected);
  });

  it('decodes back to what was written', () => {
    const linked = assemble(64, (a) => {
      a.label('start');
      a.lea(rdi, mem('start', 8));
      a.mov(rax, sym('start', 2));
      a.mov(qword('start'), 5);
      a.mov(r9, mem('start', times(rcx, 8)));
      a.cmp(word('start'), ax);
      a.push(qword(rax, times(rcx, 4), 16));
    });
    const code = linked.sections.get('.text')?.bytes ?? new Uint8Array();
    const decoder = new Decoder(64, code, DecoderOptions.None);
    decoder.ip = ADDRESS;
    const formatter = new FastFormatter();
    const lines: string[] = [];
    while (decoder.canDecode) lines.push(formatter.format(decoder.decode()));
    expect(lines).toEqual([
      'lea rdi,[0FFFFFFFF80100008h]',
      'mov rax,0FFFFFFFF80100002h',
      'mov qword ptr [0FFFFFFFF80100000h],5h',
      'mov r9,[rcx*8-7FF00000h]',
      'cmp [0FFFFFFFF80100000h],ax',
      'push qword ptr [rax+rcx*4+10h]',
    ]);
  });

  const refused: [string, (a: Assembler) => void][] = [
    ['a memory operand of unknown width', (a) => a.mov(mem(rax), 1)],
    ['operands of different widths', (a) => a.mov(rax, ecx)],
    ['an immediate that does not fit', (a) => a.add(rax, 0x1_0000_0000n)],
    ['an immediate that sign extension would change', (a) => a.and(rax, 0xffff_0000)],
    ['a form that 64-bit mode lacks', (a) => a.pushad()],
    ['a direct far jump in 64-bit mode', (a) => a.jmpFar(8, 'x')],
    ['an unknown mnemonic', (a) => a.instruction('frob', rax)],
    ['too many registers in an address', (a) => a.mov(rax, mem(rax, rcx, rdi))],
  ];
  it.each(refused)('refuses %s', (_, write) => {
    expect(() => bytes(64, write)).toThrow(RangeError);
  });
});

describe('code inserted at a label', () => {
  const write = (where: 'before' | 'after') => (a: Assembler) => {
    a.insert(where, 'f', () => {
      a.label('inserted');
      a.nop();
    });
    a.cli();
    a.label('f');
    a.sti();
    a.label('.local');
  };

  it.each([
    ['before', 2n, 1n],
    ['after', 1n, 1n],
  ] as const)('%s it', (where, f, inserted) => {
    expect(bytes(64, write(where))).toBe('fa90fb');
    const { symbols } = assemble(64, write(where));
    expect(symbols.get('f')).toBe(ADDRESS + f);
    expect(symbols.get('inserted')).toBe(ADDRESS + inserted);
    // Labels of its own do not take local ones from the label.
    expect(symbols.get('f.local')).toBe(ADDRESS + 3n);
  });
});

describe('labels and branches', () => {
  it('takes the short form within -128..127 bytes and the near form beyond', () => {
    expect(
      bytes(64, (a) => {
        a.jmp('x');
        a.zero(127);
        a.label('x');
      }),
    ).toMatch(/^eb7f/);
    expect(
      bytes(64, (a) => {
        a.jmp('x');
        a.zero(128);
        a.label('x');
      }),
    ).toMatch(/^e980000000/);
    expect(
      bytes(64, (a) => {
        a.label('x');
        a.zero(126);
        a.jnz('x');
      }),
    ).toMatch(/7580$/);
    expect(
      bytes(64, (a) => {
        a.label('x');
        a.zero(127);
        a.jnz('x');
      }),
    ).toMatch(/0f857bffffff$/);
    expect(
      bytes(16, (a) => {
        a.label('x');
        a.zero(200);
        a.jz('x');
      }),
    ).toMatch(/0f8434ff$/);
  });

  it('grows a branch that another branch pushed out of reach', () => {
    // Each jump is short only while the other is; 126 + 2 bytes lie between the first and its target.
    const code = bytes(64, (a) => {
      a.jmp('end');
      a.zero(124);
      a.jmp('far');
      a.label('end');
      a.zero(200);
      a.label('far');
    });
    expect(code.slice(0, 10)).toBe('e981000000');
  });

  it('keeps labels that start with a dot inside the last one that does not', () => {
    const { symbols } = assemble(64, (a) => {
      a.label('f');
      a.label('.loop');
      a.jmp('.loop');
      a.label('g');
      a.jmp('.loop');
      a.label('.loop');
    });
    expect(symbols.get('f.loop')).toBe(ADDRESS);
    expect(symbols.get('g.loop')).toBe(ADDRESS + 4n);
  });

  it('resolves references between sections and to constants', () => {
    const a = createAssembler();
    a.section('.text').bits(64);
    a.lea(rax, mem('table'));
    a.mov(ecx, sym('count'));
    a.section('.data');
    a.zero(8);
    a.label('table').dq(sym('table', 1));
    a.constant('count', 0x1234);
    const linked = a.link(
      new Map([
        ['.text', 0x1000n],
        ['.data', 0x3000n],
      ]),
    );
    expect(Buffer.from(linked.sections.get('.text')?.bytes ?? []).toString('hex')).toBe(
      '488d0501200000b934120000',
    );
    expect(linked.sections.get('.data')?.bytes[8]).toBe(9);
    expect(linked.symbols.get('table')).toBe(0x3008n);
  });

  it('jumps far to a selector and a 32- or 16-bit offset', () => {
    expect(
      bytes(32, (a) => {
        a.label('x');
        a.jmpFar(0x33, 'x');
      }),
    ).toBe('ea008000003300');
    expect(
      bytes(16, (a) => {
        a.label('x');
        a.jmpFar(0x33, 'x');
      }),
    ).toBe('66ea008000003300');
    expect(
      bytes(16, (a) => {
        a.label('x');
        a.jmpFar(0x33, 'x', 16);
      }),
    ).toBe('ea00803300');
  });

  const broken: [string, (a: Assembler) => void][] = [
    ['an undefined label', (a) => a.jmp('nowhere')],
    ['an undefined label in data', (a) => void a.dq(sym('nowhere'))],
    ['a label defined twice', (a) => void a.label('x').label('x')],
    [
      'a loop that does not reach',
      (a) => {
        a.label('x');
        a.zero(200);
        a.loop('x');
      },
    ],
    [
      'an address that does not fit its field',
      (a) => {
        a.label('x');
        a.dw(sym('x'));
      },
    ],
    [
      'an address that sign extension would change',
      (a) => {
        a.constant('y', 0xffff_0000);
        a.cmp(rax, sym('y'));
      },
    ],
  ];
  it.each(broken)('raises a LinkError for %s', (_, write) => {
    expect(() => assemble(64, write)).toThrow(LinkError);
  });
});

describe('data', () => {
  it('is little-endian, checked for size and aligned from the start of the section', () => {
    expect(bytes(64, (a) => a.db(1, 'az').align(4).dw(0x1234, -1).dd(0x12345678).dq(-2n))).toBe(
      '01617a003412ffff78563412feffffffffffffff',
    );
    expect(() => bytes(64, (a) => a.dw(0x1_0000))).toThrow(RangeError);
  });
});
