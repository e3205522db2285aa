/** Numbers of linux/netfilter/nf_tables.h, nfnetlink.h and libnftnl's userdata. */

/** Families of tables. */
export const NFPROTO = { inet: 1, ip: 2, ip6: 10 } as const;

export const NFNL_SUBSYS_NFTABLES = 10;
export const NFNL_MSG_BATCH_BEGIN = 0x10;
export const NFNL_MSG_BATCH_END = 0x11;

/** Multicast group of NETLINK_NETFILTER that tells of every change of the rule set. */
export const NFNLGRP_NFTABLES = 7;

export const NFT_MSG = {
  NEWTABLE: 0,
  GETTABLE: 1,
  DELTABLE: 2,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  DELCHAIN: 5,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
  NEWSET: 9,
  GETSET: 10,
  DELSET: 11,
  NEWSETELEM: 12,
  GETSETELEM: 13,
  DELSETELEM: 14,
  NEWGEN: 15,
  GETGEN: 16,
} as const;

export const NFTA_LIST_ELEM = 1;
export const NFTA_TABLE = { NAME: 1, FLAGS: 2, USE: 3, HANDLE: 4, USERDATA: 6 } as const;
export const NFTA_CHAIN = {
  TABLE: 1,
  HANDLE: 2,
  NAME: 3,
  HOOK: 4,
  POLICY: 5,
  USE: 6,
  TYPE: 7,
  USERDATA: 12,
} as const;
export const NFTA_HOOK = { HOOKNUM: 1, PRIORITY: 2 } as const;
export const NFTA_RULE = { TABLE: 1, CHAIN: 2, HANDLE: 3, EXPRESSIONS: 4, POSITION: 6, USERDATA: 7 } as const;
export const NFTA_SET = {
  TABLE: 1,
  NAME: 2,
  FLAGS: 3,
  KEY_TYPE: 4,
  KEY_LEN: 5,
  DATA_TYPE: 6,
  DATA_LEN: 7,
  DESC: 9,
  ID: 10,
  TIMEOUT: 11,
  USERDATA: 13,
} as const;
export const NFTA_SET_DESC_SIZE = 1;
export const NFTA_SET_ELEM_LIST = { TABLE: 1, SET: 2, ELEMENTS: 3, SET_ID: 4 } as const;
export const NFTA_SET_ELEM = { KEY: 1, DATA: 2, FLAGS: 3, TIMEOUT: 4, EXPIRATION: 5, USERDATA: 6 } as const;
export const NFTA_DATA = { VALUE: 1, VERDICT: 2 } as const;
export const NFTA_VERDICT = { CODE: 1, CHAIN: 2 } as const;
export const NFTA_EXPR = { NAME: 1, DATA: 2 } as const;
export const NFTA_GEN_ID = 1;

export const NFT_SET = {
  ANONYMOUS: 0x1,
  CONSTANT: 0x2,
  INTERVAL: 0x4,
  MAP: 0x8,
  TIMEOUT: 0x10,
  EVAL: 0x20,
} as const;

/** NFTA_SET_DATA_TYPE of a verdict map. */
export const NFT_DATA_VERDICT = 0xffff_ff00;

/** Verdict codes, as of netfilter (drop, accept) and of nf_tables. */
export const VERDICT = { drop: 0, accept: 1, jump: -3, goto: -4, return: -5 } as const;

/** Hook numbers of ip, ip6 and inet. */
export const HOOKS = ['prerouting', 'input', 'forward', 'output', 'postrouting'] as const;

/** NFNL userdata: type u8, length u8, value. */
export const UDATA_TABLE_COMMENT = 0;
export const UDATA_CHAIN_COMMENT = 0;
export const UDATA_RULE_COMMENT = 0;
export const UDATA_ELEMENT_COMMENT = 0;
export const UDATA_SET = { KEYBYTEORDER: 0, DATABYTEORDER: 1, COMMENT: 7 } as const;
export const UDATA_BYTEORDER = { host: 1, network: 2 } as const;

/** The longest comment that nft(8) takes, in bytes. */
export const COMMENT_MAX = 128;
/** The longest name of a table, chain or set, in bytes. */
export const NAME_MAX = 255;
