/** `espfix run`: how each kind of guest ends, what it reads and prints, and the trace. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { type Assembler, al, dx, eax, ebx, mem } from '../kernel/assembler.ts';
import { debugExit, flatImage, helloImage, initializeSerial } from '../peers/flat-image.fixture.ts';
import { capturedIo } from './io.fixture.ts';
import { espfix } from './program.ts';

const folder = mkdtempSync(join(tmpdir(), 'espfix-run-'));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
function imageFile(body: (a: Assembler) => void): string {
  const path = join(folder, `${count++}.elf`);
  writeFileSync(path, flatImage(body).elf);
  return path;
}
const helloFile = join(folder, 'hello.elf');
writeFileSync(helloFile, helloImage('hello\n', 3));

const forever = imageFile((a) => {
  a.label('forever');
  a.jmp('forever');
});
/** Waits for ever for what does not come. */
function spin(a: Assembler): void {
  a.cli();
  a.label('spin');
  a.pause();
  a.jmp('spin');
}
/** Prints dots for ever. */
const talker = imageFile((a) => {
  initializeSerial(a);
  a.mov(dx, 0x3f8);
  a.label('again');
  a.mov(al, 0x2e);
  a.out(dx, al);
  a.mov(al, 0x0a);
  a.out(dx, al);
  a.jmp('again');
});
/** Waits for a byte on COM1 and leaves it in AL, and the data port in DX. */
function readSerial(a: Assembler): void {
  a.label('poll');
  a.mov(dx, 0x3fd);
  a.in(al, dx);
  a.test(al, 1);
  a.jz('poll');
  a.mov(dx, 0x3f8);
  a.in(al, dx);
}

/** Sends back what it reads, in capitals, to the first line end, and leaves with 0. */
const echo = imageFile((a) => {
  initializeSerial(a);
  readSerial(a);
  a.cmp(al, 0x0a);
  a.je('done');
  a.and(al, 0xdf);
  a.out(dx, al);
  a.jmp('poll');
  a.label('done');
  debugExit(a, 0);
});

describe('how a run ends', () => {
  const cases: [name: string, file: string, args: string[], status: number, line: RegExp][] = [
    ['debug exit', helloFile, [], 7, /^$/],
    ['debug exit of a large value', imageFile((a) => debugExit(a, 0x1234_5678)), [], 0xf1, /^$/],
    ['debug exit wraps', imageFile((a) => debugExit(a, 0xffff_ffff)), [], 0xff, /^$/],
    [
      'triple fault',
      imageFile((a) => a.ud2()),
      [],
      4,
      /^espfix: triple fault at processor 0, RIP 0x10000c\n$/,
    ],
    [
      'unimplemented instruction',
      imageFile((a) => {
        // VMOVDQU64, which the machine does not have.
        a.db(0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x00);
      }),
      [],
      6,
      /^espfix: unimplemented instruction at processor 0, RIP 0x10000c: 62 f1 fe 48 6f 00\n$/,
    ],
    [
      'instruction limit',
      forever,
      ['--max-instructions', '1000'],
      8,
      /^espfix: instruction limit of 1000 reached\n$/,
    ],
    [
      'deadlock',
      imageFile((a) => {
        a.cli();
        a.hlt();
      }),
      [],
      10,
      /^espfix: deadlock: [^\n]+\n$/,
    ],
    [
      'reset',
      imageFile((a) => {
        a.mov(al, 0xfe);
        a.out(0x64, al);
        a.label('rest');
        a.jmp('rest');
      }),
      [],
      12,
      /^espfix: the guest asked for a reset\n$/,
    ],
    [
      'power-off',
      imageFile((a) => {
        a.mov(dx, 0x605);
        a.mov(al, 0x34);
        a.out(dx, al);
        a.label('rest');
        a.jmp('rest');
      }),
      [],
      0,
      /^$/,
    ],
    ['time limit', forever, ['--timeout', '0.2'], 124, /^espfix: time limit of 0.2 s reached\n$/],
  ];

  it.each(cases)('%s', async (_name, file, args, status, line) => {
    const io = capturedIo('');
    expect([await espfix(['run', file, ...args], io), io.err()]).toEqual([
      status,
      expect.stringMatching(line),
    ]);
  });

  it('deadlocks with interrupts off even while input may come', async () => {
    const io = capturedIo(undefined);
    const halt = imageFile((a) => {
      a.cli();
      a.hlt();
    });
    expect(await espfix(['run', halt], io)).toBe(10);
  });

  it('Ctrl-C', async () => {
    const io = capturedIo('');
    setTimeout(() => io.interrupt(), 100);
    expect(await espfix(['run', forever], io)).toBe(130);
    expect(io.err()).toBe('espfix: interrupted\n');
  });

  it('counts the same instructions each time', async () => {
    const traces = await Promise.all(
      ['a', 'b'].map(async (name) => {
        const path = join(folder, name);
        await espfix(['run', helloFile, '--trace', path], capturedIo(''));
        return readFileSync(path, 'utf8');
      }),
    );
    expect(traces[0]).toBe(traces[1]);
  });
});

