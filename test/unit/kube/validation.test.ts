import { describe, expect, it } from 'vitest';
import { messagesOf, parse, podYaml } from './helpers.ts';

type Row = readonly [name: string, parts: Parameters<typeof podYaml>[0], messages: readonly unknown[]];

const LABEL =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const MODE = 'must be a number between 0 and 0777 (octal), both inclusive';

const metadata: readonly Row[] = [
  [
    'a namespace that is no label',
    { metadata: 'namespace: a.b' },
    ['metadata.namespace: Invalid value: "a.b": must not contain dots'],
  ],
  [
    'a label that is none',
    { metadata: 'labels: {a: "-"}' },
    [
      expect.stringContaining(
        'metadata.labels[a]: Invalid value: "-": a valid label must be an empty string or consist of',
      ),
    ],
  ],
  [
    'a label with two slashes',
    { metadata: 'labels: {a/b/c: x}' },
    [expect.stringContaining('metadata.labels: Invalid value: "a/b/c": a valid label key must consist of')],
  ],
  [
    'a label with an empty prefix',
    { metadata: 'labels: {/c: x}' },
    ['metadata.labels: Invalid value: "/c": prefix part must be non-empty'],
  ],
  [
    'a long label',
    { metadata: `labels: {a: ${'x'.repeat(64)}}` },
    [`metadata.labels[a]: Invalid value: "${'x'.repeat(64)}": must be no more than 63 bytes`],
  ],
  [
    'annotations that are too long',
    { metadata: `annotations: {a: ${'x'.repeat(256 * 1024)}}` },
    ['metadata.annotations: Too long: may not be more than 262144 bytes'],
  ],
];

const containers: readonly Row[] = [
  [
    'a name that is no label',
    { container: '', spec: 'initContainers: [{name: A_b, image: x}]' },
    [`spec.initContainers[0].name: Invalid value: "A_b": ${LABEL}`],
  ],
  [
    'two of one name',
    { spec: 'initContainers: [{name: a, image: x}]' },
    ['spec.initContainers[0].name: Duplicate value: "a"'],
  ],
  ['no image', { spec: 'initContainers: [{name: i}]' }, ['spec.initContainers[0].image: Required value']],
  [
    'an image with a blank',
    { spec: 'initContainers: [{name: i, image: " x"}]' },
    ['spec.initContainers[0].image: Invalid value: " x": must not have leading or trailing whitespace'],
  ],
  [
    'a pull policy that is none',
    { container: 'imagePullPolicy: Sometimes' },
    [
      'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"',
    ],
  ],
  [
    'a message policy that is none',
    { container: 'terminationMessagePolicy: Log' },
    [
      'spec.containers[0].terminationMessagePolicy: Unsupported value: "Log": supported values: "File", "FallbackToLogsOnError"',
    ],
  ],
  [
    'a port out of range',
    { container: 'ports: [{containerPort: 70000}]' },
    [
      'spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive',
    ],
  ],
  [
    'a port zero',
    { container: 'ports: [{containerPort: 0}]' },
    ['spec.containers[0].ports[0].containerPort: Required value'],
  ],
  [
    'a protocol that is none',
    { container: 'ports: [{containerPort: 1, protocol: tcp}]' },
    [
      'spec.containers[0].ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
    ],
  ],
  [
    'port names',
    {
      container:
        'ports: [{containerPort: 1, name: a--b}, {containerPort: 2, name: "80"}, {containerPort: 3, name: -a}, {containerPort: 4, name: averyveryverylong}, {containerPort: 5, name: ok}, {containerPort: 6, name: ok}]',
    },
    [
      'spec.containers[0].ports[0].name: Invalid value: "a--b": must not contain consecutive hyphens',
      'spec.containers[0].ports[1].name: Invalid value: "80": must contain at least one letter (a-z)',
      'spec.containers[0].ports[2].name: Invalid value: "-a": must not begin or end with a hyphen',
      'spec.containers[0].ports[3].name: Invalid value: "averyveryverylong": must be no more than 15 characters',
      'spec.containers[0].ports[5].name: Duplicate value: "ok"',
    ],
  ],
  [
    'one host port twice',
    {
      container:
        'ports: [{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 80}, {containerPort: 2, hostPort: 80, protocol: UDP}, {containerPort: 3, hostPort: 80, hostIP: 10.0.0.1}]',
    },
    ['spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"'],
  ],
  [
    'a host port that is not the port, in the host network',
    { spec: 'hostNetwork: true', container: 'ports: [{containerPort: 80, hostPort: 81}]' },
    [
      'spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true',
    ],
  ],
  [
    'a hook of an init container',
    {
      spec: 'initContainers: [{name: i, image: x, lifecycle: {preStop: {exec: {command: [a]}}}, readinessProbe: {tcpSocket: {port: 1}}}]',
    },
    [
      'spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always',
      'spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always',
    ],
  ],
  [
    'a restart policy that is none',
    { spec: 'initContainers: [{name: i, image: x, restartPolicy: Sometimes}]' },
    [
      'spec.initContainers[0].restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"',
    ],
  ],
];

