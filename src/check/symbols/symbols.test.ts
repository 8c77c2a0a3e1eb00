/** Names and lines of files made for the purpose; and that no file makes the readers do anything but answer or refuse. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  elfOfSections,
  endSequence,
  type LineProgramFields,
  lineUnit,
  type SectionFields,
  StringTable,
  type SymbolFields,
  setAddress,
  sleb,
  symbolSections,
  uleb,
} from './elf-file.fixture.ts';
import { readSymbols, SymbolError } from './symbols.ts';

const TEXT = 0xffff_ffff_8010_0000n;
const ALLOC = 2;
const text = (bits: 32 | 64, size = 0x1000n): SectionFields => ({
  name: '.text',
  type: 8,
  flags: ALLOC,
  address: bits === 32 ? TEXT & 0xffff_ffffn : TEXT,
  size,
});

function fileOf(bits: 32 | 64, symbols: readonly SymbolFields[], more: readonly SectionFields[] = []) {
  return elfOfSections(bits, [text(bits), ...symbolSections(bits, symbols, 3), ...more]);
}

const bytesOf = (value: string) => new TextEncoder().encode(value);

function errorOf(action: () => unknown): SymbolError {
  try {
    action();
  } catch (error) {
    if (error instanceof SymbolError) return error;
    throw error;
  }
  throw new Error('no error');
}

describe.each([32, 64] as const)('the symbol table of an ELF%i', (bits) => {
  const symbols = readSymbols(
    fileOf(bits, [
      { name: 'start', address: TEXT + 0x10n, type: 0 },
      { name: 'entry', address: TEXT + 0x100n, size: 0x40n },
      { name: 'entry.inside', address: TEXT + 0x110n, type: 0, global: false },
      { name: 'nested', address: TEXT + 0x120n, size: 8n },
      { name: 'entry_alias', address: TEXT + 0x100n, type: 0 },
      { name: 'label', address: TEXT + 0x180n, type: 0 },
      { name: 'same', address: TEXT + 0x200n, size: 4n, global: false },
      { name: 'same', address: TEXT + 0x300n, size: 4n, global: true },
      { name: 'same', address: TEXT + 0x400n, size: 4n, global: false },
      { name: 'toolong', address: TEXT + 0xff0n, size: 0x4000n },
      { name: 'file.c', address: TEXT + 0x10n, type: 4 },
      { name: '.text', address: TEXT, type: 3 },
      { name: 'elsewhere', address: 0x10n, section: 0 },
      { name: 'CONSTANT', address: TEXT + 0x210n, section: 0xfff1 },
    ]),
  );

  it.each([
    [0x00n, undefined],
    [0x10n, 'start'],
    [0xffn, 'start+0xef'],
    [0x100n, 'entry'],
    [0x115n, 'entry+0x15'],
    [0x120n, 'nested'],
    [0x127n, 'nested+0x7'],
    [0x128n, 'entry+0x28'],
    [0x13fn, 'entry+0x3f'],
    [0x180n, 'label'],
    [0x1ffn, 'label+0x7f'],
    [0x203n, 'same+0x3'],
    [0x204n, undefined],
    [0x210n, undefined],
    [0xfffn, 'toolong+0xf'],
    [0x1000n, undefined],
  ])('at .text + %s', (offset, expected) => {
    const address = TEXT + offset;
    expect(symbols.describe(address)).toBe(expected ?? `0x${address.toString(16)}`);
    if (expected === undefined) expect(symbols.at(address)).toBeUndefined();
  });

  it('addresses by name, global ones first', () => {
    const full = (offset: bigint) => (bits === 32 ? (TEXT + offset) & 0xffff_ffffn : TEXT + offset);
    expect(symbols.address('same')).toBe(full(0x300n));
    expect(symbols.address('entry.inside')).toBe(full(0x110n));
    expect(symbols.address('CONSTANT')).toBe(full(0x210n));
    expect(symbols.address('elsewhere')).toBeUndefined();
    expect(symbols.address('file.c')).toBeUndefined();
    expect(symbols.count).toBe(10);
  });

  it('a file without symbols has none', () => {
    const stripped = readSymbols(elfOfSections(bits, [text(bits)]));
    expect([stripped.count, stripped.at(TEXT), stripped.describe(5n)]).toEqual([0, undefined, '0x5']);
  });
});

it('addresses beyond 32 bits are not those of an ELF32, but in the upper 2 GiB', () => {
  const symbols = readSymbols(fileOf(32, [{ name: 'entry', address: TEXT, size: 4n }]));
  expect(symbols.describe(TEXT)).toBe('entry');
  expect(symbols.describe(TEXT & 0xffff_ffffn)).toBe('entry');
  expect(symbols.at((TEXT & 0xffff_ffffn) + 0x1_0000_0000n)).toBeUndefined();
});

describe('refuses', () => {
  const good = fileOf(64, [{ name: 'entry', address: TEXT, size: 4n }]);
  const patched = (at: number, ...bytes: number[]) => {
    const copy = good.slice();
    copy.set(bytes, at);
    return copy;
  };
  const section = (n: number) => 64 + 64 * n;
  const view = new DataView(good.buffer);
  const symtab = Number(view.getBigUint64(section(2) + 24, true));
  it.each<[string, Uint8Array, RegExp]>([
    ['an empty file', new Uint8Array(0), /^symbols: expected an ELF file, or a System.map/],
    ['a half header', good.slice(0, 40), /^symbols: ELF header: 40 bytes, expected at least 64$/],
    ['another machine', patched(18, 40), /^symbols: ELF machine: 40, expected 62/],
    ['section header size', patched(58, 40), /^symbols: ELF section header size: 40, expected 64/],
    ['section headers outside', patched(40, 0xff, 0xff, 0xff), /^symbols: ELF section headers: at 0xffffff/],
    ['too many section headers', patched(60, 0xff, 0xff), /^symbols: ELF section header count: 65535/],
    ['section names nowhere', patched(62, 9), /^symbols: ELF section names: in section 9, expected below 5$/],
    ['a section outside', patched(section(2) + 26, 0xff), /^symbols: ELF section 2: file bytes 0xff/],
    ['symbol size', patched(section(2) + 56, 23), /^\.symtab: entries of 23 bytes, expected 24 of 64 bits$/],
    ['half a symbol', patched(section(2) + 32, 47), /^\.symtab: 47 bytes, expected a multiple of 24$/],
    ['strings nowhere', patched(section(2) + 40, 77), /^\.symtab: strings in section 77, expected one of 5/],
    [
      'a name nowhere',
      patched(symtab + 24, 99),
      /^\.strtab: name at offset 99 of symbol 1, expected below 7$/,
    ],
    ['a symbol nowhere', patched(symtab + 24 + 6, 99), /^\.symtab: entry in section 99, expected one of 5/],
  ])('%s', (_name, bytes, message) => {
    expect(errorOf(() => readSymbols(bytes)).message).toMatch(message);
  });
});

describe('System.map', () => {
  const symbols = readSymbols(
    bytesOf(
      [
        '0000000000000000 A fixed_percpu_data',
        'ffffffff81000000 T _text',
        'ffffffff81000000 t local_twin',
        '',
        'ffffffff81000040 t entry\r',
        'ffffffff82000000 D data',
        'ffffffffc0000000 t handler\t[module]',
      ].join('\n'),
    ),
  );

  it.each([
    [0x10n, '0x10'],
    [0xffff_ffff_8100_0000n, '_text'],
    [0xffff_ffff_8100_003fn, '_text+0x3f'],
    [0xffff_ffff_8100_0052n, 'entry+0x12'],
    [0xffff_ffff_8200_0000n, 'data'],
    [0xffff_ffff_c000_0001n, 'handler [module]+0x1'],
    [0xffff_ffff_ffff_0000n, '0xffffffffffff0000'],
    [0xffff_ffff_80ff_ffffn, '0xffffffff80ffffff'],
  ])('%s', (address, expected) => {
    expect(symbols.describe(address)).toBe(expected);
  });

  it('finds by name', () => {
    expect(symbols.address('entry')).toBe(0xffff_ffff_8100_0040n);
    expect(symbols.address('fixed_percpu_data')).toBe(0n);
    expect(symbols.line(0xffff_ffff_8100_0040n)).toBeUndefined();
  });

  it('refuses a line that is none, and hidden addresses', () => {
    expect(errorOf(() => readSymbols(bytesOf('ffffffff81000000 T a\n\nnonsense'))).message).toBe(
      'System.map: line 3: "nonsense", expected an address, a type letter and a name',
    );
    expect(
      errorOf(() => readSymbols(bytesOf('0000000000000000 T a\n0000000000000000 T b\n'))).message,
    ).toMatch(/^System\.map: every address is 0/);
  });
});

/** A way to write a row: special opcode, standard opcodes, or a fixed advance. */
interface Step {
  readonly address: bigint;
  readonly line: number;
  readonly file: number;
  readonly way: 0 | 1 | 2;
}

