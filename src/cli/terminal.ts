/** What a person types at a terminal that is the guest's: all goes to it, but for what follows Ctrl-A, as in QEMU. */

const CONTROL_A = 0x01;
const [X, A, H, QUESTION] = ['x', 'a', 'h', '?'].map((key) => key.charCodeAt(0));

export const TERMINAL_HELP = 'Ctrl-A x ends espfix, Ctrl-A a sends Ctrl-A, Ctrl-A h shows this';

export interface Typed {
  /** For the guest. */
  readonly bytes: Uint8Array;
  readonly quit: boolean;
  readonly help: boolean;
}

export class EscapeKeys {
  #escaped = false;

  /** Takes out the commands of what has been typed. What follows a command to quit is not looked at. */
  type(keys: Uint8Array): Typed {
    const bytes: number[] = [];
    let help = false;
    for (const key of keys) {
      if (!this.#escaped) {
        if (key === CONTROL_A) this.#escaped = true;
        else bytes.push(key);
        continue;
      }
      this.#escaped = false;
      if (key === X) return { bytes: Uint8Array.from(bytes), quit: true, help };
      if (key === A || key === CONTROL_A) bytes.push(CONTROL_A);
      else if (key === H || key === QUESTION) help = true;
    }
    return { bytes: Uint8Array.from(bytes), quit: false, help };
  }
}