const handlers: readonly Row[] = [
  [
    'no handler',
    { container: 'livenessProbe: {periodSeconds: 1}' },
    ['spec.containers[0].livenessProbe: Required value: must specify a handler type'],
  ],
  [
    'two handlers',
    { container: 'livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}' },
    ['spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type'],
  ],
  [
    'no command',
    { container: 'livenessProbe: {exec: {}}' },
    ['spec.containers[0].livenessProbe.exec.command: Required value'],
  ],
  [
    'a negative period',
    { container: 'livenessProbe: {exec: {command: [a]}, periodSeconds: -1}' },
    ['spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0'],
  ],
  [
    'a success threshold',
    { container: 'livenessProbe: {exec: {command: [a]}, successThreshold: 2}' },
    ['spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1'],
  ],
  [
    'a grace of a readiness probe',
    { container: 'readinessProbe: {exec: {command: [a]}, terminationGracePeriodSeconds: 2}' },
    [
      'spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 2: must not be set for readinessProbes',
    ],
  ],
  [
    'a port name that is none',
    { container: 'livenessProbe: {httpGet: {port: "80"}}' },
    [
      'spec.containers[0].livenessProbe.httpGet.port: Invalid value: "80": must contain at least one letter (a-z)',
    ],
  ],
  [
    'a scheme that is none',
    { container: 'livenessProbe: {httpGet: {port: 80, scheme: FTP}}' },
    [
      'spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"',
    ],
  ],
  [
    'a header that is none',
    { container: 'livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: "a b", value: x}]}}' },
    [
      expect.stringContaining(
        'spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of',
      ),
    ],
  ],
  [
    'a sleep longer than the grace period',
    { container: 'lifecycle: {preStop: {sleep: {seconds: 31}}}' },
    [
      'spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)',
    ],
  ],
  [
    'a stop signal without an operating system',
    { container: 'lifecycle: {stopSignal: SIGUSR1}' },
    [
      'spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`',
    ],
  ],
  [
    'a stop signal that is none',
    { spec: 'os: {name: linux}', container: 'lifecycle: {stopSignal: SIGFOO}' },
    [
      expect.stringContaining(
        'spec.containers[0].lifecycle.stopSignal: Unsupported value: "SIGFOO": supported values: "SIGABRT"',
      ),
    ],
  ],
];

