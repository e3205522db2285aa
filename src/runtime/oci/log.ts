/**
 * What goes wrong is said on standard error and, where the caller named a file, in it: conmon and containerd read the reason
 * there. Node's own streams are never touched: they would make the container's pipes non-blocking.
 */
import { appendFileSync, writeSync } from 'node:fs';
import { hasCode } from '../../base/index.ts';

export interface OciLogOptions {
  readonly file: string | undefined;
  readonly format: 'text' | 'json';
  readonly debug: boolean;
}

type Level = 'debug' | 'info' | 'warning' | 'error';

/** Writes all of it, to a pipe that may be non-blocking too. */
export function writeAll(fd: number, text: string | Uint8Array): void {
  let data = typeof text === 'string' ? Buffer.from(text) : text;
  while (data.length > 0) {
    try {
      data = data.subarray(writeSync(fd, data));
    } catch (error) {
      if (hasCode(error, 'EAGAIN')) continue;
      if (hasCode(error, 'EPIPE', 'EBADF')) return;
      throw error;
    }
  }
}

export class OciLog {
  readonly #options: OciLogOptions;

  constructor(options: OciLogOptions) {
    this.#options = options;
  }

  debug(message: string): void {
    if (this.#options.debug) this.#write('debug', message);
  }

  warn(message: string): void {
    this.#write('warning', message);
  }

  /** Standard error has it as well as the file. */
  error(message: string): void {
    this.#write('error', message);
    if (this.#options.file !== undefined) writeAll(2, `nodelet-oci: ${message}\n`);
  }

  #write(level: Level, message: string): void {
    const { file, format } = this.#options;
    if (file === undefined) {
      writeAll(2, `nodelet-oci: ${level === 'error' ? '' : `${level}: `}${message}\n`);
      return;
    }
    const time = new Date().toISOString();
    const line =
      format === 'json'
        ? JSON.stringify({ level, msg: message, time })
        : `time=${JSON.stringify(time)} level=${level} msg=${JSON.stringify(message)}`;
    try {
      appendFileSync(file, `${line}\n`, { mode: 0o644 });
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'EACCES', 'EROFS', 'ENOSPC', 'EISDIR', 'ENXIO')) throw error;
      writeAll(2, `nodelet-oci: ${message}\n`);
    }
  }
}
