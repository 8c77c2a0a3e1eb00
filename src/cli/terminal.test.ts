/** Ctrl-A and what follows it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EscapeKeys } from './terminal.ts';

const keys = (text: string) => new TextEncoder().encode(text);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe('what is typed', () => {
  it.each<[string, string, string, boolean, boolean]>([
    ['plain', 'ls\r', 'ls\r', false, false],
    ['Ctrl-C is the guest’s', '\x03', '\x03', false, false],
    ['Ctrl-A x', 'a\x01xb', 'a', true, false],
    ['Ctrl-A a', '\x01a', '\x01', false, false],
    ['Ctrl-A Ctrl-A', '\x01\x01x', '\x01x', false, false],
    ['Ctrl-A h', '1\x01h2', '12', false, true],
    ['Ctrl-A and another key', '\x01zq', 'q', false, false],
  ])('%s', (_name, typed, bytes, quit, help) => {
    const result = new EscapeKeys().type(keys(typed));
    expect([text(result.bytes), result.quit, result.help]).toEqual([bytes, quit, help]);
  });

  it('does not depend on how it arrives', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(1, 0x61, 0x78, 0x68, 0x7a)), fc.nat(20), (typed, cut) => {
        const whole = new EscapeKeys().type(Uint8Array.from(typed));
        const parts = new EscapeKeys();
        const first = parts.type(Uint8Array.from(typed.slice(0, cut)));
        const second = first.quit
          ? { bytes: new Uint8Array(0), quit: false, help: false }
          : parts.type(Uint8Array.from(typed.slice(cut)));
        expect([...first.bytes, ...second.bytes]).toEqual([...whole.bytes]);
        expect([first.quit || second.quit, first.help || second.help]).toEqual([whole.quit, whole.help]);
      }),
    );
  });
});
