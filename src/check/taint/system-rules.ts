/**
 * What system instructions do to shadows, by mnemonic; transfers of control are in transfer-rules.ts. SDM vol. 2 of each.
 *
 * Not secrets: what devices and ports give, time, random numbers, CPUID, CR0, CR4 and CR8, and the base of a segment that
 * user mode may load itself.
 */
import { parseDescriptor } from '../../arch/descriptors.ts';
import {
  IA32_FS_BASE,
  IA32_GS_BASE,
  IA32_KERNEL_GS_BASE,
  IA32_TSC,
  IA32_TSC_ADJUST,
} from '../../arch/msr.ts';
import { extract, insert, type Shadow, uniform, union, within } from '../../engine/taint/shadow.ts';
import { type TaintedBits, taintedBits } from '../../engine/taint/taint-builder.ts';
import type { Value } from '../../isa/builder.ts';
import { AC, IF, IOPL, RF, STATUS_FLAGS, TF, VM, ZF } from '../../isa/flags.ts';
import type { OperandWidth } from '../../isa/instruction.ts';
import type { SystemMnemonic } from '../../isa/mnemonics.ts';
import {
  DS,
  ES,
  FS,
  GS,
  LDTR,
  RAX,
  RBX,
  RCX,
  RDI,
  RDX,
  RSI,
  RSP,
  type SegmentNumber,
  SS,
} from '../../isa/state.ts';
import { peekLinear } from './memory-view.ts';
import { written } from './register-shadows.ts';
import type { SystemRule, SystemStep } from './system-step.ts';
import { transferRules } from './transfer-rules.ts';

type MaybeShadow = Shadow | null;

const nothing: SystemRule = () => {};

/** Leaves a general-purpose register with `shadow` in its low `width` bits, as x86 writes registers. */
export function setRegister(x: SystemStep, index: number, width: number, shadow: MaybeShadow): void {
  x.set({ kind: 'register', index }, written(x.shadows.gpr[index], shadow, width));
}

/** Leaves operand `n`, a register, or memory of `memoryWidth` bits, with `shadow`. */
function setOperand(x: SystemStep, n: number, memoryWidth: OperandWidth, shadow: MaybeShadow): void {
  const operand = x.instruction.operands[n];
  if (operand?.kind === 'register') {
    if (operand.high) {
      const { index } = operand;
      x.set({ kind: 'register', index }, insert(x.shadows.gpr[index], extract(shadow, 0, 8), 8, 8));
    } else setRegister(x, operand.index, operand.width, shadow);
  } else if (operand?.kind === 'memory') {
    const linear = taintedBits(x.b.linear(n)).bits;
    x.set({ kind: 'memory', linear, bytes: memoryWidth / 8 }, extract(shadow, 0, memoryWidth));
  }
}

/** The selector that operand `n` is, from a register or memory. */
function selectorOperand(x: SystemStep, n: number): TaintedBits {
  const operand = x.instruction.operands[n];
  if (operand?.kind === 'memory') return taintedBits(x.b.readMemoryOperand(n, 16));
  const { bits, shadow } = taintedBits(x.b.read(n));
  return { bits: bits & 0xffffn, shadow: extract(shadow, 0, 16) };
}

function specialIndex(x: SystemStep, n: number): number {
  const operand = x.instruction.operands[n];
  return operand !== undefined && 'index' in operand ? operand.index : 0;
}

/** A selector was loaded: what it, and the base that came with it, depend on. */
function loadSelector(x: SystemStep, segment: SegmentNumber, selector: TaintedBits): void {
  x.set({ kind: 'selector', segment }, selector.shadow);
  if (segment !== FS && segment !== GS) return;
  x.after(() => x.set({ kind: 'base', segment }, loadedBase(x, segment, selector)));
}