const env: readonly Row[] = [
  ['no name', { container: 'env: [{name: ""}]' }, ['spec.containers[0].env[0].name: Required value']],
  [
    'a name with an equals sign',
    { container: 'env: [{name: "a=b"}]' },
    [
      `spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='`,
    ],
  ],
  [
    'value and source',
    { container: 'env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]' },
    [
      'spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
    ],
  ],
  [
    'an empty source',
    { container: 'env: [{name: A, valueFrom: {}}]' },
    [
      'spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`',
    ],
  ],
  [
    'two sources',
    {
      container:
        'env: [{name: A, valueFrom: {configMapKeyRef: {name: a, key: b}, secretKeyRef: {name: a, key: b}}}]',
    },
    [
      'spec.containers[0].env[0].valueFrom: Invalid value: "": may not have more than one field specified at a time',
    ],
  ],
  [
    'a field that is none',
    { container: 'env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.foo}}}]' },
    [
      'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.foo": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"',
    ],
  ],
  [
    'a subscript where there is none',
    { container: `env: [{name: A, valueFrom: {fieldRef: {fieldPath: "metadata.name['a']"}}}]` },
    [
      'spec.containers[0].env[0].valueFrom.fieldRef: Invalid value: "metadata.name": does not support subscript',
    ],
  ],
  [
    'a resource that is none',
    { container: 'env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.foo}}}]' },
    [
      expect.stringContaining(
        'spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.foo": supported values: "limits.cpu"',
      ),
    ],
  ],
  [
    'a divisor that is none',
    {
      container:
        'env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Mi}}}, {name: B, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 2Mi}}}]',
    },
    [
      'spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor\'s values 1m and 1 are supported with the cpu resource',
      'spec.containers[0].env[1].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.memory": only divisor\'s values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource',
    ],
  ],
  [
    'a key that is none',
    { container: 'env: [{name: A, valueFrom: {configMapKeyRef: {name: a, key: ..b}}}]' },
    [
      'spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Invalid value: "..b": must not start with \'..\'',
    ],
  ],
  [
    'envFrom without a source',
    { container: 'envFrom: [{prefix: A}]' },
    ['spec.containers[0].envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`'],
  ],
  [
    'envFrom without a name',
    { container: 'envFrom: [{configMapRef: {}}]' },
    ['spec.containers[0].envFrom[0].configMapRef.name: Required value'],
  ],
];

const resources: readonly Row[] = [
  [
    'a negative quantity',
    { container: 'resources: {limits: {memory: -1Mi}}' },
    [
      'spec.containers[0].resources.limits[memory]: Invalid value: "-1Mi": must be greater than or equal to 0',
      'spec.containers[0].resources.requests[memory]: Invalid value: "-1Mi": must be greater than or equal to 0',
    ],
  ],
  [
    'a quantity that is none',
    { container: 'resources: {requests: {memory: 1 GB}}' },
    [
      'spec.containers[0].resources.requests[memory]: Invalid value: "1 GB": quantities must match the regular expression \'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$\'',
    ],
  ],
  [
    'a request above its limit',
    { container: 'resources: {limits: {cpu: 1}, requests: {cpu: 1500m}}' },
    [
      'spec.containers[0].resources.requests: Invalid value: "1500m": must be less than or equal to cpu limit of 1',
    ],
  ],
  [
    'a resource that is none',
    { container: 'resources: {requests: {disk: 1}}' },
    [
      'spec.containers[0].resources.requests[disk]: Invalid value: "disk": must be a standard resource for containers',
    ],
  ],
  [
    'half an extended resource',
    { container: 'resources: {requests: {example.com/gpu: 0.5}}' },
    ['spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "500m": must be an integer'],
  ],
  [
    'huge pages that are no multiple',
    { container: 'resources: {limits: {hugepages-2Mi: 3Mi, memory: 1Gi}}' },
    [
      'spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi',
      'spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi',
    ],
  ],
  [
    'huge pages alone',
    { container: 'resources: {limits: {hugepages-2Mi: 2Mi}}' },
    ['spec.containers[0].resources: Forbidden: HugePages require cpu or memory'],
  ],
  [
    'huge pages requested and limited differently',
    { container: 'resources: {limits: {hugepages-2Mi: 4Mi, cpu: 1}, requests: {hugepages-2Mi: 2Mi}}' },
    [
      'spec.containers[0].resources.requests: Invalid value: "2Mi": must be equal to hugepages-2Mi limit of 4Mi',
    ],
  ],
];

