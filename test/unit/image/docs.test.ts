/** docs/images.md: every example is read by what it is an example for. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { flagName, SETTINGS } from '../../../src/agent/index.ts';
import { parseHosts } from '../../../src/image/registry/hosts-file.ts';
import { parseManifests } from '../../../src/kube/index.ts';
import { readProviderConfig } from '../../../src/kubelet/index.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const text = readFileSync(join(root, 'docs/images.md'), 'utf8');
const blocks = [...text.matchAll(/^```(\w+)(?: file=(\S+))?\n([\s\S]*?)^```$/gm)].map(
  ([, language = '', file = '', content = '']) => ({ language, file, content }),
);

describe('docs/images.md', () => {
  test('each file has a name and is of a known kind', () => {
    expect(blocks.filter(({ language }) => language !== 'sh').map(({ file }) => file)).toEqual([
      'certs.d/registry.example.com/hosts.toml',
      'certs.d/docker.io/hosts.toml',
      'certs.d/_default/hosts.toml',
      'private-pod.yaml',
      'credential-providers.yaml',
    ]);
  });

  test.each(blocks.filter(({ language }) => language === 'toml'))('$file', async ({ content, file }) => {
    const { hosts, server } = await parseHosts(content, file);
    expect(server).toBeDefined();
    if (!file.includes('docker.io')) return;
    expect(hosts.map(({ url, path, capabilities }) => [url.host, path, [...capabilities]])).toEqual([
      ['mirror.example.com', '/v2', ['pull', 'resolve']],
      ['cache.example.com', '/proxy/hub/v2', ['pull']],
    ]);
    expect(hosts[1]).toMatchObject({ headers: { 'x-site': 'cellar' }, dialTimeout: 2000 });
  });

  test('private-pod.yaml', async () => {
    const block = blocks.find(({ file }) => file === 'private-pod.yaml');
    const { pods, secrets } = await parseManifests(block?.content ?? '', { source: 'private-pod.yaml' });
    expect([pods.length, secrets.length]).toEqual([1, 1]);
  });

  test('credential-providers.yaml', () => {
    const block = blocks.find(({ file }) => file === 'credential-providers.yaml');
    const [provider] = readProviderConfig([{ path: 'x', value: parse(block?.content ?? '') as unknown }]);
    expect(provider).toMatchObject({ name: 'ecr-credential-provider', defaultCacheDuration: 43_200_000 });
  });

  test('every flag that it names exists', () => {
    const known = new Set(Object.keys(SETTINGS).map((name) => `--${flagName(name)}`));
    for (const own of ['--cert-dir', '--tls-verify', '--creds', '--authfile', '--limit-rate', '--progress'])
      known.add(own);
    for (const own of ['--container-runtime-endpoint', '--no-keep-blobs']) known.add(own);
    const named = [...text.matchAll(/`[^`\n]*?(--[a-z][a-z-]+)/g)].map(([, flag = '']) => flag);
    expect(named.filter((flag) => !known.has(flag))).toEqual([]);
    expect(named.length).toBeGreaterThan(8);
  });
});
