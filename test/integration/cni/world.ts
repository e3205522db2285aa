import { randomBytes } from 'node:crypto';
import type { Socket as UdpSocket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep, withDeadline } from '../../../src/base/index.ts';
import {
  type BridgeNetwork,
  type BridgeNetworkOptions,
  createBridgeNetwork,
  type NetworkAttachment,
  type NetworkResult,
  type PortMapping,
} from '../../../src/cni/index.ts';
import { Rtnetlink, solicitedNodeGroup } from '../../../src/linux/netlink/index.ts';
import { bindTcpInNetns, bindUdpInNetns, dialTcpInNetns, settleLink } from '../../../src/linux/netns.ts';
import { TestNetns } from '../netlink/netns.ts';

export interface Pod {
  readonly ns: TestNetns;
  readonly attachment: NetworkAttachment;
  readonly result: NetworkResult;
  readonly ipv4: string;
  readonly ipv6: string;
}

/**
 * A host and its neighbour outside, each a network namespace, joined by a cable: host 192.0.2.1 and fd00:2::1, outside
 * 192.0.2.2 and fd00:2::2. The outside knows no way to the pods: what it answers has to come from the host's address.
 */
export class World implements AsyncDisposable {
  readonly host = new TestNetns('host');
  readonly outside = new TestNetns('outside');
  readonly dataDir = mkdtempSync(join(tmpdir(), 'nodelet-cni-'));
  readonly #closers: (() => unknown)[] = [];
  readonly #namespaces: TestNetns[] = [this.host, this.outside];

  /** A world whose cable carries packets of both families. */
  static async make(): Promise<World> {
    const world = new World();
    for (const [ns, name, address] of [
      [world.host, 'up0', 'fd00:2::1'],
      [world.outside, 'up1', 'fd00:2::2'],
    ] as const) {
      settleLink(ns.fd, name);
      using rt = new Rtnetlink(ns.fd);
      const group = solicitedNodeGroup(address);
      const ready = (): boolean => {
        const link = rt.link({ name });
        return link !== undefined && rt.groups(link).includes(group);
      };
      while (!ready()) await sleep(1);
    }
    return world;
  }

  private constructor() {
    const { host, outside } = this;
    // A new namespace takes what the machine has for IPv4; the tests know where they begin.
    const sysctls = [
      'net.ipv4.ip_forward=0',
      'net.ipv6.conf.all.forwarding=0',
      'net.ipv6.conf.default.accept_dad=0',
    ];
    for (const ns of [host, outside]) ns.run('sysctl', '-qw', ...sysctls);
    host.run('ip', 'link', 'set', 'lo', 'up');
    outside.run('ip', 'link', 'set', 'lo', 'up');
    host.run('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1', 'netns', outside.name);
    for (const [ns, link, last] of [
      [host, 'up0', 1],
      [outside, 'up1', 2],
    ] as const) {
      ns.run('ip', 'addr', 'add', `192.0.2.${last}/24`, 'dev', link);
      ns.run('ip', 'addr', 'add', `fd00:2::${last}/64`, 'dev', link, 'nodad');
      ns.run('ip', 'link', 'set', link, 'up');
    }
    host.run('ip', 'route', 'add', 'default', 'via', '192.0.2.2');
  }

  network(options: Partial<BridgeNetworkOptions> = {}): BridgeNetwork {
    const network = createBridgeNetwork({
      name: 'pods',
      bridge: 'nodelet0',
      subnets: ['10.88.0.0/16', 'fd00:88::/64'],
      dataDir: this.dataDir,
      hostNetnsFd: this.host.fd,
      ...options,
    });
    this.#closers.push(() => network.close());
    return network;
  }

  namespace(label: string): TestNetns {
    const ns = new TestNetns(label);
    this.#namespaces.push(ns);
    return ns;
  }

  attachment(
    ns: TestNetns | undefined,
    portMappings: readonly Partial<PortMapping>[] = [],
    id = randomBytes(32).toString('hex'),
  ): NetworkAttachment {
    return {
      id,
      netnsFd: ns?.fd,
      podNamespace: 'default',
      podName: 'pod',
      podUid: 'uid',
      portMappings: portMappings.map((mapping) => ({
        hostPort: 8080,
        containerPort: 80,
        protocol: 'tcp',
        hostIP: '',
        ...mapping,
      })),
    };
  }

  async pod(
    network: BridgeNetwork,
    portMappings: readonly Partial<PortMapping>[] = [],
    id?: string,
  ): Promise<Pod> {
    const ns = this.namespace('pod');
    const attachment = this.attachment(ns, portMappings, id);
    const result = await network.add(attachment);
    const of = (colon: boolean): string =>
      result.ips.find(({ address }) => address.includes(':') === colon)?.address.split('/')[0] ?? '';
    return { ns, attachment, result, ipv4: of(false), ipv6: of(true) };
  }

  /** A TCP server that answers each connection with the client's address, and closes. */
  async serveTcp(ns: TestNetns, port: number, address = '0.0.0.0'): Promise<Server> {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.end(socket.remoteAddress ?? '');
    });
    server.listen({ fd: bindTcpInNetns(ns.fd, address, port) });
    await new Promise((resolve) => server.once('listening', resolve));
    this.#closers.push(() => server.close());
    return server;
  }

  /** A UDP server that answers each datagram with the client's address. */
  async serveUdp(ns: TestNetns, port: number, address = '0.0.0.0'): Promise<UdpSocket> {
    const socket = await bindUdpInNetns(ns.fd, address, port);
    socket.on('message', (_data, from) => socket.send(from.address, from.port, from.address));
    this.#closers.push(() => socket.close());
    return socket;
  }

  /** What a TCP server says to a client in `ns`, or the code of the error. */
  async tcp(ns: TestNetns, address: string, port: number, timeout = 2000): Promise<string> {
    try {
      const socket = await dialTcpInNetns(ns.fd, address, port, { timeout });
      socket.setTimeout(timeout, () =>
        socket.destroy(Object.assign(new Error('late'), { code: 'ETIMEDOUT' })),
      );
      let text = '';
      for await (const chunk of socket) text += String(chunk);
      return text;
    } catch (error) {
      return (error as { code?: string }).code ?? String(error);
    }
  }

  /** What a UDP server says to a client in `ns`, or ETIMEDOUT. */
  async udp(
    ns: TestNetns,
    address: string,
    port: number,
    options: { readonly sourcePort?: number; readonly timeout?: number } = {},
  ): Promise<string> {
    const socket = await bindUdpInNetns(
      ns.fd,
      address.includes(':') ? '::' : '0.0.0.0',
      options.sourcePort ?? 0,
    );
    try {
      const answer = new Promise<string>((resolve, reject) => {
        socket.once('message', (data) => resolve(String(data)));
        socket.once('error', reject);
      });
      socket.send('x', port, address);
      return await withDeadline('a UDP answer', options.timeout ?? 2000, answer);
    } catch (error) {
      const { code = String(error) } = error as { code?: string };
      return code === 'DEADLINE_EXCEEDED' ? 'ETIMEDOUT' : code;
    } finally {
      socket.close();
    }
  }

  onClose(close: () => unknown): void {
    this.#closers.push(close);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closers.reverse()) await close();
    for (const ns of this.#namespaces.reverse()) ns[Symbol.dispose]();
    rmSync(this.dataDir, { recursive: true, force: true });
  }
}
