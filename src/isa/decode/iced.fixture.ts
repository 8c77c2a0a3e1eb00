/**
 * Compares the decoder with iced-x86, another decoder of the same manuals. Where the two may differ is written
 * down here, with the reason; any other difference is an error of one of them.
 */
import * as iced from 'iced-x86';
import type { CodeSize, Instruction, Operand } from '../instruction.ts';
import { avxMnemonics, floatMnemonics, type Mnemonic, simdMnemonics, tileMnemonics } from '../mnemonics.ts';

/** Extensions that the machine does not have yet: their instructions are `unimplemented`. */
const notYet = /^(MMX|SSE|SSSE3|AVX|AES|VAES|SHA|SM3|SM4|GFNI|PCLMUL|VPCLMUL|F16C|FMA$|AMX|KL|WIDE_KL|D3NOW)/;
/** What only AMD or other vendors' processors ever had: #UD on an Intel processor. */
const otherVendors =
  /^(SSE4A|XOP|FMA4|TBM|LWP|MONITORX|CLZERO|RDPRU|MCOMMIT|INVLPGB|SEV|RMPQUERY|PADLOCK|CYRIX|KNC|CENTAUR|UDBG)/;
/** Integer and system extensions that CPUID of the machine does not report: #UD. */
const notReported =
  /^(RTM|HLE|CET_SS|OSS|SGX|PCONFIG|PKU|SMX|PTWRITE|WAITPKG|MOVDIR|ENQCMD|SERIALIZE|TSXLDTRK|UINTR|HRESET|LKGS|FRED|WRMSRNS|MSRLIST|TSE|TDX|RAO_INT|CMPCCXADD|MPX|PCOMMIT|USER_MSR)/;

/** Single instructions of those extensions that the machine does have. */
const have: ReadonlySet<string> = new Set([
  'ldmxcsr',
  'vldmxcsr',
  'vstmxcsr',
  'stmxcsr',
  'lfence',
  'mfence',
  'sfence',
  'xgetbv',
  'xsetbv',
  'prefetchnta',
  'prefetcht0',
  'prefetcht1',
  'prefetcht2',
  'crc32',
  ...tileMnemonics,
]);
/** SIMD instructions that have a meaning. */
const simd: ReadonlySet<string> = new Set([...simdMnemonics, ...floatMnemonics, ...avxMnemonics]);
/** Instructions of extensions that are not reported but whose opcodes are NOPs then. */
const nops: Readonly<Record<string, Mnemonic>> = {
  rdsspd: 'nop',
  rdsspq: 'nop',
  endbr32: 'endbr',
  endbr64: 'endbr',
  cldemote: 'nop',
};

/** iced-x86's mnemonics where ours differ. */
const names: Readonly<Record<string, Mnemonic>> = {
  ...nops,
  sal: 'shl',
  retf: 'retf',
  cwde: 'cbw',
  cdqe: 'cbw',
  cdq: 'cwd',
  cqo: 'cwd',
  movsb: 'movs',
  movsw: 'movs',
  movsd: 'movs',
  movsq: 'movs',
  cmpsb: 'cmps',
  cmpsw: 'cmps',
  cmpsd: 'cmps',
  cmpsq: 'cmps',
  stosb: 'stos',
  stosw: 'stos',
  stosd: 'stos',
  stosq: 'stos',
  lodsb: 'lods',
  lodsw: 'lods',
  lodsd: 'lods',
  lodsq: 'lods',
  scasb: 'scas',
  scasw: 'scas',
  scasd: 'scas',
  scasq: 'scas',
  insb: 'inss',
  insw: 'inss',
  insd: 'inss',
  outsb: 'outss',
  outsw: 'outss',
  outsd: 'outss',
  xlatb: 'xlat',
  pushad: 'pusha',
  popad: 'popa',
  pushfd: 'pushf',
  pushfq: 'pushf',
  popfd: 'popf',
  popfq: 'popf',
  iretd: 'iret',
  iretq: 'iret',
  sysretq: 'sysret',
  sysexitq: 'sysexit',
  movsxd: 'movsx',
  jcxz: 'jcxz',
  jecxz: 'jcxz',
  jrcxz: 'jcxz',
  lfence: 'fence',
  mfence: 'fence',
  sfence: 'fence',
  prefetchw: 'prefetch',
  prefetchwt1: 'prefetch',
  prefetchnta: 'prefetch',
  prefetcht0: 'prefetch',
  prefetcht1: 'prefetch',
  prefetcht2: 'prefetch',
  prefetchit0: 'nop',
  prefetchit1: 'nop',
  reservednop: 'nop',
  ud0: 'ud',
  ud1: 'ud',
  ud2: 'ud',
  wbnoinvd: 'wbinvd',
  fxsave64: 'fxsave',
  fxrstor64: 'fxrstor',
  xsave64: 'xsave',
  xsaveopt64: 'xsaveopt',
  xsavec64: 'xsavec',
  xrstor64: 'xrstor',
  xsaves64: 'xsaves',
  xrstors64: 'xrstors',
};