function loadedBase(x: SystemStep, segment: SegmentNumber, { shadow }: TaintedBits): MaybeShadow {
  const { cpu } = x;
  if (cpu.segBase[segment] === 0n && shadow === null) return null;
  if (shadow !== null) return uniform(0xffff_ffffn, shadow.any);
  const dpl = (cpu.segAttributes[segment] >> 5) & 3;
  if (cpu.realAddressing || dpl === 3) return null;
  return x.born('descriptor', `base of segment 0x${cpu.segSelector[segment].toString(16)}`, 32);
}

const movsreg: SystemRule = (x) => {
  loadSelector(x, specialIndex(x, 0) as SegmentNumber, selectorOperand(x, 1));
};

const movfromsreg: SystemRule = (x) => {
  setOperand(x, 0, 16, x.read({ kind: 'selector', segment: specialIndex(x, 1) as SegmentNumber }));
};

/** Stack pointer arithmetic at the stack's width. */
function moveStack(x: SystemStep, by: number): Value {
  const { b } = x;
  const width = x.cpu.stackSize;
  return b.add(b.getRegister(RSP, width), b.constant(width, BigInt.asUintN(width, BigInt(by))));
}

const pushsreg: SystemRule = (x) => {
  const { b, instruction, cpu } = x;
  const size = instruction.operandSize / 8;
  const segment = specialIndex(x, 0) as SegmentNumber;
  const shadow = x.read({ kind: 'selector', segment });
  const top = moveStack(x, -size);
  b.store('ss', top, b.value(size === 8 ? 64 : 16, BigInt(cpu.segSelector[segment]), shadow));
  b.setRegister(RSP, top);
};

const popsreg: SystemRule = (x) => {
  const { b, instruction, cpu } = x;
  const selector = taintedBits(b.load('ss', b.getRegister(RSP, cpu.stackSize), 16));
  b.setRegister(RSP, moveStack(x, instruction.operandSize / 8));
  loadSelector(x, specialIndex(x, 0) as SegmentNumber, selector);
};

function loadFarPointer(segment: SegmentNumber): SystemRule {
  return (x) => {
    const { b, instruction } = x;
    const width = instruction.operandSize;
    const address = b.effectiveAddress(1);
    const offset = b.load('operand', address, width);
    const after = b.add(address, b.constant(address.width, width / 8));
    const selector = taintedBits(b.load('operand', after, 16));
    b.write(0, offset);
    loadSelector(x, segment, selector);
  };
}

/** SGDT, SIDT: a limit of 16 bits and a base of 64 or 32. */
function storeTable(name: 'gdtr' | 'idtr'): SystemRule {
  return (x) => {
    const { b, cpu } = x;
    const limit = BigInt(cpu[`${name}Limit`]) & 0xffffn;
    const base = cpu[`${name}Base`];
    const address = b.effectiveAddress(0);
    const after = b.add(address, b.constant(address.width, 2));
    const what = name.toUpperCase();
    const width = cpu.mode64 ? 64 : 32;
    b.store('operand', address, b.value(16, limit, x.born('system-register', `${what} limit`, 16)));
    const bits = BigInt.asUintN(width, base);
    b.store('operand', after, b.value(width, bits, x.born('system-register', `${what} base`, width)));
  };
}

function storeSelector(name: string): SystemRule {
  return (x) => setOperand(x, 0, 16, x.born('system-register', `${name} selector`, 16));
}

/** Whether user mode may ask the same of the selector. */
function descriptorIsUsers(x: SystemStep, selector: bigint): boolean {
  const { cpu } = x;
  const table = selector & 4n ? cpu.segBase[LDTR] : cpu.gdtrBase;
  const bits = peekLinear(cpu, table + (selector & 0xfff8n), 8);
  if (bits === undefined) return false;
  return parseDescriptor(0, -1n, Number(bits & 0xffff_ffffn), Number(bits >> 32n)).dpl === 3;
}

function setFlags(x: SystemStep, mask: bigint, shadow: MaybeShadow): void {
  x.set({ kind: 'flags' }, union(within(x.shadows.flags, ~mask), shadow && within(shadow, mask)));
}

