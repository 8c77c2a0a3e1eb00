/**
 * Every encoding of every instruction that a case may contain, taken from iced-x86's opcode table.
 *
 * The generator writes bytes itself from these records, so that redundant encodings and prefixes come up
 * that no assembler would choose. SDM vol. 2A chapter 2 (instruction format), vol. 2D appendix A (opcode maps).
 */
import {
  Code,
  CodeExt,
  CpuidFeature,
  EncodingKind,
  Instruction,
  OpCodeOperandKind as K,
  MandatoryPrefix,
  Mnemonic,
  OpCodeTableKind,
} from 'iced-x86';
import { avxMnemonics, floatMnemonics, simdMnemonics } from '../isa/mnemonics.ts';

/** What the ModRM byte, if any, may hold in its rm field. */
export type RmKind = 'none' | 'either' | 'memory' | 'register';

/** One encoding. */
export interface FormRecord {
  /** iced's name of the encoding, such as `Add_rm64_r64`. */
  readonly name: string;
  /** iced's mnemonic in lower case. */
  readonly mnemonic: string;
  /** Bytes of opcode with escapes, without prefixes; for VEX the opcode byte alone. */
  readonly opcode: readonly number[];
  /** 0, 0x66, 0xf2 or 0xf3; part of the opcode. */
  readonly mandatoryPrefix: number;
  /** W and L are -1 where they do not matter. */
  readonly vex?: { readonly map: number; readonly pp: number; readonly w: number; readonly l: number };
  /** Whether a vector register field (VEX.vvvv) names a register. */
  readonly usesVvvv: boolean;
  readonly rm: RmKind;
  /** Fixed reg field of ModRM (an opcode extension), or -1. */
  readonly group: number;
  /** What the reg field of ModRM names otherwise. */
  readonly reg: 'none' | 'general' | 'segment' | 'control' | 'debug' | 'mm' | 'xmm';
  /** What the rm field names where it is a register. */
  readonly rmRegister: 'general' | 'mm' | 'xmm';
  /** It uses x87, MM or XMM registers. */
  readonly vectors: boolean;
  /** It is one of x87. */
  readonly x87: boolean;
  /** Bits of the indices in the vector register that its memory operand has for an index; 0 for others. */
  readonly gathers: 0 | 32 | 64;
  /** The low three bits of the opcode name a register: a general one, or ST(i). */
  readonly opcodeRegister: boolean;
  /** Register operands are byte registers, for which AH..BH and REX matter. */
  readonly byteRegisters: boolean;
  /** Bytes of each immediate, displacement or pointer part that follows, in order. */
  readonly immediates: readonly number[];
  readonly branch: 'none' | 'relative' | 'far';
  /** A moffs: its size is the address size. */
  readonly moffs: boolean;
  /** Operand size that needs a prefix in some mode: 0 (none), 16, 32, 64. */
  readonly operandSize: number;
  /** 64-bit operand size needs no REX.W. */
  readonly default64: boolean;
  readonly addressSize: number;
  /** Code sizes in which it decodes to this on Intel processors. */
  readonly modes: readonly (16 | 32 | 64)[];
  readonly lockable: boolean;
  readonly repeatable: boolean;
  /** Status flags read and left undefined, and those surely replaced by defined values (RflagsBits). */
  readonly flagsRead: number;
  readonly flagsUndefined: number;
  readonly flagsDefined: number;
  /** Its memory operand is not accessed, or only as a hint. */
  readonly class: FormClass;
}

/** How the generator treats a form. */
export type FormClass =
  | 'plain'
  | 'string'
  | 'indirect-branch'
  | 'return'
  | 'far-return'
  | 'far-memory'
  | 'segment-load'
  | 'privileged'
  | 'interrupt';

const FEATURES = new Set([
  'INTEL8086', 'INTEL8086_ONLY', 'INTEL186', 'INTEL286', 'INTEL386', 'INTEL486', 'X64',
  'BMI1', 'BMI2', 'ADX', 'MOVBE', 'POPCNT', 'LZCNT', 'CMOV', 'CX8', 'CMPXCHG16B', 'FSGSBASE',
  'PREFETCHW', 'CLFSH', 'CLFLUSHOPT', 'CLWB', 'SSE', 'SSE2', 'SSE4_2', 'RDPID', 'SMAP',
  'CET_IBT', 'MULTIBYTENOP', 'SYSCALL', 'SEP', 'INVPCID', 'XSAVE', 'XSAVES', 'RDPMC', 'MSR', 'PAUSE', 'SMM',
  'FPU', 'FPU287', 'FPU387', 'MMX', 'SSE3', 'SSSE3', 'SSE4_1', 'AES', 'PCLMULQDQ', 'SHA', 'AVX', 'AVX2', 'FMA', 'F16C',
]); // biome-ignore format: a table

