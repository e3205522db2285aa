/** The order of a container's launch plan is what its isolation rests on: held for every kind of container. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NamespaceMode } from '../../../src/cri/index.ts';
import { CLONE } from '../../../src/linux/constants.ts';
import { buildSpec, type SpecInput } from '../../../src/runtime/build-spec.ts';
import { compileContainer } from '../../../src/runtime/launch/compile-container.ts';
import type { ContainerContext } from '../../../src/runtime/launch/context.ts';
import { describePlan } from '../../../src/runtime/launch/describe.ts';
import { encodePlan } from '../../../src/runtime/launch/encode.ts';
import {
  FIRST_PLAN_SLOT,
  OPERATIONS,
  type Operation,
  type OperationName,
} from '../../../src/runtime/launch/protocol.gen.ts';

interface Kind {
  readonly privileged: boolean;
  readonly readOnly: boolean;
  readonly userNamespace: boolean;
  readonly noNewPrivileges: boolean;
  readonly terminal: boolean;
  readonly emptyMounts: boolean;
  readonly sharedPid: boolean;
  readonly hostNetwork: boolean;
  readonly uid: number;
  readonly mounts: readonly string[];
}

const PLAIN: Kind = {
  privileged: false,
  readOnly: false,
  userNamespace: false,
  noNewPrivileges: false,
  terminal: false,
  emptyMounts: true,
  sharedPid: false,
  hostNetwork: false,
  uid: 0,
  mounts: [],
};

const kinds: fc.Arbitrary<Kind> = fc
  .record({
    privileged: fc.boolean(),
    readOnly: fc.boolean(),
    userNamespace: fc.boolean(),
    noNewPrivileges: fc.boolean(),
    terminal: fc.boolean(),
    emptyMounts: fc.boolean(),
    sharedPid: fc.boolean(),
    hostNetwork: fc.boolean(),
    uid: fc.constantFrom(0, 1000),
    mounts: fc.uniqueArray(fc.constantFrom('/data', '/data/inner', '/etc/hosts', '/proc-of-mine', '/run'), {
      maxLength: 4,
    }),
  })
  // What Kubernetes refuses, or the runtime does not combine.
  .map((kind) => ({
    ...kind,
    userNamespace: kind.userNamespace && !kind.privileged && !kind.hostNetwork,
    emptyMounts: kind.emptyMounts && !(kind.userNamespace && !kind.privileged && !kind.hostNetwork),
  }));

function inputOf(kind: Kind): SpecInput {
  const ids = kind.userNamespace ? [{ containerID: 0, hostID: 65_536, size: 65_536 }] : [];
  return {
    config: {
      metadata: { name: 'c', attempt: 0 },
      image: { image: 'i' },
      tty: kind.terminal,
      mounts: kind.mounts.map((containerPath) => ({ containerPath, hostPath: `/host${containerPath}` })),
      linux: {
        securityContext: {
          privileged: kind.privileged,
          readonlyRootfs: kind.readOnly,
          noNewPrivs: kind.noNewPrivileges,
          maskedPaths: ['/proc/kcore', '/sys/firmware'],
          readonlyPaths: ['/proc/sys'],
          namespaceOptions: {
            network: kind.hostNetwork ? NamespaceMode.NODE : NamespaceMode.POD,
            pid: kind.sharedPid ? NamespaceMode.POD : NamespaceMode.CONTAINER,
            ipc: NamespaceMode.POD,
          },
        },
      },
    },
    image: {
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [] },
      config: { Cmd: ['sh'] },
    },
    user: { uid: kind.uid, gid: kind.uid, groups: [], home: '/' },
    sandbox: {
      hostname: 'pod',
      hostNetwork: kind.hostNetwork,
      userNamespace: kind.userNamespace,
      uidMap: ids,
      gidMap: ids,
      files: [],
    },
    cgroupsPath: '/nodelet/kubepods/c',
    volumes: new Map(),
    devices: [],
    hostDevices: [],
    namespaces: {
      network: { from: kind.hostNetwork ? 'host' : 'pod' },
      ipc: { from: 'pod' },
      pid: { from: kind.sharedPid ? 'pod' : 'own' },
    },
    imageLayers: new Map(),
    edits: undefined,
    apparmorProfile: undefined,
    availableCapabilities: 0x1ff_ffff_ffffn,
    maxFiles: 4096,
  };
}

function planFor(kind: Kind): readonly Operation[] {
  const context: ContainerContext = {
    id: 'c'.repeat(64),
    staging: '/run/nodelet/root',
    overlay: { lower: ['/l1', '/l2'], upper: '/u', work: '/w' },
    cgroup: {
      steps: [{ op: 'mkdir', path: '/cg/c' }],
      directory: '/cg/c',
      join: ['/v1/memory/c/cgroup.procs'],
      late: [{ path: '/v1/cpu/c/cpu.cfs_quota_us', value: '5000' }],
      killFile: '/cg/c/cgroup.kill',
      oom: { file: '/cg/c/memory.events', key: 'oom_kill' },
    },
    cgroupView: { kind: 'unified' },
    streams: { directory: '/logs', log: 'c/0.log', stdin: false },
    terminal: kind.terminal,
    exitRecord: '/state/exit',
    seccomp: { filter: new Uint8Array(8), flags: 0 },
    deviceProgram: !kind.privileged,
    emptyMounts: kind.emptyMounts,
    targets: [],
    features: { cloneDetached: kind.emptyMounts, sysResource: true },
  };
  return compileContainer(buildSpec(inputOf(kind)), context).operations;
}

const names = (operations: readonly Operation[]): OperationName[] => operations.map(({ op }) => op);

/** Every index of an operation that the predicate holds for. */
function where(operations: readonly Operation[], predicate: (operation: Operation) => boolean): number[] {
  return operations.flatMap((operation, i) => (predicate(operation) ? [i] : []));
}

