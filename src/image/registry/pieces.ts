/** How a large blob is cut into pieces for several connections, and which of them are too slow. Pure. */

export interface Piece {
  readonly from: number;
  /** The byte after the last. */
  readonly to: number;
  /** How often it was begun before. */
  readonly attempt: number;
}

export interface ChunkPolicy {
  /** Bytes of a piece. */
  readonly size: number;
  /** Connections for one blob. */
  readonly connections: number;
}

export const defaultChunks: ChunkPolicy = { size: 8 * 1024 * 1024, connections: 4 };

/** The gaps, cut at multiples of the size: a blob that was begun before is cut where it was cut then. */
export function cut(gaps: readonly (readonly [number, number])[], size: number): Piece[] {
  return gaps.flatMap(([from, to]) => {
    const pieces: Piece[] = [];
    for (let at = from; at < to; ) {
      const next = Math.min(to, (Math.floor(at / size) + 1) * size);
      pieces.push({ from: at, to: next, attempt: 0 });
      at = next;
    }
    return pieces;
  });
}

/** A transfer under way, or one that ended. */
export interface Pace {
  /** Milliseconds since its first byte was asked for, without those that our own limit took. */
  readonly elapsed: number;
  readonly bytes: number;
}

/** Before this a connection has not shown what it can (TCP's slow start, a cold cache at the registry). Milliseconds. */
const grace = 3000;
/** A transfer is a straggler below this part of the others' pace. */
const slow = 0.25;
/** With less than this left, a new connection would not be faster. */
const worthwhile = 512 * 1024;
/** A piece is begun again so often; then it is as slow as it is. */
export const maxRestarts = 3;

/**
 * True where a piece is to be asked for again: it crawls, while others of the same blob do not. A single starved TCP
 * connection would otherwise hold up the whole image.
 */
export function isStraggler(pace: Pace, left: number, attempt: number, others: readonly Pace[]): boolean {
  if (attempt >= maxRestarts || pace.elapsed < grace || left < worthwhile) return false;
  const rates = others
    .filter(({ elapsed, bytes }) => elapsed > 0 && bytes > 0)
    .map(({ elapsed, bytes }) => bytes / elapsed)
    .sort((a, b) => a - b);
  const median = rates[Math.floor(rates.length / 2)];
  return median !== undefined && pace.bytes / pace.elapsed < median * slow;
}