const volumes: readonly Row[] = [
  [
    'a mount without its volume',
    { container: 'volumeMounts: [{name: x, mountPath: /x}]' },
    ['spec.containers[0].volumeMounts[0].name: Not found: "x"'],
  ],
  [
    'one path twice',
    {
      spec: 'volumes: [{name: x}]',
      container: 'volumeMounts: [{name: x, mountPath: /x}, {name: x, mountPath: /x}]',
    },
    ['spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/x": must be unique'],
  ],
  [
    'two volumes of one name',
    { spec: 'volumes: [{name: x}, {name: x}]' },
    ['spec.volumes[1].name: Duplicate value: "x"'],
  ],
  [
    'two sources',
    { spec: 'volumes: [{name: x, emptyDir: {}, hostPath: {path: /}}]' },
    ['spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type'],
  ],
  [
    'a name that is no label',
    { spec: 'volumes: [{name: x.y}]' },
    ['spec.volumes[0].name: Invalid value: "x.y": must not contain dots'],
  ],
  [
    'a subPath that leaves',
    {
      spec: 'volumes: [{name: x}]',
      container: 'volumeMounts: [{name: x, mountPath: /x, subPath: a/../../b}]',
    },
    ['spec.containers[0].volumeMounts[0].subPath: Invalid value: "a/../../b": must not contain \'..\''],
  ],
  [
    'an absolute subPath',
    { spec: 'volumes: [{name: x}]', container: 'volumeMounts: [{name: x, mountPath: /x, subPath: /b}]' },
    ['spec.containers[0].volumeMounts[0].subPath: Invalid value: "/b": must be a relative path'],
  ],
  [
    'subPath and subPathExpr',
    {
      spec: 'volumes: [{name: x}]',
      container: 'volumeMounts: [{name: x, mountPath: /x, subPath: b, subPathExpr: c}]',
    },
    [
      'spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: "c": subPathExpr and subPath are mutually exclusive',
    ],
  ],
  [
    'a hostPath that leaves',
    { spec: 'volumes: [{name: x, hostPath: {path: /a/../b}}]' },
    ['spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain \'..\''],
  ],
  [
    'a hostPath of a type that is none',
    { spec: 'volumes: [{name: x, hostPath: {path: /a, type: Dir}}]' },
    [
      expect.stringContaining(
        'spec.volumes[0].hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice"',
      ),
    ],
  ],
  [
    'a mode that is none',
    {
      spec: 'volumes: [{name: x, configMap: {name: c, defaultMode: 01000, items: [{key: a, path: b, mode: -1}]}}]',
    },
    [
      `spec.volumes[0].configMap.defaultMode: Invalid value: 512: ${MODE}`,
      `spec.volumes[0].configMap.items[0].mode: Invalid value: -1: ${MODE}`,
    ],
  ],
  [
    'a secret without a name',
    { spec: 'volumes: [{name: x, secret: {}}]' },
    ['spec.volumes[0].secret.secretName: Required value'],
  ],
  [
    'a path of the atomic writer',
    { spec: 'volumes: [{name: x, secret: {secretName: s, items: [{key: a, path: ..data}]}}]' },
    ['spec.volumes[0].secret.items[0].path: Invalid value: "..data": must not start with \'..\''],
  ],
  [
    'a downward file without a source',
    { spec: 'volumes: [{name: x, downwardAPI: {items: [{path: a}]}}]' },
    [
      'spec.volumes[0].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required',
    ],
  ],
  [
    'a downward resource without a container',
    {
      spec: 'volumes: [{name: x, downwardAPI: {items: [{path: a, resourceFieldRef: {resource: limits.cpu}}]}}]',
    },
    ['spec.volumes[0].downwardAPI.items[0].resourceFieldRef.containerName: Required value'],
  ],
  [
    'one projected path twice',
    {
      spec: 'volumes: [{name: x, projected: {sources: [{configMap: {name: a, items: [{key: k, path: p}]}}, {secret: {name: b, items: [{key: k, path: p}]}}]}}]',
    },
    ['spec.volumes[0].projected: Invalid value: "p": conflicting duplicate paths'],
  ],
  [
    'a negative size',
    { spec: 'volumes: [{name: x, emptyDir: {sizeLimit: -1}}]' },
    ['spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity'],
  ],
  [
    'Bidirectional propagation without privileges',
    {
      spec: 'volumes: [{name: x}]',
      container: 'volumeMounts: [{name: x, mountPath: /x, mountPropagation: Bidirectional}]',
    },
    [
      'spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers',
    ],
  ],
  [
    'recursive read-only that is writable',
    {
      spec: 'volumes: [{name: x}]',
      container: 'volumeMounts: [{name: x, mountPath: /x, recursiveReadOnly: Enabled}]',
    },
    [
      'spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true',
    ],
  ],
];

