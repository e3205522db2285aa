/** What is not as it should be on the host but is not ours to change. */
import type { Nftables } from '../linux/nftables/index.ts';
import type { BridgeNetworkConfig } from './config.ts';
import { hasBridgeNetfilter } from './observe.ts';
import { tableOf } from './rules.ts';

export function networkWarnings(config: BridgeNetworkConfig, nft: Nftables): string[] {
  const warnings: string[] = [];
  if (config.bridgeNetfilter && !hasBridgeNetfilter(config.hostNetnsFd)) {
    warnings.push(
      'br_netfilter is not loaded: pods of this node that reach each other by a host port see the gateway as their client (mend: modprobe br_netfilter)',
    );
  }
  const own = tableOf(config.bridge).name;
  for (const { table, name, base } of nft.chains()) {
    if (base?.hook !== 'forward' || base.policy !== 'drop' || table.name === own) continue;
    warnings.push(
      `chain "${name}" of nftables table "${table.family} ${table.name}" drops forwarded packets that no rule of it accepts: pods may not reach the outside (mend: accept packets from and to "${config.bridge}" there)`,
    );
  }
  return warnings;
}
