/** Headers of a tar archive that comes out the same for the same content: ustar, with a pax header where it must. Pure. */
const BLOCK = 512;

export interface TarItem {
  /** UTF-8; directories end in "/". */
  readonly name: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';
  readonly mode: number;
  readonly size?: number;
  readonly linkName?: string;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds. */
  readonly mtime?: number;
  readonly devMajor?: number;
  readonly devMinor?: number;
  readonly xattrs?: Readonly<Record<string, Buffer>>;
}

const typeFlags = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
} as const;

/** The blocks in front of an item's data. */
export function tarHeader(item: TarItem): Buffer {
  const name = Buffer.from(item.name);
  const link = Buffer.from(item.linkName ?? '');
  const size = item.size ?? 0;
  const { uid = 0, gid = 0, mtime = 0 } = item;
  const records: [string, Buffer][] = [];
  if (name.length > 100) records.push(['path', name]);
  if (link.length > 100) records.push(['linkpath', link]);
  if (size > 0o77777777777) records.push(['size', Buffer.from(String(size))]);
  if (uid > 0o7777777) records.push(['uid', Buffer.from(String(uid))]);
  if (gid > 0o7777777) records.push(['gid', Buffer.from(String(gid))]);
  if (mtime < 0 || mtime > 0o77777777777 || !Number.isInteger(mtime))
    records.push(['mtime', Buffer.from(String(mtime))]);
  for (const [key, value] of Object.entries(item.xattrs ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))) {
    records.push([`SCHILY.xattr.${key}`, value]);
  }
  const main = block(name, link, typeFlags[item.type], item, size, uid, gid, mtime);
  if (records.length === 0) return main;
  const body = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
  const paxName = Buffer.from('PaxHeaders/item');
  const head = block(paxName, Buffer.alloc(0), 'x', { ...item, mode: 0o644 }, body.length, 0, 0, 0);
  return Buffer.concat([head, body, padding(body.length), main]);
}

/** Zeros up to the next block after `size` bytes. */
export function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

export const tarEnd = Buffer.alloc(BLOCK * 2);

function paxRecord(key: string, value: Buffer): Buffer {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length !== String(rest).length) length = rest + String(length).length;
  return Buffer.concat([Buffer.from(`${length} ${key}=`), value, Buffer.from('\n')]);
}

function block(
  name: Buffer,
  link: Buffer,
  type: string,
  item: Pick<TarItem, 'mode' | 'devMajor' | 'devMinor'>,
  size: number,
  uid: number,
  gid: number,
  mtime: number,
): Buffer {
  const out = Buffer.alloc(BLOCK);
  name.copy(out, 0, 0, 100);
  octal(out, 100, 8, item.mode & 0o7777);
  octal(out, 108, 8, uid > 0o7777777 ? 0 : uid);
  octal(out, 116, 8, gid > 0o7777777 ? 0 : gid);
  octal(out, 124, 12, size > 0o77777777777 ? 0 : size);
  octal(out, 136, 12, mtime < 0 || mtime > 0o77777777777 ? 0 : Math.floor(mtime));
  out.write(type, 156, 'latin1');
  link.copy(out, 157, 0, 100);
  out.write('ustar\x0000', 257, 'latin1');
  octal(out, 329, 8, item.devMajor ?? 0);
  octal(out, 337, 8, item.devMinor ?? 0);
  out.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of out) sum += byte;
  octal(out, 148, 7, sum);
  return out;
}

function octal(out: Buffer, at: number, width: number, value: number): void {
  out.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1');
}