/**
 * Mnemonics (iced's) never put into a case, with the reason. What the decoder knows of them is listed in
 * unreachable.ts.
 */
const LEFT_OUT = new Set([
  'Syscall', 'Sysenter', // would enter the host's kernel
  'Xsave', 'Xsave64', 'Xrstor', 'Xrstor64', 'Xgetbv', // compared with silicon beside arch/extended-state.ts
  'Sgdt', 'Sidt', 'Smsw', 'Sldt', 'Str', // emulated by Linux where UMIP is on; host values where it is not
  'Fsin', 'Fcos', 'Fsincos', 'Fptan', 'Fpatan', 'F2xm1', 'Fyl2x', 'Fyl2xp1', // last bits: beside arch/x87.ts
  'Fbld', // undefined for digits above 9
  'Rdpid', 'Jmpe', 'Loadall', 'Loadall286', 'Storeall',
]); // biome-ignore format: a table

const GENERAL = new Set<K>([
  K.mem, K.mem_offs, K.r8_or_mem, K.r16_or_mem, K.r32_or_mem, K.r64_or_mem,
  K.r8_reg, K.r8_opcode, K.r16_reg, K.r16_rm, K.r16_opcode, K.r32_reg, K.r32_rm, K.r32_opcode, K.r32_vvvv,
  K.r64_reg, K.r64_rm, K.r64_opcode, K.r64_vvvv, K.seg_reg, K.cr_reg, K.dr_reg,
  K.es, K.cs, K.ss, K.ds, K.fs, K.gs, K.al, K.cl, K.ax, K.dx, K.eax, K.rax,
  K.imm8, K.imm8_const_1, K.imm8sex16, K.imm8sex32, K.imm8sex64, K.imm16, K.imm32, K.imm32sex64, K.imm64,
  K.seg_rSI, K.es_rDI, K.seg_rBX_al, K.br16_1, K.br32_1, K.br64_1, K.br16_2, K.br32_4, K.br64_4,
  K.farbr2_2, K.farbr4_2,
  K.mm_reg, K.mm_rm, K.mm_or_mem, K.xmm_reg, K.xmm_rm, K.xmm_or_mem, K.seg_rDI,
  K.ymm_reg, K.ymm_rm, K.ymm_or_mem, K.xmm_vvvv, K.ymm_vvvv, K.xmm_is4, K.ymm_is4,
  K.mem_vsib32x, K.mem_vsib64x, K.mem_vsib32y, K.mem_vsib64y, K.st0, K.sti_opcode,
]); // biome-ignore format: a table

const IMMEDIATE_BYTES = new Map<K, readonly number[]>([
  [K.imm8, [1]], [K.imm8sex16, [1]], [K.imm8sex32, [1]], [K.imm8sex64, [1]],
  [K.xmm_is4, [1]], [K.ymm_is4, [1]],
  [K.imm16, [2]], [K.imm32, [4]], [K.imm32sex64, [4]], [K.imm64, [8]],
  [K.br16_1, [1]], [K.br32_1, [1]], [K.br64_1, [1]], [K.br16_2, [2]], [K.br32_4, [4]], [K.br64_4, [4]],
  [K.farbr2_2, [2, 2]], [K.farbr4_2, [4, 2]],
]); // biome-ignore format: a table

const VECTORS = [
  K.mm_reg, K.mm_rm, K.mm_or_mem, K.xmm_reg, K.xmm_rm, K.xmm_or_mem, K.ymm_reg, K.ymm_rm, K.ymm_or_mem,
]; // biome-ignore format: a table
/** Memory whose index is a vector register. */
const GATHERED = [K.mem_vsib32x, K.mem_vsib64x, K.mem_vsib32y, K.mem_vsib64y];
/** Mnemonics of instructions on vectors that have a meaning. */
const VECTOR_MNEMONICS: ReadonlySet<string> = new Set([...simdMnemonics, ...floatMnemonics, ...avxMnemonics]);

const SEGMENT_OPERANDS = new Set<K>([K.es, K.ss, K.ds, K.fs, K.gs]);

