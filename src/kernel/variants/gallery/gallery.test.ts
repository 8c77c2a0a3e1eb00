/**
 * Each kernel of the gallery does wrong in the schedule that its file describes, and the sound kernel does not in the
 * same one.
 */
import { describe, expect, it } from 'vitest';
import { Machine } from '../../../machine/machine.ts';
import { stackPointers } from '../../cases.ts';
import { buildImage, type CaseInfo, type Slot } from '../../image.ts';
import { parseReport, ReportError, verdictOf } from '../../report.ts';
import { stackTop } from '../../stacks.ts';
import { gallery, galleryNames } from './index.ts';
import type { GalleryName, ImageName } from './names.ts';
import { type Led, lead } from './schedule.fixture.ts';

const SEED = 1;

/** What a kernel does in a schedule, in a word. */
type Schedule = (k: Led) => unknown;

const plain: Schedule = (k) => {
  k.toCases();
  return k.result();
};

/** An event where CPU 0 first stands at a label in its first case. */
const eventAt =
  (kind: 'nmi' | 'mc' | 'mov-ss', label: string): Schedule =>
  (k) => {
    k.toCases();
    k.to(label);
    k.event(kind);
    return k.result();
  };

/** The same, and then whose GS base a handler has. */
const gsAt =
  (kind: 'nmi' | 'mc' | 'mov-ss', label: string, handler: string | RegExp): Schedule =>
  (k) => {
    k.toCases();
    k.to(label);
    k.event(kind);
    const labels = [...k.image.symbols].filter(
      ([name]) => name === handler || name.match(handler)?.[0] === name,
    );
    k.to(() => labels.some(([, address]) => address === k.machine.cpus[0].rip));
    return k.kernelGs ? "the kernel's GS" : "the user's GS";
  };

/** Returns of two CPUs to a 16-bit stack at the same time: each with its own registers? */
const twoReturns =
  (first: 0 | 1): Schedule =>
  (k) => {
    k.toCases();
    k.wake();
    const second = 1 - first;
    // Different cases, so that their frames differ.
    k.to('return_to_ldt', second);
    k.toUser(second);
    k.to('return_to_ldt', first);
    k.to('return_to_ldt', second);
    k.to('on_ministack', first);
    k.to('iretq.espfix', second);
    k.toUser(first);
    k.toUser(second);
    const { rax, rsp } = k.machine.registers(first);
    return [rax, rsp & 0xffff_ffffn];
  };

/** CPU 1 is stopped in its set-up, and CPU 0 goes on to its return, if it does. */
const returnDuringSetUp =
  (stopped: string): Schedule =>
  (k) => {
    k.start(1);
    k.to(stopped, 1);
    k.toUser();
    k.towards('early_return_done', 20_000);
    return k.result();
  };

interface Demonstration {
  readonly schedule: Schedule;
  /** What the gallery's kernel does, and what the sound one does. */
  readonly broken: unknown;
  readonly sound: unknown;
  /** The sound kernel to compare with. */
  readonly beside?: ImageName;
}

const demonstrations: Record<Exclude<GalleryName, 'set-up-at-modify-ldt'>, Demonstration> = {
  // The sound kernel's task cannot have that segment, and dies of trying.
  'cve-2014-8133': { schedule: plain, broken: 'kernel', sound: 'oops:gp' },
  'cve-2014-9322': {
    schedule: (k) => {
      k.toCases();
      k.to('handle_exception');
      return k.kernelGs ? "the kernel's GS" : "the user's GS";
    },
    broken: "the user's GS",
    sound: "the kernel's GS",
  },
  'cve-2015-3290': { schedule: eventAt('nmi', 'iretq.espfix'), broken: 'oops 8', sound: 'ok' },
  'cve-2015-3291': {
    schedule: (k) => {
      k.toCases();
      k.to(() => k.machine.cpus[0].rip === k.at('syscall_entry') && k.machine.registers().rax === 5n);
      expect(k.machine.registers().rsp).toBe(stackTop(SEED, 0, 'nmi') - 0x100n);
      k.event('nmi');
      let served = false;
      k.to(() => {
        served ||= k.machine.cpus[0].rip === k.at('handle_event');
        return k.machine.cpus[0].cpl === 3;
      });
      return [served ? 'served' : 'lost', k.result()];
    },
    broken: ['lost', 'ok'],
    sound: ['served', 'ok'],
  },
  'cve-2015-5157': {
    schedule: (k) => {
      k.toCases();
      k.to('vector.2');
      k.to('iretq.user');
      k.event('nmi');
      return k.result();
    },
    broken: expect.not.stringMatching('ok'),
    sound: 'ok',
  },
  // The stack pointer of the task leads nowhere, so that the #GP cannot be pushed.
  'cve-2012-0217': { schedule: plain, broken: 'oops 8', sound: 'ok' },
  'cve-2018-8897': {
    schedule: gsAt('mov-ss', 'target.32.int80', /^handle_(counted_)?debug$/),
    broken: "the user's GS",
    sound: "the kernel's GS",
  },
  'iret-in-nmi': {
    schedule: (k) => {
      k.toCases();
      k.to('return_to_user');
      k.event('nmi');
      k.to('handle_event');
      k.event('nmi');
      return k.result();
    },
    broken: expect.not.stringMatching('ok'),
    sound: 'ok',
  },
  'swapgs-by-cs-nmi': {
    schedule: gsAt('nmi', 'iretq.user', 'handle_event'),
    broken: "the user's GS",
    sound: "the kernel's GS",
  },
  'swapgs-by-cs-mc': {
    schedule: gsAt('mc', 'iretq.user', 'handle_machine_check'),
    broken: "the user's GS",
    sound: "the kernel's GS",
  },
  'nmi-without-ist': {
    schedule: eventAt('nmi', 'iretq.espfix'),
    broken: expect.stringMatching(/^fault:gp/),
    sound: 'ok',
  },
  'df-without-ist': { schedule: plain, broken: 'triple-fault', sound: 'ok' },
  // CPU 0's SS in place of RAX.
  'ministack-40': { schedule: twoReturns(1), broken: [0x17n, 0x5aadc0den], sound: [1n, 0x5aadc0den] },
  // CPU 0's alias and CPU 1's SP.
  'ministack-shared': { schedule: twoReturns(0), broken: [1n, 0x5aadf00dn], sound: [1n, 0x5aadc0den] },
  'writable-aliases': { schedule: plain, broken: expect.stringMatching(/^oops/), sound: 'ok' },
  'forgotten-return': { schedule: plain, broken: 'kernel', sound: 'ok' },
  'tables-published-early': {
    schedule: returnDuringSetUp('espfix_map.pgd_there'),
    broken: 'oops 8',
    sound: 'ok',
    beside: 'set-up-at-modify-ldt',
  },
  'static-bool': {
    schedule: (k) => {
      k.start(1);
      const nextPage = () => k.machine.readMemory(k.at('next_page'), 8).join();
      const before = nextPage();
      k.to(() => nextPage() !== before, 1);
      k.toUser();
      k.towards('espfix_map.pte_there', 20_000);
      k.to('early_return', 1);
      return k.result();
    },
    broken: 'oops 13',
    sound: 'ok',
    beside: 'set-up-at-modify-ldt',
  },
  'static-bool-early': {
    schedule: returnDuringSetUp('espfix_set_up'),
    broken: 'oops 14',
    sound: 'ok',
    beside: 'set-up-at-modify-ldt',
  },
  'set-up-own-cpu': { schedule: plain, broken: 'oops 14', sound: 'ok' },
};

