import { fstatSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  CleanupStack,
  codeOf,
  describeError,
  failpoint,
  hasCode,
  KeyedMutex,
  type Log,
  silentLog,
} from '../base/index.ts';
import {
  applyInBackground,
  Conntrack,
  deleteLink,
  type Flow,
  type Link,
  Rtnetlink,
} from '../linux/netlink/index.ts';
import { Nftables, NftTransaction } from '../linux/nftables/index.ts';
import { type AttachInput, attachResult, attachStages, isAttached } from './attach.ts';
import {
  type BridgeNetworkConfig,
  type BridgeNetworkOptions,
  POD_LINK,
  type PodSubnet,
  resolveConfig,
} from './config.ts';
import { badPodNamespace, hostPortInUse, linkNameTaken, linkNotReady, networkInUse } from './errors.ts';
import { lazyLink, runStage, type Side, type Sides } from './execute.ts';
import { staleAfterAdd, staleAfterRemove } from './flows.ts';
import { findPortConflict, portElements, type SetElements } from './host-ports.ts';
import { HostLocal, type PodAddress } from './ipam/host-local.ts';
import { AddressStore } from './ipam/store.ts';
import { checkId, hostLinkName, ownerAlias } from './names.ts';
import { ipv6State, observeHost } from './observe.ts';
import { elementsOfOwners, listPortElements, ownerOfLink, planPortElements, strayLinks } from './owned.ts';
import { type Connection, untilReady } from './ready.ts';
import { tableOf } from './rules.ts';
import { planSetUp, type SetUpPlan, usableSubnets } from './setup.ts';
import { describeStage, type Stage } from './stages.ts';
import { networkWarnings } from './status.ts';
import type { NetworkAttachment, NetworkResult, NetworkStep, PodNetwork } from './types.ts';

type NetworkStatus = Awaited<ReturnType<PodNetwork['status']>>;

interface Attached {
  readonly result: NetworkResult;
  readonly connection: Connection;
}

/** The built-in pod network. Nothing is done until `setUp`, or the first `add`, which sets up what is missing. */
export function createBridgeNetwork(options: BridgeNetworkOptions, log: Log = silentLog): BridgeNetwork {
  return new BridgeNetwork(resolveConfig(options), log);
}

export class BridgeNetwork implements PodNetwork, Disposable {
  readonly config: BridgeNetworkConfig;
  readonly #log: Log;
  readonly #store: AddressStore;
  /** Inside this process; the store's lock holds between processes. */
  readonly #mutex = new KeyedMutex();
  readonly #adding = new Set<string>();
  #rtnetlink: Rtnetlink | undefined;
  #nftables: Nftables | undefined;

  constructor(config: BridgeNetworkConfig, log: Log) {
    this.config = config;
    this.#log = log;
    this.#store = new AddressStore(join(config.dataDir, config.name));
  }

  get name(): string {
    return this.config.name;
  }

  /** Lets go of the sockets; the network stays. */
  close(): void {
    this.#rtnetlink?.close();
    this.#nftables?.close();
    this.#rtnetlink = undefined;
    this.#nftables = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async setUp(): Promise<void> {
    await this.#exclusive(() => this.#setUpNow());
  }

  async add(attachment: NetworkAttachment): Promise<NetworkResult> {
    const { id } = attachment;
    const netnsFd = this.#checkAttachment(attachment);
    const undo = new CleanupStack((name, error) =>
      this.#log.warn({ err: error, id }, `cannot undo: ${name}`),
    );
    this.#adding.add(id);
    try {
      const attached = await this.#exclusive(() => this.#attach(attachment, netnsFd, undo));
      await untilReady(attached.connection);
      this.#forgetOldFlows(attachment, attached.connection.addresses);
      return attached.result;
    } catch (error) {
      await this.#exclusive(async () => await undo.run());
      throw error;
    } finally {
      this.#adding.delete(id);
    }
  }

