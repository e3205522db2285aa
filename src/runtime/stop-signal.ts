import { NodeletError } from '../base/index.ts';
import { type LocalContainerConfig, Signal } from '../cri/index.ts';
import type { ImageRecord } from '../image/index.ts';
import { signalName, signalNumber } from '../linux/constants.ts';
import { DEFAULT_STOP_SIGNAL } from './defaults.ts';

/** A signal as CRI enumerates it: the real-time ones by their distance from the nearer end. */
export function criSignal(name: string): Signal {
  const number = signalNumber(name) ?? 15;
  const real =
    number === 34
      ? 'SIGRTMIN'
      : number === 64
        ? 'SIGRTMAX'
        : number <= 49
          ? `SIGRTMINPLUS${number - 34}`
          : `SIGRTMAXMINUS${64 - number}`;
  return Signal[(number < 34 ? signalName(number) : real) as keyof typeof Signal] ?? Signal.SIGTERM;
}

/** The request's, else the image's, else SIGTERM. */
export function stopSignalOf(config: LocalContainerConfig, image: ImageRecord): string {
  if (config.stopSignal !== undefined && config.stopSignal !== Signal.RUNTIME_DEFAULT) {
    const name = Object.entries(Signal).find(([, value]) => value === config.stopSignal)?.[0] ?? '';
    const wanted = signalNumber(name.replace('PLUS', '+').replace('MINUS', '-'));
    if (wanted === undefined)
      throw new NodeletError('INVALID_ARGUMENT', `config.stopSignal: ${config.stopSignal} is no signal`, {
        hint: 'use a number of the enumeration Signal of CRI',
      });
    return signalName(wanted);
  }
  const text = image.config.config?.StopSignal ?? '';
  if (text === '') return DEFAULT_STOP_SIGNAL;
  const number = signalNumber(text);
  if (number === undefined)
    throw new NodeletError(
      'INVALID_STOP_SIGNAL',
      `STOPSIGNAL ${JSON.stringify(text)} of image "${image.id}" is no signal`,
    );
  return signalName(number);
}
