/** Addresses for pods: which one, from the ranges and the files. Every call is made while the store's lock is held. */
import { bytesOfIp, formatIp, formatIpBytes, ipBytes, ipFromBytes } from '../../linux/ip.ts';
import type { PodSubnet } from '../config.ts';
import { rangeExhausted } from '../errors.ts';
import { formatRange, isInRange, nextFree, rangeSize } from './range.ts';
import type { AddressRecord, AddressStore } from './store.ts';

/** An address that a pod has, or would get. */
export interface PodAddress {
  readonly subnet: PodSubnet;
  /** Without prefix. */
  readonly address: string;
}

export class HostLocal {
  readonly #store: AddressStore;
  readonly #subnets: readonly PodSubnet[];

  constructor(store: AddressStore, subnets: readonly PodSubnet[]) {
    this.#store = store;
    this.#subnets = subnets;
  }

  /** One address of each subnet: those that the pod has, else those that it would get. Changes nothing. */
  peek(id: string, ifname: string): PodAddress[] {
    const mine = this.#store.addressesOf(id, ifname);
    return this.#subnets.map((subnet, index) => ({
      subnet,
      address: this.#inSubnet(subnet, mine) ?? this.#next(subnet, index),
    }));
  }

  /**
   * One address of each subnet; `fresh` lists those that the pod had not before. Where a later subnet has none left,
   * the earlier one's is given back. Throws ADDRESS_RANGE_EXHAUSTED.
   */
  allocate(id: string, ifname: string): { readonly addresses: PodAddress[]; readonly fresh: string[] } {
    const mine = this.#store.addressesOf(id, ifname);
    const addresses: PodAddress[] = [];
    const fresh: string[] = [];
    try {
      for (const [index, subnet] of this.#subnets.entries()) {
        let address = this.#inSubnet(subnet, mine);
        while (address === undefined) {
          const next = this.#next(subnet, index);
          if (!this.#store.reserve(next, { id, ifname })) continue;
          fresh.push(next);
          this.#store.setLast(index, next);
          address = next;
        }
        addresses.push({ subnet, address });
      }
    } catch (error) {
      for (const address of fresh) this.#store.release(address);
      throw error;
    }
    return { addresses, fresh };
  }

  /** Gives back all addresses of a pod; those that it had. */
  release(id: string, ifname: string): string[] {
    const mine = this.#store.addressesOf(id, ifname);
    for (const address of mine) this.#store.release(address);
    return mine;
  }

  /** The ids of all pods that have an address. */
  owners(): Set<string> {
    const ids = new Set<string>();
    for (const record of this.#store.records().values()) if (typeof record !== 'string') ids.add(record.id);
    return ids;
  }

  /** The addresses that belong to no valid id: also those of which nobody can say whose they are. */
  strays(valid: ReadonlySet<string>): Map<string, AddressRecord> {
    const found = new Map<string, AddressRecord>();
    for (const [address, record] of this.#store.records()) {
      if (typeof record === 'string' || !valid.has(record.id)) found.set(address, record);
    }
    return found;
  }

  /** Gives back addresses that `strays` found, unless somebody got them meanwhile. */
  releaseStrays(strays: ReadonlyMap<string, AddressRecord>): void {
    for (const [address, record] of strays) {
      const now = this.#store.records().get(address);
      const same =
        typeof now === 'string' || typeof record === 'string' ? now === record : now?.id === record.id;
      if (same) this.#store.release(address);
    }
  }

  #inSubnet(subnet: PodSubnet, addresses: readonly string[]): string | undefined {
    return addresses.find((address) => {
      const bytes = ipBytes(address);
      return bytes !== undefined && isInRange(subnet.range, ipFromBytes(bytes));
    });
  }

  #next(subnet: PodSubnet, index: number): string {
    const { range, family } = subnet;
    const records = this.#store.records();
    const last = this.#store.last(index);
    const bytes = last === undefined ? undefined : ipBytes(last);
    const previous = bytes === undefined ? undefined : ipFromBytes(bytes);
    const isTaken = (value: bigint): boolean => {
      const record = records.get(formatIpBytes(bytesOfIp({ family, value })));
      return record !== undefined && record !== 'empty';
    };
    const next = nextFree(range, previous?.family === family ? previous.value : undefined, isTaken);
    if (next === undefined) {
      const size = Number(rangeSize(range));
      const inUse = [...records.keys()].filter((address) => {
        const taken = ipBytes(address);
        return taken !== undefined && isInRange(range, ipFromBytes(taken));
      }).length;
      throw rangeExhausted(formatRange(range), subnet.text, inUse, size);
    }
    return formatIp({ family, value: next });
  }
}