/** LAR, LSL: the operand only changes where ZF is set. */
const describeSelector: SystemRule = (x) => {
  const { bits, shadow } = selectorOperand(x, 1);
  const operand = x.instruction.operands[0];
  if (operand?.kind !== 'register') return;
  const secret = shadow !== null || !descriptorIsUsers(x, bits);
  const what = `descriptor of selector 0x${bits.toString(16)}`;
  const born = secret ? x.born('descriptor', what, 64) : null;
  x.read({ kind: 'register', index: operand.index });
  setFlags(x, ZF, born && uniform(ZF, born.any));
  x.after(() => {
    if (x.cpu.gpr[operand.index] !== x.before.gpr[operand.index])
      setRegister(x, operand.index, operand.width, born);
    else if (secret) setRegister(x, operand.index, operand.width, union(born, x.shadows.gpr[operand.index]));
    else x.set({ kind: 'register', index: operand.index }, x.shadows.gpr[operand.index]);
  });
};

const verify: SystemRule = (x) => {
  const { bits, shadow } = selectorOperand(x, 0);
  const secret = shadow !== null || !descriptorIsUsers(x, bits);
  const born = secret ? x.born('descriptor', `descriptor of selector 0x${bits.toString(16)}`, 64) : null;
  setFlags(x, ZF, born && uniform(ZF, born.any));
};

const arpl: SystemRule = (x) => {
  const { b } = x;
  const destination = x.instruction.operands[0]?.kind === 'memory' ? b.readMemoryOperand(0, 16) : b.read(0);
  const low = (value: Value) => b.and(b.truncate(value, 16), b.constant(16, 3));
  const [rpl, old] = [low(b.read(1)), low(destination)];
  const lower = b.ltUnsigned(old, rpl);
  const kept = b.and(b.truncate(destination, 16), b.constant(16, 0xfffc));
  const value = taintedBits(b.select(lower, b.or(kept, rpl), b.truncate(destination, 16)));
  const changes = taintedBits(lower);
  setFlags(x, ZF, changes.shadow && uniform(ZF, changes.shadow.any));
  if (changes.bits === 1n || changes.shadow !== null) setOperand(x, 0, 16, value.shadow);
};

const movfromcr: SystemRule = (x) => {
  const operand = x.instruction.operands[0];
  if (operand?.kind !== 'register') return;
  const index = specialIndex(x, 1);
  const width = x.cpu.mode64 ? 64 : 32;
  const shadow =
    index === 2 ? x.read({ kind: 'cr2' }) : index === 3 ? x.born('system-register', 'CR3', 64) : null;
  setRegister(x, operand.index, width, shadow);
};

const movcr: SystemRule = (x) => {
  if (specialIndex(x, 0) === 2) x.set({ kind: 'cr2' }, taintedBits(x.b.read(1)).shadow);
};

/** DR4 and DR5 are DR6 and DR7; these two are the processor's reports and settings, and no secrets. */
function debugIndex(x: SystemStep, n: number): number {
  const index = specialIndex(x, n);
  return index === 4 || index === 5 ? index + 2 : index;
}

const movdr: SystemRule = (x) => {
  const index = debugIndex(x, 0);
  x.set({ kind: 'debug', index }, index >= 6 ? null : taintedBits(x.b.read(1)).shadow);
};

const movfromdr: SystemRule = (x) => {
  const operand = x.instruction.operands[0];
  if (operand?.kind !== 'register') return;
  const shadow = x.read({ kind: 'debug', index: debugIndex(x, 1) });
  setRegister(x, operand.index, x.cpu.mode64 ? 64 : 32, shadow);
};

