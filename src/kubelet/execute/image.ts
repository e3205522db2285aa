import { describeError, hasCode } from '../../base/index.ts';
import type { AuthConfig, Image } from '../../cri/index.ts';
import type { CheckedContainer } from '../../kube/index.ts';
import type { ActionOf } from '../core/actions.ts';
import { PodError } from '../errors.ts';
import { pullCredentials } from '../pull-secrets.ts';
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
    if (present?.id) {
      const what = `Container image ${JSON.stringify(container.image)} already present on machine and can be accessed by the pod`;
      context.events.record(context.pod, 'Normal', 'Pulled', what, container.name);
      return { imageRef: present.id };
    }
    if (container.imagePullPolicy === 'Never') {
      const message = `Container image ${JSON.stringify(container.image)} is not present with pull policy of Never`;
      context.events.record(context.pod, 'Warning', 'ErrImageNeverPull', message, container.name);
      throw new PodError('ErrImageNeverPull', message);
    }
    return { imageRef: await pull(context, container, signal) };
  } catch (error) {
    if (error instanceof PodError && !signal.aborted) {
      context.events.record(context.pod, 'Warning', 'Failed', `Error: ${error.reason}`, container.name);
    }
    throw error;
  }
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

async function pull(context: PodContext, container: CheckedContainer, signal: AbortSignal): Promise<string> {
  const { pod, events, images, objects, now } = context;
  const { auths, missing } = pullCredentials(pod, container.image, objects);
  if (missing.length > 0) {
    events.record(
      pod,
      'Warning',
      'FailedToRetrieveImagePullSecret',
      `Unable to retrieve some image pull secrets (${missing.join(', ')}); attempting to pull the image may not succeed.`,
    );
  }
  const image = JSON.stringify(container.image);
  events.record(pod, 'Normal', 'Pulling', `Pulling image ${image}`, container.name);
  const start = now();
  try {
    const imageRef = await pullWith(context, container, auths, signal);
    const found = (await images.imageStatus({ image: { image: imageRef } })).image;
    const took = goDuration(now() - start);
    events.record(
      pod,
      'Normal',
      'Pulled',
      `Successfully pulled image ${image} in ${took} (${took} including waiting). Image size: ${found?.size ?? 0} bytes.`,
      container.name,
    );
    return found?.id ?? imageRef;
  } catch (error) {
    if (signal.aborted) throw error;
    const invalid = invalidName(context, container, error);
    if (invalid !== undefined) throw invalid;
    const message = describeError(error);
    events.record(pod, 'Warning', 'Failed', `Failed to pull image ${image}: ${message}`, container.name);
    throw new PodError('ErrImagePull', message, { cause: error });
  }
}

/** Each credential in turn until one is let in; without any, anonymously. */
async function pullWith(
  { images }: PodContext,
  container: CheckedContainer,
  auths: readonly AuthConfig[],
  signal: AbortSignal,
): Promise<string> {
  let failure: unknown;
  for (const auth of auths.length === 0 ? [undefined] : auths) {
    try {
      const request = { image: { image: withTag(container.image) }, ...(auth === undefined ? {} : { auth }) };
      return (await images.pullImage(request, signal)).imageRef ?? '';
    } catch (error) {
      if (signal.aborted) throw error;
      failure = error;
    }
  }
  throw failure;
}
