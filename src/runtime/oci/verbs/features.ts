import { CAPABILITIES, lastCapability } from '../../../linux/capabilities.ts';
import {
  SECCOMP_ACTIONS,
  SECCOMP_ARCHITECTURES,
  SECCOMP_FLAGS,
  SECCOMP_OPERATORS,
} from '../../../linux/seccomp/index.ts';
import { MOUNT_OPTION_NAMES } from '../../launch/mount-options.ts';
import { HOOK_KINDS } from '../../launch/spec.ts';
import { probeSecurityModules } from '../../security-modules.ts';
import { writeAll } from '../log.ts';
import { OCI_VERSION } from '../main.ts';

/** runtime-spec's features.md. */
export function run(): number {
  const features = {
    ociVersionMin: '1.0.0',
    ociVersionMax: OCI_VERSION,
    hooks: HOOK_KINDS,
    mountOptions: MOUNT_OPTION_NAMES,
    linux: {
      namespaces: ['cgroup', 'ipc', 'mount', 'network', 'pid', 'user', 'uts'],
      capabilities: CAPABILITIES.slice(0, lastCapability() + 1),
      cgroup: { v1: true, v2: true, systemd: false, systemdUser: false, rdma: false },
      seccomp: {
        enabled: true,
        actions: SECCOMP_ACTIONS.filter((action) => action !== 'SCMP_ACT_NOTIFY'),
        operators: SECCOMP_OPERATORS,
        archs: SECCOMP_ARCHITECTURES,
        knownFlags: SECCOMP_FLAGS,
        supportedFlags: SECCOMP_FLAGS,
      },
      apparmor: { enabled: probeSecurityModules().apparmor },
      selinux: { enabled: false },
      intelRdt: { enabled: false },
      mountExtensions: { idmap: { enabled: true } },
    },
    annotations: {},
    potentiallyUnsafeConfigAnnotations: [],
  };
  writeAll(1, `${JSON.stringify(features, null, 2)}\n`);
  return 0;
}
