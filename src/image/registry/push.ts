/**
 * The writing half of the distribution API: blobs that the registry does not have, then the manifest. A blob is sent in one
 * piece to the place that the registry names for it, which has to be in the same repository of the same host: credentials
 * and content go nowhere else.
 */
import { createReadStream } from 'node:fs';
import { NodeletError } from '../../base/index.ts';
import { formatReference, type Reference } from '../reference.ts';
import type { Answer, Repository } from './client.ts';
import { drain, header } from './http.ts';

/** Content on the disk, named by its digest. */
export interface PushBlob {
  readonly digest: string;
  readonly size: number;
  readonly path: string;
}

export interface PushManifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export interface PushOptions {
  readonly signal?: AbortSignal;
  /** Told of each blob when it is there. */
  readonly onBlob?: (blob: PushBlob, done: 'pushed' | 'exists') => void;
}

/** Times that a blob is begun: an upload that broke is begun anew, not gone on with. */
const tries = 3;

/** Sends what is missing, and names it: `repository` was opened with the actions `pull,push`. */
export async function push(
  repository: Repository,
  blobs: readonly PushBlob[],
  manifest: PushManifest,
  name: string,
  options: PushOptions = {},
): Promise<void> {
  try {
    for (const blob of blobs) options.onBlob?.(blob, await pushBlob(repository, blob, options.signal));
    try {
      await pushManifest(repository, manifest, name, options.signal);
    } catch (error) {
      if (!isBlobUnknown(error)) throw error;
      // docker-registry 2.8 writes the link of a blob in place: while somebody else commits the same blob, it reads an empty
      // one and does not know the blob (5 of 319 pushes, each blob sent twice at once). Or it has collected what "was there".
      for (const blob of blobs) await pushBlob(repository, blob, options.signal);
      await pushManifest(repository, manifest, name, options.signal);
    }
  } catch (error) {
    throw aboutPush(repository.reference, error);
  }
}

/** 400 or 404 to a manifest: the registry misses something that the manifest names. */
function isBlobUnknown(error: unknown): boolean {
  if (!(error instanceof NodeletError) || error.code !== 'REGISTRY_ERROR') return false;
  return error.details.status === 400 || error.details.status === 404;
}

async function pushBlob(
  repository: Repository,
  blob: PushBlob,
  signal: AbortSignal | undefined,
): Promise<'pushed' | 'exists'> {
  const abort = signal === undefined ? {} : { signal };
  for (let attempt = 1; ; attempt += 1) {
    // Asked again after a break: the registry may have taken the blob and only its answer was lost.
    const head = await repository.send('HEAD', `/blobs/${blob.digest}`, { needs: 'push', ...abort });
    await drain(head.response);
    if (head.response.status === 200) return attempt === 1 ? 'exists' : 'pushed';
    const begun = await repository.send('POST', '/blobs/uploads/', {
      needs: 'push',
      headers: { 'content-length': '0' },
      ...abort,
    });
    await drain(begun.response);
    if (begun.response.status !== 202) throw refused(repository.reference, begun, `blob ${blob.digest}`);
    const { path, query } = uploadPlace(repository.reference, begun);
    try {
      const sent = await repository.send('PUT', path, {
        needs: 'push',
        query: { ...query, digest: blob.digest },
        headers: { 'content-type': 'application/octet-stream', 'content-length': String(blob.size) },
        body: () => createReadStream(blob.path),
        once: true,
        ...abort,
      });
      await drain(sent.response);
      if (sent.response.status === 201) return 'pushed';
      throw refused(repository.reference, sent, `blob ${blob.digest}`);
    } catch (error) {
      if (signal?.aborted || attempt >= tries) throw error;
    }
  }
}

/** Where an upload goes: a path below the repository, and what the registry wants to be told again. */
function uploadPlace(
  reference: Reference,
  answer: Answer,
): { readonly path: string; readonly query: Readonly<Record<string, string>> } {
  const { response, endpoint } = answer;
  const location = header(response, 'location') ?? '';
  const strange = (): NodeletError =>
    new NodeletError(
      'REGISTRY_ERROR',
      `cannot push "${formatReference(reference)}": registry "${endpoint.url.host}" wants the upload at ${JSON.stringify(location.slice(0, 200))}, which is not in the repository`,
    );
  let place: URL;
  try {
    place = new URL(location, response.url);
  } catch {
    throw strange();
  }
  const base = `${endpoint.path}/${reference.path}`;
  // Behind a proxy that ends TLS a registry may say http for its own https: the host is what counts, and the scheme of
  // the request is kept.
  if (place.host !== response.url.host || !place.pathname.startsWith(`${base}/`)) throw strange();
  return { path: place.pathname.slice(base.length), query: Object.fromEntries(place.searchParams) };
}

async function pushManifest(
  repository: Repository,
  manifest: PushManifest,
  name: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const sent = await repository.send('PUT', `/manifests/${name}`, {
    needs: 'push',
    headers: { 'content-type': manifest.mediaType },
    body: () => manifest.bytes,
    ...(signal === undefined ? {} : { signal }),
  });
  await drain(sent.response);
  if (sent.response.status !== 201) throw refused(repository.reference, sent, 'the manifest');
  const said = header(sent.response, 'docker-content-digest');
  if (said !== undefined && said !== manifest.digest) {
    throw new NodeletError(
      'DIGEST_MISMATCH',
      `cannot push "${formatReference(repository.reference)}": registry "${sent.endpoint.url.host}" has stored ${said}, not ${manifest.digest}`,
    );
  }
}

function refused(reference: Reference, { response, endpoint }: Answer, what: string): NodeletError {
  return new NodeletError(
    'REGISTRY_ERROR',
    `cannot push "${formatReference(reference)}": registry "${endpoint.url.host}" answered ${response.status} to ${what}`,
    { details: { status: response.status } },
  );
}

/** The client speaks of pulls; the code and the reason are the same. */
function aboutPush(reference: Reference, error: unknown): unknown {
  if (!(error instanceof NodeletError)) return error;
  const asked = `cannot pull "${formatReference(reference)}"`;
  if (!error.message.startsWith(asked)) return error;
  const message = `cannot push "${formatReference(reference)}"${error.message.slice(asked.length)}`;
  return new NodeletError(error.code, message, {
    cause: error.cause,
    details: error.details,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  });
}