/** Mnemonics whose operands we leave out, as they say nothing or are implied. */
const withoutOperands: ReadonlySet<Mnemonic> = new Set<Mnemonic>([
  'movs',
  'cmps',
  'stos',
  'lods',
  'scas',
  'inss',
  'outss',
  'xlat',
  'nop',
  'prefetch',
  'ud',
  'endbr',
  'vmcall',
  'x87',
]);
/** Of memory operands that we give no width. */
const withoutWidth: ReadonlySet<Mnemonic> = new Set<Mnemonic>(['lea', 'clflush', 'clflushopt', 'clwb']);

/**
 * Those that read or write 16 bits whatever the operand size; iced-x86 names a register of the operand size, and SMSW's
 * and the like's memory form one for each.
 */
const sixteenBits: ReadonlySet<Mnemonic> = new Set<Mnemonic>([
  'lar',
  'lsl',
  'lldt',
  'ltr',
  'verr',
  'verw',
  'lmsw',
  'smsw',
  'movsreg',
  'arpl',
]);

interface Expected {
  readonly mnemonic: Mnemonic;
  readonly operandSize: number;
  readonly addressSize: number;
}

const mnemonicNames = new Map<number, string>();
for (const [name, value] of Object.entries(iced.Mnemonic)) {
  if (typeof value === 'number') mnemonicNames.set(value, name.toLowerCase());
}
const codeNames = new Map<number, string>();
for (const [name, value] of Object.entries(iced.Code)) {
  if (typeof value === 'number') codeNames.set(value, name);
}
const featureNames = new Map<number, string>();
for (const [name, value] of Object.entries(iced.CpuidFeature)) {
  if (typeof value === 'number') featureNames.set(value, name);
}

/** Names an iced-x86 code, for messages. */
function codeName(code: number): string {
  return codeNames.get(code) ?? String(code);
}

const expectations = new Map<number, Expected>();

function expectation(instruction: iced.Instruction): Expected {
  const code = instruction.code;
  let expected = expectations.get(code);
  if (expected === undefined) {
    const opCode = instruction.opCode;
    expected = {
      mnemonic: classify(instruction),
      operandSize: opCode.operandSize,
      addressSize: opCode.addressSize,
    };
    opCode.free();
    expectations.set(code, expected);
  }
  return expected;
}

