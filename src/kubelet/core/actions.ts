/**
 * Everything that the kubelet does to a pod. An action works in a *slot*; while it is under way nothing else starts in
 * the same slot. `execute.ts` has one executor for each kind, checked by the compiler.
 */
import { type BackoffState, unreachable } from '../../base/index.ts';

export type Action =
  /** Directories, cgroup and volumes of the pod. Safe to repeat. */
  | { readonly kind: 'prepare-pod' }
  | { readonly kind: 'create-sandbox'; readonly attempt: number; readonly replaces: boolean }
  /** Makes sure that the image is there, by the container's pull policy. */
  | { readonly kind: 'ensure-image'; readonly container: string; readonly image: string }
  | {
      readonly kind: 'start-container';
      readonly container: string;
      readonly sandboxId: string;
      readonly ips: readonly string[];
      readonly imageRef: string;
      /** Undefined where no earlier attempt is known: the log directory may still tell. */
      readonly attempt: number | undefined;
      readonly crash: BackoffState | undefined;
    }
  | {
      readonly kind: 'kill-container';
      readonly container: string;
      readonly id: string;
      /** Of the pod, for a pre-stop hook that asks a server in it. */
      readonly ips: readonly string[];
      /** Seconds; the pre-stop hook counts against it. */
      readonly grace: number;
      /** When the grace period is over. */
      readonly until: number;
      /** Message of the Killing event; empty for the usual one. */
      readonly message: string;
    }
  | {
      readonly kind: 'remove-container';
      readonly container: string;
      readonly id: string;
      readonly attempt: number;
    }
  | { readonly kind: 'stop-sandbox'; readonly id: string }
  | { readonly kind: 'remove-sandbox'; readonly id: string }
  /** Says that a restart or a pull is being put off. */
  | {
      readonly kind: 'announce-backoff';
      readonly container: string;
      readonly id: string | undefined;
      readonly image: string;
    }
  /** Unmounts volumes, removes the cgroup, gives back user ids. */
  | { readonly kind: 'release-pod' }
  /** Removes the pod's directories and logs: the last thing done for a pod. */
  | { readonly kind: 'erase-pod' };

export type ActionKind = Action['kind'];
export type ActionOf<K extends ActionKind> = Extract<Action, { readonly kind: K }>;

/** Slots of actions under way. */
export type Busy = ReadonlyMap<string, Action>;

export function slotOf(action: Action): string {
  switch (action.kind) {
    case 'ensure-image':
      return `image/${action.container}`;
    case 'start-container':
    case 'kill-container':
    case 'announce-backoff':
      return containerSlot(action.container);
    case 'remove-container':
      return `remove/${action.id}`;
    default:
      return 'pod';
  }
}

/** Names what an action does, to count its failures by: one key for each kind and slot. */
export function actionKey(action: Action): string {
  return `${action.kind} ${slotOf(action)}`;
}

/** The slot in which a container is started, killed and announced. */
export function containerSlot(name: string): string {
  return `container/${name}`;
}

export function startKey(container: string): string {
  return `start-container ${containerSlot(container)}`;
}

/** One line for logs, `nodelet plan` and tests. */
export function describeAction(action: Action): string {
  switch (action.kind) {
    case 'create-sandbox':
      return `create sandbox, attempt ${action.attempt}`;
    case 'ensure-image':
      return `ensure image ${JSON.stringify(action.image)} for ${action.container}`;
    case 'start-container':
      return `start container ${action.container}, attempt ${action.attempt ?? 'first'}`;
    case 'kill-container':
      return `kill container ${action.container} (${action.id}) within ${action.grace} s`;
    case 'remove-container':
      return `remove container ${action.container} (${action.id})`;
    case 'stop-sandbox':
      return `stop sandbox ${action.id}`;
    case 'remove-sandbox':
      return `remove sandbox ${action.id}`;
    case 'announce-backoff':
      return action.id === undefined
        ? `announce back-off of pulling ${JSON.stringify(action.image)} for ${action.container}`
        : `announce back-off of restarting ${action.container}`;
    case 'prepare-pod':
      return 'prepare directories, cgroup and volumes';
    case 'release-pod':
      return 'release volumes, cgroup and user ids';
    case 'erase-pod':
      return 'erase directories and logs';
    default:
      return unreachable(action);
  }
}