const LINE_BASE = -5;
const LINE_RANGE = 14;

/** The program that makes these rows, by the opcodes of their choice where those can. */
function programOf(start: bigint, steps: readonly Step[], addressSize: number, first: number): number[] {
  const bytes = [...setAddress(start, addressSize)];
  let [line, file] = [1, 1];
  for (const step of steps) {
    if (step.file + first !== file) {
      file = step.file + first;
      bytes.push(4, ...uleb(BigInt(file)), 5, 3, 6, 7, 10, 11);
    }
    const advance = step.address;
    const lines = step.line - line;
    const special = lines - LINE_BASE + LINE_RANGE * Number(advance) + 13;
    if (step.way === 0 && lines >= LINE_BASE && lines < LINE_BASE + LINE_RANGE && special <= 255)
      bytes.push(special);
    else {
      if (step.way === 2 && advance <= 0xffffn) bytes.push(9, Number(advance & 0xffn), Number(advance >> 8n));
      else if (step.way === 1 && advance >= 17n) bytes.push(8, 2, ...uleb(advance - 17n));
      else bytes.push(2, ...uleb(advance));
      bytes.push(3, ...sleb(BigInt(lines)), 1);
    }
    line = step.line;
  }
  // The last row's code is one byte.
  return [...bytes, 2, 1, ...endSequence];
}

