/** The fast TLBs of a processor: what they forget, beside a model that says so plainly. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FAST_READ, FAST_SPACES, FAST_TLB_ENTRIES, FAST_WRITE, fastTlbOffset, layOut } from '../layout.ts';
import { Interpreter } from './interpreter.ts';

const RAM = 1 << 20;
const LARGE = 0x20_0000;

/** An interpreter whose pages with odd numbers are global. */
function interpreter(): { engine: Interpreter; ram: number } {
  const layout = layOut(1, RAM);
  const memory = new WebAssembly.Memory({ initial: layout.pages, maximum: layout.pages });
  const never = (): never => {
    throw new Error('not to be called');
  };
  const engine = new Interpreter(memory, layout, {
    load: never,
    store: never,
    storeVector: never,
    probe: never,
    system: never,
    fetch: never,
    codeAddress: never,
    codeLimit: never,
    limitFault: never,
    readByte: never,
    ramOffset: (physical) => layout.ram + physical,
    isGlobal: (_cpu, linear) => ((linear >> 12n) & 1n) === 1n,
  });
  return { engine, ram: layout.ram };
}

interface Known {
  readonly pcid: number;
  readonly write: boolean;
  readonly page: number;
}

const slotOf = (page: number) => page % FAST_TLB_ENTRIES;

test('what is filled is found until it is flushed or replaced; global pages stay where they may', () => {
  // Pages of three large ones, which share slots.
  const pages = [0, 1, 2].flatMap((large) => [0, 1, 2, 3].map((n) => large * FAST_TLB_ENTRIES + n));
  const page = fc.constantFrom(...pages);
  const pcid = fc.integer({ min: 0, max: FAST_SPACES - 1 });
  const command = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('fill' as const), pcid, page, write: fc.boolean() }),
    },
    fc.record({ do: fc.constant('context' as const), pcid, globals: fc.boolean() }),
    fc.record({ do: fc.constant('all' as const), globals: fc.boolean() }),
    fc.record({ do: fc.constant('page' as const), page }),
    fc.record({ do: fc.constant('large' as const), page }),
    fc.record({ do: fc.constant('writes' as const) }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
      const { engine, ram } = interpreter();
      const tlb = (space: number, write: boolean) =>
        engine.fastTlbs(0, space) + fastTlbOffset(1, write ? FAST_WRITE : FAST_READ);
      // Each address space has its own from now on.
      for (let space = 0; space < FAST_SPACES; space++) engine.fastTlbs(0, space);
      let model: Known[] = [];
      const isGlobal = (known: Known) => known.page % 2 === 1;
      for (const c of commands) {
        if (c.do === 'fill') {
          engine.fillTranslation(0, tlb(c.pcid, c.write), BigInt(c.page) << 12n, ram + slotOf(c.page) * 4096);
          const same = (known: Known) =>
            known.pcid === c.pcid && known.write === c.write && slotOf(known.page) === slotOf(c.page);
          model = [...model.filter((known) => !same(known)), c];
        } else if (c.do === 'context') {
          engine.flushTranslations(0, c.pcid, c.globals);
          model = model.filter((known) => known.pcid !== c.pcid || (!c.globals && isGlobal(known)));
        } else if (c.do === 'all') {
          engine.flushTranslations(0, undefined, c.globals);
          model = model.filter((known) => !c.globals && isGlobal(known));
        } else if (c.do === 'page') {
          engine.flushPage(0, BigInt(c.page) << 12n, false);
          model = model.filter((known) => slotOf(known.page) !== slotOf(c.page));
        } else if (c.do === 'large') {
          const first = c.page - (c.page % (LARGE / 4096));
          engine.flushLargePage(0, BigInt(first) << 12n, LARGE, false);
          model = model.filter((known) => known.page < first || known.page >= first + LARGE / 4096);
        } else {
          engine.flushWrites();
          model = model.filter(({ write }) => !write);
        }
        const wrong: unknown[] = [];
        for (let space = 0; space < FAST_SPACES; space++)
          for (const write of [false, true])
            for (const at of pages) {
              const known = model.some((k) => k.pcid === space && k.write === write && k.page === at);
              const found = engine.fastAddress(tlb(space, write), (BigInt(at) << 12n) + 8n, 8);
              if (found !== (known ? ram + slotOf(at) * 4096 + 8 : -1))
                wrong.push({ space, write, at, found });
            }
        expect(wrong).toEqual([]);
      }
    }),
    { numRuns: 60 },
  );
});