function classify(mnemonic: string, kinds: readonly K[], rm: RmKind, name: string): FormClass {
  if (/^(Movs[bwdq]|Cmps[bwdq]|Stos[bwdq]|Lods[bwdq]|Scas[bwdq])$/.test(mnemonic) && rm === 'none')
    return 'string';
  if (/^(Ins|Outs)[bwd]$/.test(mnemonic)) return 'privileged';
  if (/^(Jmp|Call)_m16/.test(name)) return 'far-memory';
  if (/^(Jmp|Call)_rm/.test(name)) return 'indirect-branch';
  if (/^Ret[nf]?[wdq]?$|^Ret$/.test(mnemonic)) return 'return';
  if (/^(Retf|Iret)/.test(mnemonic)) return 'far-return';
  if (/^(Lds|Les|Lss|Lfs|Lgs)$/.test(mnemonic)) return 'far-memory';
  if (kinds.includes(K.seg_reg) && kinds[0] === K.seg_reg) return 'segment-load';
  if (mnemonic === 'Pop' && SEGMENT_OPERANDS.has(kinds[0])) return 'segment-load';
  if (/^(Lar|Lsl|Verr|Verw|Arpl)$/.test(mnemonic)) return 'segment-load';
  if (
    /^(In|Out|Cli|Sti|Hlt|Clts|Invd|Wbinvd|Invlpg|Invpcid|Lgdt|Lidt|Lldt|Ltr|Lmsw|Rdmsr|Wrmsr|Rdpmc|Xsetbv|Clac|Stac|Sysexitd?|Sysexitq|Sysretd?|Sysretq|Swapgs|Rsm|Xsaves|Xsaves64|Xrstors|Xrstors64)$/.test(
      mnemonic,
    )
  )
    return 'privileged';
  if (kinds.includes(K.cr_reg) || kinds.includes(K.dr_reg)) return 'privileged';
  if (/^(Int|Int1|Int3|Into|Bound|Ud0|Ud1|Ud2)$/.test(mnemonic)) return 'interrupt';
  return 'plain';
}

const prefixByte = (prefix: MandatoryPrefix): number =>
  prefix === MandatoryPrefix.P66
    ? 0x66
    : prefix === MandatoryPrefix.PF3
      ? 0xf3
      : prefix === MandatoryPrefix.PF2
        ? 0xf2
        : 0;

