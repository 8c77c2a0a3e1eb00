/** The persistent tree of pages beside a plain map. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PageTree } from './page-tree.ts';

const PAGES = 5000;
const change = fc.tuple(
  fc.integer({ min: 0, max: PAGES - 1 }),
  fc.option(
    fc.integer({ min: 1, max: 3 }).map((n) => Uint8Array.of(n)),
    { nil: undefined },
  ),
);
const changes = fc.array(change, { maxLength: 20 });

it('agrees with a map, and older trees stay what they were', () => {
  fc.assert(
    fc.property(fc.array(changes, { maxLength: 10 }), (rounds) => {
      let tree = PageTree.empty(PAGES);
      let map = new Map<number, Uint8Array | undefined>();
      const history: [PageTree, Map<number, Uint8Array | undefined>][] = [];
      for (const round of rounds) {
        tree = tree.with(round);
        map = new Map([...map, ...round]);
        history.push([tree, map]);
      }
      for (const [t, m] of history) {
        for (const [page, content] of m) expect(t.get(page)).toBe(content);
        const visited = new Map<number, Uint8Array>();
        t.forEach((page, content) => void visited.set(page, content));
        const expected = [...m].filter(([, content]) => content !== undefined).sort(([a], [b]) => a - b);
        expect([...visited]).toEqual(expected);
      }
    }),
  );
});

it('the difference of two trees is what must be copied to get from one to the other', () => {
  fc.assert(
    fc.property(changes, changes, changes, (common, left, right) => {
      const base = PageTree.empty(PAGES).with(common);
      const [from, to] = [base.with(left), base.with(right)];
      const pages = new Set([...common, ...left, ...right].map(([page]) => page));
      const memory = new Map([...pages].map((page) => [page, from.get(page)]));
      let previous = -1;
      PageTree.difference(from, to, (page, content) => {
        expect(page).toBeGreaterThan(previous);
        expect(from.get(page)).not.toBe(content);
        previous = page;
        memory.set(page, content);
      });
      for (const page of pages) expect(memory.get(page)).toBe(to.get(page));
    }),
  );
});

it('changing nothing gives the same tree', () => {
  const tree = PageTree.empty(PAGES).with([[1, Uint8Array.of(1)]]);
  expect(tree.with([])).toBe(tree);
});

it.each([1, 32, 33, 1024, 1025, 786_432])('holds the last of %i pages', (pages) => {
  const content = Uint8Array.of(1);
  const tree = PageTree.empty(pages).with([[pages - 1, content]]);
  expect(tree.get(pages - 1)).toBe(content);
  expect(tree.get(0)).toBe(pages === 1 ? content : undefined);
});
