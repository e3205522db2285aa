/** Progress of pulls: from events to bars on a terminal, or to a few lines where there is none. Pure. */
import type { PullEvent } from '../../image/index.ts';
import { formatSize } from '../format/size.ts';
import { count } from '../format/text.ts';

interface Layer {
  readonly total: number;
  readonly downloaded: number;
  readonly unpacked: number;
  readonly phase: 'waiting' | 'downloading' | 'unpacking' | 'done' | 'exists';
}

interface Pull {
  readonly reference: string;
  platform: string;
  /** In the order of the manifest. */
  readonly layers: Map<string, Layer>;
  readonly pace: Pace;
}

/** Milliseconds that a speed is measured over. */
const WINDOW = 3000;

/** Bytes a second, lately. */
export class Pace {
  readonly #seen: { readonly at: number; readonly bytes: number }[] = [];

  /** `bytes` have arrived until now. Those that were there before the first call do not count. */
  add(bytes: number, at: number): void {
    this.#seen.push({ at, bytes });
    while (this.#seen.length > 2 && at - (this.#seen[1]?.at ?? 0) >= WINDOW) this.#seen.shift();
  }

  /** Undefined until it can be told. */
  get perSecond(): number | undefined {
    const first = this.#seen[0];
    const last = this.#seen.at(-1);
    if (first === undefined || last === undefined || last.at - first.at < 200) return undefined;
    return ((last.bytes - first.bytes) / (last.at - first.at)) * 1000;
  }
}

const BAR = 24;
const SHORT = 12;
/** Layers that are done are one line together, so that an image of a hundred layers fits a screen. */
const SHOWN = 8;

export class PullBoard {
  readonly #pulls = new Map<string, Pull>();
  readonly #now: () => number;

  /** `now`: milliseconds from anywhere on. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Takes an event in; returns lines to be kept: what there is to say without a terminal. */
  apply(reference: string, event: PullEvent): string[] {
    switch (event.kind) {
      case 'resolving':
        this.#of(reference);
        return [];
      case 'manifest': {
        const pull = this.#of(reference);
        pull.platform = event.platform;
        let total = 0;
        for (const { digest, size } of event.layers) {
          total += size;
          if (!pull.layers.has(digest))
            pull.layers.set(digest, { total: size, downloaded: 0, unpacked: 0, phase: 'waiting' });
        }
        return [
          `${reference}: ${event.platform}, ${count(event.layers.length, 'layer')}, ${formatSize(total)}`,
        ];
      }
      case 'layer': {
        const { layers, pace } = this.#of(reference);
        const before = layers.get(event.digest) ?? {
          total: event.total,
          downloaded: 0,
          unpacked: 0,
          phase: 'waiting',
        };
        layers.set(event.digest, advance(before, event));
        if (event.phase === 'downloading')
          pace.add(
            [...layers.values()].reduce((sum, layer) => sum + layer.downloaded, 0),
            this.#now(),
          );
        if (event.phase === 'done')
          return [`${reference}: layer ${shortDigest(event.digest)} unpacked (${formatSize(event.total)})`];
        return [];
      }
      case 'done':
        this.#pulls.delete(reference);
        return [];
    }
  }

  /** A pull that failed or was given up. */
  drop(reference: string): void {
    this.#pulls.delete(reference);
  }

  /** Lines that change. */
  lines(): string[] {
    return [...this.#pulls.values()].flatMap(pullLines);
  }

  #of(reference: string): Pull {
    const known = this.#pulls.get(reference);
    if (known !== undefined) return known;
    const pull: Pull = { reference, platform: '', layers: new Map(), pace: new Pace() };
    this.#pulls.set(reference, pull);
    return pull;
  }
}

function advance(before: Layer, event: Extract<PullEvent, { kind: 'layer' }>): Layer {
  const { phase, current, total } = event;
  switch (phase) {
    case 'downloading':
      // Unpacking runs beside it, a little behind.
      return {
        ...before,
        total,
        phase: before.phase === 'unpacking' ? 'unpacking' : phase,
        downloaded: current,
      };
    case 'unpacking':
      return { ...before, total, phase, unpacked: current, downloaded: Math.max(before.downloaded, current) };
    case 'done':
    case 'exists':
      return { total, phase, downloaded: total, unpacked: total };
    case 'waiting':
      return { ...before, total, phase };
  }
}

function shortDigest(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1).slice(0, SHORT);
}

const isDone = ({ phase }: Layer): boolean => phase === 'done' || phase === 'exists';

function pullLines({ reference, platform, layers, pace }: Pull): string[] {
  const all = [...layers];
  if (all.length === 0) return [`${reference}: asking the registry`];
  const total = all.reduce((sum, [, layer]) => sum + layer.total, 0);
  const here = all.reduce((sum, [, layer]) => sum + layer.unpacked, 0);
  const done = all.filter(([, layer]) => isDone(layer)).length;
  const active = all.filter(([, layer]) => !isDone(layer));
  const perSecond = active.some(([, { phase }]) => phase === 'downloading' || phase === 'unpacking')
    ? pace.perSecond
    : undefined;
  const speed = perSecond === undefined ? '' : `, ${formatSize(perSecond)}/s`;
  const head = `${reference}${platform === '' ? '' : ` (${platform})`}: ${done} of ${count(all.length, 'layer')}, ${formatSize(here)} of ${formatSize(total)}${speed}`;
  const rest = active.length - SHOWN;
  return [
    head,
    ...active.slice(0, SHOWN).map(([digest, layer]) => layerLine(digest, layer)),
    ...(rest > 0 ? [`  and ${count(rest, 'layer')} more`] : []),
  ];
}

function layerLine(digest: string, layer: Layer): string {
  const amount = `${formatSize(layer.downloaded)} of ${formatSize(layer.total)}`;
  return `  ${shortDigest(digest)} ${bar(layer)} ${amount.padStart(18)}  ${layer.phase}`;
}

/** `[====----      ]`: unpacked, downloaded, not here yet. */
export function bar({
  total,
  downloaded,
  unpacked,
}: Pick<Layer, 'total' | 'downloaded' | 'unpacked'>): string {
  const cells = (bytes: number): number =>
    total === 0 ? BAR : Math.min(BAR, Math.max(0, Math.floor((bytes / total) * BAR)));
  const solid = cells(unpacked);
  const light = Math.max(0, cells(downloaded) - solid);
  return `[${'='.repeat(solid)}${'-'.repeat(light)}${' '.repeat(BAR - solid - light)}]`;
}