function classify(instruction: iced.Instruction): Mnemonic {
  const code = codeName(instruction.code);
  const name = mnemonicNames.get(instruction.mnemonic) ?? '';
  if (instruction.code === iced.Code.INVALID) return 'invalid';
  const features = Array.from(instruction.cpuidFeatures(), (value) => featureNames.get(value) ?? '');
  const is = (list: RegExp) => features.some((feature) => list.test(feature));
  if (nops[name] !== undefined) return nops[name];
  if (name === 'vmgexit' || is(/^(VMX|SVM|INVEPT|INVVPID|SKINIT)/)) return 'vmcall';
  if (is(otherVendors) || is(notReported)) return 'invalid';
  // MOVSD and CMPSD are string instructions, too.
  if (code.startsWith('EVEX_')) return 'unimplemented';
  // Of 256 bits, these are extensions of their own.
  if (is(/^(VAES|VPCLMULQDQ)$/)) return 'invalid';
  if (simd.has(name) && !/^(Movs|Cmps)d_m32/.test(code)) return name as Mnemonic;
  if (/^v?pcmpestr[im]64$/.test(name)) return name.slice(0, -2) as Mnemonic;
  if (name === 'fisttp' || (is(/^FPU/) && name !== 'wait')) return 'x87';
  if (!have.has(name) && is(notYet)) return 'unimplemented';
  if (instruction.isJccShortOrNear) return 'jcc';
  if (/^Set[a-z]+_rm8$/.test(code)) return 'setcc';
  if (name.startsWith('cmov')) return 'cmovcc';
  if (instruction.isJmpFar || instruction.isJmpFarIndirect) return 'jmpf';
  if (instruction.isCallFar || instruction.isCallFarIndirect) return 'callf';
  if (name === 'mov') {
    if (/^Mov_Sreg/.test(code)) return 'movsreg';
    if (/_Sreg$/.test(code)) return 'movfromsreg';
    if (/^Mov_cr/.test(code)) return 'movcr';
    if (/_cr$/.test(code)) return 'movfromcr';
    if (/^Mov_dr/.test(code)) return 'movdr';
    if (/_dr$/.test(code)) return 'movfromdr';
  }
  if (/^(Push|Pop)[wdq]?_[ECSDFG]S$/.test(code)) {
    return name.startsWith('push') ? 'pushsreg' : 'popsreg';
  }
  return names[name] ?? (name as Mnemonic);
}

interface RegisterDescription {
  readonly kind: string;
  readonly width: number;
  readonly index: number;
  readonly high: boolean;
}

const registers: RegisterDescription[] = [];
for (const value of Object.values(iced.Register)) {
  if (typeof value !== 'number') continue;
  const R = iced.Register;
  let index = iced.RegisterExt.number(value);
  let kind = 'other';
  let high = false;
  let width = iced.RegisterExt.size(value) * 8;
  if (iced.RegisterExt.isGPR(value)) {
    kind = 'register';
    if (value >= R.AH && value <= R.BH) {
      high = true;
      index = value - R.AH;
    } else if (value >= R.SPL && value <= R.R15L) {
      index = value - R.SPL + 4;
    } else if (value >= R.AL && value <= R.BL) index = value - R.AL;
  } else if (iced.RegisterExt.isVectorRegister(value) || iced.RegisterExt.isMM(value)) {
    kind = iced.RegisterExt.isMM(value)
      ? 'mm'
      : iced.RegisterExt.isXMM(value)
        ? 'xmm'
        : iced.RegisterExt.isYMM(value)
          ? 'ymm'
          : 'zmm';
  } else if (iced.RegisterExt.isSegmentRegister(value)) {
    kind = 'segment';
    index = value - R.ES;
  } else if (value >= R.CR0 && value <= R.CR15) {
    kind = 'control';
    index = value - R.CR0;
  } else if (value >= R.DR0 && value <= R.DR15) {
    kind = 'debug';
    index = value - R.DR0;
  } else if (value >= R.TMM0 && value <= R.TMM7) {
    kind = 'tile';
    index = value - R.TMM0;
  }
  if (kind !== 'register') width = 0;
  registers[value] = { kind, width, index, high };
}

function mask(value: bigint, width: number): bigint {
  return BigInt.asUintN(width, value);
}