describe('line programs', () => {
  const step = fc.record({
    address: fc.oneof(fc.bigInt({ min: 0n, max: 40n }), fc.bigInt({ min: 0n, max: 0x1_ffffn })),
    line: fc.oneof(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 0x7fff_ffff })),
    file: fc.nat(2),
    way: fc.constantFrom(0 as const, 1 as const, 2 as const),
  });
  const form = fc.constantFrom(undefined, 'line_strp' as const, 'strp' as const);

  it('say what was written, in every version, format and way of writing', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(2 as const, 3 as const, 4 as const, 5 as const),
        fc.boolean(),
        fc.constantFrom(32 as const, 64 as const),
        fc.constantFrom(4, 8),
        form,
        fc.array(fc.array(step, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 3 }),
        (version, dwarf64, bits, addressSize, strings, sequences) => {
          const base = bits === 32 || addressSize === 4 ? 0x10_0000n : TEXT;
          const table = new StringTable();
          const first = version === 5 ? 0 : 1;
          const starts = sequences.map((_, i) => base + BigInt(i) * 0x100_0000n);
          const fields: LineProgramFields = {
            version,
            dwarf64,
            directories: version === 5 ? ['/src', 'sub'] : ['sub'],
            files: [
              ['main.c', 0],
              ['entry.S', 1],
              ['/abs/x.h', 1],
            ],
            program: sequences.flatMap((steps, i) => programOf(starts[i], steps, addressSize, first)),
            strings: version === 5 && strings ? { form: strings, table } : undefined,
          };
          const files = [version === 5 ? '/src/main.c' : 'main.c', 'sub/entry.S', '/abs/x.h'];
          const unit = Uint8Array.from(lineUnit(fields));
          const stringSections: SectionFields[] = strings
            ? [{ name: strings === 'strp' ? '.debug_str' : '.debug_line_str', bytes: table.bytes }]
            : [];
          const symbols = readSymbols(
            elfOfSections(bits, [
              { name: '.text', type: 8, flags: ALLOC, address: base, size: 0x400_0000n },
              { name: '.debug_line', bytes: unit },
              ...stringSections,
            ]),
          );
          expect(symbols.problems).toEqual([]);
          sequences.forEach((steps, i) => {
            let at = starts[i];
            steps.forEach((s, n) => {
              at += s.address;
              // Of several rows of one address the last holds.
              if (steps[n + 1]?.address === 0n) return;
              const expected = s.line === 0 ? undefined : { file: files[s.file], line: s.line };
              expect(symbols.line(at)).toEqual(expected);
              const length = steps[n + 1]?.address ?? 1n;
              expect(symbols.line(at + length - 1n)).toEqual(expected);
            });
            expect(symbols.line(at + 1n)).toBeUndefined();
          });
          expect(symbols.line(base - 1n)).toBeUndefined();
        },
      ),
      { numRuns: 400 },
    );
  });

  const oneUnit = (version: 2 | 3 | 4 | 5, program: readonly number[]) =>
    lineUnit({ version, directories: ['d'], files: [['a/entry.S', 0]], program });
  const program = [...setAddress(TEXT), 3, 33, 1, 2, 16, ...endSequence];
  const withLines = (lines: readonly number[], more: Partial<SectionFields> = {}) =>
    readSymbols(
      fileOf(
        64,
        [{ name: 'entry_SYSCALL', address: TEXT, size: 0x40n }],
        [{ name: '.debug_line', bytes: Uint8Array.from(lines), ...more }],
      ),
    );

  it('are shown with the name', () => {
    const symbols = withLines(oneUnit(4, program));
    expect(symbols.describe(TEXT + 12n)).toBe('entry_SYSCALL+0xc (entry.S:34)');
    expect(symbols.describe(TEXT + 16n)).toBe('entry_SYSCALL+0x10');
  });

  it('a file defined on the way counts on', () => {
    const defined = [0, 7, 3, ...bytesOf('b.c'), 0, 1, 0, 0].map((byte, i) => (i === 1 ? 8 : byte));
    const symbols = withLines(oneUnit(2, [...defined, ...setAddress(TEXT), 4, 2, 1, 2, 1, ...endSequence]));
    expect(symbols.line(TEXT)).toEqual({ file: 'd/b.c', line: 1 });
  });

  it('of dropped code are left out', () => {
    const symbols = withLines(oneUnit(4, [...setAddress(0n), 1, 2, 16, ...endSequence, ...program]));
    expect([symbols.line(0n), symbols.line(TEXT)?.line]).toEqual([undefined, 34]);
  });

  it.each<[string, number[], RegExp]>([
    [
      'version 6',
      [20, 0, 0, 0, 6, 0, ...Array(18).fill(0)],
      /^\.debug_line: at 0x6: DWARF version 6, expected 2 to 5$/,
    ],
    [
      'a reserved length',
      [0xf0, 0xff, 0xff, 0xff],
      /^\.debug_line: at 0x4: unit length 0xfffffff0 is reserved$/,
    ],
    [
      'a long unit',
      [9, 0, 0, 0, 4],
      /^\.debug_line: at 0x4: line program of 9 bytes, expected no more than the 1 left$/,
    ],
    ['a cut length', [9, 0], /^\.debug_line: at 0x0: unit length: 2 bytes left, expected 4$/],
    ['an odd address', oneUnit(4, [0, 4, 2, 1, 2, 3]), /address of 3 bytes, expected 1, 2, 4 or 8$/],
    ['a cut program', oneUnit(4, [2, 0x80]), /: advance: 0 bytes left, expected 1$/],
  ])('%s is a problem, and names are there all the same', (_name, lines, message) => {
    const symbols = withLines(lines);
    expect(symbols.problems.map((problem) => problem.message)).toEqual([expect.stringMatching(message)]);
    expect(symbols.problems[0].section).toBe('.debug_line');
    expect(symbols.describe(TEXT)).toBe('entry_SYSCALL');
  });

  it('a damaged unit leaves the others', () => {
    const symbols = withLines([...oneUnit(4, [0, 4, 2, 1, 2, 3]), ...oneUnit(5, program)]);
    expect(symbols.problems.length).toBe(1);
    expect(symbols.line(TEXT)?.line).toBe(34);
  });

  it('compressed ones are said to be so', () => {
    const symbols = withLines(oneUnit(4, program), { flags: 0x800 });
    expect(symbols.problems.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^\.debug_line: compressed, expected plain/),
    ]);
    expect(withLines([], { name: '.zdebug_line' }).problems[0].message).toMatch(/^\.zdebug_line: compressed/);
  });
});

