/** A kubelet root of its own, with everything that a test may have mounted below it taken away again. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeletPaths } from '../../../src/kubelet/index.ts';
import { unmountBelow } from '../../../src/kubelet/volumes/tmpfs.ts';

export interface Scratch extends Disposable {
  readonly root: string;
  readonly paths: KubeletPaths;
}

export function scratch(): Scratch {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'nodelet-kubelet-')));
  const paths = new KubeletPaths({ root: join(root, 'kubelet'), podLogs: join(root, 'logs') });
  mkdirSync(paths.pods, { recursive: true });
  mkdirSync(paths.directories.podLogs);
  return {
    root,
    paths,
    [Symbol.dispose]() {
      unmountBelow(root);
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** Resolves with the next value for which `done` holds; the listener is added before anything can be missed. */
export function next<T>(
  on: (listener: (value: T) => void) => () => void,
  done: (value: T) => boolean,
): Promise<T> {
  return new Promise((resolve) => {
    const stop = on((value) => {
      if (!done(value)) return;
      stop();
      resolve(value);
    });
  });
}
