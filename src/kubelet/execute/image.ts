import { describeError, hasCode } from '../../base/index.ts';
import type { Image } from '../../cri/index.ts';
import type { CheckedContainer } from '../../kube/index.ts';
import type { ActionOf } from '../core/actions.ts';
import { PodError } from '../errors.ts';
import {
  type Credential,
  knownCredential,
  lookup,
  needsVerification,
  pullSecrets,
  repositoryOf,
} from '../images/index.ts';
import { goDuration } from '../status/containers.ts';
import { containerOf, type PodContext } from './context.ts';

/** Makes sure of a container's image and returns what it is to be created from. */
export async function ensureImage(
  context: PodContext,
  action: ActionOf<'ensure-image'>,
  signal: AbortSignal,
): Promise<{ readonly imageRef: string }> {
  const container = containerOf(context.pod, action.container);
  try {
    const present = container.imagePullPolicy === 'Always' ? undefined : await inspect(context, container);
    const credentials = once(async () => await findCredentials(context, container, signal));
    if (present?.id && (await mayUse(context, container, present.id, credentials))) {
      const what = `Container image ${JSON.stringify(container.image)} already present on machine and can be accessed by the pod`;
      context.events.record(context.pod, 'Normal', 'Pulled', what, container.name);
      return { imageRef: present.id };
    }
    if (container.imagePullPolicy === 'Never') {
      // The same words whether it is absent or not for this pod: that an image is here is not told to everybody.
      const message = `Container image ${JSON.stringify(container.image)} is not present with pull policy of Never`;
      context.events.record(context.pod, 'Warning', 'ErrImageNeverPull', message, container.name);
      throw new PodError('ErrImageNeverPull', message);
    }
    return { imageRef: await pull(context, container, await credentials(), signal) };
  } catch (error) {
    if (error instanceof PodError && !signal.aborted) {
      context.events.record(context.pod, 'Warning', 'Failed', `Error: ${error.reason}`, container.name);
    }
    throw error;
  }
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let started: Promise<T> | undefined;
  return async () => await (started ??= work());
}

/** What fits the image, in the order in which it is tried: the pod's own secrets, then the node's. */
async function findCredentials(
  { pod, events, objects, nodeCredentials }: PodContext,
  container: CheckedContainer,
  signal: AbortSignal,
): Promise<readonly Credential[]> {
  const { entries, missing, invalid } = pullSecrets(pod, objects);
  const problems = [...missing, ...invalid.map(({ name, reason }) => `${name}: ${reason}`)];
  if (problems.length > 0) {
    events.record(
      pod,
      'Warning',
      'FailedToRetrieveImagePullSecret',
      `Unable to retrieve some image pull secrets (${problems.join(', ')}); attempting to pull the image may not succeed.`,
    );
  }
  const repository = repositoryOf(container.image);
  const own = lookup(entries, repository);
  return [...own, ...lookup(await nodeCredentials.entries(repository, signal), repository)];
}

/** Whether this pod gets an image that is here, without the registry's word (KEP-2535). */
async function mayUse(
  { pullRecords, settings }: PodContext,
  { image }: CheckedContainer,
  imageRef: string,
  credentials: () => Promise<readonly Credential[]>,
): Promise<boolean> {
  if (!needsVerification(settings.imagePullVerification, image, pullRecords.isPulled(image, imageRef)))
    return true;
  const record = pullRecords.get(imageRef);
  if (knownCredential(record, image, []) === true) return true;
  if (record === undefined) return false;
  const known = knownCredential(record, image, await credentials());
  if (typeof known === 'boolean') return known;
  pullRecords.learn(image, imageRef, known);
  return true;
}

/** With the tag that an image without tag and digest means. */
function withTag(image: string): string {
  return image.includes('@') || /:[^/:]+$/.test(image) ? image : `${image}:latest`;
}

