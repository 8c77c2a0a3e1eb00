/** Linux kernels that are a few instructions: a setup header, and code at the 64-bit entry. */

const SETUP_SECTORS = 2;
const KERNEL_AT = (SETUP_SECTORS + 1) * 512;
export const ADDRESS = 4 << 20;
export const INIT_SIZE = 2 << 20;

/** A bzImage of protocol 2.15 whose kernel is `code` at its 64-bit entry. */
export function bzImage(code: Uint8Array = Uint8Array.of(0xf4)): Uint8Array {
  const size = Math.ceil((0x200 + code.length) / 16) * 16;
  const image = new Uint8Array(KERNEL_AT + size);
  const view = new DataView(image.buffer);
  view.setUint8(0x1f1, SETUP_SECTORS);
  view.setUint32(0x1f4, size / 16, true);
  view.setUint16(0x1fe, 0xaa55, true);
  image.set([0xeb, 0x6a], 0x200);
  image.set(new TextEncoder().encode('HdrS'), 0x202);
  view.setUint16(0x206, 0x020f, true);
  view.setUint8(0x211, 1);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint32(0x230, 0x20_0000, true);
  view.setUint8(0x234, 1);
  view.setUint16(0x236, 0x7f, true);
  view.setUint32(0x238, 2047, true);
  view.setBigUint64(0x258, BigInt(ADDRESS), true);
  view.setUint32(0x260, INIT_SIZE, true);
  image[KERNEL_AT] = 0x90;
  image.set(code, KERNEL_AT + 0x200);
  return image;
}
