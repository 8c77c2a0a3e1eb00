/** What is asked of a kernel's configuration. */
import { expect, it } from 'vitest';
import { optionsSet } from './kernel-build.ts';

it('options that are set are those that are y', () => {
  const text =
    'CONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_C=y\nCONFIG_D=m\nCONFIG_E="y"\nCONFIG_F=yes\nCONFIG_G_64=y\n';
  expect(optionsSet(text)).toEqual(['CONFIG_A', 'CONFIG_G_64']);
});
