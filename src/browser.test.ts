/**
 * The library and the kernel's image writer in a browser bundle: built for a browser, run with a browser's globals and
 * nothing of Node.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import { build, type Plugin } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { helloImage } from './peers/flat-image.fixture.ts';

/**
 * What a bundler must know of iced-x86: its npm build reads its WebAssembly through `fs`. The three Node modules that it
 * asks for become a few lines, with the WebAssembly inlined (docs/browser.md shows the same).
 */
const icedInBrowser: Plugin = {
  name: 'iced-in-browser',
  setup(bundle) {
    const wasm = createRequire(import.meta.url).resolve('iced-x86/iced_x86_bg.wasm');
    const modules: Record<string, string> = {
      util: 'module.exports = { TextDecoder, TextEncoder };',
      path: 'module.exports = { join: () => "iced_x86_bg.wasm" };',
      fs: `module.exports = {
        readFileSync: () => Uint8Array.from(atob(${JSON.stringify(readFileSync(wasm).toString('base64'))}), (c) => c.charCodeAt(0)),
      };`,
    };
    bundle.onResolve({ filter: /^(util|path|fs)$/ }, ({ path }) => ({ path, namespace: 'iced' }));
    bundle.onLoad({ filter: /.*/, namespace: 'iced' }, ({ path }) => ({
      contents: modules[path],
      loader: 'js',
    }));
  },
};

/** Bundles `entry` as a browser's worker would load it and gives what it leaves in `result`. */
async function inBrowser(
  entry: string,
  globals: Record<string, unknown>,
  plugins: Plugin[],
): Promise<unknown> {
  const { outputFiles } = await build({
    stdin: { contents: entry, resolveDir: import.meta.dirname, loader: 'ts' },
    bundle: true,
    platform: 'browser',
    format: 'iife',
    target: 'es2022',
    define: { __dirname: '""' },
    write: false,
    logLevel: 'silent',
    plugins,
  });
  const context = createContext({ WebAssembly, TextDecoder, TextEncoder, atob, ...globals });
  runInContext(outputFiles[0].text, context, { filename: join('bundle', 'browser.js') });
  return (context as { result?: unknown }).result;
}

describe('in a browser bundle', () => {
  it('a machine boots an image', async () => {
    const entry = `
      import { Machine } from './index.ts';
      const machine = Machine.create({ memory: 16 });
      let text = '';
      machine.serial.onOutput = (byte) => { text += String.fromCharCode(byte); };
      machine.boot(image);
      const stop = machine.run({ maxInstructions: 100_000 });
      globalThis.result = JSON.stringify({ text, stop });`;
    const result = await inBrowser(entry, { image: helloImage('hello\n', 3) }, []);
    expect(JSON.parse(String(result))).toEqual({
      text: 'hello\n',
      stop: { reason: 'exit', status: 7, value: 3 },
    });
  });

  it('the kernel is assembled, and its image boots', async () => {
    const entry = `
      import { buildImage } from './kernel/index.ts';
      import { Machine } from './index.ts';
      const machine = Machine.create({ memory: 64 });
      let text = '';
      machine.serial.onOutput = (byte) => { text += String.fromCharCode(byte); };
      machine.boot(buildImage('none', { cpus: 1, seed: 1, only: (test) => test.path === 'int80' }).elf);
      const stop = machine.run({ maxInstructions: 20_000_000 });
      globalThis.result = JSON.stringify({ text, reason: stop.reason });`;
    const { text, reason } = JSON.parse(String(await inBrowser(entry, {}, [icedInBrowser])));
    expect(reason).toBe('exit');
    expect(text).toContain('case cpu=0 path=int80 cs=cs32-gdt ss=ss16-ldt');
  });
});
