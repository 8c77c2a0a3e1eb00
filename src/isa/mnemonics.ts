/**
 * The names of instructions as the rest of the system knows them: SDM mnemonics in lower case, with
 * conditional families folded (jcc, setcc, cmovcc + `condition`) and string instructions by operation
 * (movs + operand size).
 */

/** Meaning in isa/semantics, written against the Builder. */
export const integerMnemonics = [
  // Arithmetic and logic
  'add', 'adc', 'sub', 'sbb', 'cmp', 'and', 'or', 'xor', 'test', 'inc', 'dec', 'neg', 'not',
  'mul', 'imul', 'div', 'idiv', 'adcx', 'adox', 'mulx',
  'aaa', 'aas', 'aam', 'aad', 'daa', 'das',
  // imul: one operand = widening; two = dst*src; three = src*imm. mul/div/idiv: one operand.
  // Moves and conversions
  'mov', 'movzx', 'movsx', 'movbe', 'xchg', 'lea', 'bswap', 'cmovcc', 'setcc', 'xlat',
  'cbw', 'cwd', // CBW/CWDE/CDQE and CWD/CDQ/CQO by operand size
  'lahf', 'sahf', 'salc', 'cmpxchg', 'cmpxchg8b', 'cmpxchg16b', 'xadd',
  // Shifts, rotates, bits
  'rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'sar', 'shld', 'shrd',
  'bt', 'bts', 'btr', 'btc', 'bsf', 'bsr', 'tzcnt', 'lzcnt', 'popcnt',
  'andn', 'bextr', 'blsi', 'blsmsk', 'blsr', 'bzhi', 'pdep', 'pext', 'rorx', 'sarx', 'shlx', 'shrx', 'crc32',
  // Stack
  'push', 'pop', 'pusha', 'popa', 'enter', 'leave',
  // Control transfer (near)
  'jmp', 'jcc', 'call', 'ret', 'loop', 'loope', 'loopne', 'jcxz', 'bound',
  // Strings
  'movs', 'cmps', 'stos', 'lods', 'scas',
  // Flags
  'clc', 'stc', 'cmc', 'cld', 'std',
  // Nothing to do
  'nop', 'pause', 'endbr', 'fence', 'clflush', 'prefetch',
  // Always #UD: UD0 UD1 UD2
  'ud',
] as const; // biome-ignore format: a table

/** Meaning in arch, in TypeScript: whatever reads or changes privileged state. */
export const systemMnemonics = [
  // Segment registers and tables. mov/push/pop of segment, control and debug registers have their own names.
  'movsreg', // MOV Sreg, r/m16
  'movfromsreg', // MOV r/m, Sreg
  'pushsreg', 'popsreg',
  'lds', 'les', 'lfs', 'lgs', 'lss',
  'lgdt', 'lidt', 'sgdt', 'sidt', 'lldt', 'ltr', 'sldt', 'str',
  'lar', 'lsl', 'verr', 'verw', 'arpl',
  'movcr', // MOV CRn, r
  'movfromcr', // MOV r, CRn
  'movdr', 'movfromdr',
  'lmsw', 'smsw', 'clts',
  'invlpg', 'invpcid', 'invd', 'wbinvd',
  'rdmsr', 'wrmsr', 'rdtsc', 'rdtscp', 'rdpmc', 'rdpid', 'cpuid', 'xgetbv', 'xsetbv', 'rdrand', 'rdseed',
  'in', 'out', 'inss', 'outss', // inss/outss: INS and OUTS
  'cli', 'sti', 'pushf', 'popf', 'hlt', 'clac', 'stac',
  'int', 'int3', 'into', 'int1', 'iret',
  'callf', 'jmpf', 'retf',
  'syscall', 'sysret', 'sysenter', 'sysexit', 'swapgs',
  'rdfsbase', 'rdgsbase', 'wrfsbase', 'wrgsbase',
  'x87', // all of D8 to DF: Instruction.fop tells which
  'wait',
  'monitor', 'mwait', // #UD unless reported by CPUID
  'rsm', // #UD outside SMM
  'vmcall', // VMX and SVM instructions: #UD, as CPUID does not report them
] as const; // biome-ignore format: a table

/**
 * Not instructions of this processor: `invalid` (#UD), `toolong` (over 15 bytes: #GP(0)), `unimplemented`
 * (x87, MMX, SSE, AVX...: stops the machine).
 */
export const otherMnemonics = ['invalid', 'toolong', 'unimplemented'] as const;

export type IntegerMnemonic = (typeof integerMnemonics)[number];
export type SystemMnemonic = (typeof systemMnemonics)[number];
export type Mnemonic = IntegerMnemonic | SystemMnemonic | (typeof otherMnemonics)[number];