function compareOperand(
  ours: Instruction,
  theirs: iced.Instruction,
  ourNumber: number,
  n: number,
  next: bigint,
): string | undefined {
  const operand: Operand = ours.operands[ourNumber];
  const kind = theirs.opKind(n);
  const K = iced.OpKind;
  switch (operand.kind) {
    case 'register':
    case 'mm':
    case 'xmm':
    case 'ymm':
    case 'segment':
    case 'control':
    case 'debug':
    case 'tile': {
      if (kind !== K.Register) return `kind ${kind}`;
      const other = registers[theirs.opRegister(n)];
      const long = operand.kind === 'ymm' && /^v(pgatherqd|gatherqps)$/.test(ours.mnemonic);
      if (other.kind !== operand.kind && !long) return `register kind ${other.kind}`;
      if (other.index !== operand.index) return `register ${other.index}`;
      if (operand.kind !== 'register') return undefined;
      if (other.high !== operand.high) return 'high byte';
      // LAR and the like name r32 a register of which they read 16 bits.
      if (operand.width === 16 && sixteenBits.has(ours.mnemonic)) return undefined;
      if (other.width !== operand.width) return `register width ${other.width}`;
      return undefined;
    }
    case 'immediate': {
      if (kind < K.Immediate8 || kind > K.Immediate32to64) return `kind ${kind}`;
      if (mask(theirs.immediate(n), operand.width) !== operand.value)
        return `immediate ${theirs.immediate(n)}`;
      const width =
        kind === K.Immediate8 || kind === K.Immediate8_2nd
          ? 8
          : kind === K.Immediate16 || kind === K.Immediate8to16
            ? 16
            : kind === K.Immediate32 || kind === K.Immediate8to32
              ? 32
              : 64;
      return width === operand.width ? undefined : `immediate width ${width}`;
    }
    case 'relative': {
      if (kind !== K.NearBranch16 && kind !== K.NearBranch32 && kind !== K.NearBranch64)
        return `kind ${kind}`;
      const width = kind === K.NearBranch16 ? 16 : kind === K.NearBranch32 ? 32 : 64;
      if (width !== ours.operandSize) return `branch width ${width}`;
      return mask(next + operand.displacement, width) === theirs.nearBranchTarget
        ? undefined
        : `target ${theirs.nearBranchTarget}`;
    }
    case 'far': {
      if (kind !== K.FarBranch16 && kind !== K.FarBranch32) return `kind ${kind}`;
      if (ours.operandSize !== (kind === K.FarBranch16 ? 16 : 32)) return 'far width';
      const offset = kind === K.FarBranch16 ? theirs.farBranch16 : theirs.farBranch32;
      if (offset >>> 0 !== operand.offset) return `far offset ${offset}`;
      return theirs.farBranchSelector === operand.selector ? undefined : 'far selector';
    }
    case 'memory': {
      if (kind !== K.Memory) return `kind ${kind}`;
      const base = theirs.memoryBase;
      const index = theirs.memoryIndex;
      const R = iced.Register;
      const ripRelative = base === R.RIP || base === R.EIP;
      if (ripRelative !== operand.ripRelative) return `RIP-relative ${ripRelative}`;
      let displacement = operand.displacement;
      if (ripRelative) {
        if ((base === R.RIP ? 64 : 32) !== ours.addressSize) return 'RIP width';
        displacement += next;
      } else {
        if (base === R.None ? operand.base !== -1 : registers[base].index !== operand.base) return 'base';
        if (base !== R.None && registers[base].width !== ours.addressSize) return 'address size';
      }
      const vector = ours.operands[3];
      if (/^vp?gather/.test(ours.mnemonic)) {
        if (vector.kind !== 'xmm' && vector.kind !== 'ymm') return 'index';
        if (vector.kind !== registers[index].kind || vector.index !== registers[index].index) return 'index';
        if (1 << operand.scale !== theirs.memoryIndexScale) return 'scale';
      } else if (index === R.None ? operand.index !== -1 : registers[index].index !== operand.index)
        return 'index';
      if (
        index !== R.None &&
        registers[index].kind === 'register' &&
        registers[index].width !== ours.addressSize
      )
        return 'address size';
      if (operand.index !== -1 && 1 << operand.scale !== theirs.memoryIndexScale) return 'scale';
      if (mask(displacement, ours.addressSize) !== mask(theirs.memoryDisplacement, ours.addressSize)) {
        return `displacement ${theirs.memoryDisplacement}`;
      }
      let segment = registers[theirs.memorySegment].index;
      // iced-x86 shows the CS, DS, ES and SS overrides that 64-bit mode ignores.
      if (ours.codeSize === 64 && theirs.hasSegmentPrefix && segment < 4) {
        segment = operand.base === 4 || operand.base === 5 ? 2 : 3;
      }
      if (segment !== operand.segment) return `segment ${segment}`;
      const width = iced.MemorySizeExt.size(theirs.memorySize) * 8;
      if (operand.width !== 0 && operand.width !== width && !withoutWidth.has(ours.mnemonic)) {
        return `memory width ${width}`;
      }
      return undefined;
    }
  }
}

