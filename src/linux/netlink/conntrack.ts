/** The connections that the kernel tracks in one network namespace: nfnetlink_conntrack.h. */
import { hasCode } from '../../base/index.ts';
import { formatIpBytes } from '../ip.ts';
import { AF, NETLINK } from './constants.ts';
import { Attributes, type NetlinkMessage } from './reader.ts';
import { type NetlinkRequest, NetlinkSocket } from './socket.ts';
import type { NetlinkWriter } from './writer.ts';

const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT = { GET: 1, DELETE: 2 } as const;
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, ID: 12 } as const;
const CTA_TUPLE = { IP: 1, PROTO: 2 } as const;
const CTA_IP = { V4_SRC: 1, V4_DST: 2, V6_SRC: 3, V6_DST: 4 } as const;
const CTA_PROTO = { NUM: 1, SRC_PORT: 2, DST_PORT: 3 } as const;

/** One direction of a connection. Ports are 0 where the protocol has none. */
export interface FlowTuple {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export interface Flow {
  readonly family: 4 | 6;
  /** IP protocol number: 6 TCP, 17 UDP, 132 SCTP. */
  readonly protocol: number;
  /** As the first packet came. */
  readonly original: FlowTuple;
  /** As the answer is expected: its source is who really answers. */
  readonly reply: FlowTuple;
  /** What names the connection to the kernel. */
  readonly key: { readonly tuple: Buffer; readonly id: Buffer | undefined };
}

function readTuple(attributes: Attributes | undefined): {
  readonly protocol: number;
  readonly tuple: FlowTuple;
} {
  const ip = attributes?.nest(CTA_TUPLE.IP);
  const proto = attributes?.nest(CTA_TUPLE.PROTO);
  const address = (v4: number, v6: number): string => {
    const bytes = ip?.bytes(v4) ?? ip?.bytes(v6);
    return bytes === undefined ? '' : formatIpBytes(bytes);
  };
  const port = (type: number): number => proto?.bytes(type)?.readUInt16BE(0) ?? 0;
  return {
    protocol: proto?.u8(CTA_PROTO.NUM) ?? 0,
    tuple: {
      source: address(CTA_IP.V4_SRC, CTA_IP.V6_SRC),
      destination: address(CTA_IP.V4_DST, CTA_IP.V6_DST),
      sourcePort: port(CTA_PROTO.SRC_PORT),
      destinationPort: port(CTA_PROTO.DST_PORT),
    },
  };
}

function readFlow(message: NetlinkMessage): Flow {
  const attributes = new Attributes(message.payload.subarray(4));
  const original = readTuple(attributes.nest(CTA.TUPLE_ORIG));
  return {
    family: message.payload[0] === AF.INET6 ? 6 : 4,
    protocol: original.protocol,
    original: original.tuple,
    reply: readTuple(attributes.nest(CTA.TUPLE_REPLY)).tuple,
    key: { tuple: attributes.bytes(CTA.TUPLE_ORIG) ?? Buffer.alloc(0), id: attributes.bytes(CTA.ID) },
  };
}

function request(
  message: number,
  family: 4 | 6,
  what: string,
  write: (w: NetlinkWriter) => void,
): NetlinkRequest {
  return {
    type: (NFNL_SUBSYS_CTNETLINK << 8) | message,
    flags: 0,
    describe: () => what,
    write(w) {
      w.u8(family === 6 ? AF.INET6 : AF.INET);
      w.u8(0);
      w.u16be(0);
      write(w);
    },
  };
}

export function describeFlow({ protocol, original }: Flow): string {
  return `protocol ${protocol} from ${original.source} port ${original.sourcePort} to ${original.destination} port ${original.destinationPort}`;
}

export class Conntrack implements Disposable {
  readonly #socket: NetlinkSocket;

  /** `netnsFd` undefined: the process's own namespace. The descriptor is not kept. */
  constructor(netnsFd?: number) {
    this.#socket = new NetlinkSocket({ protocol: NETLINK.NETFILTER, netnsFd });
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  list(family: 4 | 6): Flow[] {
    return this.#socket
      .dump(request(IPCTNL_MSG_CT.GET, family, `conntrack -L -f ipv${family}`, () => {}))
      .map(readFlow);
  }

  /** Forgets a connection: its next packet is a first one. False where it is gone already. */
  delete(flow: Flow): boolean {
    const what = `conntrack -D ${describeFlow(flow)}`;
    const { tuple, id } = flow.key;
    try {
      this.#socket.execute([
        request(IPCTNL_MSG_CT.DELETE, flow.family, what, (w) => {
          w.nest(CTA.TUPLE_ORIG, () => w.raw(tuple));
          // Of this connection, not of one that has taken its place.
          if (id !== undefined) w.attrBytes(CTA.ID, id);
        }),
      ]);
      return true;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }
}
