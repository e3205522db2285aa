import { toError } from './errors.ts';

export interface Closable {
  /** Ends what was opened; a second call does nothing. */
  close(): void | Promise<void>;
}

/** Undo steps in reverse order: of a create that failed half-way, or of a component that stops. */
export class CleanupStack {
  #steps: { readonly name: string; readonly undo: () => void | Promise<void> }[] = [];
  readonly #onError: (name: string, error: Error) => void;

  constructor(onError: (name: string, error: Error) => void = () => {}) {
    this.#onError = onError;
  }

  push(name: string, undo: () => void | Promise<void>): void {
    this.#steps.push({ name, undo });
  }

  /** Forgets every step: what was made stays. */
  disarm(): void {
    this.#steps = [];
  }

  /** Runs every step, the last one first; one that fails is reported and does not stop the others. */
  async run(): Promise<void> {
    const steps = this.#steps.reverse();
    this.#steps = [];
    for (const step of steps) {
      try {
        await step.undo();
      } catch (error) {
        this.#onError(step.name, toError(error));
      }
    }
  }
}
