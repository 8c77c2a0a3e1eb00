/**
 * Interrupt messages between APICs: what travels, and which local APICs take it. SDM vol. 3A 10.6 (interprocessor
 * interrupts), 10.6.2 (destinations), 10.11 (message signalled form), 10.12.10 (x2APIC logical destinations).
 */

/** Delivery modes (ICR, LVT and redirection-table bits 10:8). */
export const FIXED = 0;
export const LOWEST_PRIORITY = 1;
export const SMI = 2;
export const NMI_MODE = 4;
export const INIT = 5;
export const STARTUP = 6;
export const EXTINT = 7;

export interface ApicMessage {
  readonly mode: number;
  readonly vector: number;
  /** Level-triggered: the EOI goes back to the I/O APIC. */
  readonly level: boolean;
  readonly logical: boolean;
  /** Physical or logical destination as the sender has it. */
  readonly destination: number;
  /** Destination is 32 bits wide (the sender is in x2APIC mode); else 8. */
  readonly wide: boolean;
}

/** The message that a write of `data` to `address` in FEE00000H-FEEFFFFFH is (SDM vol. 3A 10.11.1, 10.11.2). */
export function messageSignalled(address: number, data: number): ApicMessage {
  const LOGICAL = 1 << 2;
  const LEVEL_TRIGGERED = 1 << 15;
  return {
    mode: (data >>> 8) & 7,
    vector: data & 0xff,
    level: (data & LEVEL_TRIGGERED) !== 0,
    logical: (address & LOGICAL) !== 0,
    destination: (address >>> 12) & 0xff,
    wide: false,
  };
}

/** A local APIC as the message routing sees it. */
export interface ApicTarget {
  /** Responds to messages at all (IA32_APIC_BASE.EN). */
  readonly present: boolean;
  /** Takes fixed interrupts (enabled in SVR). */
  readonly accepting: boolean;
  /** The least of these takes a lowest-priority interrupt (SDM vol. 3A 10.6.2.4). */
  readonly arbitrationPriority: number;
  /** Whether a destination names this local APIC. */
  matches(message: ApicMessage): boolean;
  accept(mode: number, vector: number, level: boolean): void;
}

/** Delivers a message. Among equals a lowest-priority message goes to the processor of the lowest number. */
export function route(targets: readonly ApicTarget[], message: ApicMessage): void {
  if (message.mode !== LOWEST_PRIORITY) {
    for (const target of targets)
      if (target.present && target.matches(message))
        target.accept(message.mode, message.vector, message.level);
    return;
  }
  let chosen: ApicTarget | undefined;
  for (const target of targets) {
    if (!target.present || !target.accepting || !target.matches(message)) continue;
    if (!chosen || target.arbitrationPriority < chosen.arbitrationPriority) chosen = target;
  }
  if (chosen) chosen.accept(FIXED, message.vector, message.level);
}