async function inspect(context: PodContext, container: CheckedContainer): Promise<Image | undefined> {
  try {
    return (await context.images.imageStatus({ image: { image: withTag(container.image) } })).image;
  } catch (error) {
    throw invalidName(context, container, error) ?? inspectError(context, container, error);
  }
}

function invalidName(context: PodContext, container: CheckedContainer, error: unknown): PodError | undefined {
  if (!hasCode(error, 'INVALID_REFERENCE')) return undefined;
  const image = JSON.stringify(container.image);
  const message = `Failed to apply default image tag ${image}: couldn't parse image name ${image}: ${describeError(error)}`;
  context.events.record(context.pod, 'Warning', 'InspectFailed', message, container.name);
  return new PodError('InvalidImageName', message, { cause: error });
}

function inspectError(context: PodContext, container: CheckedContainer, error: unknown): PodError {
  const message = `Failed to inspect image ${JSON.stringify(container.image)}: ${describeError(error)}`;
  context.events.record(context.pod, 'Warning', 'InspectFailed', message, container.name);
  return new PodError('ImageInspectError', message, { cause: error });
}

async function pull(
  context: PodContext,
  container: CheckedContainer,
  credentials: readonly Credential[],
  signal: AbortSignal,
): Promise<string> {
  const { pod, events, images, pullRecords, now } = context;
  const image = JSON.stringify(container.image);
  events.record(pod, 'Normal', 'Pulling', `Pulling image ${image}`, container.name);
  const start = now();
  pullRecords.begin(container.image);
  let pulled: Parameters<typeof pullRecords.end>[1];
  try {
    const { imageRef, credential } = await pullWith(context, container, credentials, signal);
    const found = (await images.imageStatus({ image: { image: imageRef } })).image;
    const id = found?.id ?? imageRef;
    pulled = { imageRef: id, credential };
    const took = goDuration(now() - start);
    events.record(
      pod,
      'Normal',
      'Pulled',
      `Successfully pulled image ${image} in ${took} (${took} including waiting). Image size: ${found?.size ?? 0} bytes.`,
      container.name,
    );
    return id;
  } catch (error) {
    if (signal.aborted) throw error;
    const invalid = invalidName(context, container, error);
    if (invalid !== undefined) throw invalid;
    const text = describeError(error);
    events.record(pod, 'Warning', 'Failed', `Failed to pull image ${image}: ${text}`, container.name);
    const { reason, message } = pullFailure(container.image, text);
    throw new PodError(reason, message, { cause: error });
  } finally {
    pullRecords.end(container.image, pulled);
  }
}

/** The two failures that a runtime tells by the beginning of its message (cri-api's errors.go), in the kubelet's words. */
const TOLD: Readonly<Record<string, string>> = {
  RegistryUnavailable: 'the registry is unavailable',
  SignatureValidationFailed: 'the signature validation failed',
};

export function pullFailure(
  image: string,
  text: string,
): { readonly reason: string; readonly message: string } {
  for (const [reason, words] of Object.entries(TOLD)) {
    if (!text.startsWith(reason)) continue;
    return { reason, message: `image pull failed for ${image} because ${words}${text.slice(reason.length)}` };
  }
  return { reason: 'ErrImagePull', message: text };
}

/** Each credential in turn until one is let in; without any, anonymously. */
async function pullWith(
  { images }: PodContext,
  container: CheckedContainer,
  credentials: readonly Credential[],
  signal: AbortSignal,
): Promise<{ readonly imageRef: string; readonly credential: Credential | undefined }> {
  let failure: unknown;
  for (const credential of credentials.length === 0 ? [undefined] : credentials) {
    const auth = credential?.auth;
    try {
      const request = { image: { image: withTag(container.image) }, ...(auth === undefined ? {} : { auth }) };
      return { imageRef: (await images.pullImage(request, signal)).imageRef ?? '', credential };
    } catch (error) {
      if (signal.aborted) throw error;
      failure = error;
    }
  }
  throw failure;
}