/** Differences that are meant, each with its reason. */
const excuses: readonly {
  readonly reason: string;
  readonly applies: (
    ours: Instruction,
    theirs: iced.Instruction,
    expected: Expected,
    opcode: Opcode,
  ) => boolean;
}[] = [
  {
    reason:
      'Of VEX and EVEX SIMD encodings only map, prefix and opcode are looked at. What makes some of them #UD (L, W, ' +
      'vvvv, registers, masks, rounding) is not, and stops the machine instead.',
    applies: (ours, _, expected, opcode) =>
      ours.mnemonic === 'unimplemented' && expected.mnemonic === 'invalid' && opcode.vector,
  },
  {
    reason: 'A 3DNow! suffix that no processor knows stops the machine as a known one does.',
    applies: (ours, _, expected, opcode) =>
      ours.mnemonic === 'unimplemented' &&
      expected.mnemonic === 'invalid' &&
      opcode.map === '0f' &&
      opcode.byte === 0x0f,
  },
  {
    reason: 'Intel processors have SYSCALL and SYSRET in 64-bit mode only (SDM vol. 2B "SYSCALL", "SYSRET").',
    applies: (ours, theirs) =>
      ours.mnemonic === 'invalid' &&
      ours.codeSize !== 64 &&
      (theirs.mnemonic === iced.Mnemonic.Syscall || theirs.mnemonic === iced.Mnemonic.Sysret),
  },
];

/** What follows the prefixes. */
interface Opcode {
  readonly vector: boolean;
  readonly map: '' | '0f' | '0f38' | '0f3a';
  readonly byte: number;
}

function opcodeOf(bytes: Uint8Array, codeSize: CodeSize): Opcode {
  let at = 0;
  const isPrefix = (byte: number) => prefixBytes.includes(byte) || (codeSize === 64 && byte >> 4 === 4);
  while (at < 13 && isPrefix(bytes[at])) at++;
  const vector =
    bytes[at] === 0xc4 || bytes[at] === 0xc5 || bytes[at] === 0x62
      ? codeSize === 64 || bytes[at + 1] >= 0xc0
      : false;
  if (bytes[at] !== 0x0f) return { vector, map: '', byte: bytes[at] };
  if (bytes[at + 1] === 0x38) return { vector, map: '0f38', byte: bytes[at + 2] };
  if (bytes[at + 1] === 0x3a) return { vector, map: '0f3a', byte: bytes[at + 2] };
  return { vector, map: '0f', byte: bytes[at + 1] };
}

/**
 * What differs between our decoding and iced-x86's of the instruction at `ip`, or undefined. `theirs` has been decoded
 * from the same 16 bytes.
 */