describe('COM1', () => {
  it('goes to standard output', async () => {
    const io = capturedIo('');
    await espfix(['run', helloFile], io);
    expect(io.out()).toBe('hello\n');
  });

  it('comes from standard input', async () => {
    const io = capturedIo('shout\nrest');
    expect(await espfix(['run', echo], io)).toBe(1);
    expect(io.out()).toBe('SHOUT');
  });

  it('gives the command line to the guest', async () => {
    // EBX points at the Multiboot information, whose fourth word is the command line.
    const file = imageFile((a) => {
      initializeSerial(a);
      a.mov(ebx, mem(ebx, 16));
      a.label('next');
      a.mov(al, mem(ebx));
      a.test(al, al);
      a.jz('done');
      a.mov(dx, 0x3f8);
      a.out(dx, al);
      a.inc(ebx);
      a.jmp('next');
      a.label('done');
      debugExit(a, 0);
    });
    const io = capturedIo('');
    await espfix(['run', file, '--append', 'a=1 "b c"'], io);
    expect(io.out()).toContain('a=1 "b c"');
  });
});

describe('snapshots', () => {
  const snapshot = join(folder, 'snapshot');
  const image = helloFile;

  it('are written when the console prints a text, and go on from there', async () => {
    const io = capturedIo('');
    expect(await espfix(['run', image, '--snapshot-at', 'hel', snapshot], io)).toBe(7);
    expect(io.out()).toBe('hello\n');
    const again = capturedIo('');
    expect(await espfix(['run', snapshot], again)).toBe(7);
    expect(again.out()).toBe('lo\n');
  });

  it('of a text that does not come are not', async () => {
    const other = join(folder, 'none');
    await espfix(['run', image, '--snapshot-at', 'absent', other], capturedIo(''));
    expect(existsSync(other)).toBe(false);
  });

  it.each<[string[], RegExp]>([
    [['--snapshot-at', 'text'], /^espfix: --snapshot-at: expected a text and a file\n$/],
    [['--snapshot-at', '', 'file'], /^espfix: --snapshot-at: expected a text that is not empty\n$/],
    [['--disk-write'], /^espfix: --disk-write: expected with --disk\n$/],
    [['--share-write'], /^espfix: --share-write: expected with --share\n$/],
    [
      ['--cpu', 'pentium'],
      /^espfix: --cpu pentium: no model "pentium": expected one of .*; espfix run --cpu help lists all\n$/,
    ],
    [['--cpu', 'haswell,+avx512f'], /no feature "avx512f"/],
    [['--clock', 'noon'], /expected now, seconds since 1970/],
    [['--console', 'vga'], /expected serial or virtio/],
  ])('%j is refused', async (args, line) => {
    const io = capturedIo('');
    expect([await espfix(['run', image, ...args], io), io.err()]).toEqual([2, expect.stringMatching(line)]);
  });

  it('have their own processors, memory and disks', async () => {
    const disk = join(folder, 'disk');
    writeFileSync(disk, new Uint8Array(512));
    await espfix(['run', image, '--snapshot-at', 'h', snapshot], capturedIo(''));
    const cases: [string[], RegExp][] = [
      [['--cpus', '2'], /^espfix: --cpus: expected with an image; .* is a snapshot, which has its own\n$/],
      [['--cpu', 'core2'], /^espfix: --cpu: expected with an image/],
      [['--append', 'x'], /^espfix: --append: expected with an image/],
      [['--disk', disk], /snapshot: disk: the machine had none\n$/],
      [['--share', folder], /snapshot: share: the machine had none\n$/],
    ];
    for (const [args, line] of cases) {
      const io = capturedIo('');
      expect(await espfix(['run', snapshot, ...args], io)).toBe(2);
      expect(io.err()).toMatch(line);
    }
  });

  it('that are damaged are refused in one line', async () => {
    const bytes = readFileSync(snapshot);
    bytes[100] ^= 1;
    const damaged = join(folder, 'damaged');
    writeFileSync(damaged, bytes);
    const io = capturedIo('');
    expect(await espfix(['run', damaged], io)).toBe(2);
    expect(io.err()).toMatch(/^espfix: .*damaged: checksum: [^\n]+\n$/);
  });
});

describe('--cpu', () => {
  it('help lists models and features, and wants no image', async () => {
    const io = capturedIo('');
    expect(await espfix(['run', '--cpu', 'help'], io)).toBe(0);
    expect(io.out()).toMatch(/^ {2}nehalem +Core i7/m);
    expect(io.out()).toMatch(/^ {2}.*\bavx2\b/m);
  });

  it('gives the guest the model', async () => {
    const popcnt = imageFile((a) => {
      a.db(0xf3, 0x0f, 0xb8, 0xca);
      debugExit(a, 0);
    });
    expect(await espfix(['run', popcnt, '--cpu', 'nehalem'], capturedIo(''))).toBe(1);
    expect(await espfix(['run', popcnt, '--cpu', 'nehalem,-popcnt'], capturedIo(''))).toBe(4);
  });
});

