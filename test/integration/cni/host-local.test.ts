import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sleep } from '../../../src/base/index.ts';
import { resolveConfig } from '../../../src/cni/config.ts';
import { HostLocal } from '../../../src/cni/ipam/host-local.ts';
import { AddressStore } from '../../../src/cni/ipam/store.ts';
import { TestNetns } from '../netlink/netns.ts';

/** The reference plugin: Debian's containernetworking-plugins, a runtime's own, or one of CNI_PATH. */
const plugin = [...(process.env.CNI_PATH ?? '').split(':'), '/opt/cni/bin', '/usr/lib/cni']
  .filter((dir) => dir !== '')
  .map((dir) => join(dir, 'host-local'))
  .find((path) => existsSync(path));

let dataDir: string;
let ns: TestNetns;
beforeEach(() => {
  ns = new TestNetns('pod');
  dataDir = mkdtempSync(join(tmpdir(), 'nodelet-ipam-'));
});
afterEach(() => {
  ns[Symbol.dispose]();
  rmSync(dataDir, { recursive: true, force: true });
});

const subnets = ['10.88.0.0/29', 'fd00:88::/64'];

const config = (): object => ({
  cniVersion: '1.0.0',
  name: 'pods',
  type: 'bridge',
  ipam: { type: 'host-local', dataDir, ranges: subnets.map((subnet) => [{ subnet }]) },
});

const environment = (command: 'ADD' | 'DEL', id: string): NodeJS.ProcessEnv => ({
  CNI_COMMAND: command,
  CNI_CONTAINERID: id,
  CNI_NETNS: ns.path,
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/nowhere',
});

/** The addresses that the plugin says it gave. */
function reference(command: 'ADD' | 'DEL', id: string): string[] {
  const output = execFileSync(plugin ?? '', [], {
    input: JSON.stringify(config()),
    encoding: 'utf8',
    env: environment(command, id),
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  if (command === 'DEL') return [];
  return (JSON.parse(output) as { ips: { address: string }[] }).ips.map(
    ({ address }) => address.split('/')[0] ?? '',
  );
}

async function ours<T>(work: (ipam: HostLocal) => T): Promise<T> {
  const store = new AddressStore(join(dataDir, 'pods'));
  using _lock = await store.lock();
  return work(new HostLocal(store, resolveConfig({ name: 'pods', subnets }).subnets));
}

const allocate = async (id: string): Promise<string[]> =>
  await ours((ipam) => ipam.allocate(id, 'eth0').addresses.map(({ address }) => address));
const files = (): string[] => readdirSync(join(dataDir, 'pods')).sort();

describe.skipIf(plugin === undefined)(
  'addresses and the reference plugin host-local (needs containernetworking-plugins)',
  () => {
    it('share one folder: each goes on where the other stopped', async () => {
      expect(reference('ADD', 'one')).toEqual(['10.88.0.2', 'fd00:88::2']);
      expect(await allocate('two')).toEqual(['10.88.0.3', 'fd00:88::3']);
      expect(reference('ADD', 'three')).toEqual(['10.88.0.4', 'fd00:88::4']);
      expect(await allocate('four')).toEqual(['10.88.0.5', 'fd00:88::5']);
      expect(await ours((ipam) => [...ipam.owners()].sort())).toEqual(['four', 'one', 'three', 'two']);
    });

    it('give back what the other gave', async () => {
      reference('ADD', 'one');
      await allocate('two');
      expect(await ours((ipam) => ipam.release('one', 'eth0').sort())).toEqual(['10.88.0.2', 'fd00:88::2']);
      reference('DEL', 'two');
      expect(files()).toEqual(['last_reserved_ip.0', 'last_reserved_ip.1', 'lock']);
    });

    it('wait for each other', async () => {
      await allocate('one');
      const store = new AddressStore(join(dataDir, 'pods'));
      const lock = await store.lock();
      const child = spawn(plugin ?? '', [], {
        env: environment('ADD', 'two'),
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      let exited = false;
      const done = new Promise<void>((resolve) =>
        child.once('exit', () => {
          exited = true;
          resolve();
        }),
      );
      child.stdin.end(JSON.stringify(config()));
      await sleep(300);
      expect(exited).toBe(false);
      lock[Symbol.dispose]();
      await done;
      expect(files()).toContain('10.88.0.3');
    });

    it('are exhausted for both at the same address', async () => {
      for (const id of ['a', 'b', 'c']) reference('ADD', id);
      for (const id of ['d', 'e']) await allocate(id);
      await expect(allocate('f')).rejects.toMatchObject({ code: 'ADDRESS_RANGE_EXHAUSTED' });
      expect(() => reference('ADD', 'g')).toThrow();
      reference('DEL', 'b');
      expect((await allocate('f'))[0]).toBe('10.88.0.3');
    });
  },
);

describe('the folder of addresses', () => {
  it('is read again when somebody else has changed it', async () => {
    const store = new AddressStore(join(dataDir, 'pods'));
    const other = new AddressStore(join(dataDir, 'pods'));
    using _lock = await store.lock();
    expect(store.reserve('10.88.0.2', { id: 'a', ifname: 'eth0' })).toBe(true);
    expect(other.addressesOf('a', 'eth0')).toEqual(['10.88.0.2']);
    expect(other.reserve('10.88.0.2', { id: 'b', ifname: 'eth0' })).toBe(false);
    other.release('10.88.0.2');
    expect(store.reserve('10.88.0.2', { id: 'c', ifname: 'eth0' })).toBe(true);
  });

  it('is waited for while another process has it', async () => {
    const store = new AddressStore(join(dataDir, 'pods'));
    const held = await store.lock();
    const waiting = store.lock();
    setTimeout(() => held[Symbol.dispose](), 30);
    (await waiting)[Symbol.dispose]();
  });

  it('is locked anew when whoever had the lock removed the folder', async () => {
    const dir = join(dataDir, 'pods');
    const held = await new AddressStore(dir).lock();
    const waiting = new AddressStore(dir).lock();
    await sleep(10);
    rmSync(dir, { recursive: true });
    held[Symbol.dispose]();
    const second = await waiting;
    // A third one finds the same lock as the second: the file that is there now.
    let third = false;
    const late = new AddressStore(dir).lock().then((lock) => {
      third = true;
      return lock;
    });
    await sleep(60);
    expect(third).toBe(false);
    second[Symbol.dispose]();
    (await late)[Symbol.dispose]();
  });
});
