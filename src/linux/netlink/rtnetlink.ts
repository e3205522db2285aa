import { hasCode } from '../../base/index.ts';
import { type LinkAddress, listAddresses, listGroups, parseAddress, parseGroup } from './address.ts';
import { NETLINK } from './constants.ts';
import { getLink, type Link, type LinkRef, listLinks, parseLink } from './link.ts';
import { listNeighbours, type Neighbour, parseNeighbour } from './neighbour.ts';
import { listRoutes, parseRoute, type Route } from './route.ts';
import { type NetlinkRequest, NetlinkSocket } from './socket.ts';

/** The links, addresses, routes and neighbours of one network namespace. */
export class Rtnetlink implements Disposable {
  readonly #socket: NetlinkSocket;

  /** `netnsFd` undefined: the process's own namespace. The descriptor is not kept. */
  constructor(netnsFd?: number) {
    this.#socket = new NetlinkSocket({ protocol: NETLINK.ROUTE, netnsFd });
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Sends all requests in one sendmsg; see `NetlinkSocket.execute` for failures. */
  apply(requests: readonly NetlinkRequest[]): void {
    this.#socket.execute(requests);
  }

  /** Like `apply`, but an error with one of `codes` counts as done: the state asked for held already. */
  applyUnless(request: NetlinkRequest, ...codes: readonly string[]): boolean {
    try {
      this.#socket.execute([request]);
      return true;
    } catch (error) {
      if (hasCode(error, ...codes)) return false;
      throw error;
    }
  }

  /** The link, or undefined where there is none. */
  link(target: { readonly name: string } | { readonly index: number }): Link | undefined {
    try {
      const [answer] = this.#socket.execute([getLink(target)]);
      return answer === undefined ? undefined : parseLink(answer);
    } catch (error) {
      if (hasCode(error, 'ENODEV')) return undefined;
      throw error;
    }
  }

  links(filter?: { readonly master?: LinkRef; readonly kind?: string }): Link[] {
    return this.#socket.dump(listLinks(filter)).map(parseLink);
  }

  addresses(link?: LinkRef): LinkAddress[] {
    return this.#socket.dump(listAddresses(link)).map(parseAddress);
  }

  /** The IPv6 multicast groups that a link listens to. */
  groups(link: LinkRef): string[] {
    const groups = this.#socket.dump(listGroups(link)).map(parseGroup);
    return groups.filter(({ linkIndex }) => linkIndex === link.index).map(({ group }) => group);
  }

  routes(family: 4 | 6, link?: LinkRef): Route[] {
    return this.#socket.dump(listRoutes(family, link)).map(parseRoute);
  }

  neighbours(family: 4 | 6 | 'fdb'): Neighbour[] {
    return this.#socket.dump(listNeighbours(family)).map(parseNeighbour);
  }
}

/**
 * Sends requests with the kernel's work on another thread, by a socket of their own. Deleting a link takes some 15 ms,
 * in which the kernel waits for readers of its data (RCU).
 */
export async function applyInBackground(
  netnsFd: number | undefined,
  requests: readonly NetlinkRequest[],
): Promise<void> {
  using socket = new NetlinkSocket({ protocol: NETLINK.ROUTE, netnsFd });
  await socket.executeInBackground(requests);
}
