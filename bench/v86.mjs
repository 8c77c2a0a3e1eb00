/**
 * v86 with a Linux, COM1 on standard input and output. JavaScript, since v86 stands in a folder of its own.
 *
 *     node bench/v86.mjs LIBRARY BIOS VGABIOS KERNEL INITRD COMMANDLINE MEMORY
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [library, bios, vgaBios, kernel, initrd, commandLine, memory] = process.argv.slice(2);
const { V86 } = await import(pathToFileURL(library).href);
const MIB = 2 ** 20;

/** @param {string} name */
function file(name) {
  const { buffer, byteOffset, length } = readFileSync(name);
  return { buffer: buffer.slice(byteOffset, byteOffset + length) };
}

const machine = new V86({
  wasm_path: library.replace(/libv86\.mjs$/, 'v86.wasm'),
  memory_size: Number(memory) * MIB,
  vga_memory_size: 2 * MIB,
  bios: file(bios),
  vga_bios: file(vgaBios),
  bzimage: file(kernel),
  initrd: file(initrd),
  cmdline: commandLine,
  autostart: true,
  disable_speaker: true,
  disable_mouse: true,
  disable_keyboard: true,
});
machine.add_listener('serial0-output-byte', (byte) => process.stdout.write(Uint8Array.of(byte)));
process.stdin.on('data', (data) => {
  for (const byte of data) machine.serial0_send(String.fromCharCode(byte));
});
