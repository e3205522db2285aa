/** Carries stages out: one executor for each kind. */
import { failpoint } from '../base/index.ts';
import type { LinkRef, Rtnetlink } from '../linux/netlink/index.ts';
import { writeNetSysctl } from '../linux/netns.ts';
import type { Nftables } from '../linux/nftables/index.ts';
import { POD_LINK } from './config.ts';
import { linkNotReady } from './errors.ts';
import type { LinkRefs, Stage } from './stages.ts';

/** A namespace to work in. */
export interface Side {
  readonly rt: Rtnetlink;
  /** Undefined for the process's own. */
  readonly netnsFd: number | undefined;
}

/** Where stages are carried out. Stages that set the network up have no pod. */
export interface Sides {
  readonly host: Side & { readonly nft: Nftables };
  readonly pod?: Side;
  readonly refs: LinkRefs;
}

type Executors = {
  readonly [K in Stage['kind']]: (stage: Extract<Stage, { kind: K }>, sides: Sides) => void;
};

const EXECUTORS: Executors = {
  sysctls(stage, sides) {
    const { netnsFd } = sideOf(stage, sides);
    for (const { name, value } of stage.settings) writeNetSysctl(netnsFd, name, value);
  },
  links: (stage, sides) => sideOf(stage, sides).rt.apply(stage.requests(sides.refs)),
  rules: (stage, sides) => sides.host.nft.commit(stage.transaction),
};

function sideOf(stage: Stage, sides: Sides): Side {
  if (stage.where === 'host') return sides.host;
  if (sides.pod === undefined) throw linkNotReady(POD_LINK, 'in no namespace', 0);
  return sides.pod;
}

export function runStage(stage: Stage, sides: Sides): void {
  (EXECUTORS[stage.kind] as (stage: Stage, sides: Sides) => void)(stage, sides);
  failpoint(`network:after-${stage.name}`);
}

/** A link that is looked up when its index is asked for, after the stage that makes it. */
export function lazyLink(rt: Rtnetlink | undefined, name: string): LinkRef {
  let index: number | undefined;
  return {
    name,
    get index() {
      index ??= rt?.link({ name })?.index;
      if (index === undefined) throw linkNotReady(name, 'gone', 0);
      return index;
    },
  };
}
