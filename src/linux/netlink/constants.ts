/** Numbers of netlink(7) and rtnetlink(7): linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, neighbour.h, veth.h. */

/** Netlink families: the protocol of the socket. */
export const NETLINK = { ROUTE: 0, NETFILTER: 12, GENERIC: 16 } as const;

/** Message types below 16 belong to netlink itself. */
export const NLMSG = { NOOP: 1, ERROR: 2, DONE: 3, OVERRUN: 4 } as const;

/** Flags of a message; the bits from 0x100 on depend on the kind of request (get, new, delete, ack). */
export const NLM_F = {
  REQUEST: 0x1,
  MULTI: 0x2,
  ACK: 0x4,
  ECHO: 0x8,
  /** The table changed while it was dumped: the answer is inconsistent, ask again. */
  DUMP_INTR: 0x10,
  DUMP_FILTERED: 0x20,
  // get
  ROOT: 0x100,
  MATCH: 0x200,
  DUMP: 0x300,
  // new
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
  APPEND: 0x800,
  // ack
  CAPPED: 0x100,
  ACK_TLVS: 0x200,
} as const;

/** Extended acknowledgement. */
export const NLMSGERR_ATTR = { MSG: 1, OFFS: 2, COOKIE: 3, POLICY: 4, MISS_TYPE: 5, MISS_NEST: 6 } as const;

export const NLA_F_NESTED = 0x8000;
export const NLA_F_NET_BYTEORDER = 0x4000;
export const NLA_TYPE_MASK = 0x3fff;

export const SOL_NETLINK = 270;
export const NETLINK_ADD_MEMBERSHIP = 1;

export const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  SETLINK: 19,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  GETNEIGH: 30,
  GETMULTICAST: 58,
} as const;

/** Multicast groups of NETLINK_ROUTE, by number. */
export const RTNLGRP = {
  LINK: 1,
  NEIGH: 3,
  IPV4_IFADDR: 5,
  IPV4_ROUTE: 7,
  IPV6_IFADDR: 9,
  IPV6_ROUTE: 11,
} as const;

/** Address families. */
export const AF = { UNSPEC: 0, INET: 2, BRIDGE: 7, INET6: 10 } as const;

/** Flags of an interface, as of `ifi_flags`. */
export const IFF = {
  UP: 0x1,
  BROADCAST: 0x2,
  LOOPBACK: 0x8,
  POINTOPOINT: 0x10,
  RUNNING: 0x40,
  NOARP: 0x80,
  PROMISC: 0x100,
  MULTICAST: 0x1000,
  LOWER_UP: 0x10000,
} as const;

export const IFLA = {
  ADDRESS: 1,
  BROADCAST: 2,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  PROTINFO: 12,
  TXQLEN: 13,
  OPERSTATE: 16,
  LINKINFO: 18,
  IFALIAS: 20,
  AF_SPEC: 26,
  GROUP: 27,
  NET_NS_FD: 28,
  EXT_MASK: 29,
  PROMISCUITY: 30,
  LINK_NETNSID: 37,
} as const;

/** IFLA_EXT_MASK: leave out the counters, which are most of a link's message. */
export const RTEXT_FILTER_SKIP_STATS = 8;

export const IFLA_INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const;

export const IFLA_BR = {
  FORWARD_DELAY: 1,
  STP_STATE: 5,
  VLAN_FILTERING: 7,
  MCAST_SNOOPING: 23,
  NF_CALL_IPTABLES: 36,
  NF_CALL_IP6TABLES: 37,
} as const;

export const IFLA_BRPORT = { STATE: 1, MODE: 4, LEARNING: 8, UNICAST_FLOOD: 9, ISOLATED: 33 } as const;

export const VETH_INFO_PEER = 1;

export const IFLA_VXLAN = { ID: 1, LOCAL: 4, LEARNING: 7, PORT: 15, LOCAL6: 17 } as const;

export const IFLA_INET6_ADDR_GEN_MODE = 8;

/** RFC 2863 states, by number. */
export const OPERSTATES = [
  'unknown',
  'notpresent',
  'down',
  'lowerlayerdown',
  'testing',
  'dormant',
  'up',
] as const;

export const IFA = { ADDRESS: 1, LOCAL: 2, LABEL: 3, BROADCAST: 4, MULTICAST: 7, FLAGS: 8 } as const;

export const IFA_F = {
  NODAD: 0x02,
  DADFAILED: 0x08,
  DEPRECATED: 0x20,
  TENTATIVE: 0x40,
  PERMANENT: 0x80,
} as const;

export const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PRIORITY: 6, PREFSRC: 7, TABLE: 15 } as const;

export const RT_TABLE = { DEFAULT: 253, MAIN: 254, LOCAL: 255 } as const;

/** Who made a route. */
export const RTPROT = { KERNEL: 2, BOOT: 3, STATIC: 4, RA: 9 } as const;

export const RT_SCOPE = { UNIVERSE: 0, LINK: 253, HOST: 254, NOWHERE: 255 } as const;

export const RTN = { UNICAST: 1, LOCAL: 2, BLACKHOLE: 6, UNREACHABLE: 7 } as const;

export const RTNH_F_ONLINK = 4;

export const NDA = { DST: 1, LLADDR: 2 } as const;

export const NUD = { REACHABLE: 0x02, STALE: 0x04, FAILED: 0x20, NOARP: 0x40, PERMANENT: 0x80 } as const;

export const NTF = { SELF: 0x02, MASTER: 0x04 } as const;
