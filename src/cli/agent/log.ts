/** The agent's log: pino's JSON lines, or short lines for somebody who reads them on a terminal. */
import { mkdirSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { type DestinationStream, destination, pino } from 'pino';
import { hasCode, type Log } from '../../base/index.ts';
import { printable } from '../format/text.ts';
import { type Style, styleFor } from '../terminal/style.ts';

export const LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type Level = (typeof LEVELS)[number];

const NAMES: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};

/** Fields that every line has, and that the short form shows in its own way. */
const OWN = new Set(['level', 'time', 'pid', 'hostname', 'msg', 'room']);

/** `12:34:56.789 WARN  network  message  key=value`. Pure; a line that is no JSON stays as it is. */
export function prettyLine(json: string, style: Style): string {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(json) as Record<string, unknown>;
  } catch {
    return json;
  }
  const level = Number(entry.level);
  const time = new Date(Number(entry.time)).toISOString().slice(11, 23);
  const name = (NAMES[level] ?? '').padEnd(5);
  const paint = level >= 50 ? style.red : level >= 40 ? style.yellow : level >= 30 ? style.green : style.dim;
  const room = typeof entry.room === 'string' ? `${entry.room}: ` : '';
  const fields = Object.entries(entry)
    .filter(([key]) => !OWN.has(key))
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ');
  const text = `${style.dim(time)} ${paint(name)} ${style.bold(room)}${printable(typeof entry.msg === 'string' ? entry.msg : '')}`;
  return fields === '' ? text : `${text}  ${style.dim(printable(fields))}`;
}

class PrettyStream implements DestinationStream {
  readonly #style = styleFor(process.stderr);

  write(line: string): void {
    process.stderr.write(`${prettyLine(line.trimEnd(), this.#style)}\n`);
  }
}

/** Lines on standard error: short ones on a terminal, JSON elsewhere. */
export function stderrLog(level: Level, format: 'json' | 'text'): Log {
  return make(level, format === 'text' ? new PrettyStream() : destination({ fd: 2, sync: true }));
}

/** JSON lines in a new file; the one before is kept beside it, with `.old` behind its name. */
export function fileLog(level: Level, path: string): Log {
  freshFile(path);
  const stream = destination({ dest: path, sync: true, mode: 0o600 });
  // A full disk costs lines of the log, not the agent.
  stream.on('error', () => undefined);
  return make(level, stream);
}

/** Puts the log of an earlier agent aside. */
export function freshFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    renameSync(path, `${path}.old`);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

function make(level: Level, stream: DestinationStream): Log {
  return pino({ level, base: undefined }, stream);
}
