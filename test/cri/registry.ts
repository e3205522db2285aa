/** Images into a registry, by the distribution API, and the `certs.d` that makes it the mirror of those of the internet. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sha256 } from '../../src/image/digest.ts';
import { MEDIA } from '../../src/image/media-types.ts';
import type { MadeImage } from '../fixtures/registry-images.ts';

/** One image for several platforms, as `path:tag` at `host`. Resolves to its index's digest. */
export async function publish(host: string, name: string, images: readonly MadeImage[]): Promise<string> {
  const [path = '', tag = ''] = name.split(':');
  const url = `http://${host}/v2/${path}`;
  const manifests: object[] = [];
  for (const image of images) {
    for (const [digest, data] of image.blobs)
      if (digest !== image.manifestDigest) await putBlob(url, digest, data);
    await putManifest(url, image.manifestDigest, MEDIA.ociManifest, image.manifest);
    manifests.push({
      mediaType: MEDIA.ociManifest,
      digest: image.manifestDigest,
      size: image.manifest.length,
      platform: { os: 'linux', architecture: architectureOf(image) },
    });
  }
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests }));
  await putManifest(url, tag, MEDIA.ociIndex, index);
  return sha256(index);
}

function architectureOf({ blobs, id }: MadeImage): string {
  const config = JSON.parse(blobs.get(id)?.toString() ?? '{}') as { architecture?: string };
  return config.architecture ?? '';
}

async function putBlob(url: string, digest: string, data: Buffer): Promise<void> {
  const there = await fetch(`${url}/blobs/${digest}`, { method: 'HEAD' });
  if (there.status === 200) return;
  const started = await send(`${url}/blobs/uploads/`, { method: 'POST' });
  const location = new URL(started.headers.get('location') ?? '', url);
  location.searchParams.set('digest', digest);
  const headers = { 'content-type': 'application/octet-stream' };
  await send(location.href, { method: 'PUT', headers, body: new Uint8Array(data) });
}

async function putManifest(url: string, name: string, type: string, data: Buffer): Promise<void> {
  const headers = { 'content-type': type };
  await send(`${url}/manifests/${name}`, { method: 'PUT', headers, body: new Uint8Array(data) });
}

async function send(url: string, init: RequestInit): Promise<Response> {
  const response = await fetch(url, init);
  if (!response.ok) throw new Error(`${init.method} ${url}: ${response.status} ${await response.text()}`);
  return response;
}

/** Makes `host` the place where what these registries have is taken from. Resolves to the directory for the runtime. */
export function mirrorAll(folder: string, host: string): string {
  const certs = join(folder, 'certs.d');
  for (const registry of ['registry.k8s.io', 'k8s.gcr.io', 'gcr.io']) {
    mkdirSync(join(certs, registry), { recursive: true });
    const toml = `server = "http://${host}"\n\n[host."http://${host}"]\n  capabilities = ["pull", "resolve"]\n`;
    writeFileSync(join(certs, registry, 'hosts.toml'), toml);
  }
  return certs;
}
