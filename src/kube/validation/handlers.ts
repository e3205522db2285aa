/** Probes and lifecycle hooks. */
import { child, type FieldErrors } from '../field-error.ts';
import type { HTTPGetAction, Lifecycle, LifecycleHandler, Probe } from '../gen/types.gen.ts';
import { headerName, portName, portNumber } from './names.ts';

type Handler = LifecycleHandler & Pick<Probe, 'grpc'>;

const HANDLERS = ['exec', 'httpGet', 'tcpSocket', 'grpc', 'sleep'] as const;

function validateHandler(handler: Handler, grace: number, path: string, errors: FieldErrors): void {
  const given = HANDLERS.filter((kind) => handler[kind] !== undefined);
  for (const kind of given.slice(1)) {
    errors.forbidden(child(path, kind), 'may not specify more than 1 handler type');
  }
  const kind = given[0];
  if (kind === undefined) return errors.required(path, 'must specify a handler type');
  const at = child(path, kind);
  if (kind === 'exec') {
    if ((handler.exec?.command ?? []).length === 0) errors.required(child(at, 'command'));
  } else if (kind === 'httpGet' && handler.httpGet) {
    validateHttpGet(handler.httpGet, at, errors);
  } else if (kind === 'tcpSocket' && handler.tcpSocket) {
    validatePort(handler.tcpSocket.port, child(at, 'port'), errors);
  } else if (kind === 'grpc' && handler.grpc) {
    validatePort(handler.grpc.port, child(at, 'port'), errors);
  } else if (kind === 'sleep' && handler.sleep) {
    const { seconds } = handler.sleep;
    if (seconds < 0 || seconds > grace) {
      errors.invalid(
        at,
        seconds,
        `must be non-negative and less than terminationGracePeriodSeconds (${grace})`,
      );
    }
  }
  return undefined;
}

function validateHttpGet(http: HTTPGetAction, path: string, errors: FieldErrors): void {
  if (!http.path) errors.required(child(path, 'path'));
  validatePort(http.port, child(path, 'port'), errors);
  if (http.scheme !== 'HTTP' && http.scheme !== 'HTTPS') {
    errors.notSupported(child(path, 'scheme'), http.scheme, ['HTTP', 'HTTPS']);
  }
  for (const header of http.httpHeaders ?? []) {
    errors.invalidEach(child(path, 'httpHeaders'), header.name, headerName(header.name));
  }
}

function validatePort(port: number | string, path: string, errors: FieldErrors): void {
  errors.invalidEach(path, port, typeof port === 'number' ? portNumber(port) : portName(port));
}

const COUNTS = [
  'initialDelaySeconds',
  'timeoutSeconds',
  'periodSeconds',
  'successThreshold',
  'failureThreshold',
] as const;

export type ProbeKind = 'livenessProbe' | 'readinessProbe' | 'startupProbe';

export function validateProbe(
  kind: ProbeKind,
  probe: Probe | undefined,
  grace: number,
  path: string,
  errors: FieldErrors,
): void {
  if (probe === undefined) return;
  const at = child(path, kind);
  validateHandler(probe, grace, at, errors);
  for (const field of COUNTS) {
    if ((probe[field] ?? 0) < 0)
      errors.invalid(child(at, field), probe[field], 'must be greater than or equal to 0');
  }
  const ownGrace = probe.terminationGracePeriodSeconds;
  const graceAt = child(at, 'terminationGracePeriodSeconds');
  if (ownGrace !== undefined && ownGrace <= 0) errors.invalid(graceAt, ownGrace, 'must be greater than 0');
  if (kind === 'readinessProbe') {
    if (ownGrace !== undefined) errors.invalid(graceAt, ownGrace, 'must not be set for readinessProbes');
  } else if (probe.successThreshold !== 1) {
    errors.invalid(child(at, 'successThreshold'), probe.successThreshold, 'must be 1');
  }
}

const NAMED_SIGNALS = [
  'ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP',
  'TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX',
]
  .join(' ')
  .split(' ')
  .map((name) => `SIG${name}`);

/** Signals that a stopSignal may name, as the API spells them. */
export const STOP_SIGNALS: readonly string[] = [
  ...NAMED_SIGNALS,
  ...Array.from({ length: 15 }, (_, i) => `SIGRTMIN+${i + 1}`),
  ...Array.from({ length: 14 }, (_, i) => `SIGRTMAX-${i + 1}`),
].sort();

export function validateLifecycle(
  lifecycle: Lifecycle,
  grace: number,
  os: string | undefined,
  path: string,
  errors: FieldErrors,
): void {
  if (lifecycle.postStart) validateHandler(lifecycle.postStart, grace, child(path, 'postStart'), errors);
  if (lifecycle.preStop) validateHandler(lifecycle.preStop, grace, child(path, 'preStop'), errors);
  if (lifecycle.stopSignal !== undefined) {
    const at = child(path, 'stopSignal');
    if (os === undefined) errors.forbidden(at, 'may not be set for containers with empty `spec.os.name`');
    else if (!STOP_SIGNALS.includes(lifecycle.stopSignal))
      errors.notSupported(at, lifecycle.stopSignal, STOP_SIGNALS);
  }
}