const isOp =
  (...wanted: readonly OperationName[]) =>
  (operation: Operation): boolean =>
    wanted.includes(operation.op);

function holds(name: string, check: (operations: readonly Operation[], kind: Kind) => void): void {
  test(name, () => {
    fc.assert(fc.property(kinds, (kind) => check(planFor(kind), kind)));
  });
}

describe('whatever the container', () => {
  holds('a descriptor is there before it is used', (operations, kind) => {
    const passed = Number(!kind.privileged) + Number(kind.emptyMounts);
    const filled = new Set(Array.from({ length: passed }, (_, i) => FIRST_PLAN_SLOT + i));
    for (const operation of operations) {
      const values = operation as unknown as Record<string, number>;
      const { fields } = OPERATIONS[operation.op];
      for (const [name, type] of fields) {
        const slot = values[name] ?? -1;
        if (type !== 'slot' || slot < FIRST_PLAN_SLOT) continue;
        expect(filled, `${operation.op}.${name}`).toContain(slot);
      }
      for (const [name, type] of fields) if (type === 'out') filled.add(values[name] ?? -1);
    }
  });

  holds('the paths of the host are opened before the root is left', (operations) => {
    const left = where(operations, isOp('enter-root', 'pivot'))[0];
    const last = where(operations, (one) => one.op === 'open-tree' && one.path.startsWith('/host')).at(-1);
    expect(left).toBeDefined();
    if (last !== undefined && left !== undefined) expect(last).toBeLessThan(left);
    const reads = where(operations, (one) => one.op === 'open' && !one.path.startsWith('/dev/'));
    expect(Math.max(...reads)).toBeLessThan(left ?? 0);
  });

  holds('the child joins its cgroups before anything that costs', (operations) => {
    const clone = where(operations, isOp('clone'))[0] ?? 0;
    const join = where(operations, (one) => one.op === 'write-file' && one.path.endsWith('cgroup.procs'))[0];
    expect(join).toBe(clone + 1);
  });

  holds('the device program is attached before there is a process', (operations, kind) => {
    const attach = where(operations, isOp('attach-device-program'));
    expect(attach).toHaveLength(kind.privileged ? 0 : 1);
    for (const i of attach) expect(i).toBeLessThan(where(operations, isOp('clone'))[0] ?? 0);
  });

  holds(
    'the root becomes read-only after the last thing that is made in it, before the program',
    (operations, kind) => {
      if (!kind.readOnly) return;
      const readOnly = where(
        operations,
        (one) => one.op === 'mount-attributes' && one.set !== 0 && one.flags === 0 && one.clear === 0,
      ).at(-1);
      const made = where(operations, isOp('attach-in', 'directory-in', 'link-in', 'mask')).at(-1);
      expect(readOnly).toBeGreaterThan(made ?? 0);
    },
  );

  holds(
    'masks and read-only paths come after every mount, so that none can cover them',
    (operations, kind) => {
      if (kind.privileged) return;
      const described = names(operations);
      const mask = described.indexOf('mask');
      const mounts = where(
        operations,
        (one) => one.op === 'attach-in' && kind.mounts.includes(`/${one.path}`),
      );
      expect(mask).toBeGreaterThan(-1);
      for (const i of mounts) expect(i).toBeLessThan(mask);
    },
  );

  holds('rights fall in their order: bounding set, groups and ids, capabilities, program', (operations) => {
    const order = names(operations);
    const last = (name: OperationName): number => order.lastIndexOf(name);
    expect(last('bounding-set')).toBeLessThan(last('identity'));
    expect(last('identity')).toBeLessThan(last('capabilities'));
    expect(last('capabilities')).toBeLessThan(last('find-program'));
    expect(last('execute')).toBe(order.length - 1);
  });

  holds('the filter is installed while that is allowed, else last', (operations, kind) => {
    const order = names(operations);
    expect(order.filter((name) => name === 'seccomp')).toHaveLength(1);
    if (kind.noNewPrivileges) {
      expect(order.indexOf('seccomp')).toBe(order.length - 2);
      expect(order.indexOf('no-new-privileges')).toBeLessThan(order.indexOf('seccomp'));
    } else {
      expect(order.indexOf('seccomp')).toBeLessThan(order.lastIndexOf('identity'));
    }
  });

  holds('no descriptor of the set-up reaches the program', (operations) => {
    const order = names(operations);
    const close = order.indexOf('close-descriptors');
    expect(operations[close]).toMatchObject({ from: 3 });
    expect(order.slice(close + 1).filter((name) => !['seccomp', 'execute'].includes(name))).toEqual([]);
  });

  holds('it has mounts of its own, and the host’s are left exactly once', (operations, kind) => {
    const fresh = operations.filter((one) => one.op === 'unshare' && (one.kinds & CLONE.NEWNS) !== 0);
    expect(fresh).toHaveLength(kind.userNamespace ? 2 : 1);
    expect(where(operations, isOp('enter-root', 'pivot'))).toHaveLength(1);
    // chroot is a wall only where nothing stands behind it.
    expect(names(operations).includes('enter-root')).toBe(kind.emptyMounts);
  });

  holds('in a PID namespace of others it is born when nothing of the host is left', (operations, kind) => {
    const drop = names(operations).indexOf('drop-descriptors');
    expect(drop > -1).toBe(kind.sharedPid);
    if (kind.userNamespace) return; // a /proc of its own may only be mounted in sight of another
    if (drop < 0) return;
    expect(operations[drop + 1]).toMatchObject({ op: 'clone', flags: CLONE.PARENT });
    expect(names(operations.slice(0, drop)).some((name) => name === 'enter-root' || name === 'pivot')).toBe(
      true,
    );
    const paths = operations.slice(drop).filter((one) => one.op === 'open' || one.op === 'open-tree');
    expect(paths).toEqual([]);
  });

  holds('a quota holds the program and not its set-up', (operations) => {
    const quota = where(operations, isOp('write-slot'));
    expect(quota).toHaveLength(1);
    expect(quota[0]).toBeGreaterThan(where(operations, isOp('enter-root', 'pivot'))[0] ?? 0);
  });

  holds(
    'root of a user namespace is taken before the namespaces that belong to it are made',
    (operations, kind) => {
      if (!kind.userNamespace) return;
      const user =
        where(operations, (one) => one.op === 'join-namespace' && one.kind === CLONE.NEWUSER)[0] ?? -1;
      const own = where(operations, (one) => one.op === 'unshare').at(-1) ?? -1;
      expect(user).toBeGreaterThan(-1);
      expect(own).toBeGreaterThan(user);
      const overlay = where(operations, isOp('overlay'))[0] ?? -1;
      expect(overlay).toBeLessThan(user);
    },
  );

  holds('it can be encoded, and every operation said in words', (operations) => {
    const plan = { kind: 'container', name: 'c', operations } as const;
    expect(encodePlan(plan).length).toBeGreaterThan(operations.length * 8);
    const described = describePlan(plan);
    expect(described).toHaveLength(operations.length);
    for (const { text } of described) expect(text).not.toMatch(/undefined|NaN|\[object/);
  });
});

test('a plain container, step by step', () => {
  expect(names(planFor(PLAIN)).filter((name, i, all) => name !== all[i - 1])).toMatchSnapshot();
});

describe('is refused', () => {
  const spec = buildSpec(inputOf(PLAIN));
  const compile = (namespaces: (typeof spec.linux)['namespaces']): (() => unknown) => {
    return () =>
      compileContainer({ ...spec, linux: { ...spec.linux, namespaces } }, {
        targets: [],
      } as unknown as ContainerContext);
  };

  test.each([
    ['without a mount namespace', [{ type: 'pid' }], 'a container needs a mount namespace of its own'],
    ['with the pod’s time namespace', [{ type: 'time', path: 'pod:' }], 'a pod has no time namespace'],
    [
      'with a user namespace of its own',
      [{ type: 'mount' }, { type: 'user' }],
      "the user namespace is the pod's",
    ],
  ] as const)('%s', (_, namespaces, message) => {
    expect(compile(namespaces)).toThrow(message);
  });
});
