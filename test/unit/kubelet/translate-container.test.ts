/** From a container of a manifest to what CRI is asked for. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type LinuxContainerSecurityContext,
  MountPropagation,
  NamespaceMode,
  ProfileType,
  Signal,
  type UserNamespace,
} from '../../../src/cri/index.ts';
import { expand, expandStrictly } from '../../../src/kubelet/translate/expand.ts';
import { configOf, type Fields, type Given } from './container-config.ts';
import { NODE } from './world.ts';

describe('the environment of a container', () => {
  const from = (name: string, valueFrom: Fields): Fields => ({ name, valueFrom });
  const field = (name: string, fieldPath: string) => from(name, { fieldRef: { fieldPath } });
  const resource = (name: string, of: string, divisor?: string) =>
    from(name, { resourceFieldRef: { resource: of, ...(divisor === undefined ? {} : { divisor }) } });
  const cpuLimit = { resources: { limits: { cpu: '1500m', memory: '100Mi' } } };
  const ofConfigMap = (key: string, more: Fields = {}) =>
    from('A', { configMapKeyRef: { name: 'conf', key, ...more } });
  const ofSecret = (name: string, more: Fields = {}) =>
    from('A', { secretKeyRef: { name, key: 'token', ...more } });

  const cases: readonly (readonly [
    what: string,
    env: readonly Fields[],
    expected: Readonly<Record<string, string>>,
    container?: Fields,
  ])[] = [
    ['a literal', [{ name: 'A', value: '1' }], { A: '1' }],
    ['a name without a value is empty', [{ name: 'A' }], { A: '' }],
    [
      'an earlier variable',
      [
        { name: 'A', value: '1' },
        { name: 'B', value: 'a$(A)b' },
      ],
      { A: '1', B: 'a1b' },
    ],
    [
      'a later one is not known yet',
      [
        { name: 'B', value: '$(A)' },
        { name: 'A', value: '1' },
      ],
      { B: '$(A)', A: '1' },
    ],
    ['the pod’s name', [field('A', 'metadata.name')], { A: 'web' }],
    ['its UID', [field('A', 'metadata.uid')], { A: 'uid-1' }],
    ['its namespace', [field('A', 'metadata.namespace')], { A: 'default' }],
    ['a label', [field('A', "metadata.labels['app']")], { A: 'shop' }],
    ['a label that it has not', [field('A', "metadata.labels['no']")], { A: '' }],
    ['an annotation', [field('A', "metadata.annotations['note']")], { A: 'hi' }],
    ['the node', [field('A', 'spec.nodeName')], { A: 'node-1' }],
    ['the node’s address', [field('A', 'status.hostIP')], { A: '192.0.2.1' }],
    ['the node’s addresses', [field('A', 'status.hostIPs')], { A: '192.0.2.1,2001:db8::1' }],
    ['its address', [field('A', 'status.podIP')], { A: '10.0.0.5' }],
    ['its addresses', [field('A', 'status.podIPs')], { A: '10.0.0.5,fd00::5' }],
    ['a limit of cores, rounded up', [resource('A', 'limits.cpu')], { A: '2' }, cpuLimit],
    ['a limit of cores in thousandths', [resource('A', 'limits.cpu', '1m')], { A: '1500' }, cpuLimit],
    ['a limit of memory in units', [resource('A', 'limits.memory', '1Mi')], { A: '100' }, cpuLimit],
    ['a limit that is not set is the node’s', [resource('A', 'limits.cpu')], { A: '4' }],
    ['a request that is not set is nothing', [resource('A', 'requests.cpu')], { A: '0' }],
    ['a key of a ConfigMap', [ofConfigMap('color')], { A: 'blue' }],
    ['a key of a Secret', [ofSecret('keys')], { A: 's3cret' }],
    ['an optional key that is missing is left out', [ofConfigMap('no', { optional: true })], {}],
    ['an optional Secret that is missing is left out', [ofSecret('no', { optional: true })], {}],
    [
      'all of a ConfigMap, with a prefix',
      [{ name: 'X', value: '$(C_color)' }],
      { C_color: 'blue', C_size: '5', X: 'blue' },
      { envFrom: [{ prefix: 'C_', configMapRef: { name: 'conf' } }] },
    ],
    [
      'a variable of its own wins over envFrom',
      [{ name: 'token', value: 'mine' }],
      { token: 'mine' },
      { envFrom: [{ secretRef: { name: 'keys' } }] },
    ],
    [
      'an optional envFrom that is missing',
      [{ name: 'A', value: '1' }],
      { A: '1' },
      { envFrom: [{ configMapRef: { name: 'no', optional: true } }] },
    ],
  ];
  for (const [what, env, expected, container] of cases) {
    it(what, async () => {
      const metadata = { labels: { app: 'shop' }, annotations: { note: 'hi' } };
      const config = await configOf({ env, ...container }, {}, { metadata });
      expect(Object.fromEntries((config.envs ?? []).map(({ key, value }) => [key, value]))).toEqual(expected);
    });
  }

  it.each([
    [
      'a Secret',
      { env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 'no', key: 'k' } } }] },
      'secret "no" not found',
    ],
    [
      'a key of a Secret',
      { env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 'keys', key: 'k' } } }] },
      "couldn't find key k in Secret default/keys",
    ],
    [
      'a key of a ConfigMap',
      { env: [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'conf', key: 'k' } } }] },
      "couldn't find key k in ConfigMap default/conf",
    ],
    ['a ConfigMap of envFrom', { envFrom: [{ configMapRef: { name: 'no' } }] }, 'configmap "no" not found'],
  ])('%s that is missing is named', async (_what, container, message) => {
    await expect(configOf(container)).rejects.toMatchObject({
      reason: 'CreateContainerConfigError',
      message,
    });
  });

  it('command and args know the variables, and what is unknown stays', async () => {
    const config = await configOf({
      env: [{ name: 'PORT', value: '80' }],
      command: ['serve', '$(PORT)'],
      args: ['$(NO)', '$$(PORT)', '$(PORT)$(PORT)'],
    });
    expect(config.command).toEqual(['serve', '80']);
    expect(config.args).toEqual(['$(NO)', '$(PORT)', '8080']);
  });
});

describe('$(NAME)', () => {
  it.each([
    ['$(A)', '1'],
    ['$$(A)', '$(A)'],
    ['$$$(A)', '$1'],
    ['$$$$(A)', '$$(A)'],
    ['$(B)', '$(B)'],
    ['$A', '$A'],
    ['$(A', '$(A'],
    ['a$', 'a$'],
    ['$(A)$', '1$'],
    ['$()', '$()'],
    ['$($(A))', '$($(A))'],
  ])('%s is %s', (text, expected) => {
    expect(expand(text, (name) => (name === 'A' ? '1' : undefined))).toBe(expected);
  });

  it('leaves a text without dollars as it is, and undoes the doubling of dollars', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const doubled = text.replaceAll('$', '$$$$');
        expect(expand(doubled, () => 'x')).toBe(text);
      }),
    );
  });

  it('a value is not expanded again', () => {
    expect(expand('$(A)', () => '$(A)')).toBe('$(A)');
  });

  it('can name what is missing', () => {
    expect(expandStrictly('a/$(B)/$(C)', (name) => (name === 'C' ? '' : undefined))).toEqual({
      missing: 'B',
    });
  });
});

describe('security', () => {
  const securityOf = async (
    own: Fields,
    ofPod: Fields = {},
    given: Given = {},
  ): Promise<LinuxContainerSecurityContext> => {
    const config = await configOf({ securityContext: own }, { securityContext: ofPod }, given);
    return config.linux?.securityContext ?? {};
  };

  it('of a container that says nothing', async () => {
    const security = await securityOf({});
    expect(security).toMatchObject({
      privileged: false,
      readonlyRootfs: false,
      noNewPrivs: false,
      seccomp: { profileType: ProfileType.RuntimeDefault },
      namespaceOptions: {
        network: NamespaceMode.POD,
        pid: NamespaceMode.CONTAINER,
        ipc: NamespaceMode.POD,
      },
      supplementalGroups: [],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    });
    expect(security.maskedPaths).toContain('/proc/kcore');
    expect(security.maskedPaths).toContain(NODE.thermalThrottlePaths[0]);
    expect(security.runAsUser).toBeUndefined();
    expect(security.capabilities).toBeUndefined();
  });

  it.each([
    [
      'the container’s user over the pod’s',
      { runAsUser: 5 },
      { runAsUser: 7, runAsGroup: 8 },
      { runAsUser: { value: 5 }, runAsGroup: { value: 8 } },
    ],
    ['root by number', { runAsUser: 0 }, {}, { runAsUser: { value: 0 } }],
    [
      'groups: fsGroup first',
      {},
      { fsGroup: 100, supplementalGroups: [7, 8] },
      { supplementalGroups: [100, 7, 8] },
    ],
    [
      'capabilities as they are written',
      { capabilities: { add: ['NET_ADMIN'], drop: ['ALL'] } },
      {},
      { capabilities: { addCapabilities: ['NET_ADMIN'], dropCapabilities: ['ALL'] } },
    ],
    ['no new privileges', { allowPrivilegeEscalation: false }, {}, { noNewPrivs: true }],
    ['a root that cannot be written', { readOnlyRootFilesystem: true }, {}, { readonlyRootfs: true }],
    ['privileged', { privileged: true }, {}, { privileged: true }],
    [
      'an unconfined profile',
      {},
      { seccompProfile: { type: 'Unconfined' } },
      { seccomp: { profileType: ProfileType.Unconfined } },
    ],
    [
      'the container’s profile over the pod’s',
      { seccompProfile: { type: 'RuntimeDefault' } },
      { seccompProfile: { type: 'Unconfined' } },
      { seccomp: { profileType: ProfileType.RuntimeDefault } },
    ],
    [
      'a profile of the node',
      { seccompProfile: { type: 'Localhost', localhostProfile: 'p/audit.json' } },
      {},
      { seccomp: { profileType: ProfileType.Localhost, localhostRef: '/kubelet/seccomp/p/audit.json' } },
    ],
  ])('%s', async (_what, own, ofPod, expected) => {
    expect(await securityOf(own, ofPod)).toMatchObject(expected);
  });

  it('without a profile by default where the node says so', async () => {
    const security = await securityOf({}, {}, { settings: { seccompDefault: false } });
    expect(security.seccomp).toEqual({ profileType: ProfileType.Unconfined });
  });

  it('unmasked proc needs no masks', async () => {
    const config = await configOf({ securityContext: { procMount: 'Unmasked' } }, { hostUsers: false });
    expect(config.linux?.securityContext).toMatchObject({ maskedPaths: [], readonlyPaths: [] });
  });

  it.each([
    ['a user of the pod', { runAsNonRoot: true, runAsUser: 5 }, {}, undefined],
    ['a number in the image', { runAsNonRoot: true }, { uid: 7 }, undefined],
    [
      'root of the pod',
      { runAsNonRoot: true, runAsUser: 0 },
      {},
      "container's runAsUser breaks non-root policy",
    ],
    [
      'root of the image',
      { runAsNonRoot: true },
      { uid: 0 },
      'container has runAsNonRoot and image will run as root',
    ],
    [
      'an image without a user',
      { runAsNonRoot: true },
      {},
      'container has runAsNonRoot and image will run as root',
    ],
    [
      'a name in the image',
      { runAsNonRoot: true },
      { username: 'www' },
      'container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root',
    ],
  ])('runAsNonRoot with %s', async (_what, own, imageUser, message) => {
    const work = securityOf(own, {}, { imageUser });
    if (message === undefined) await expect(work).resolves.toBeDefined();
    else {
      await expect(work).rejects.toMatchObject({
        reason: 'CreateContainerConfigError',
        message: `${message} (pod: "web_default(uid-1)", container: a)`,
      });
    }
  });

  it.each([
    ['hostNetwork', { hostNetwork: true }, { network: NamespaceMode.NODE }],
    ['hostPID', { hostPID: true }, { pid: NamespaceMode.NODE }],
    ['hostIPC', { hostIPC: true }, { ipc: NamespaceMode.NODE }],
    ['shareProcessNamespace', { shareProcessNamespace: true }, { pid: NamespaceMode.POD }],
  ])('%s', async (_what, spec, expected) => {
    const config = await configOf({}, spec);
    expect(config.linux?.securityContext?.namespaceOptions).toMatchObject(expected);
  });
});

describe('mounts', () => {
  const volumes = new Map([
    ['data', { path: '/kubelet/data', readOnly: false }],
    ['conf', { path: '/kubelet/conf', readOnly: true }],
  ]);
  const spec = {
    volumes: [
      { name: 'data', emptyDir: {} },
      { name: 'conf', configMap: { name: 'conf' } },
    ],
  };
  const mountsOf = async (mounts: readonly Fields[], container: Fields = {}, given: Given = {}) => {
    const config = await configOf({ volumeMounts: mounts, ...container }, spec, { volumes, ...given });
    return config.mounts ?? [];
  };

  it('volumes, then /etc/hosts and the termination log', async () => {
    expect(await mountsOf([{ name: 'data', mountPath: '/data' }])).toEqual([
      {
        containerPath: '/data',
        hostPath: '/kubelet/data',
        readonly: false,
        recursiveReadOnly: false,
        propagation: MountPropagation.PROPAGATION_PRIVATE,
      },
      { containerPath: '/etc/hosts', hostPath: '/kubelet/etc-hosts' },
      { containerPath: '/dev/termination-log', hostPath: '/kubelet/termination' },
    ]);
  });

  it.each([
    [
      'read-only',
      { name: 'data', mountPath: '/d', readOnly: true },
      { readonly: true, recursiveReadOnly: false },
    ],
    [
      'read-only with all below',
      { name: 'data', mountPath: '/d', readOnly: true, recursiveReadOnly: 'Enabled' },
      { recursiveReadOnly: true },
    ],
    ['what the kubelet writes is read-only', { name: 'conf', mountPath: '/d' }, { readonly: true }],
    [
      'mounts of the host come in',
      { name: 'data', mountPath: '/d', mountPropagation: 'HostToContainer' },
      { propagation: MountPropagation.PROPAGATION_HOST_TO_CONTAINER },
    ],
    [
      'a path below',
      { name: 'data', mountPath: '/d', subPath: 'a/b' },
      { subPath: 'a/b', hostPath: '/kubelet/data' },
    ],
    [
      'a path below, by variables',
      { name: 'data', mountPath: '/d', subPathExpr: '$(POD)/logs' },
      { subPath: 'web/logs' },
    ],
    ['a relative path in the container', { name: 'data', mountPath: 'd' }, { containerPath: '/d' }],
  ])('%s', async (_what, mount, expected) => {
    const [found] = await mountsOf([mount], {
      env: [{ name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
    });
    expect(found).toMatchObject(expected);
  });

  it('a pod that mounts /etc/hosts itself gets none of ours', async () => {
    const mounts = await mountsOf([{ name: 'data', mountPath: '/etc/hosts', subPath: 'hosts' }]);
    expect(mounts.filter(({ containerPath }) => containerPath === '/etc/hosts').length).toBe(1);
  });

  it.each([
    ['climbs out', '$(EVIL)', 'unable to provision SubPath `../x`: must stay inside its volume'],
    ['is unknown', '$(NO)/x', 'missing value for "NO" in subPathExpr "$(NO)/x"'],
  ])('a variable in a path that %s', async (_what, subPathExpr, message) => {
    const work = mountsOf([{ name: 'data', mountPath: '/d', subPathExpr }], {
      env: [{ name: 'EVIL', value: '../x' }],
    });
    await expect(work).rejects.toThrow(message);
  });

  it('in a user namespace everything is id-mapped', async () => {
    const ids = [{ containerId: 0, hostId: 65_536, length: 65_536 }];
    const userNamespace: UserNamespace = { mode: NamespaceMode.POD, uids: ids, gids: ids };
    const mounts = await mountsOf([{ name: 'data', mountPath: '/d' }], {}, { userNamespace });
    expect(mounts.every(({ uidMappings, gidMappings }) => uidMappings === ids && gidMappings === ids)).toBe(
      true,
    );
  });
});

describe('a container’s configuration', () => {
  it('carries what others read: labels, annotations, log path, image', async () => {
    const config = await configOf(
      {
        ports: [{ containerPort: 80 }],
        workingDir: '/srv',
        tty: true,
        lifecycle: { preStop: { sleep: { seconds: 3 } } },
      },
      { terminationGracePeriodSeconds: 7 },
    );
    expect(config).toMatchObject({
      metadata: { name: 'a', attempt: 2 },
      image: { image: 'sha256:1', userSpecifiedImage: 'app:1' },
      logPath: 'a/2.log',
      workingDir: '/srv',
      tty: true,
      stdin: false,
      labels: {
        'io.kubernetes.pod.name': 'web',
        'io.kubernetes.pod.namespace': 'default',
        'io.kubernetes.pod.uid': 'uid-1',
        'io.kubernetes.container.name': 'a',
      },
      annotations: {
        'io.kubernetes.container.restartCount': '2',
        'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
        'io.kubernetes.container.terminationMessagePolicy': 'File',
        'io.kubernetes.pod.terminationGracePeriod': '7',
        'io.kubernetes.container.preStopHandler': '{"sleep":{"seconds":3}}',
        'io.kubernetes.container.ports': '[{"containerPort":80,"protocol":"TCP"}]',
      },
    });
  });

  it.each([
    ['SIGUSR1', Signal.SIGUSR1],
    ['SIGRTMIN+3', Signal.SIGRTMINPLUS3],
    ['SIGRTMAX-2', Signal.SIGRTMAXMINUS2],
  ])('the stop signal %s', async (stopSignal, expected) => {
    const config = await configOf({ lifecycle: { stopSignal } }, { os: { name: 'linux' } });
    expect(config.stopSignal).toBe(expected);
  });
});
