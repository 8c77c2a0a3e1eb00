/** `espfix run`: how each kind of guest ends, what it reads and prints, and the trace. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
/** Sends back what it reads, in capitals, to the first line end, and leaves with 0. */
const echo = imageFile((a) => {
  initializeSerial(a);
  a.label('poll');
  a.mov(dx, 0x3fd);
  a.in(al, dx);
  a.test(al, 1);
  a.jz('poll');
  a.mov(dx, 0x3f8);
  a.in(al, dx);
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
    ['time limit', forever, ['--timeout', '0.2'], 124, /^espfix: time limit of 0.2 s reached\n$/],
  ];

  it.each(cases)('%s', async (_name, file, args, status, line) => {
    const io = capturedIo();
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
    const io = capturedIo();
    setTimeout(() => io.interrupt(), 100);
    expect(await espfix(['run', forever], io)).toBe(130);
    expect(io.err()).toBe('espfix: interrupted\n');
  });

  it('counts the same instructions each time', async () => {
    const traces = await Promise.all(
      ['a', 'b'].map(async (name) => {
        const path = join(folder, name);
        await espfix(['run', helloFile, '--trace', path], capturedIo());
        return readFileSync(path, 'utf8');
      }),
    );
    expect(traces[0]).toBe(traces[1]);
  });
});

describe('COM1', () => {
  it('goes to standard output', async () => {
    const io = capturedIo();
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
    const io = capturedIo();
    await espfix(['run', file, '--append', 'a=1 "b c"'], io);
    expect(io.out()).toContain('a=1 "b c"');
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
    expect(await espfix(['run', file, '--trace', path], capturedIo())).toBe(4);
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
