import { NodeletError } from '../base/index.ts';

/** A setting of the network that cannot be meant. */
export function invalidConfig(message: string, hint?: string): NodeletError {
  return new NodeletError('NETWORK_INVALID_CONFIG', message, hint === undefined ? {} : { hint });
}

export function ipv6Disabled(subnet: string): NodeletError {
  return new NodeletError(
    'IPV6_DISABLED',
    `cannot use subnet "${subnet}": IPv6 is switched off on this host`,
    {
      hint: 'leave the IPv6 subnet out, or switch IPv6 on with: sysctl -w net.ipv6.conf.all.disable_ipv6=0',
    },
  );
}

export function bridgeNameTaken(name: string, kind: string): NodeletError {
  return new NodeletError(
    'BRIDGE_NAME_TAKEN',
    `cannot use "${name}" as the bridge: there is a link of that name, of kind "${kind}"`,
    {
      hint: 'choose another bridge name',
    },
  );
}

export function subnetInUse(subnet: string, link: string, address: string): NodeletError {
  return new NodeletError(
    'SUBNET_IN_USE',
    `cannot use subnet "${subnet}": link "${link}" has the address "${address}" in it`,
    {
      hint: 'choose another subnet for the pods',
      details: { subnet, link, address },
    },
  );
}

export function rangeExhausted(range: string, subnet: string, inUse: number, size: number): NodeletError {
  return new NodeletError(
    'ADDRESS_RANGE_EXHAUSTED',
    `cannot give the pod an address: all of "${range}" in subnet "${subnet}" are taken, ${inUse} of ${size}`,
    {
      hint: 'remove pods, let the agent collect the addresses of pods that are gone (it does so at start), or give the network a larger subnet',
      details: { range, subnet, inUse, size },
    },
  );
}

export function hostPortInUse(what: string, owner: string): NodeletError {
  return new NodeletError('HOST_PORT_IN_USE', `cannot map host port ${what}: it belongs to ${owner}`, {
    hint: 'remove the pod that has it, or choose another hostPort or hostIP',
    details: { owner },
  });
}

export function networkInUse(name: string, owners: readonly string[]): NodeletError {
  return new NodeletError(
    'NETWORK_IN_USE',
    `cannot remove network "${name}": ${owners.length} pods are attached to it`,
    {
      hint: 'remove the pods first',
      details: { owners },
    },
  );
}

export function linkNameTaken(name: string, owner: string): NodeletError {
  return new NodeletError(
    'LINK_NAME_TAKEN',
    `cannot make link "${name}": there is one of that name that belongs to ${owner}`,
  );
}

/** A pod needs a namespace of its own: `reason` says what was given instead. */
export function badPodNamespace(id: string, reason: string): NodeletError {
  return new NodeletError('POD_NETNS_INVALID', `cannot attach sandbox "${id}" to the network: ${reason}`);
}

export function linkNotReady(name: string, state: string, ms: number): NodeletError {
  return new NodeletError('LINK_NOT_READY', `link "${name}" does not forward after ${ms} ms: it is ${state}`);
}
