/** Probes and hooks over real sockets on the loopback. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { LifecycleHandler, Probe } from '../../../src/kube/index.ts';
import { runHook } from '../../../src/kubelet/hooks.ts';
import { EventRecorder } from '../../../src/kubelet/index.ts';
import { type ProbeAnswer, probeOnce } from '../../../src/kubelet/probe/probe.ts';
import { FakeRuntime } from '../../unit/kubelet/fake-runtime.ts';
import { podOf } from '../../unit/kubelet/world.ts';

const servers: { close(): unknown }[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const serve = (listener: RequestListener) => listen(createServer(listener));

async function ask(probe: Probe, container: Readonly<Record<string, unknown>> = {}): Promise<ProbeAnswer> {
  const pod = await podOf({ containers: [{ name: 'a', ...container }] });
  const [checked] = pod.spec.containers;
  if (checked === undefined) throw new Error('no container');
  const target = { runtime: new FakeRuntime(), container: checked, containerId: 'x', podIp: '127.0.0.1' };
  return await probeOnce({ timeoutSeconds: 5, ...probe }, target, new AbortController().signal);
}

describe('an HTTP probe', () => {
  it.each([
    [200, 'success'],
    [204, 'success'],
    [399, 'success'],
    [400, 'failure'],
    [500, 'failure'],
  ])('status %i is a %s', async (status, result) => {
    const port = await serve((_request, response) => response.writeHead(status).end());
    expect(await ask({ httpGet: { port, path: '/health?full=1' } })).toMatchObject({
      result,
      output: result === 'failure' ? `HTTP probe failed with statuscode: ${status}` : '',
    });
  });

  it('sends the path, its own agent and the pod’s headers, and asks the named port', async () => {
    let seen = {};
    const port = await serve((request, response) => {
      const { host, 'user-agent': agent, 'x-a': own, accept } = request.headers;
      seen = { url: request.url, host, agent, own, accept };
      response.end('fine');
    });
    const httpHeaders = [
      { name: 'X-A', value: '1' },
      { name: 'X-A', value: '2' },
      { name: 'Host', value: 'app.test' },
    ];
    const ports = [{ name: 'web', containerPort: port }];
    expect(await ask({ httpGet: { port: 'web', path: '/health?full=1', httpHeaders } }, { ports })).toEqual({
      result: 'success',
      output: 'fine',
    });
    expect(seen).toEqual({
      url: '/health?full=1',
      host: 'app.test',
      agent: 'kube-probe/1.36',
      own: '1, 2',
      accept: '*/*',
    });
  });

  it('follows a redirect on the same host, and takes one to elsewhere for a warning', async () => {
    const port = await serve((request, response) => {
      if (request.url === '/') response.writeHead(302, { location: '/there' }).end();
      else if (request.url === '/away')
        response.writeHead(302, { location: 'http://elsewhere.test/' }).end('bye');
      else response.end('arrived');
    });
    expect(await ask({ httpGet: { port } })).toEqual({ result: 'success', output: 'arrived' });
    expect(await ask({ httpGet: { port, path: '/away' } })).toEqual({
      result: 'warning',
      output: 'Probe terminated redirects, Response body: bye',
    });
  });

  it('does not follow for ever', async () => {
    const port = await serve((_request, response) => response.writeHead(302, { location: '/' }).end());
    expect(await ask({ httpGet: { port } })).toMatchObject({
      result: 'failure',
      output: expect.stringContaining('stopped after 10 redirects'),
    });
  });

  it('reads no more than it needs of an endless answer', async () => {
    const port = await serve((_request, response) => {
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(4096, 'x')));
        response.once('drain', more);
      };
      more();
    });
    const answer = await ask({ httpGet: { port } });
    expect(answer.result).toBe('success');
    expect(answer.output.length).toBe(10_240);
  });

  it('a server that does not answer in time has failed', async () => {
    const port = await serve(() => {});
    const answer = await ask({ httpGet: { port }, timeoutSeconds: 1 });
    expect(answer.result).toBe('failure');
    expect(answer.output).toContain('context deadline exceeded');
  });

  it('nobody there has failed', async () => {
    const port = await serve(() => {});
    for (const server of servers.splice(0)) server.close();
    const answer = await ask({ httpGet: { port } });
    expect(answer).toMatchObject({ result: 'failure', output: expect.stringContaining('ECONNREFUSED') });
  });

  it('a port that the container does not name cannot be asked', async () => {
    await expect(ask({ httpGet: { port: 'web' } })).rejects.toMatchObject({ code: 'INVALID_PORT' });
  });
});

describe('over TLS', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'nodelet-tls-'));
    const files = ['-keyout', join(folder, 'key'), '-out', join(folder, 'cert')];
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-subj',
        '/CN=nobody',
        '-days',
        '1',
        ...files,
      ],
      { stdio: 'ignore' },
    );
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('a certificate is not checked', async () => {
    const options = { key: readFileSync(join(folder, 'key')), cert: readFileSync(join(folder, 'cert')) };
    const port = await listen(createTlsServer(options, (_request, response) => response.end('private')));
    expect(await ask({ httpGet: { port, scheme: 'HTTPS' } })).toEqual({
      result: 'success',
      output: 'private',
    });
  });
});

describe('a TCP probe', () => {
  it('connects, or does not', async () => {
    const server = createTcpServer((socket) => socket.end());
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    expect(await ask({ tcpSocket: { port } })).toEqual({ result: 'success', output: '' });
    await new Promise((resolve) => server.close(resolve));
    expect(await ask({ tcpSocket: { port } })).toMatchObject({
      result: 'failure',
      output: expect.stringContaining(`dial tcp 127.0.0.1:${port}: `),
    });
  });
});

describe('hooks', () => {
  async function run(
    handler: LifecycleHandler,
    runtime = new FakeRuntime(),
    signal = new AbortController().signal,
  ) {
    const pod = await podOf({});
    const [container] = pod.spec.containers;
    if (container === undefined) throw new Error('no container');
    const events = new EventRecorder({ nodeName: 'n', now: Date.now });
    await runHook(handler, { runtime, events, pod, container, containerId: 'x', podIp: '127.0.0.1' }, signal);
    return events.list().map(({ reason }) => reason);
  }

  it('an HTTP hook succeeds with any answer', async () => {
    const port = await serve((_request, response) => response.writeHead(500).end());
    expect(await run({ httpGet: { port } })).toEqual([]);
  });

  it('one for TLS that meets plain HTTP asks again in plain, without credentials, and says so', async () => {
    const seen: (string | undefined)[] = [];
    const port = await serve((request, response) => {
      seen.push(request.headers.authorization);
      response.end();
    });
    const httpHeaders = [{ name: 'Authorization', value: 'Bearer secret' }];
    expect(await run({ httpGet: { port, scheme: 'HTTPS', httpHeaders } })).toEqual(['LifecycleHTTPFallback']);
    expect(seen).toEqual([undefined]);
  });

  it('nobody there is a failure', async () => {
    const port = await serve(() => {});
    for (const server of servers.splice(0)) server.close();
    await expect(run({ httpGet: { port } })).rejects.toMatchObject({ code: 'HOOK_FAILED' });
  });

  it('a sleep can be cut short', async () => {
    const stop = new AbortController();
    const sleeping = run({ sleep: { seconds: 1000 } }, undefined, stop.signal);
    stop.abort();
    await expect(sleeping).rejects.toMatchObject({ code: 'HOOK_FAILED' });
  });
});