export function difference(
  ours: Instruction,
  theirs: iced.Instruction,
  bytes: Uint8Array,
  ip: bigint,
): string | undefined {
  const expected = expectation(theirs);
  const oursIs = ours.mnemonic === 'toolong' ? 'invalid' : ours.mnemonic;
  if (oursIs !== expected.mnemonic) {
    const opcode = opcodeOf(bytes, ours.codeSize);
    if (excuses.some(({ applies }) => applies(ours, theirs, expected, opcode))) return undefined;
    return `mnemonic ${ours.mnemonic}, not ${expected.mnemonic}`;
  }
  if (oursIs === 'invalid') return undefined;
  if (ours.length !== theirs.length) return `length ${ours.length}, not ${theirs.length}`;
  if (oursIs === 'unimplemented') return undefined;
  if (ours.lock !== theirs.hasLockPrefix) return `lock ${ours.lock}`;

  if (!withoutOperands.has(ours.mnemonic)) {
    // The memory that MASKMOVQ and MASKMOVDQU write is implied.
    const implied = /^v?maskmov(q|dqu)$/.test(ours.mnemonic) ? 1 : 0;
    // The index of a gather is an operand of ours.
    const own = /^vp?gather/.test(ours.mnemonic) ? 1 : 0;
    if (ours.operands.length + implied - own !== theirs.opCount)
      return `operands ${ours.operands.length}, not ${theirs.opCount}`;
    const next = ip + BigInt(ours.length);
    for (let n = 0; n < ours.operands.length - own; n++) {
      const message = compareOperand(ours, theirs, n, n + implied, next);
      if (message !== undefined) return `operand ${n}: ${message}`;
    }
  } else if (theirs.isStringInstruction) {
    const width = iced.MemorySizeExt.size(theirs.memorySize) * 8;
    if (width !== ours.operandSize) return `element ${width}`;
    const repeat = theirs.hasRepPrefix
      ? 'rep'
      : theirs.hasRepnePrefix
        ? /^(cmps|scas)$/.test(ours.mnemonic)
          ? 'repne'
          : 'rep'
        : '';
    if (repeat !== ours.repeat) return `repeat ${repeat}`;
  }
  if (
    expected.operandSize !== 0 &&
    // Of the byte form of CRC32 it is the destination's size, and 8 with us.
    !(ours.mnemonic === 'crc32' && ours.operandSize === 8) &&
    ours.operandSize !== expected.operandSize &&
    !(ours.operandSize === 16 && sixteenBits.has(ours.mnemonic))
  ) {
    return `operand size ${ours.operandSize}, not ${expected.operandSize}`;
  }
  if (expected.addressSize !== 0 && ours.addressSize !== expected.addressSize) {
    return `address size ${ours.addressSize}, not ${expected.addressSize}`;
  }
  if (ours.mnemonic === 'jcc' || ours.mnemonic === 'setcc' || ours.mnemonic === 'cmovcc') {
    if (theirs.conditionCode - 1 !== ours.condition) return `condition ${theirs.conditionCode - 1}`;
  }
  return undefined;
}

/** A reproducible source of random numbers (xorshift, 32 bits). */
export class Random {
  state: number;
  constructor(seed: number) {
    this.state = seed | 0 || 1;
  }
  /** 0 .. bound - 1. */
  below(bound: number): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return (x >>> 0) % bound;
  }
}

const prefixBytes = [
  0x66, 0x66, 0x66, 0xf3, 0xf3, 0xf2, 0xf2, 0x67, 0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
];
/** Displacement and immediate bytes that show extension. */
const edges = [0x00, 0x01, 0x7f, 0x80, 0xff];

/**
 * Fills `bytes` with 16 bytes that stand a chance of reaching every corner: prefixes, an opcode of any map, ModR/M,
 * the rest random; now and then all random.
 */