const spec: readonly Row[] = [
  [
    'a restart policy that is none',
    { spec: 'restartPolicy: sometimes' },
    ['spec.restartPolicy: Unsupported value: "sometimes": supported values: "Always", "OnFailure", "Never"'],
  ],
  [
    'a DNS policy that is none',
    { spec: 'dnsPolicy: Host' },
    [
      'spec.dnsPolicy: Unsupported value: "Host": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"',
    ],
  ],
  [
    'no DNS at all',
    { spec: 'dnsPolicy: None' },
    ['spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None'],
  ],
  [
    'no name server',
    { spec: 'dnsPolicy: None\ndnsConfig: {searches: [a]}' },
    [
      'spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None',
    ],
  ],
  [
    'four name servers',
    { spec: 'dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.x]}' },
    [
      'spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.x"]: must not have more than 3 nameservers',
      'spec.dnsConfig.nameservers[3]: Invalid value: "1.1.1.x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
    ],
  ],
  [
    'a search path that is none',
    { spec: 'dnsConfig: {searches: [a_b.c., ., a-]}' },
    [
      expect.stringContaining(
        'spec.dnsConfig.searches[2]: Invalid value: "a-": a lowercase RFC 1123 subdomain must consist of',
      ),
    ],
  ],
  [
    'a DNS option without a name',
    { spec: 'dnsConfig: {options: [{value: a}]}' },
    ['spec.dnsConfig.options[0]: Required value: must not be empty'],
  ],
  [
    'a host alias that is none',
    { spec: 'hostAliases: [{ip: 1.2.3, hostnames: [A]}]' },
    [
      'spec.hostAliases[0].ip: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
      `spec.hostAliases[0].hostnames[0]: Invalid value: "A": ${SUBDOMAIN}`,
    ],
  ],
  [
    'a hostname that is no label',
    { spec: 'hostname: a.b' },
    ['spec.hostname: Invalid value: "a.b": must not contain dots'],
  ],
  [
    'a negative grace period',
    { spec: 'terminationGracePeriodSeconds: -1' },
    ['spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0'],
  ],
  [
    'no time at all',
    { spec: 'activeDeadlineSeconds: 0' },
    ['spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive'],
  ],
  [
    'a user that is none',
    { spec: 'securityContext: {runAsUser: -1, supplementalGroups: [4294967295]}' },
    [
      'spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive',
      'spec.securityContext.supplementalGroups[0]: Invalid value: 4294967295: must be between 0 and 2147483647, inclusive',
    ],
  ],
  [
    'a shared and a host PID namespace',
    { spec: 'hostPID: true\nshareProcessNamespace: true' },
    [
      'spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled',
    ],
  ],
  [
    'own users in host namespaces',
    { spec: 'hostUsers: false\nhostNetwork: true\nhostPID: true\nhostIPC: true' },
    [
      'spec.hostNetwork: Forbidden: when `hostUsers` is false',
      'spec.hostPID: Forbidden: when `hostUsers` is false',
      'spec.hostIPC: Forbidden: when `hostUsers` is false',
    ],
  ],
  [
    'a sysctl twice, and one that is none',
    {
      spec: 'securityContext: {sysctls: [{name: net.a, value: "1"}, {name: net.a, value: "1"}, {name: "a b", value: "1"}]}',
    },
    [
      'spec.securityContext.sysctls[1].name: Duplicate value: "net.a"',
      expect.stringContaining(
        'spec.securityContext.sysctls[2].name: Invalid value: "a b": must have at most 253 characters and match regex',
      ),
    ],
  ],
  [
    'a network sysctl of the host',
    { spec: 'hostNetwork: true\nsecurityContext: {sysctls: [{name: net/ipv4/tcp_syncookies, value: "1"}]}' },
    [
      'spec.securityContext.sysctls[0].name: Invalid value: "net/ipv4/tcp_syncookies": may not be specified when \'hostNetwork\' is true',
    ],
  ],
  [
    'a seccomp profile without a name',
    { spec: 'securityContext: {seccompProfile: {type: Localhost, localhostProfile: ""}}' },
    [
      'spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost',
    ],
  ],
  [
    'a seccomp profile elsewhere',
    { spec: 'securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../x}}' },
    ['spec.securityContext.seccompProfile.localhostProfile: Invalid value: "../x": must not contain \'..\''],
  ],
  [
    'a seccomp type that is none',
    { spec: 'securityContext: {seccompProfile: {type: Default}}' },
    [
      'spec.securityContext.seccompProfile.type: Unsupported value: "Default": supported values: "Localhost", "RuntimeDefault", "Unconfined"',
    ],
  ],
  [
    'privileges without escalation',
    { container: 'securityContext: {privileged: true, allowPrivilegeEscalation: false}' },
    [expect.stringContaining('cannot set `allowPrivilegeEscalation` to false and `privileged` to true')],
  ],
  [
    "an unmasked /proc with the host's users",
    { container: 'securityContext: {procMount: Unmasked}' },
    [
      'spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`',
    ],
  ],
  [
    'a toleration that is none',
    { spec: 'tolerations: [{operator: Equal}]' },
    [
      'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"',
    ],
  ],
  [
    'ephemeral containers',
    { spec: 'ephemeralContainers: [{name: e, image: x}]' },
    ['spec.ephemeralContainers: Forbidden: cannot be set on create'],
  ],
];