describe.each(Object.entries(demonstrations))('%s', (name, d) => {
  const entry = gallery.find((e) => e.name === name);
  if (entry === undefined) throw new Error(`no ${name} in the gallery`);
  const { cpus, shows: only, variant } = entry;
  const options = { cpus, seed: SEED, only, casesOf: entry.name, tasks: variant.tasks ?? {} };

  it('does wrong as described', () => {
    expect(d.schedule(lead(entry.name, options))).toEqual(d.broken);
  });

  it('which the sound kernel does not', () => {
    expect(d.schedule(lead(d.beside ?? 'linux', options))).toEqual(d.sound);
  });
});

describe('the gallery', () => {
  it('is named in full', () => {
    expect(gallery.map(({ name }) => name).sort()).toEqual([...galleryNames].sort());
    for (const { name, variant } of gallery) expect(variant.name).toBe(name);
  });

  it.each(gallery)('$name: without events, cases find what is documented', (entry) => {
    const { cpus } = entry;
    const image = buildImage(entry.name, {
      cpus,
      only: (c) =>
        entry.shows(c) || (['int80', 'nmi', 'syscall'].includes(c.path) && c.set === stackPointers[0]),
    });
    expect(image.symbols.has(entry.at)).toBe(true);
    expect(image.cases.some(entry.shows)).toBe(true);
    const machine = Machine.create({ cpus });
    machine.boot(image.elf);
    let text = '';
    machine.serial.onOutput = (byte) => {
      text += String.fromCharCode(byte);
    };
    machine.run({ maxInstructions: 40_000_000 });
    expect(verdict(text)).toBe(entry.withoutEvents);
  });
});

/** A report that breaks off, or that one oops broke into another of, tells of a kernel that died. */
function verdict(text: string): string {
  try {
    return verdictOf(parseReport(text));
  } catch (error) {
    if (error instanceof ReportError) return 'unsafe';
    throw error;
  }
}

describe('threads of one process on two CPUs, of which one calls modify_ldt', () => {
  const options = {
    cpus: 2,
    seed: SEED,
    only: (c: CaseInfo) => c.path === 'int80' && c.ss === 'ss16-ldt',
    tasks: { sharedLdt: true },
  };
  it.each<[ImageName, string]>([
    ['linux', 'ok'],
    ['set-up-at-modify-ldt', 'ok'],
    // The prototype, too, sets up the CPU of the call alone.
    ['prototype', 'oops 8'],
    ['set-up-own-cpu', 'oops 14'],
  ])('%s: %s', (name, result) => {
    expect(lead(name, options).result()).toBe(result);
  });
});

describe('writable aliases', () => {
  it.each<[Slot, string]>([
    ['first', 'ok'],
    [1, 'oops 8'],
    ['last', 'oops 11'],
  ])('are found out by a ministack in slot %s: %s', (slot, result) => {
    const only = (c: CaseInfo) => c.path === 'int80' && c.cs === 'not-present' && c.ss === 'ss16-ldt';
    expect(lead('writable-aliases', { cpus: 1, slot, only }).result()).toBe(result);
  });
});
