/** What a layer may cost before it is refused. Every number can be set, for tests and for odd images. */
export interface Limits {
  /** Entries of one layer's tar. */
  readonly entries: number;
  /** Bytes of one layer's files, holes of sparse files included. */
  readonly expanded: number;
  /** Expanded bytes for each compressed one, counted from `ratioFrom` bytes on. gzip reaches 1,032, real layers 20. */
  readonly ratio: number;
  readonly ratioFrom: number;
  /** PATH_MAX and NAME_MAX. */
  readonly pathBytes: number;
  readonly nameBytes: number;
  /** Extended attributes of one entry: number, and bytes in all. */
  readonly xattrs: number;
  readonly xattrBytes: number;
  /** Space and inodes that a layer leaves to the rest of the file system. */
  readonly reserveBytes: number;
  readonly reserveInodes: number;
}

export const defaultLimits: Limits = {
  entries: 2_000_000,
  expanded: 1024 ** 4,
  ratio: 400,
  ratioFrom: 1024 ** 3,
  pathBytes: 4096,
  nameBytes: 255,
  xattrs: 64,
  xattrBytes: 64 * 1024,
  reserveBytes: 32 * 1024 ** 2,
  reserveInodes: 1024,
};
