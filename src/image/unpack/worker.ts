/** Entry of the image worker thread (dist/image-worker.js): everything that would hold up the agent's event loop. */
import { join } from 'node:path';
import { parentPort } from 'node:worker_threads';
import { codeOf, messageOf, NodeletError, unreachable } from '../../base/index.ts';
import { readArchive } from './archive-job.ts';
import { Tail } from './blob-reader.ts';
import { compareTrees } from './compare.ts';
import { copyOut } from './copy-out.ts';
import { commitLayer, runLayerJob } from './layer-job.ts';
import type { FromWorker, PlainError, ToWorker } from './messages.ts';
import { settleLayer } from './settle.ts';
import { measureTree, removePath } from './tree.ts';

const port = parentPort;
if (port === null) throw new NodeletError('INTERNAL', 'the image worker was started without a parent');

type Run = Extract<ToWorker, { type: 'run' }>;

interface Current {
  readonly tail: Tail;
  readonly abort: AbortController;
}

let current: Current | undefined;

function send(message: FromWorker): void {
  port?.postMessage(message);
}

function perform(run: Run, { tail, abort }: Current): unknown {
  switch (run.kind) {
    case 'layer':
      return runLayerJob(run.job, tail, abort.signal, (read) => send({ type: 'progress', read }));
    case 'settle':
      return settleLayer(join(run.job.directory, 'fs'), run.job.lower, run.job.summary);
    case 'commit':
      return commitLayer(run.job.directory, run.job.target, run.job.record);
    case 'remove':
      for (const path of run.job.paths) removePath(path);
      return undefined;
    case 'measure':
      return measureTree(run.job.path);
    case 'copyOut':
      return copyOut(run.job.layers, run.job.path, run.job.target);
    case 'compare':
      return compareTrees(run.job.one, run.job.other);
    case 'archive':
      return readArchive(run.job, abort.signal);
    default:
      return unreachable(run);
  }
}

/** Errors lose their class between threads: code, message and hint are what counts. */
function plain(error: unknown): PlainError {
  const known = error instanceof NodeletError;
  return {
    code: codeOf(error) ?? 'INTERNAL',
    message: known ? error.message : `cannot work on an image: ${messageOf(error)}`,
    hint: known ? error.hint : undefined,
    details: known ? error.details : {},
  };
}

async function run(message: Run): Promise<void> {
  const mine: Current = { tail: new Tail(message.available), abort: new AbortController() };
  current = mine;
  try {
    const result = await perform(message, mine);
    current = undefined;
    send({ type: 'done', result });
  } catch (error) {
    current = undefined;
    send({ type: 'failed', error: plain(error) });
  }
}

port.on('message', (message: ToWorker) => {
  switch (message.type) {
    case 'run':
      void run(message);
      break;
    case 'grow':
      current?.tail.grow(message.available);
      break;
    case 'abort':
      current?.abort.abort(new NodeletError('ABORTED', 'the operation was cancelled'));
      break;
  }
});
