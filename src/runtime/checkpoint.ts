/** CheckpointContainer: what a machine lacks for it. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { NodeletError } from '../base/index.ts';

/** Where `criu` lies, in the order of PATH. */
export function findCriu(path: string): string | undefined {
  return path
    .split(':')
    .filter((directory) => directory.startsWith('/'))
    .map((directory) => join(directory, 'criu'))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** The error that a checkpoint ends with: UNIMPLEMENTED, with the reason on this machine. */
export function cannotCheckpoint(containerId: string, path: string): NodeletError {
  const criu = findCriu(path);
  const reason =
    criu === undefined
      ? `there is no CRIU on this machine (no "criu" in ${path === '' ? 'an empty PATH' : path})`
      : `CRIU is there ("${criu}"), but this version of nodelet does not work with it`;
  return new NodeletError(
    'UNIMPLEMENTED',
    `cannot checkpoint container "${containerId.slice(0, 12)}": ${reason}`,
  );
}
