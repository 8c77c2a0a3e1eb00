/** What is particular about the processor and kernel that native cases run on. */
export interface Host {
  /** FS and GS bases can be written at CPL 3. */
  readonly fsGsBase: boolean;
  /** System calls made by cases become signals. */
  readonly catchesSystemCalls: boolean;
  /** Access rights and limit of the per-CPU segment at selector 0x7b, as LAR and LSL give them; 0 if absent. */
  readonly perCpuRights: number;
  readonly perCpuLimit: number;
  /** CPU feature flags as /proc/cpuinfo names them, and the model. */
  readonly features: ReadonlySet<string>;
  readonly model: string;
}

/** Runs batches on the processor itself. */
export interface NativeSide {
  readonly info: Host;
  /**
   * The results of `count` cases. With `images`, the cases start with those vector registers (vector-state.ts), else with initial
   * ones; the images of the results follow the results then.
   */
  run(code: Uint8Array, cases: Uint8Array, count: number, images?: Uint8Array): Promise<Uint8Array>;
}