/** The MSRs whose values are followed, by index. */
function baseMsr(index: bigint): Parameters<SystemStep['read']>[0] | undefined {
  if (index === BigInt(IA32_FS_BASE)) return { kind: 'base', segment: FS };
  if (index === BigInt(IA32_GS_BASE)) return { kind: 'base', segment: GS };
  if (index === BigInt(IA32_KERNEL_GS_BASE)) return { kind: 'kernelGsBase' };
  return undefined;
}

const rdmsr: SystemRule = (x) => {
  const { bits: index } = taintedBits(x.b.getRegister(RCX, 32));
  const place = baseMsr(index);
  const time = index === BigInt(IA32_TSC) || index === BigInt(IA32_TSC_ADJUST);
  const shadow = place
    ? x.read(place)
    : time
      ? null
      : x.born('system-register', `MSR 0x${index.toString(16)}`, 64);
  setRegister(x, RAX, 32, extract(shadow, 0, 32));
  setRegister(x, RDX, 32, extract(shadow, 32, 32));
};

const wrmsr: SystemRule = (x) => {
  const { b } = x;
  const place = baseMsr(taintedBits(b.getRegister(RCX, 32)).bits);
  const low = taintedBits(b.getRegister(RAX, 32)).shadow;
  const high = taintedBits(b.getRegister(RDX, 32)).shadow;
  if (place) x.set(place, insert(low, high, 32, 32));
};

/** Registers that get what is no secret. */
function clean(...registers: number[]): SystemRule {
  return (x) => {
    for (const index of registers) setRegister(x, index, 32, null);
  };
}

const random: SystemRule = (x) => {
  setOperand(x, 0, 64, null);
  setFlags(x, STATUS_FLAGS, null);
};

const input: SystemRule = (x) => setOperand(x, 0, 32, null);

/** INS, OUTS: one iteration; with REP, RCX and the index register go on where RCX is not 0. */
function portString(index: number, segment: 'es' | 'operand', stores: boolean): SystemRule {
  return (x) => {
    const { b, instruction, cpu } = x;
    const width = instruction.addressSize;
    const bytes = instruction.operandSize / 8;
    const count = b.getRegister(RCX, width);
    if (instruction.repeat !== '' && taintedBits(count).bits === 0n) return;
    const at = b.getRegister(index, width);
    if (!stores) b.load(segment, at, instruction.operandSize);
    else {
      const number = segment === 'es' ? ES : DS;
      const base = cpu.mode64 ? 0n : cpu.segBase[number];
      const linear = BigInt.asUintN(cpu.mode64 ? 64 : 32, base + taintedBits(at).bits);
      x.set({ kind: 'memory', linear, bytes }, null);
    }
    const step = b.select(b.getFlag('df'), b.constant(width, -bytes), b.constant(width, bytes));
    b.setRegister(index, b.add(at, step));
    if (instruction.repeat !== '') b.setRegister(RCX, b.sub(count, b.constant(width, 1)));
  };
}

const pushf: SystemRule = (x) => {
  const { b, instruction, before } = x;
  const width = instruction.operandSize;
  const hidden = VM | RF;
  const image = BigInt.asUintN(width, BigInt(before.flags) & ~hidden);
  const shadow = within(x.read({ kind: 'flags' }), ~hidden);
  const top = moveStack(x, -width / 8);
  b.store('ss', top, b.value(width, image, extract(shadow, 0, width)));
  b.setRegister(RSP, top);
};

const popf: SystemRule = (x) => {
  const { b, instruction, cpu, before } = x;
  const width = instruction.operandSize;
  const image = taintedBits(b.load('ss', b.getRegister(RSP, cpu.stackSize), width)).shadow;
  b.setRegister(RSP, moveStack(x, width / 8));
  let mask = STATUS_FLAGS | TF | 0x400n | 0x4000n;
  if (width !== 16) mask |= AC | 0x20_0000n;
  if (before.cpl <= Number((BigInt(before.flags) & IOPL) >> 12n)) mask |= IF;
  if (before.cpl === 0) mask |= IOPL;
  setFlags(x, mask | RF, image && within(image, mask));
};

