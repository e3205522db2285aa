import { createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sleep } from '../../../src/base/index.ts';
import {
  LocalhostPortProxy,
  type LocalhostPortProxyOptions,
  type PortMapping,
} from '../../../src/cni/index.ts';
import { bindTcpInNetns, dialTcpInNetns } from '../../../src/linux/netns.ts';
import { type Pod, World } from './world.ts';

let world: World;
let pod: Pod;
beforeEach(async () => {
  world = await World.make();
  pod = await world.pod(world.network());
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

const mapping = (change: Partial<PortMapping> = {}): PortMapping => ({
  hostPort: 8080,
  containerPort: 80,
  protocol: 'tcp',
  hostIP: '',
  ...change,
});

async function proxy(
  mappings: readonly PortMapping[],
  options: Partial<LocalhostPortProxyOptions> = {},
): Promise<LocalhostPortProxy> {
  const opened = await LocalhostPortProxy.listen({
    mappings,
    podAddresses: [pod.ipv4, pod.ipv6],
    hostNetnsFd: world.host.fd,
    ...options,
  });
  world.onClose(() => opened.close());
  return opened;
}

/** A TCP server in the pod that does `serve` with each connection. */
async function podServer(serve: (socket: Socket) => void): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, serve);
  server.listen({ fd: bindTcpInNetns(pod.ns.fd, '0.0.0.0', 80) });
  await new Promise((resolve) => server.once('listening', resolve));
  world.onClose(() => server.close());
}

describe('host ports on the loopback address', () => {
  it('lead to the pod over both families; the pod sees the gateway', async () => {
    await world.serveTcp(pod.ns, 80);
    await world.serveTcp(pod.ns, 80, '::');
    await proxy([mapping()]);
    expect(await world.tcp(world.host, '127.0.0.1', 8080)).toBe('10.88.0.1');
    expect(await world.tcp(world.host, '::1', 8080)).toBe('fd00:88::1');
    expect(await world.tcp(world.outside, '192.0.2.1', 8080, 300)).toBe('ECONNREFUSED');
  });

  it('by IPv6 reach a pod that has IPv4 only', async () => {
    await world.serveTcp(pod.ns, 80);
    await proxy([mapping({ hostIP: '::1' })], { podAddresses: [pod.ipv4] });
    expect(await world.tcp(world.host, '::1', 8080)).toBe('10.88.0.1');
    expect(await world.tcp(world.host, '127.0.0.1', 8080, 300)).toBe('ECONNREFUSED');
  });

  it('carry UDP, each client by itself, and forget a silent one', async () => {
    const server = await world.serveUdp(pod.ns, 53);
    const seen = new Set<number>();
    server.on('message', (_data, from) => seen.add(from.port));
    await proxy([mapping({ protocol: 'udp', containerPort: 53 })], { udpIdleMs: 50 });
    expect(await world.udp(world.host, '127.0.0.1', 8080, { sourcePort: 4001 })).toBe('10.88.0.1');
    expect(await world.udp(world.host, '127.0.0.1', 8080, { sourcePort: 4001 })).toBe('10.88.0.1');
    expect(seen.size).toBe(1);
    expect(await world.udp(world.host, '127.0.0.1', 8080, { sourcePort: 4002 })).toBe('10.88.0.1');
    expect(seen.size).toBe(2);
    await sleep(120);
    expect(await world.udp(world.host, '127.0.0.1', 8080, { sourcePort: 4001 })).toBe('10.88.0.1');
    expect(seen.size).toBe(3);
  });

  it('come back for UDP when the pod listens later', async () => {
    await proxy([mapping({ protocol: 'udp', containerPort: 53 })]);
    expect(await world.udp(world.host, '127.0.0.1', 8080, { sourcePort: 4001, timeout: 100 })).toBe(
      'ETIMEDOUT',
    );
    await world.serveUdp(pod.ns, 53);
    expect(await world.udp(world.host, '127.0.0.1', 8080, { sourcePort: 4001 })).toBe('10.88.0.1');
  });

  it('pass a closed direction on and keep the other one open', async () => {
    await podServer((socket) => {
      let text = '';
      socket.on('data', (data) => (text += String(data)));
      socket.on('end', () => socket.end(`got ${text.length}`));
    });
    await proxy([mapping()]);
    const client = await dialTcpInNetns(world.host.fd, '127.0.0.1', 8080, { allowHalfOpen: true });
    client.end('x'.repeat(1_000_000));
    let answer = '';
    for await (const chunk of client) answer += String(chunk);
    expect(answer).toBe('got 1000000');
  });

  it('hold a fast sender back while the receiver does not read', async () => {
    let resume = (): void => {};
    let received = 0;
    await podServer((socket) => {
      socket.pause();
      socket.on('data', (data) => (received += data.length));
      socket.on('end', () => socket.end(String(received)));
      resume = () => socket.resume();
    });
    await proxy([mapping()]);
    const client = await dialTcpInNetns(world.host.fd, '127.0.0.1', 8080, { allowHalfOpen: true });
    const total = 64 * 1024 * 1024;
    const block = Buffer.alloc(1024 * 1024);
    const before = process.memoryUsage().arrayBuffers;
    let sent = 0;
    let stalled = 0;
    while (sent < total && stalled < 20) {
      if (client.writableNeedDrain) {
        stalled += 1;
        await sleep(5);
      } else {
        stalled = 0;
        client.write(block);
        sent += block.length;
      }
    }
    expect(sent).toBeLessThan(total); // stuck in the kernel's buffers, not in ours
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 1024 * 1024);
    resume();
    while (sent < total) {
      if (client.writableNeedDrain) await new Promise((resolve) => client.once('drain', resolve));
      client.write(block);
      sent += block.length;
    }
    client.end();
    let answer = '';
    for await (const chunk of client) answer += String(chunk);
    expect(answer).toBe(String(total));
  });

  it('reset a client when nobody listens in the pod', async () => {
    await proxy([mapping()]);
    expect(await world.tcp(world.host, '127.0.0.1', 8080)).toBe('ECONNRESET');
  });

  it('are refused where a process of the host has one, and then none is opened', async () => {
    await world.serveTcp(world.host, 8081, '127.0.0.1');
    await expect(proxy([mapping(), mapping({ hostPort: 8081 })])).rejects.toMatchObject({
      code: 'HOST_PORT_IN_USE',
      message: 'cannot map host port 127.0.0.1:8081/tcp: it belongs to a process of the host',
    });
    expect(await world.tcp(world.host, '127.0.0.1', 8080, 300)).toBe('ECONNREFUSED');
  });

  it('do without IPv6 on a host that has none, unless it was asked for', async () => {
    world.host.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
    const opened = await proxy([mapping()]);
    expect(opened.listeners.map(({ address }) => address)).toEqual(['127.0.0.1']);
    await expect(proxy([mapping({ hostIP: '::1', hostPort: 8082 })])).rejects.toMatchObject({
      code: 'EADDRNOTAVAIL',
    });
  });

  it('end with every connection when they are closed', async () => {
    await podServer(() => {});
    const opened = await proxy([mapping(), mapping({ protocol: 'udp', containerPort: 53 })]);
    const client = await dialTcpInNetns(world.host.fd, '127.0.0.1', 8080);
    const closed = new Promise((resolve) => client.once('close', resolve));
    client.on('error', () => {});
    client.resume();
    await world.udp(world.host, '127.0.0.1', 8080, { timeout: 50 });
    await opened.close();
    await opened.close();
    await closed;
    expect(await world.tcp(world.host, '127.0.0.1', 8080, 300)).toBe('ECONNREFUSED');
  });
});
