/** v1 Events as kubectl get events prints them. Pure. */
import type { Event } from '../../kube/index.ts';
import { ageOf } from '../format/duration.ts';
import type { Column } from '../format/table.ts';
import type { Style } from '../terminal/style.ts';

/** `10s`, or `10s (x3 over 2m)` for what has happened again. */
export function lastSeen(event: Event, now: number): string {
  const last = ageOf(event.lastTimestamp ?? event.metadata?.creationTimestamp, now);
  const count = event.count ?? 1;
  return count > 1 ? `${last} (x${count} over ${ageOf(event.firstTimestamp, now)})` : last;
}

/** `pod/web`, `pod/web[nginx]` where the event is about one container. */
export function eventObject(event: Event): string {
  const { kind = 'Object', name = '', fieldPath = '' } = event.involvedObject;
  const container = /\{(.+)\}$/.exec(fieldPath)?.[1];
  return `${kind.toLowerCase()}/${name}${container === undefined ? '' : `[${container}]`}`;
}

export function eventColumns(now: number, style: Style, namespaces: boolean): Column<Event>[] {
  return [
    ...(namespaces
      ? [{ head: 'NAMESPACE', cell: (event: Event) => event.involvedObject.namespace ?? '' }]
      : []),
    { head: 'LAST SEEN', cell: (event) => lastSeen(event, now) },
    {
      head: 'TYPE',
      cell: (event) => event.type ?? '',
      paint: (text) => (text === 'Warning' ? style.yellow(text) : text),
    },
    { head: 'REASON', cell: (event) => event.reason ?? '' },
    { head: 'OBJECT', cell: eventObject },
    { head: 'MESSAGE', cell: (event) => (event.message ?? '').trim() },
  ];
}

/** Widths for lines that are printed as events come, where the longest is not known. */
const WIDTHS = [6, 7, 10, 0];

/** One line of a stream of events: age, type, reason, object, message. */
export function eventLine(
  event: Event,
  since: number,
  style: Style,
  clean: (text: string) => string,
): string {
  const at = Date.parse(event.lastTimestamp ?? event.metadata?.creationTimestamp ?? '');
  const age = Number.isNaN(at) ? '' : ageOf(new Date(since).toISOString(), Math.max(at, since));
  const cells = [age, event.type ?? '', event.reason ?? '', eventObject(event)];
  const [time = '', type = '', reason = '', object = ''] = cells.map((text, i) =>
    clean(text).padEnd(WIDTHS[i] ?? 0),
  );
  const painted = event.type === 'Warning' ? style.yellow(type) : style.dim(type);
  return `${style.dim(time)} ${painted} ${reason} ${style.dim(object)}  ${clean((event.message ?? '').trim())}`;
}
