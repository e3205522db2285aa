/** One step of making a cgroup or changing its values. */
export type CgroupStep =
  | { readonly op: 'mkdir'; readonly path: string; readonly why?: string }
  | {
      readonly op: 'write';
      readonly path: string;
      readonly value: string;
      /** The file may be missing: an older kernel, or one without the feature. */
      readonly optional?: boolean;
      readonly why?: string;
    };

/** container: a leaf, in which processes live. pod: holds other cgroups, never processes (pods, QoS classes, kubepods). */
export type CgroupKind = 'pod' | 'container';