describe('whatever the bytes', () => {
  const table = new StringTable();
  const lines = [
    ...lineUnit({
      version: 5,
      directories: ['/src'],
      files: [['a.c', 0]],
      program: [...setAddress(TEXT), 1, 40, 99, 2, 30, ...endSequence],
      strings: { form: 'line_strp', table },
    }),
    ...lineUnit({
      version: 3,
      directories: ['d'],
      files: [['b.S', 1]],
      program: [...setAddress(TEXT + 64n), 1, 8, 9, 1, 0, 200, ...endSequence],
    }),
  ];
  const symbols: SymbolFields[] = [
    { name: 'f', address: TEXT, size: 64n },
    { name: 'g', address: TEXT + 64n, type: 0 },
    { name: 'C', address: 5n, section: 0xfff1 },
    { name: 'line\nbreak', address: TEXT + 70n, size: 1n },
  ];
  const debug = [
    { name: '.debug_line', bytes: Uint8Array.from(lines) },
    { name: '.debug_line_str', bytes: table.bytes },
  ];
  const images = [
    fileOf(64, symbols, debug),
    fileOf(32, symbols, debug),
    bytesOf('ffffffff81000000 T _text\nffffffff81000040 t entry\n'),
  ];
  const byte = fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 }));
  const mutation = fc.record({
    image: fc.constantFrom(...images),
    bytes: fc.array(fc.tuple(fc.nat(1100), byte), { maxLength: 8 }),
    runs: fc.array(fc.tuple(fc.nat(1100), byte, fc.constantFrom(2, 4, 8)), { maxLength: 2 }),
    length: fc.option(fc.nat(1100), { nil: undefined }),
  });

  it('a file is read, or refused in one line', () => {
    let read = 0;
    let found = 0;
    let problems = 0;
    fc.assert(
      fc.property(mutation, (m) => {
        const image = m.image.slice(0, m.length ?? m.image.length);
        for (const [at, value] of m.bytes) if (at < image.length) image[at] = value;
        for (const [at, value, count] of m.runs) image.fill(value, at, Math.min(at + count, image.length));
        let result: ReturnType<typeof readSymbols>;
        try {
          result = readSymbols(image);
        } catch (error) {
          if (!(error instanceof SymbolError)) throw error;
          expect(error.message).toMatch(/^[^\n]{10,300}$/);
          return;
        }
        read++;
        problems += result.problems.length;
        for (const problem of result.problems) expect(problem.message).toMatch(/^[^\n]{10,300}$/);
        for (const address of [0n, TEXT, TEXT + 70n, 0xffff_ffff_8100_0041n, (1n << 64n) - 1n]) {
          if (result.at(address) !== undefined && result.line(address) !== undefined) found++;
          expect(result.describe(address)).toMatch(/^[^\n]+$/);
        }
      }),
      { numRuns: 5000 },
    );
    expect(read).toBeGreaterThan(500);
    expect(found).toBeGreaterThan(500);
    expect(problems).toBeGreaterThan(100);
  });

  it('random bytes are refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => readSymbols(bytes)).toThrow(SymbolError);
      }),
    );
  });
});
