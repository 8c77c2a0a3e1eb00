/** A strict reader of the XML, and of the HTML written alike, that reports are: throws where it is not well-formed. */

export interface Element {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly (Element | string)[];
  /** All text in it. */
  readonly text: string;
  /** Elements of that name in it, in order. */
  all(name: string): Element[];
}

/** Of HTML: elements that have no end tag. */
const VOID = new Set(['meta', 'br']);
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"' };

function decode(text: string): string {
  if (/[<]/.test(text)) throw new Error(`markup in text: ${text}`);
  return text.replace(/&(#(\d+)|\w+);|&/g, (whole, name?: string, code?: string) => {
    const character = code ? String.fromCodePoint(Number(code)) : ENTITIES[name ?? ''];
    if (character === undefined) throw new Error(`unknown entity ${whole}`);
    return character;
  });
}

function element(name: string, attributes: Record<string, string>, children: (Element | string)[]): Element {
  return {
    name,
    attributes,
    children,
    get text() {
      return children.map((child) => (typeof child === 'string' ? child : child.text)).join('');
    },
    all: (wanted) =>
      children.flatMap((child) =>
        typeof child === 'string' ? [] : [...(child.name === wanted ? [child] : []), ...child.all(wanted)],
      ),
  };
}

/** Reads a document. @returns its root element */
export function parseMarkup(text: string): Element {
  const rest = text.replace(/^<(\?xml[^>]*\?|!DOCTYPE html)>\s*/, '');
  const stack = [element('', {}, [])];
  const top = () => stack[stack.length - 1].children as (Element | string)[];
  let at = 0;
  // A tag's attributes, quoted; or what is between tags.
  const token = /<(\/?)([a-zA-Z][\w-]*)((?:\s+[\w:-]+(?:="[^"<]*")?)*)\s*(\/?)>|[^<]+/gy;
  for (let match = token.exec(rest); match; match = token.exec(rest)) {
    at = token.lastIndex;
    const [whole, close, name, list, single] = match;
    if (name === undefined) {
      top().push(decode(whole));
      continue;
    }
    if (close) {
      const open = stack.pop();
      if (open?.name !== name) throw new Error(`</${name}> ends <${open?.name}>`);
      continue;
    }
    const attributes: Record<string, string> = {};
    for (const [, key, value] of list.matchAll(/([\w:-]+)(?:="([^"]*)")?/g))
      attributes[key] = decode(value ?? '');
    const made = element(name, attributes, []);
    top().push(made);
    if (!single && !VOID.has(name)) stack.push(made);
  }
  if (at !== rest.length) throw new Error(`not well-formed at: ${rest.slice(at, at + 80)}`);
  if (stack.length !== 1) throw new Error(`<${stack[stack.length - 1].name}> is not ended`);
  const roots = stack[0].children.filter((child) => typeof child !== 'string');
  if (roots.length !== 1) throw new Error(`${roots.length} root elements`);
  return roots[0];
}
