/**
 * How a PC reports x87 errors while CR0.NE is clear: FERR# asks for IRQ 13; a write to port F0H takes the request back, and asserts
 * IGNNE# until FERR# is deasserted. SDM vol. 1 appendix D.2.1.2, figure D-1.
 *
 * The pins are those of the bootstrap processor: with several the manual knows the native way of reporting only (D.2.1).
 */
import type { NumericErrorPins } from '../../arch/cpu.ts';
import type { Line, PortDevice, Saved } from './device.ts';

type NumericErrorState = { readonly reported: boolean; readonly ignored: boolean };

export class NumericError implements NumericErrorPins, PortDevice, Saved<NumericErrorState> {
  readonly port = 0xf0;
  readonly count = 1;
  readonly width = 1;
  readonly #interrupt: Line;
  #state: NumericErrorState = { reported: false, ignored: false };

  /** @param interrupt interrupt line 13 */
  constructor(interrupt: Line) {
    this.#interrupt = interrupt;
  }

  get reported(): boolean {
    return this.#state.reported;
  }
  get ignored(): boolean {
    return this.#state.ignored;
  }

  report(asserted: boolean): void {
    if (asserted === this.reported) return;
    this.#state = { reported: asserted, ignored: false };
    if (asserted) this.#interrupt(true);
  }

  portRead(): number {
    return 0xff;
  }

  portWrite(): void {
    this.#interrupt(false);
    this.#state = { ...this.#state, ignored: this.reported };
  }

  save(): NumericErrorState {
    return this.#state;
  }

  restore(state: NumericErrorState): void {
    this.#state = state;
  }
}
