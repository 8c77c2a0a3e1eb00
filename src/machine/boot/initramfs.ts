/**
 * An initial RAM file system for Linux: a cpio archive of the "newc" format. Linux
 * Documentation/driver-api/early-userspace/buffer-format.rst.
 */

export type InitramfsEntry = { readonly name: string } & (
  | { readonly kind: 'folder' }
  | { readonly kind: 'file'; readonly bytes: Uint8Array; readonly executable?: boolean }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'character-device'; readonly major: number; readonly minor: number }
);

const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';

/** The archive of these entries, folders before what is in them. All belongs to root; times are 0. */
export function initramfs(entries: readonly InitramfsEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const put = (bytes: Uint8Array) => {
    parts.push(bytes, new Uint8Array(-bytes.length & 3));
  };
  const add = (inode: number, name: string, mode: number, data: Uint8Array, major = 0, minor = 0) => {
    const encoded = new TextEncoder().encode(`${name}\0`);
    const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, encoded.length, 0];
    const header = MAGIC + fields.map((field) => field.toString(16).padStart(8, '0')).join('');
    put(Uint8Array.of(...new TextEncoder().encode(header), ...encoded));
    put(data);
  };
  const nothing = new Uint8Array(0);
  entries.forEach((entry, i) => {
    const inode = i + 1;
    switch (entry.kind) {
      case 'folder':
        add(inode, entry.name, 0o040755, nothing);
        break;
      case 'file':
        add(inode, entry.name, entry.executable ? 0o100755 : 0o100644, entry.bytes);
        break;
      case 'link':
        add(inode, entry.name, 0o120777, new TextEncoder().encode(entry.target));
        break;
      case 'character-device':
        add(inode, entry.name, 0o020600, nothing, entry.major, entry.minor);
        break;
    }
  });
  add(0, TRAILER, 0, nothing);
  const archive = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    archive.set(part, at);
    at += part.length;
  }
  return archive;
}
