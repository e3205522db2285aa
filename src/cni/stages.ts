/**
 * What the network does, as data: a list of stages, each of which is one visit to a namespace. The same list is
 * printed by `nodelet plan` and carried out by `BridgeNetwork`.
 */
import type { LinkRef, NetlinkRequest } from '../linux/netlink/index.ts';
import type { NftTransaction } from '../linux/nftables/index.ts';
import type { NetworkStep } from './types.ts';

export type Side = NetworkStep['where'];

/** Links whose index is only known once they are made. */
export interface LinkRefs {
  readonly bridge: LinkRef;
  readonly pod: LinkRef;
}

export interface Sysctl {
  /** Below net: `ipv6/conf/eth0/accept_ra` */
  readonly name: string;
  readonly value: string;
}

export type Stage =
  | {
      readonly kind: 'sysctls';
      readonly name: string;
      readonly where: Side;
      readonly settings: readonly Sysctl[];
    }
  /** One sendmsg. */
  | {
      readonly kind: 'links';
      readonly name: string;
      readonly where: Side;
      requests(refs: LinkRefs): readonly NetlinkRequest[];
    }
  /** One transaction. */
  | {
      readonly kind: 'rules';
      readonly name: string;
      readonly where: 'host';
      readonly transaction: NftTransaction;
    };

/** Lines as sysctl(8), ip(8) and nft(8) would say them; indices are left out. */
export function describeStage(stage: Stage, bridge: string, pod: string): NetworkStep[] {
  const lines = ((): readonly string[] => {
    switch (stage.kind) {
      case 'sysctls':
        return stage.settings.map(({ name, value }) => `sysctl -w net/${name}=${value}`);
      case 'links':
        return stage
          .requests({ bridge: { index: 0, name: bridge }, pod: { index: 0, name: pod } })
          .map((request) => request.describe());
      default:
        return stage.transaction
          .toString()
          .split('\n')
          .map((line) => `nft ${line}`);
    }
  })();
  return lines.map((action) => ({ where: stage.where, action }));
}
