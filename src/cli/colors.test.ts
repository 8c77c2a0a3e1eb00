/** Where colours are allowed: terminals, unless NO_COLOR (no-color.org) or TERM=dumb says otherwise. */
import { expect, it } from 'vitest';
import { colorsFor, mayColor } from './colors.ts';
import { capturedIo } from './io.fixture.ts';

it.each([
  [true, {}, true],
  [true, { NO_COLOR: '' }, true],
  [true, { NO_COLOR: '1' }, false],
  [true, { TERM: 'dumb' }, false],
  [true, { TERM: 'xterm' }, true],
  [false, {}, false],
])('terminal: %s, environment: %o', (terminal, env, allowed) => {
  const io = { ...capturedIo('', terminal), env };
  expect(mayColor(io, io.stdout)).toBe(allowed);
  expect(mayColor(io, io.stderr)).toBe(allowed);
  expect(colorsFor(io).red('x') !== 'x').toBe(allowed);
});