const refused: readonly Row[] = [
  [
    'affinity',
    { spec: 'affinity: {nodeAffinity: {}}' },
    ['spec.affinity: not supported by this version of Nodelet: there is no scheduler; use nodeSelector'],
  ],
  [
    'a runtime class',
    { spec: 'runtimeClassName: kata' },
    ['spec.runtimeClassName: not supported by this version of Nodelet'],
  ],
  [
    'a claim',
    { spec: 'volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]' },
    ['spec.volumes[0].persistentVolumeClaim: not supported by this version of Nodelet'],
  ],
  [
    'a projected token',
    { spec: 'volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]' },
    ['spec.volumes[0].projected.sources[0].serviceAccountToken: not supported by this version of Nodelet'],
  ],
  [
    'huge pages as a volume',
    { spec: 'volumes: [{name: v, emptyDir: {medium: HugePages}}]' },
    ['spec.volumes[0].emptyDir.medium: not supported by this version of Nodelet: medium "HugePages"'],
  ],
  [
    'a service account',
    { spec: 'serviceAccountName: builder' },
    [
      expect.stringContaining(
        'spec.serviceAccountName: not supported by this version of Nodelet: there is no API server',
      ),
    ],
  ],
  [
    'block devices and SELinux',
    {
      container:
        'volumeDevices: [{name: v, devicePath: /dev/x}]\nsecurityContext: {seLinuxOptions: {level: s0}}',
    },
    [
      'spec.containers[0].volumeDevices: not supported by this version of Nodelet',
      'spec.containers[0].securityContext.seLinuxOptions: not supported by this version of Nodelet',
    ],
  ],
  [
    'a gRPC probe',
    { container: 'livenessProbe: {grpc: {port: 1}}' },
    ['spec.containers[0].livenessProbe.grpc: not supported by this version of Nodelet'],
  ],
  [
    'an extended resource',
    { container: 'resources: {limits: {example.com/gpu: 1}}' },
    ['spec.containers[0].resources.limits[example.com/gpu]: not supported by this version of Nodelet'],
  ],
  [
    'AppArmor',
    { spec: 'securityContext: {appArmorProfile: {type: RuntimeDefault}}' },
    ['spec.securityContext.appArmorProfile: not supported by this version of Nodelet'],
  ],
  ['Windows', { spec: 'os: {name: windows}' }, ['spec.os.name: not supported by this version of Nodelet']],
  [
    'a priority class',
    { spec: 'priorityClassName: high' },
    [
      'spec.priorityClassName: not supported by this version of Nodelet: only system-node-critical and system-cluster-critical are known',
    ],
  ],
];