describe('a terminal', () => {
  it('is raw while the guest runs, and Ctrl-A x ends that', async () => {
    const io = capturedIo('\x01h\x01x', true);
    expect(await espfix(['run', forever], io)).toBe(130);
    expect(io.raw).toEqual([true, false]);
    expect(io.err()).toMatch(/Ctrl-A x ends espfix.*\r\nespfix: interrupted\n$/s);
  });

  it('sends Ctrl-C and Ctrl-A a to the guest', async () => {
    // Sends back the first byte that it reads.
    const first = imageFile((a) => {
      initializeSerial(a);
      readSerial(a);
      a.out(dx, al);
      debugExit(a, 0);
    });
    for (const [typed, byte] of [
      ['\x03', '\x03'],
      ['\x01a', '\x01'],
    ]) {
      const io = capturedIo(typed, true);
      expect([await espfix(['run', first], io), io.out()]).toEqual([1, byte]);
    }
  });

  it.each([
    ['computes', forever],
    ['spins with interrupts off', imageFile(spin)],
    ['floods the console', talker],
  ] as const)('Ctrl-A x ends at once a guest that %s', async (_, image) => {
    const io = capturedIo(undefined, true);
    const ending = espfix(['run', image], io);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const typed = performance.now();
    io.type('\x01x');
    expect(await ending).toBe(130);
    expect(performance.now() - typed).toBeLessThan(1000);
    expect(io.raw).toEqual([true, false]);
  });

  it('is put back when the run fails', async () => {
    const io = capturedIo('', true);
    await espfix(['run', imageFile((a) => a.ud2())], io);
    expect(io.raw).toEqual([true, false]);
  });
});

describe('time', () => {
  it('the clock shows what it is set to', async () => {
    const image = imageFile((a) => {
      a.mov(al, 0);
      a.out(0x70, al);
      a.in(al, 0x71);
      a.mov(dx, 0xf4);
      a.out(dx, al);
    });
    const io = capturedIo('');
    // 27 seconds past the minute, in BCD.
    expect(await espfix(['run', image, '--clock', '2026-11-22T12:00:27Z'], io)).toBe(0x27 * 2 + 1);
    expect(await espfix(['run', image, '--clock', '86405'], io)).toBe(0x05 * 2 + 1);
    expect(await espfix(['run', image], io)).toBe(1);
  });

  it.each([
    { where: 'where it is asked to', terminal: false, flags: ['--realtime'] },
    { where: 'at a terminal', terminal: true, flags: [] },
  ])('keeps to the host’s $where', async ({ terminal, flags }) => {
    // 40 million instructions are 40 ms of guest time.
    const image = imageFile((a) => {
      a.mov(ebx, 20_000_000);
      a.label('again');
      a.dec(ebx);
      a.jnz('again');
      debugExit(a, 0);
    });
    const from = performance.now();
    expect(await espfix(['run', image, ...flags], capturedIo(undefined, terminal))).toBe(1);
    expect(performance.now() - from).toBeGreaterThan(25);
  });
});

describe('the trace', () => {
  it('has a line an instruction, with what changed, and one for each event', async () => {
    const file = imageFile((a) => {
      a.mov(eax, 0x1234);
      a.sub(eax, eax);
      a.nop();
      a.ud2();
    });
    const path = join(folder, 'trace');
    expect(await espfix(['run', file, '--trace', path], capturedIo(''))).toBe(4);
    const lines = readFileSync(path, 'utf8').split('\n');
    expect(lines.slice(0, 4)).toEqual([
      expect.stringMatching(/^0 000000000010000c {2}b8 34 12 00 00 +mov eax,1234h +rax=0{12}1234$/),
      expect.stringMatching(/^0 0000000000100011 {2}2[9b] c0 +sub eax,eax +rax=0{16} rflags=00000046$/),
      expect.stringMatching(/^0 0000000000100013 {2}90 +nop$/),
      '# 0 vector=6 source=exception',
    ]);
  });
});

describe('the process itself', () => {
  const main = fileURLToPath(new URL('./main.ts', import.meta.url));
  const start = (args: readonly string[]) => spawn(process.execPath, ['--import', 'tsx', main, ...args]);
  const status = (child: ReturnType<typeof start>) =>
    new Promise<number | null>((done) => child.once('close', (code) => done(code)));

  it('leaves quietly when the reader of its output goes away', async () => {
    const child = start(['run', talker]);
    let errors = '';
    child.stderr.on('data', (data) => {
      errors += data;
    });
    child.stdout.once('data', () => child.stdout.destroy());
    expect(await status(child)).toBe(74);
    expect(errors).toBe('');
  });

  it('ends with 130 at SIGINT', async () => {
    const child = start(['run', talker]);
    child.stdout.once('data', () => child.kill('SIGINT'));
    child.stdout.resume();
    expect(await status(child)).toBe(130);
  });
});
