/** What is wrong with an HTML report's structure: as a document of its own, its tables, and its drawings. */
import { type Element, parseMarkup } from './markup.fixture.ts';

const elementsOf = (element: Element): Element[] =>
  element.children.flatMap((child) => (typeof child === 'string' ? [] : [child, ...elementsOf(child)]));

const childrenOf = (element: Element) => element.children.filter((child) => typeof child !== 'string');

/** Of a letter of 11 px in a drawing, in px. */
const LETTER = 6.7;

/** Attributes by which a document takes in, or sends to, another. */
const REFERENCES = /^(src|srcset|href|xlink:href|action|formaction|data|poster|background|ping|cite|on.*)$/;
/** Elements that flow content of a paragraph may not hold: a browser would end the paragraph before them. */
const BLOCKS = new Set(['p', 'div', 'table', 'ul', 'pre', 'details', 'section', 'h1', 'h2', 'h3']);

/** @returns a line a fault; throws where the markup is not well-formed */
export function structureFaults(html: string): string[] {
  const faults: string[] = [];
  const check = (holds: boolean, what: string) => {
    if (!holds) faults.push(what);
  };
  check(html.startsWith('<!DOCTYPE html>\n'), 'no DOCTYPE');
  const document = parseMarkup(html);
  const [head, body] = childrenOf(document);
  check(document.name === 'html' && document.attributes.lang === 'en', 'no language');
  check(
    head?.name === 'head' && body?.name === 'body' && childrenOf(document).length === 2,
    'no head and body',
  );
  check(
    head.all('meta').some(({ attributes }) => attributes.charset === 'utf-8'),
    'no character set',
  );
  check(head.all('title').length === 1 && head.all('title')[0].text.length > 0, 'no title');
  check(document.all('h1').length === 1, 'not one h1');
  const [style] = head.all('style');
  check(!/@import|url\(|expression/i.test(style.text), 'a style from elsewhere');
  for (const element of elementsOf(document)) {
    const { name, attributes } = element;
    check(!/^(script|link|base|img|iframe|object|embed|form|video|audio|image|use)$/.test(name), `a ${name}`);
    for (const attribute of Object.keys(attributes))
      check(!REFERENCES.test(attribute), `${name} has an attribute ${attribute}`);
    if (name === 'p')
      for (const inner of elementsOf(element)) check(!BLOCKS.has(inner.name), `a ${inner.name} in a p`);
    if (name === 'details') check(childrenOf(element)[0]?.name === 'summary', 'details without a summary');
    if (name === 'ul')
      for (const item of childrenOf(element)) check(item.name === 'li', `a ${item.name} in a list`);
    if (name === 'table') faults.push(...tableFaults(element));
    if (name === 'svg') faults.push(...drawingFaults(element));
  }
  return [...new Set(faults)];
}

/** Every row is as wide as the first. */
function tableFaults(table: Element): string[] {
  const widths = table
    .all('tr')
    .map((row) =>
      childrenOf(row).reduce((sum, { attributes }) => sum + Number(attributes.colspan ?? '1'), 0),
    );
  return widths.every((width) => width === widths[0])
    ? []
    : [`rows of ${[...new Set(widths)].join(', ')} cells`];
}

/** All coordinates are numbers within the drawing. */
function drawingFaults(svg: Element): string[] {
  const faults: string[] = [];
  const within = { x: Number(svg.attributes.width), y: Number(svg.attributes.height) };
  if (!(within.x > 0 && within.y > 0)) faults.push('a drawing without a size');
  if (!svg.attributes['aria-label']) faults.push('a drawing without a label');
  for (const element of elementsOf(svg)) {
    const { name, attributes } = element;
    for (const [key, limit] of [
      ['x', within.x],
      ['x1', within.x],
      ['x2', within.x],
      ['y', within.y],
      ['y1', within.y],
      ['y2', within.y],
    ] as const) {
      const value = attributes[key];
      if (value !== undefined && !(Number(value) >= 0 && Number(value) <= limit))
        faults.push(`${name} with ${key} ${value} in a drawing of ${limit}`);
    }
    if (name === 'text' && !(Number(attributes.x) + element.text.length * LETTER <= within.x))
      faults.push(`"${element.text}" leaves the drawing`);
    if (name === 'rect' && !(Number(attributes.x) + Number(attributes.width) <= within.x))
      faults.push('a bar that leaves the drawing');
  }
  return faults;
}
