import { type CgroupHost, readCgroupHost } from '../../linux/cgroups/index.ts';
import type { OciLog } from './log.ts';
import { OciStore } from './state.ts';

/** What every verb has. */
export class OciContext {
  readonly store: OciStore;
  readonly log: OciLog;
  #host: CgroupHost | undefined;

  constructor(root: string, log: OciLog) {
    this.store = new OciStore(root);
    this.log = log;
  }

  /** Throws CGROUP_V2_MISSING. */
  get host(): CgroupHost {
    this.#host ??= readCgroupHost();
    return this.#host;
  }
}