  async remove(attachment: NetworkAttachment): Promise<void> {
    const { id } = attachment;
    checkId(id);
    const link = await this.#exclusive(() => {
      const hadPorts = this.#deletePortsOf(id);
      failpoint('network:remove-after-rules');
      if (hadPorts) this.#forgetFlowsTo(new Set(this.#store.addressesOf(id, POD_LINK)));
      return this.#linkOf(id);
    });
    // Not under the lock: it takes long, and the address stays taken until the link is gone.
    await this.#deleteLink(link);
    failpoint('network:remove-after-link');
    await this.#exclusive(() => {
      this.#ipam.release(id, POD_LINK);
    });
  }

  async collect(valid: ReadonlySet<string>): Promise<string[]> {
    // What is being added at this moment is not known to the caller, but it is no stray.
    const kept = new Set([...valid, ...this.#adding]);
    const gone = new Set<string>();
    const { addresses, links } = await this.#exclusive(() => {
      const ports = elementsOfOwners(this.#portElements(), (id) => !kept.has(id));
      for (const { elements } of ports) for (const { comment } of elements) gone.add(comment ?? '');
      this.#deleteElements(ports);
      const bridge = this.#rt.link({ name: this.config.bridge });
      return {
        links: strayLinks(this.#rt.links({ kind: 'veth' }), this.name, bridge, kept),
        addresses: this.#ipam.strays(kept),
      };
    });
    failpoint('network:collect-after-rules');
    await Promise.all(links.map(async ({ link }) => await this.#deleteLink(link)));
    failpoint('network:collect-after-links');
    await this.#exclusive(() => this.#ipam.releaseStrays(addresses));
    for (const { owner } of links) gone.add(owner);
    for (const record of addresses.values()) if (typeof record !== 'string') gone.add(record.id);
    gone.delete('');
    return [...gone];
  }

  async status(): Promise<NetworkStatus> {
    return await Promise.resolve(this.#statusNow());
  }

  #statusNow(): NetworkStatus {
    try {
      const { stages } = this.#planSetUp();
      if (stages.length > 0) {
        const missing = stages.flatMap((stage) => describeStage(stage, this.config.bridge, POD_LINK));
        const message = `not set up: ${missing.map(({ action }) => action).join('; ')}`;
        return { ready: false, reason: 'NetworkNotSetUp', message };
      }
      const warnings = networkWarnings(this.config, this.#nft);
      return warnings.length === 0 ? { ready: true } : { ready: true, message: warnings.join('; ') };
    } catch (error) {
      return { ready: false, reason: codeOf(error) ?? 'NetworkFailed', message: describeError(error) };
    }
  }

  plan(attachment: NetworkAttachment): NetworkStep[] {
    checkId(attachment.id);
    const { config } = this;
    const observed = observeHost(config, this.#rt, this.#nft);
    const { stages, subnets } = planSetUp(config, observed);
    const addresses = new HostLocal(this.#store, subnets).peek(attachment.id, POD_LINK);
    const input: AttachInput = {
      network: config.name,
      id: attachment.id,
      netnsFd: attachment.netnsFd ?? -1,
      addresses,
      mtu: config.mtu ?? observed.bridge?.mtu ?? observed.uplinkMtu ?? 1500,
      isGateway: config.isGateway,
      hairpin: config.hairpin,
      ipv6: observed.ipv6 !== 'absent',
      ports: portElements(tableOf(config.bridge), attachment.id, addresses, attachment.portMappings),
    };
    const describe = (stage: Stage): NetworkStep[] => describeStage(stage, config.bridge, POD_LINK);
    return [
      ...stages.flatMap(describe),
      ...addresses.map(({ address }) => ({
        where: 'host' as const,
        action: `reserve ${address} in ${join(config.dataDir, config.name)}`,
      })),
      ...attachStages(input).flatMap(describe),
    ];
  }

  /** The addresses that `add` would give to this id now. */
  nextAddresses(id: string): string[] {
    return new HostLocal(this.#store, this.#subnets()).peek(id, POD_LINK).map(({ address }) => address);
  }

  async tearDown(): Promise<void> {
    await this.#exclusive(async () => {
      const { config } = this;
      const bridge = this.#rt.link({ name: config.bridge });
      const owners = this.#ipam.owners();
      const attached = strayLinks(this.#rt.links({ kind: 'veth' }), this.name, bridge, new Set());
      for (const { owner } of attached) owners.add(owner);
      if (owners.size > 0) throw networkInUse(config.name, [...owners]);
      const table = tableOf(config.bridge);
      if (this.#nft.table(table) !== undefined) this.#nft.commit(new NftTransaction().deleteTable(table));
      // A bridge that was there before us stays. So do the forwarding sysctls: others may rely on them by now.
      if (bridge?.alias === ownerAlias(config.name)) await this.#deleteLink(bridge);
      this.#store.removeIfEmpty();
    });
  }

  // ---- each of these runs while the lock is held ----

  #setUpNow(): void {
    const { stages } = this.#planSetUp();
    for (const stage of stages) runStage(stage, this.#sides());
    if (stages.length === 0) return;
    this.#log.info({ network: this.name, bridge: this.config.bridge }, 'the pod network is set up');
  }

  #planSetUp(): SetUpPlan {
    return planSetUp(this.config, observeHost(this.config, this.#rt, this.#nft));
  }

  #attach(attachment: NetworkAttachment, netnsFd: number, undo: CleanupStack): Attached {
    const { id, portMappings } = attachment;
    const { config } = this;
    const bridge = this.#usableBridge();
    const { addresses, fresh } = new HostLocal(this.#store, this.#subnets()).allocate(id, POD_LINK);
    undo.push('release addresses', () => this.#releaseOwn(id, fresh));
    failpoint('network:after-addresses');
    const ports = this.#claimPorts(id, portElements(tableOf(config.bridge), id, addresses, portMappings));
    const input: AttachInput = {
      network: config.name,
      id,
      netnsFd,
      addresses,
      mtu: bridge.mtu,
      isGateway: config.isGateway,
      hairpin: config.hairpin,
      ipv6: ipv6State(config.hostNetnsFd) !== 'absent',
      ports: [],
    };
    using pod = new Rtnetlink(netnsFd);
    const sides = this.#sides({ rt: pod, netnsFd }, bridge);
    if (!this.#isThere(input, bridge, pod)) {
      undo.push('delete link', async () => await this.#deleteLink(this.#linkOf(id)));
      for (const stage of attachStages(input)) runStage(stage, sides);
    }
    if (ports.size > 0) {
      undo.push('delete host ports', () => {
        this.#deletePortsOf(id);
      });
      runStage({ kind: 'rules', name: 'host-ports', where: 'host', transaction: ports }, sides);
    }
    return {
      result: attachResult(input, bridge),
      connection: {
        host: sides.host,
        podNetnsFd: netnsFd,
        bridge,
        hostLink: hostLinkName(id),
        podLink: { name: POD_LINK, index: sides.refs.pod.index },
        addresses,
        isGateway: config.isGateway,
      },
    };
  }

  /** The bridge. It is made or mended where somebody deleted it, or the table, behind our back. */
  #usableBridge(): Link {
    const { bridge: name } = this.config;
    const bridge = this.#rt.link({ name });
    const usable = bridge?.kind === 'bridge' && bridge.up && this.#nft.table(tableOf(name)) !== undefined;
    if (usable) return bridge;
    this.#setUpNow();
    const made = this.#rt.link({ name });
    if (made === undefined) throw linkNotReady(name, 'gone', 0);
    return made;
  }

  /** Checks that nobody else has the ports; the change that makes them this pod's. Throws HOST_PORT_IN_USE. */
  #claimPorts(id: string, want: readonly SetElements[]): NftTransaction {
    if (want.length === 0) return new NftTransaction();
    const all = this.#portElements();
    const conflict = findPortConflict(id, want, all);
    if (conflict !== undefined) {
      throw hostPortInUse(conflict.port, `the pod with sandbox "${conflict.owner}"`);
    }
    const mine = elementsOfOwners(all, (owner) => owner === id);
    return planPortElements(mine, want);
  }

  /** Only what is still this pod's. */
  #releaseOwn(id: string, addresses: readonly string[]): void {
    const own = new Set(this.#store.addressesOf(id, POD_LINK));
    for (const address of addresses) if (own.has(address)) this.#store.release(address);
  }

  /** True where the pod is connected as it should be; what is there but is not so is removed. */
  #isThere(input: AttachInput, bridge: Link, pod: Rtnetlink): boolean {
    const link = this.#rt.link({ name: hostLinkName(input.id) });
    if (link === undefined) return false;
    const owner = ownerOfLink(link, this.name, bridge);
    if (owner !== input.id && owner !== '') {
      throw linkNameTaken(link.name, owner === undefined ? 'somebody else' : `the sandbox "${owner}"`);
    }
    const inside = pod.link({ name: POD_LINK });
    const addresses = inside === undefined ? [] : pod.addresses(inside);
    if (isAttached(input, bridge, link, inside, addresses)) return true;
    this.#rt.applyUnless(deleteLink(link), 'ENODEV');
    return false;
  }

  /** True where there were any. */
  #deletePortsOf(id: string): boolean {
    const mine = elementsOfOwners(this.#portElements(), (owner) => owner === id);
    this.#deleteElements(mine);
    return mine.length > 0;
  }

  /** The host's end of a pod's pair; undefined where there is none of this pod. */
  #linkOf(id: string): Link | undefined {
    const link = this.#rt.link({ name: hostLinkName(id) });
    if (link === undefined) return undefined;
    const bridge = link.alias === '' ? this.#rt.link({ name: this.config.bridge }) : undefined;
    const owner = ownerOfLink(link, this.name, bridge);
    return owner === id || owner === '' ? link : undefined;
  }

  /** Both ends go. On another thread: it takes some 15 ms. */
  async #deleteLink(link: Link | undefined): Promise<void> {
    if (link === undefined) return;
    try {
      await applyInBackground(this.config.hostNetnsFd, [deleteLink(link)]);
    } catch (error) {
      if (!hasCode(error, 'ENODEV')) throw error;
    }
  }

  /** Of both families, whatever the host has now: what was made must be found again. */
  #portElements(): SetElements[] {
    return listPortElements(this.#nft, tableOf(this.config.bridge), this.config.subnets);
  }

  #deleteElements(items: readonly SetElements[]): void {
    if (items.length === 0) return;
    const tx = new NftTransaction();
    for (const { set, elements } of items) tx.deleteElements(set, elements);
    this.#nft.commit(tx);
  }

  #sides(pod?: Side, bridge?: Link): Sides {
    return {
      host: { rt: this.#rt, netnsFd: this.config.hostNetnsFd, nft: this.#nft },
      ...(pod === undefined ? {} : { pod }),
      refs: { bridge: bridge ?? lazyLink(this.#rt, this.config.bridge), pod: lazyLink(pod?.rt, POD_LINK) },
    };
  }

  /** After the rules are gone, so that no packet makes the same connection again. */
  #forgetFlowsTo(addresses: ReadonlySet<string>): void {
    this.#forgetFlows((flows) => staleAfterRemove(flows, addresses));
  }

  // ---- no lock ----

  /** After the rules are in. */
  #forgetOldFlows({ portMappings }: NetworkAttachment, addresses: readonly PodAddress[]): void {
    if (!portMappings.some(({ protocol }) => protocol === 'udp')) return;
    const own = new Set(addresses.map(({ address }) => address));
    const host = new Set(this.#rt.addresses().map(({ address }) => address.replace(/\/\d+$/, '')));
    this.#forgetFlows((flows) => staleAfterAdd(flows, portMappings, own, host));
  }

  /** A kernel without conntrack's netlink part has rules all the same: their clients wait for the time-out. */
  #forgetFlows(choose: (flows: readonly Flow[]) => readonly Flow[]): void {
    try {
      using conntrack = new Conntrack(this.config.hostNetnsFd);
      for (const { family } of this.config.subnets) {
        for (const flow of choose(conntrack.list(family))) conntrack.delete(flow);
      }
    } catch (error) {
      this.#log.warn({ err: error, network: this.name }, 'cannot forget old connections of a host port');
    }
  }

  #checkAttachment({ id, netnsFd }: NetworkAttachment): number {
    checkId(id);
    if (netnsFd === undefined) throw badPodNamespace(id, 'it has no network namespace');
    const { hostNetnsFd } = this.config;
    const host = hostNetnsFd === undefined ? statSync('/proc/self/ns/net') : fstatSync(hostNetnsFd);
    if (fstatSync(netnsFd).ino === host.ino) throw badPodNamespace(id, "its network namespace is the host's");
    return netnsFd;
  }

  async #exclusive<T>(work: () => T | Promise<T>): Promise<T> {
    return await this.#mutex.run('', async () => {
      using _lock = await this.#store.lock();
      return await work();
    });
  }

  #subnets(): PodSubnet[] {
    return usableSubnets(this.config, ipv6State(this.config.hostNetnsFd));
  }

  get #ipam(): HostLocal {
    return new HostLocal(this.#store, this.config.subnets);
  }

  get #rt(): Rtnetlink {
    this.#rtnetlink ??= new Rtnetlink(this.config.hostNetnsFd);
    return this.#rtnetlink;
  }

  get #nft(): Nftables {
    this.#nftables ??= new Nftables(this.config.hostNetnsFd);
    return this.#nftables;
  }
}
