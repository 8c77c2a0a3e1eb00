/**
 * The contents of RAM at one moment, as a persistent radix tree over page numbers: trees share what they have in
 * common, so a snapshot costs the pages changed since the last, and what differs between two is found by comparing
 * references.
 */

/** A page's bytes; undefined stands for a page of zeros. Never changed once in a tree. */
export type Page = Uint8Array;

const FANOUT_BITS = 5;
const FANOUT = 1 << FANOUT_BITS;

type Node = readonly (Node | Page | undefined)[];

export class PageTree {
  readonly #root: Node | undefined;
  /** Levels of nodes above the pages. */
  readonly #levels: number;

  private constructor(root: Node | undefined, levels: number) {
    this.#root = root;
    this.#levels = levels;
  }

  /** All zeros. @param pages number of pages of RAM. */
  static empty(pages: number): PageTree {
    let levels = 1;
    while (FANOUT ** levels < pages) levels++;
    return new PageTree(undefined, levels);
  }

  get(page: number): Page | undefined {
    let node: Node | undefined = this.#root;
    for (let level = this.#levels - 1; level > 0; level--) {
      if (node === undefined) return undefined;
      node = node[(page >>> (level * FANOUT_BITS)) & (FANOUT - 1)] as Node | undefined;
    }
    return node?.[page & (FANOUT - 1)] as Page | undefined;
  }

  /** A tree with other contents for some pages. */
  with(changes: Iterable<readonly [page: number, content: Page | undefined]>): PageTree {
    let root = this.#root;
    // Nodes made here may still be changed here.
    const own = new Set<Node>();
    for (const [page, content] of changes) root = replace(root, this.#levels - 1, page, content, own);
    return root === this.#root ? this : new PageTree(root, this.#levels);
  }

  /** Calls `visit` for each page whose content differs between the trees, with what it is in `to`. */
  static difference(
    from: PageTree,
    to: PageTree,
    visit: (page: number, content: Page | undefined) => void,
  ): void {
    if (from.#root !== to.#root) compare(from.#root, to.#root, to.#levels - 1, 0, visit);
  }

  /** Calls `visit` for each page that is there, in order. */
  forEach(visit: (page: number, content: Page) => void): void {
    compare(undefined, this.#root, this.#levels - 1, 0, (page, content) => {
      if (content) visit(page, content);
    });
  }
}

function replace(
  node: Node | undefined,
  level: number,
  page: number,
  content: Page | undefined,
  own: Set<Node>,
): Node {
  let copy = node as (Node | Page | undefined)[] | undefined;
  if (copy === undefined || !own.has(copy)) {
    copy = copy === undefined ? new Array(FANOUT).fill(undefined) : copy.slice();
    own.add(copy);
  }
  const at = (page >>> (level * FANOUT_BITS)) & (FANOUT - 1);
  copy[at] = level === 0 ? content : replace(copy[at] as Node | undefined, level - 1, page, content, own);
  return copy;
}

function compare(
  from: Node | undefined,
  to: Node | undefined,
  level: number,
  prefix: number,
  visit: (page: number, content: Page | undefined) => void,
): void {
  for (let i = 0; i < FANOUT; i++) {
    const a = from?.[i];
    const b = to?.[i];
    if (a === b) continue;
    const at = prefix * FANOUT + i;
    if (level === 0) visit(at, b as Page | undefined);
    else compare(a as Node | undefined, b as Node | undefined, level - 1, at, visit);
  }
}
