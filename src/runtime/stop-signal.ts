import { NodeletError } from '../base/index.ts';
import { type LocalContainerConfig, Signal } from '../cri/index.ts';
import type { ImageRecord } from '../image/index.ts';
import { signalName, signalNumber } from '../linux/constants.ts';
import { DEFAULT_STOP_SIGNAL } from './defaults.ts';

/** The request's, else the image's, else SIGTERM. */
export function stopSignalOf(config: LocalContainerConfig, image: ImageRecord): string {
  if (config.stopSignal !== undefined && config.stopSignal !== Signal.RUNTIME_DEFAULT) {
    for (const [name, value] of Object.entries(Signal)) if (value === config.stopSignal) return name;
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