function record(code: Code): FormRecord | undefined {
  const info = CodeExt.opCode(code);
  const instruction = new Instruction();
  try {
    if (!info.isInstruction) return undefined;
    if (info.encoding !== EncodingKind.Legacy && info.encoding !== EncodingKind.VEX) return undefined;
    instruction.code = code;
    const features = Array.from(instruction.cpuidFeatures() as Iterable<CpuidFeature>);
    if (!features.every((feature) => FEATURES.has(CpuidFeature[feature]))) return undefined;
    // WAIT and what follows it are two instructions.
    if (info.fwait) return undefined;
    const x87 = features.some((feature) => CpuidFeature[feature].startsWith('FPU'));
    const mnemonic = Mnemonic[instruction.mnemonic];
    if (LEFT_OUT.has(mnemonic)) return undefined;
    const kinds: K[] = [];
    for (let i = 0; i < info.opCount; i++) kinds.push(info.opKind(i));
    if (!kinds.every((kind) => GENERAL.has(kind))) return undefined;

    const vex = info.encoding === EncodingKind.VEX;
    const opcode: number[] = [];
    if (!vex) {
      if (info.table === OpCodeTableKind.T0F) opcode.push(0x0f);
      else if (info.table === OpCodeTableKind.T0F38) opcode.push(0x0f, 0x38);
      else if (info.table === OpCodeTableKind.T0F3A) opcode.push(0x0f, 0x3a);
      else if (info.table !== OpCodeTableKind.Normal) return undefined;
    }
    if (info.opCodeLength === 2) opcode.push(info.opCode >> 8, info.opCode & 0xff);
    else opcode.push(info.opCode);

    const has = (...wanted: K[]) => kinds.some((kind) => wanted.includes(kind));
    const onVectors = has(...VECTORS) || /^(Emms|Vzeroall|Vzeroupper)$/.test(mnemonic);
    // PCMPESTRI with REX.W has a name of its own in iced.
    if (onVectors && !VECTOR_MNEMONICS.has(mnemonic.toLowerCase().replace(/64$/, ''))) return undefined;
    const rm: RmKind = has(
      K.r8_or_mem,
      K.r16_or_mem,
      K.r32_or_mem,
      K.r64_or_mem,
      K.mm_or_mem,
      K.xmm_or_mem,
      K.ymm_or_mem,
    )
      ? 'either'
      : has(K.mem, ...GATHERED)
        ? 'memory'
        : has(K.r16_rm, K.r32_rm, K.r64_rm, K.mm_rm, K.xmm_rm, K.ymm_rm)
          ? 'register'
          : 'none';
    const modes: (16 | 32 | 64)[] = [];
    if (info.mode16 && info.intelDecoder16) modes.push(16);
    if (info.mode32 && info.intelDecoder32) modes.push(32);
    if (info.mode64 && info.intelDecoder64) modes.push(64);
    if (modes.length === 0) return undefined;
    // A count of zero, which iced assumes, would leave flags alone.
    if (has(K.imm8)) instruction.immediate8 = 2;
    const counted = has(K.cl) || /^(Rol|Ror|Rcl|Rcr|Shl|Shr|Sal|Sar|Shld|Shrd)_.*imm8$/.test(Code[code]);
    const string = classify(mnemonic, kinds, rm, Code[code]) === 'string';
    const written = instruction.rflagsWritten | instruction.rflagsCleared | instruction.rflagsSet;
    return {
      name: Code[code],
      mnemonic: mnemonic.toLowerCase(),
      opcode,
      mandatoryPrefix: prefixByte(info.mandatoryPrefix),
      ...(vex
        ? {
            vex: {
              map: info.table === OpCodeTableKind.T0F ? 1 : info.table === OpCodeTableKind.T0F38 ? 2 : 3,
              pp: { 0: 0, 102: 1, 243: 2, 242: 3 }[prefixByte(info.mandatoryPrefix)] ?? 0,
              w: info.isWIG ? -1 : info.W,
              l: info.isLIG ? -1 : info.L,
            },
          }
        : {}),
      usesVvvv: has(K.r32_vvvv, K.r64_vvvv, K.xmm_vvvv, K.ymm_vvvv),
      rm,
      group: info.groupIndex,
      reg: has(K.r8_reg, K.r16_reg, K.r32_reg, K.r64_reg)
        ? 'general'
        : has(K.seg_reg)
          ? 'segment'
          : has(K.cr_reg)
            ? 'control'
            : has(K.dr_reg)
              ? 'debug'
              : has(K.mm_reg)
                ? 'mm'
                : has(K.xmm_reg, K.ymm_reg)
                  ? 'xmm'
                  : 'none',
      rmRegister: has(K.mm_rm, K.mm_or_mem)
        ? 'mm'
        : has(K.xmm_rm, K.xmm_or_mem, K.ymm_rm, K.ymm_or_mem)
          ? 'xmm'
          : 'general',
      vectors: onVectors || x87,
      x87,
      gathers: has(K.mem_vsib32x, K.mem_vsib32y) ? 32 : has(K.mem_vsib64x, K.mem_vsib64y) ? 64 : 0,
      opcodeRegister: has(K.r8_opcode, K.r16_opcode, K.r32_opcode, K.r64_opcode, K.sti_opcode),
      byteRegisters: has(K.r8_reg, K.r8_opcode, K.r8_or_mem),
      immediates: kinds.flatMap((kind) => IMMEDIATE_BYTES.get(kind) ?? []),
      branch: has(K.br16_1, K.br32_1, K.br64_1, K.br16_2, K.br32_4, K.br64_4)
        ? 'relative'
        : has(K.farbr2_2, K.farbr4_2)
          ? 'far'
          : 'none',
      moffs: has(K.mem_offs),
      operandSize: vex ? 0 : info.operandSize,
      default64: info.defaultOpSize64 || info.forceOpSize64 || info.intelForceOpSize64,
      addressSize: info.addressSize,
      modes,
      lockable: info.canUseLockPrefix,
      repeatable: info.canUseRepPrefix || info.canUseRepnePrefix,
      flagsRead: instruction.rflagsRead,
      flagsUndefined: instruction.rflagsUndefined,
      flagsDefined: counted || string ? 0 : written,
      class: classify(mnemonic, kinds, rm, Code[code]),
    };
  } finally {
    instruction.free();
    info.free();
  }
}

let cached: readonly FormRecord[] | undefined;

/** All forms; built once, on first use. */
export function allForms(): readonly FormRecord[] {
  cached ??= Object.values(Code)
    .filter((code): code is Code => typeof code === 'number')
    .map(record)
    .filter((form) => form !== undefined);
  return cached;
}