const swapgs: SystemRule = (x) => {
  const [base, kernel] = [x.read({ kind: 'base', segment: GS }), x.read({ kind: 'kernelGsBase' })];
  x.set({ kind: 'base', segment: GS }, kernel);
  x.set({ kind: 'kernelGsBase' }, base);
};

function readBase(segment: SegmentNumber): SystemRule {
  return (x) => setOperand(x, 0, 64, x.read({ kind: 'base', segment }));
}

function writeBase(segment: SegmentNumber): SystemRule {
  return (x) => x.set({ kind: 'base', segment }, taintedBits(x.b.read(0)).shadow);
}

/** A flag is set or cleared. */
function setsFlag(mask: bigint): SystemRule {
  return (x) => setFlags(x, mask, null);
}

/** x87 registers, MXCSR, tiles and the areas of XSAVE have no shadows. */
const extendedState: SystemRule = (x) => x.giveUp('x87 and saved extended state are not followed');

/** Every system instruction's rule. One that is not here changes what it changes to `conservative` secrets. */
export const systemRules: Partial<Readonly<Record<SystemMnemonic, SystemRule>>> = {
  movsreg,
  movfromsreg,
  pushsreg,
  popsreg,
  lds: loadFarPointer(DS),
  les: loadFarPointer(ES),
  lfs: loadFarPointer(FS),
  lgs: loadFarPointer(GS),
  lss: loadFarPointer(SS),
  x87: extendedState,
  wait: nothing,
  fxsave: extendedState,
  fxrstor: extendedState,
  xsave: extendedState,
  xsaveopt: extendedState,
  xsavec: extendedState,
  xrstor: extendedState,
  xsaves: extendedState,
  xrstors: extendedState,
  ldtilecfg: extendedState,
  sttilecfg: extendedState,
  tilerelease: extendedState,
  tilezero: extendedState,
  tileloadd: extendedState,
  tileloaddt1: extendedState,
  tilestored: extendedState,
  tdpbssd: extendedState,
  tdpbsud: extendedState,
  tdpbusd: extendedState,
  tdpbuud: extendedState,
  tdpbf16ps: extendedState,
  ldmxcsr: extendedState,
  stmxcsr: extendedState,
  vldmxcsr: extendedState,
  vstmxcsr: extendedState,
  lgdt: nothing,
  lidt: nothing,
  lldt: nothing,
  ltr: nothing,
  sgdt: storeTable('gdtr'),
  sidt: storeTable('idtr'),
  sldt: storeSelector('LDTR'),
  str: storeSelector('TR'),
  lar: describeSelector,
  lsl: describeSelector,
  verr: verify,
  verw: verify,
  arpl,
  movcr,
  movfromcr,
  movdr,
  movfromdr,
  lmsw: nothing,
  smsw: (x) => setOperand(x, 0, 16, null),
  clts: nothing,
  invlpg: nothing,
  invpcid: nothing,
  invd: nothing,
  wbinvd: nothing,
  rdmsr,
  wrmsr,
  pause: nothing,
  rdtsc: clean(RAX, RDX),
  rdtscp: clean(RAX, RDX, RCX),
  rdpid: (x) => setOperand(x, 0, 64, null),
  cpuid: clean(RAX, RBX, RCX, RDX),
  xgetbv: clean(RAX, RDX),
  xsetbv: nothing,
  rdrand: random,
  rdseed: random,
  in: input,
  out: nothing,
  inss: portString(RDI, 'es', true),
  outss: portString(RSI, 'operand', false),
  cli: setsFlag(IF),
  sti: setsFlag(IF),
  clac: setsFlag(AC),
  stac: setsFlag(AC),
  pushf,
  popf,
  hlt: nothing,
  swapgs,
  rdfsbase: readBase(FS),
  rdgsbase: readBase(GS),
  wrfsbase: writeBase(FS),
  wrgsbase: writeBase(GS),
  ...transferRules,
};
