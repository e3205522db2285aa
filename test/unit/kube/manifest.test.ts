import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { messagesOf, parse, podYaml, problemsOf } from './helpers.ts';

describe('a manifest', () => {
  it('of one pod is defaulted', async () => {
    const { pods } = await parse(podYaml());
    expect(pods[0]).toMatchObject({
      metadata: { name: 'web', namespace: 'default' },
      spec: {
        restartPolicy: 'Always',
        dnsPolicy: 'ClusterFirst',
        terminationGracePeriodSeconds: 30,
        enableServiceLinks: true,
        schedulerName: 'default-scheduler',
        securityContext: {},
        containers: [
          {
            imagePullPolicy: 'IfNotPresent',
            terminationMessagePath: '/dev/termination-log',
            terminationMessagePolicy: 'File',
          },
        ],
      },
    });
  });

  it('holds several documents, lists and other kinds that belong to pods', async () => {
    const text = `${podYaml()}
---
# nothing here
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: settings}
  data: {a: "1"}
- apiVersion: v1
  kind: Secret
  metadata: {name: key}
  stringData: {password: hunter2}
  data: {token: dG9rZW4=}
---
apiVersion: v1
kind: PodList
items:
- metadata: {name: other}
  spec: {containers: [{name: a, image: x}]}
`;
    const found = await parse(text);
    expect(found.pods.map((pod) => pod.metadata.name)).toEqual(['web', 'other']);
    expect(found.configMaps[0]?.data).toEqual({ a: '1' });
    expect(found.secrets[0]).toMatchObject({
      type: 'Opaque',
      data: { password: 'aHVudGVyMg==', token: 'dG9rZW4=' },
    });
    expect(found.secrets[0]).not.toHaveProperty('stringData');
  });

  it('may be JSON, with tabs', async () => {
    const text =
      '{\n\t"apiVersion": "v1", "kind": "Pod",\n\t"metadata": {"name": "web"},\n\t"spec": {"containers": [{"name": "a", "image": "x"}]}\n}';
    expect((await parse(text)).pods).toHaveLength(1);
    expect(await problemsOf(text.replace('"image"', '"imag"'))).toMatchObject([
      { line: 4, path: 'spec.containers[0].imag' },
    ]);
  });

  it.each([
    ['defaultMode: 0644', 0o644],
    ['defaultMode: 0o400', 0o400],
    ['defaultMode: 420', 420],
    ['defaultMode: 0x1ff', 0o777],
    ['defaultMode: 0X1FF', 0o777],
    ['defaultMode: 0b1_0000_0000', 0o400],
  ])('reads %s as Kubernetes does', async (line, mode) => {
    const { pods } = await parse(
      podYaml({ spec: `volumes:\n- name: v\n  configMap:\n    name: c\n    ${line}` }),
    );
    expect(pods[0]?.spec.volumes?.[0]?.configMap?.defaultMode).toBe(mode);
  });

  it.each([
    ['22:22', '22:22'],
    ['2024-01-02', '2024-01-02'],
    ['"0644"', '0644'],
    ['.', '.'],
    ['|\n    text', 'text\n'],
  ])('leaves the string %s a string', async (value, expected) => {
    const text = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  k: ${value}`;
    expect((await parse(text)).configMaps[0]?.data).toEqual({ k: expected });
  });

  it('takes yes for a boolean, as YAML 1.1 does', async () => {
    const { pods } = await parse(podYaml({ spec: 'hostNetwork: yes\nshareProcessNamespace: off' }));
    expect(pods[0]?.spec).toMatchObject({ hostNetwork: true, shareProcessNamespace: false });
    expect(await messagesOf(podYaml({ container: 'env:\n- name: A\n  value: yes' }))).toEqual([
      'spec.containers[0].env[0].value: Invalid value: true: must be a string, found a boolean',
    ]);
  });

  it('merges and repeats anchors, each use a value of its own', async () => {
    const text = `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: &l {app: web}, annotations: *l}
spec:
  containers:
  - &base {name: a, image: x, resources: {limits: {cpu: 1}}}
  - <<: *base
    name: b
`;
    const { pods } = await parse(text);
    expect(pods[0]?.spec.containers.map((container) => container.name)).toEqual(['a', 'b']);
    expect(pods[0]?.spec.containers[0]?.resources).not.toBe(pods[0]?.spec.containers[1]?.resources);
    expect(pods[0]?.metadata.annotations).toEqual({ app: 'web' });
  });

  it('drops null fields, so that a volume without a source is an emptyDir', async () => {
    const { pods } = await parse(podYaml({ spec: 'volumes:\n- name: v\n  emptyDir:\nnodeSelector: null' }));
    expect(pods[0]?.spec.volumes).toEqual([{ name: 'v', emptyDir: {} }]);
    expect(pods[0]?.spec).not.toHaveProperty('nodeSelector');
  });

  it('completes generateName', async () => {
    const text = podYaml().replace('name: web', 'generateName: web-');
    expect((await parse(text, { random: () => 'xyz42' })).pods[0]?.metadata.name).toBe('web-xyz42');
    expect((await parse(text)).pods[0]?.metadata.name).toMatch(/^web-[a-z0-9]{5}$/);
  });

  it('makes requests of limits and rounds to thousandths', async () => {
    const container = 'resources: {limits: {cpu: 0.5, memory: 64Mi}, requests: {cpu: 100.5m}}';
    expect((await parse(podYaml({ container }))).pods[0]?.spec.containers[0]?.resources).toEqual({
      limits: { cpu: '500m', memory: '64Mi' },
      requests: { cpu: '101m', memory: '64Mi' },
    });
  });

  it.each([
    ['busybox', 'Always'],
    ['busybox:latest', 'Always'],
    ['busybox:1', 'IfNotPresent'],
    ['localhost:5000/busybox', 'Always'],
    [`busybox@sha256:${'a'.repeat(64)}`, 'IfNotPresent'],
    [`busybox:latest@sha256:${'a'.repeat(64)}`, 'Always'],
  ])('pulls %s with policy %s', async (image, policy) => {
    const { pods } = await parse(podYaml().replace('busybox:1.37', image));
    expect(pods[0]?.spec.containers[0]?.imagePullPolicy).toBe(policy);
  });
});

describe('a bad manifest', () => {
  it.each([
    ['nothing', '', ['it holds no object']],
    ['a comment', '# hello', ['it holds no object']],
    ['a word', 'hello', ['it is not an object with apiVersion and kind']],
    ['a list', '- a', ['it is not an object with apiVersion and kind']],
    ['no kind', 'apiVersion: v1', ['kind: Required value']],
    ['no version', 'kind: Pod', ['apiVersion: Required value']],
    [
      'another kind',
      'apiVersion: apps/v1\nkind: Deployment',
      ['cannot use kind "Deployment" of "apps/v1"; Pod, ConfigMap, Secret and List of "v1" can be used'],
    ],
    [
      'a kind that is a name of JavaScript',
      'apiVersion: v1\nkind: constructor',
      ['cannot use kind "constructor" of "v1"; Pod, ConfigMap, Secret and List of "v1" can be used'],
    ],
    [
      'no YAML',
      'a: [',
      [expect.stringContaining('cannot read YAML: Flow sequence in block collection must be')],
    ],
    ['a key twice', 'kind: Pod\nkind: Pod', ['cannot read YAML: Map keys must be unique']],
    ['an unknown alias', 'a: *b', [expect.stringContaining('cannot read YAML: Unresolved alias')]],
    [
      'infinity',
      'apiVersion: v1\nkind: Pod\nspec: {priority: .inf}',
      ['the number Infinity has no meaning in JSON'],
    ],
    [
      'a set',
      'apiVersion: v1\nkind: Pod\nspec: !!set {a, b}',
      ['a value of YAML type Set has no meaning in JSON'],
    ],
  ])('with %s is refused', async (_name, text, messages) => {
    expect(await messagesOf(text)).toEqual(messages);
  });

  it('that is an alias bomb is refused', async () => {
    const levels = Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i}, `.repeat(9)}]`);
    expect(await messagesOf(`a0: &a0 [x]\n${levels.join('\n')}`)).toEqual([
      'cannot read YAML: Excessive alias count indicates a resource exhaustion attack',
    ]);
  });

  it('that is nested without end is refused', async () => {
    const messages = await messagesOf(`a: ${'['.repeat(100_000)}`);
    expect(messages[0]).toMatch(/^cannot read YAML/);
  });

  it('that is too large is refused', async () => {
    await expect(parse('x'.repeat(10 * 1024 * 1024 + 1))).rejects.toMatchObject({
      code: 'MANIFEST_TOO_LARGE',
    });
  });

  it('says document, line, object and path, and a field that may have been meant', async () => {
    const text = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n---\n${podYaml({ container: 'imagePullPolcy: Never' })}`;
    await expect(parse(text)).rejects.toMatchObject({
      code: 'INVALID_MANIFEST',
      message:
        'cannot use "pod.yaml": document 2, line 13: Pod default/web: spec.containers[0].imagePullPolcy: unknown field: did you mean "imagePullPolicy"?',
    });
  });

  it('names everything that is wrong at once', async () => {
    const text = podYaml({
      spec: 'hostname: 5\nrestartpolicy: Never',
      container: 'ports: [{containerPort: "80"}]\ncommand: sh',
    });
    const found = await problemsOf(text);
    expect(found.map((problem) => [problem.line, problem.message])).toEqual([
      [6, 'spec.hostname: Invalid value: 5: must be a string, found an integer'],
      [7, 'spec.restartpolicy: unknown field: did you mean "restartPolicy"?'],
      [
        11,
        'spec.containers[0].ports[0].containerPort: Invalid value: "80": must be an integer, found a string',
      ],
      [12, 'spec.containers[0].command: Invalid value: "sh": must be a list, found a string'],
    ]);
    await expect(parse(text)).rejects.toThrow('cannot use "pod.yaml": 4 problems\n  document 1, line');
  });

  it.each([
    ['replicas: 1', 'spec.replicas: unknown field'],
    ['tolerations: [{keyy: a}]', 'spec.tolerations[0].keyy: unknown field: did you mean "key"?'],
    [
      'terminationGracePeriodSeconds: 1.5',
      'spec.terminationGracePeriodSeconds: Invalid value: 1.5: must be an integer, found a number',
    ],
    ['priority: 3000000000', 'spec.priority: Invalid value: 3000000000: must be <= 2147483647'],
    ['nodeSelector: {a: 1}', 'spec.nodeSelector[a]: Invalid value: 1: must be a string, found an integer'],
    ['volumes: [{name: v, hostPath: {}}]', 'spec.volumes[0].hostPath.path: Required value'],
    [
      'volumes: [{name: v, configMap: {name: c, items: [{key: k}]}}]',
      'spec.volumes[0].configMap.items[0].path: Required value',
    ],
  ])('with %s is refused by the schema', async (spec, message) => {
    expect(await messagesOf(podYaml({ spec }))).toEqual([message]);
  });

  it('with a wrong time is refused', async () => {
    expect(await messagesOf(podYaml({ metadata: 'creationTimestamp: yesterday' }))).toEqual([
      'metadata.creationTimestamp: Invalid value: "yesterday": must be a time as in RFC 3339 (e.g. 2006-01-02T15:04:05Z)',
    ]);
  });

  it('may pass with unknown fields where it is told to', async () => {
    const text = podYaml({
      container: 'imag: x\nports: [{containerPort: 80, portt: 1}]',
      spec: 'hostname: a\nhostname: b',
    });
    const warned = await parse(text, { validate: 'warn' });
    expect(warned.warnings).toEqual([
      'Pod default/web: spec.containers[0].imag: unknown field: did you mean "image"?',
      'Pod default/web: spec.containers[0].ports[0].portt: unknown field',
    ]);
    expect(warned.pods[0]?.spec.containers[0]).not.toHaveProperty('imag');
    expect(warned.pods[0]?.spec.hostname).toBe('b');
    expect((await parse(text, { validate: 'ignore' })).warnings).toEqual([]);
    expect(await messagesOf(podYaml({ spec: 'hostname: 5' }), { validate: 'ignore' })).toHaveLength(1);
  });

  it('with the same pod twice is refused', async () => {
    expect(await problemsOf(`${podYaml()}\n---\n${podYaml()}`)).toMatchObject([
      {
        document: 2,
        path: 'metadata.name',
        message: 'metadata.name: Duplicate value: there are two of Pod default/web',
      },
    ]);
  });

  it('cannot reach prototypes', async () => {
    const text = podYaml({ metadata: 'labels: {__proto__: x, constructor: c}' });
    expect(await messagesOf(text)).toEqual([
      expect.stringContaining('metadata.labels: Invalid value: "__proto__"'),
    ]);
    const secret = 'apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {__proto__: x}';
    expect(Object.keys((await parse(secret)).secrets[0]?.data ?? {})).toEqual(['__proto__']);
  });

  it('is refused with one code, or parsed, whatever it is', async () => {
    const value = fc.letrec((tie) => ({
      tree: fc.oneof(
        { maxDepth: 4 },
        fc.string(),
        fc.integer(),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(
          fc.constantFrom('name', 'spec', 'metadata', 'containers', 'image', 'kind', 'volumes', 'x'),
          tie('tree'),
        ),
      ),
    })).tree;
    const manifest = value.map((spec) =>
      JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a' }, spec }),
    );
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), manifest), async (text) => {
        try {
          await parse(text);
        } catch (error) {
          expect(['INVALID_MANIFEST', 'UNSUPPORTED_MANIFEST']).toContain((error as { code: string }).code);
        }
      }),
      { numRuns: 300 },
    );
  });
});