export function randomBytes(random: Random, bytes: Uint8Array, at: number, codeSize: CodeSize): void {
  const end = at + 16;
  let position = at;
  const put = (byte: number) => {
    if (position < end) bytes[position++] = byte;
  };
  const style = random.below(16);
  if (style !== 0) {
    const count = style === 1 ? random.below(16) : random.below(4) === 0 ? random.below(5) : random.below(2);
    for (let i = 0; i < count; i++) put(prefixBytes[random.below(prefixBytes.length)]);
    if (codeSize === 64 && random.below(3) === 0) put(0x40 + random.below(16));
    const map = random.below(16);
    if (map < 6) put(random.below(256));
    else if (map < 10) {
      put(0x0f);
      put(random.below(256));
    } else if (map < 12) {
      put(0x0f);
      put(random.below(2) === 0 ? 0x38 : 0x3a);
      put(random.below(4) === 0 ? 0xf0 + random.below(16) : random.below(256));
    } else if (map < 14) {
      put(0xc4);
      put((random.below(8) << 5) | (random.below(8) === 0 ? random.below(32) : 1 + random.below(3)));
      put(random.below(256) & (random.below(2) === 0 ? 0xfb : 0xff));
      put(random.below(2) === 0 ? 0xf0 + random.below(8) : random.below(256));
    } else if (map === 14) {
      put(0xc5);
      put(random.below(256));
      put(random.below(256));
    } else {
      put(0x62);
      put((random.below(16) << 4) | random.below(8));
      put(random.below(256) | 4);
    }
  }
  while (position < end) put(random.below(4) === 0 ? edges[random.below(edges.length)] : random.below(256));
}

/** A decoding that both made, or how they differ. */
export interface Outcome {
  readonly cases: number;
  readonly differences: readonly { readonly bytes: string; readonly message: string }[];
}

/** Decodes `cases` random strings with both, and decodes ours again with too few bytes. */
export function compare(
  decode: (bytes: Uint8Array, start: number, end: number, codeSize: CodeSize) => Instruction | null,
  codeSize: CodeSize,
  cases: number,
  seed: number,
  limit = 20,
): Outcome {
  const random = new Random(seed);
  const batch = 4096;
  const bytes = new Uint8Array(batch * 16);
  const instruction = new iced.Instruction();
  const differences: { bytes: string; message: string }[] = [];
  const ip = codeSize === 16 ? 0x1230n : codeSize === 32 ? 0x12345670n : 0x7123456789abn;
  for (let done = 0; done < cases && differences.length < limit; done += batch) {
    for (let at = 0; at < bytes.length; at += 16) randomBytes(random, bytes, at, codeSize);
    const decoder = new iced.Decoder(codeSize, bytes, iced.DecoderOptions.None);
    for (let at = 0; at < bytes.length && differences.length < limit; at += 16) {
      decoder.position = at;
      decoder.ip = ip;
      decoder.decodeOut(instruction);
      const ours = decode(bytes, at, at + 16, codeSize);
      let message: string | undefined;
      if (ours === null) message = 'null';
      else {
        message = difference(ours, instruction, bytes.subarray(at, at + 16), ip);
        if (message === undefined && ours.length > 1 && ours.mnemonic !== 'invalid') {
          const available = random.below(ours.length);
          if (ours.mnemonic !== 'toolong' && decode(bytes, at, at + available, codeSize) !== null) {
            message = `complete with ${available} bytes`;
          } else if (decode(bytes, at, at + ours.length, codeSize)?.length !== ours.length) {
            message = `other with its ${ours.length} bytes`;
          }
        }
      }
      if (message !== undefined) {
        const hex = Array.from(bytes.subarray(at, at + 16), (byte) => byte.toString(16).padStart(2, '0'));
        differences.push({
          bytes: hex.join(' '),
          message: `${message} (${codeName(instruction.code)}, ${instruction.length} bytes: ${instruction.toString()})`,
        });
      }
    }
    decoder.free();
  }
  instruction.free();
  return { cases, differences };
}