describe('the validation of a pod refuses', () => {
  for (const [what, rows] of Object.entries({
    metadata,
    containers,
    handlers,
    env,
    resources,
    volumes,
    spec,
  })) {
    describe(what, () => {
      it.each(rows)('%s', async (_name, parts, messages) => {
        expect(await messagesOf(podYaml(parts))).toEqual(messages);
      });
    });
  }

  it('a pod without containers', async () => {
    const text = 'apiVersion: v1\nkind: Pod\nmetadata: {name: Web_1}\nspec: {containers: []}';
    expect(await messagesOf(text)).toEqual([
      `metadata.name: Invalid value: "Web_1": ${SUBDOMAIN}`,
      'spec.containers: Required value',
    ]);
    expect(await messagesOf('apiVersion: v1\nkind: Pod')).toEqual([
      'metadata.name: Required value: name or generateName is required',
      'spec: Required value',
    ]);
  });
});

describe('this version', () => {
  it.each(refused)('refuses by name %s', async (_name, parts, messages) => {
    const text = podYaml(parts);
    expect(await messagesOf(text)).toEqual(messages);
    await expect(parse(text)).rejects.toMatchObject({ code: 'UNSUPPORTED_MANIFEST' });
  });

  it('accepts what has no effect on one machine, and what it can do', async () => {
    const { pods } = await parse(
      podYaml({
        spec: `
          os: {name: linux}
          tolerations: [{operator: Exists}]
          priorityClassName: system-node-critical
          serviceAccountName: builder
          automountServiceAccountToken: false
          nodeSelector: {kubernetes.io/os: linux}
          securityContext: {appArmorProfile: {type: Unconfined}, fsGroup: 5, sysctls: [{name: net/ipv4/tcp_syncookies, value: "1"}]}
          initContainers: [{name: s, image: x, restartPolicy: Always, startupProbe: {tcpSocket: {port: http}}}]
          volumes: [{name: p, projected: {sources: [{downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}]`,
        container: `
          lifecycle: {stopSignal: SIGRTMIN+3, preStop: {sleep: {seconds: 1}}}
          env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}]
          volumeMounts: [{name: p, mountPath: /p, readOnly: true, recursiveReadOnly: IfPossible}]
          resources: {requests: {ephemeral-storage: 1Gi}}`,
      }),
    );
    expect(pods).toHaveLength(1);
  });
});

describe('the validation of a secret refuses', () => {
  const secret = (body: string) => `apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n${body}`;
  it.each([
    ['what is no base64', 'data: {a: "hello!"}', ['data[a]: Invalid value: "<redacted>": must be base64']],
    [
      'a key that is no file name',
      'stringData: {a/b: x}',
      [expect.stringContaining('data[a/b]: Invalid value: "a/b": a valid config key must consist of')],
    ],
    [
      'a TLS secret without its key',
      'type: kubernetes.io/tls\nstringData: {tls.crt: x}',
      ['data[tls.key]: Required value'],
    ],
    [
      'a pull secret that is no JSON',
      'type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: x}',
      ['data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": must be a JSON object'],
    ],
    [
      'what is too large',
      `stringData: {a: ${'x'.repeat(1024 * 1024 + 1)}}`,
      ['data: Too long: may not be more than 1048576 bytes'],
    ],
  ])('%s', async (_name, body, messages) => {
    expect(await messagesOf(secret(body))).toEqual(messages);
  });

  it('a config map with a key in both bags', async () => {
    const text = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: x}\nbinaryData: {a: eA==}';
    expect(await messagesOf(text)).toEqual([
      'data[a]: Invalid value: "a": duplicate of key present in binaryData',
    ]);
  });
});
