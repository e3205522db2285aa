import { sleep } from '../base/index.ts';
import { type LinkRef, Rtnetlink, solicitedNodeGroup } from '../linux/netlink/index.ts';
import { settleLink } from '../linux/netns.ts';
import { POD_LINK } from './config.ts';
import { linkNotReady } from './errors.ts';
import type { Side } from './execute.ts';
import type { PodAddress } from './ipam/host-local.ts';

/** The state of a bridge's port that passes frames, with or without STP. */
const BR_STATE_FORWARDING = 3;
const DEADLINE_MS = 2000;

export interface Connection {
  readonly host: Side;
  readonly podNetnsFd: number;
  readonly bridge: LinkRef;
  /** The host's end of the pair. */
  readonly hostLink: string;
  readonly podLink: LinkRef;
  readonly addresses: readonly PodAddress[];
  readonly isGateway: boolean;
}

/**
 * Waits until frames pass and both ends answer their neighbours. The kernel does the rest of what was asked of it
 * later, by itself: it sees carriers, and joins the groups by which IPv6 neighbours look for an address. A packet that
 * comes before is lost, and its sender waits for a second. Throws LINK_NOT_READY.
 */
export async function untilReady({
  host,
  podNetnsFd,
  bridge,
  hostLink,
  podLink,
  addresses,
  isGateway,
}: Connection): Promise<void> {
  const v6 = addresses.filter(({ subnet }) => subnet.family === 6);
  const own = v6.map(({ address }) => address);
  const gateways = isGateway ? v6.map(({ subnet }) => subnet.gateway) : [];
  using pod = new Rtnetlink(podNetnsFd);
  const started = performance.now();
  for (;;) {
    settleLink(host.netnsFd, hostLink);
    settleLink(podNetnsFd, POD_LINK);
    settleLink(host.netnsFd, bridge.name);
    const link = host.rt.link({ name: hostLink });
    const forwards = link?.operState === 'up' && link.port?.state === BR_STATE_FORWARDING;
    if (forwards && isHeard(pod, podLink, own) && isHeard(host.rt, bridge, gateways)) return;
    const waited = performance.now() - started;
    if (link === undefined || waited > DEADLINE_MS) {
      const state = link === undefined ? 'gone' : `${link.operState}, port state ${link.port?.state}`;
      throw linkNotReady(hostLink, state, Math.round(waited));
    }
    await sleep(1);
  }
}

/** True where the link listens to what neighbours ask for these IPv6 addresses. */
function isHeard(rt: Rtnetlink, link: LinkRef, addresses: readonly string[]): boolean {
  if (addresses.length === 0) return true;
  const groups = new Set(rt.groups(link));
  return addresses.every((address) => groups.has(solicitedNodeGroup(address)));
}
