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
  'nop', 'endbr', 'fence', 'clflush', 'clflushopt', 'clwb', 'prefetch',
  // Always #UD: UD0 UD1 UD2
  'ud',
] as const; // biome-ignore format: a table

/**
 * Instructions on MM and XMM registers that do no floating-point arithmetic; meaning in isa/semantics/simd. `movd` and `movq`
 * are one operation of two widths.
 */
export const simdMnemonics = [
  // Moves
  'movd', 'movq', 'movaps', 'movapd', 'movdqa', 'movups', 'movupd', 'movdqu', 'lddqu',
  'movntps', 'movntpd', 'movntdq', 'movntdqa', 'movntq', 'movnti',
  'movss', 'movsd', 'movlps', 'movlpd', 'movhps', 'movhpd', 'movhlps', 'movlhps', 'movsldup', 'movshdup', 'movddup',
  'movq2dq', 'movdq2q', 'maskmovq', 'maskmovdqu', 'movmskps', 'movmskpd', 'pmovmskb', 'emms',
  // Logic
  'pand', 'pandn', 'por', 'pxor', 'andps', 'andpd', 'andnps', 'andnpd', 'orps', 'orpd', 'xorps', 'xorpd', 'ptest',
  // Packed arithmetic
  'paddb', 'paddw', 'paddd', 'paddq', 'paddsb', 'paddsw', 'paddusb', 'paddusw',
  'psubb', 'psubw', 'psubd', 'psubq', 'psubsb', 'psubsw', 'psubusb', 'psubusw',
  'phaddw', 'phaddd', 'phaddsw', 'phsubw', 'phsubd', 'phsubsw', 'pavgb', 'pavgw', 'psadbw', 'mpsadbw', 'phminposuw',
  'pmullw', 'pmulld', 'pmulhw', 'pmulhuw', 'pmulhrsw', 'pmuludq', 'pmuldq', 'pmaddwd', 'pmaddubsw',
  'pminub', 'pminuw', 'pminud', 'pminsb', 'pminsw', 'pminsd', 'pmaxub', 'pmaxuw', 'pmaxud', 'pmaxsb', 'pmaxsw', 'pmaxsd',
  'pabsb', 'pabsw', 'pabsd', 'psignb', 'psignw', 'psignd',
  // Compares
  'pcmpeqb', 'pcmpeqw', 'pcmpeqd', 'pcmpeqq', 'pcmpgtb', 'pcmpgtw', 'pcmpgtd', 'pcmpgtq',
  'pcmpestrm', 'pcmpestri', 'pcmpistrm', 'pcmpistri',
  // Shifts
  'psllw', 'pslld', 'psllq', 'psrlw', 'psrld', 'psrlq', 'psraw', 'psrad', 'pslldq', 'psrldq',
  // Shuffles, insertions and extractions
  'pshufb', 'pshufw', 'pshufd', 'pshufhw', 'pshuflw', 'shufps', 'shufpd', 'palignr',
  'unpcklps', 'unpcklpd', 'unpckhps', 'unpckhpd', 'punpcklbw', 'punpcklwd', 'punpckldq', 'punpcklqdq',
  'punpckhbw', 'punpckhwd', 'punpckhdq', 'punpckhqdq', 'pblendvb', 'blendvps', 'blendvpd', 'blendps', 'blendpd', 'pblendw',
  'pinsrb', 'pinsrw', 'pinsrd', 'pinsrq', 'insertps', 'pextrb', 'pextrw', 'pextrd', 'pextrq', 'extractps',
  // Conversions between sizes of integers
  'packsswb', 'packssdw', 'packuswb', 'packusdw', 'pmovsxbw', 'pmovsxbd', 'pmovsxbq', 'pmovsxwd', 'pmovsxwq', 'pmovsxdq',
  'pmovzxbw', 'pmovzxbd', 'pmovzxbq', 'pmovzxwd', 'pmovzxwq', 'pmovzxdq',
  // Cryptography
  'aesenc', 'aesenclast', 'aesdec', 'aesdeclast', 'aesimc', 'aeskeygenassist', 'pclmulqdq',
  'sha1rnds4', 'sha1nexte', 'sha1msg1', 'sha1msg2', 'sha256rnds2', 'sha256msg1', 'sha256msg2',
] as const; // biome-ignore format: a table

/** Instructions of {@link simdMnemonics} that have a VEX-encoded form, with a destination of its own: its name has a V before. */
export const vexForms = [
  'movd', 'movq', 'movaps', 'movapd', 'movdqa', 'movups', 'movupd', 'movdqu', 'lddqu', 'movntps', 'movntpd', 'movntdq', 'movntdqa',
  'movss', 'movsd', 'movlps', 'movlpd', 'movhps', 'movhpd', 'movhlps', 'movlhps', 'movsldup', 'movshdup', 'movddup', 'maskmovdqu', 'movmskps', 'movmskpd', 'pmovmskb',
  'pand', 'pandn', 'por', 'pxor', 'andps', 'andpd', 'andnps', 'andnpd', 'orps', 'orpd', 'xorps', 'xorpd', 'ptest',
  'paddb', 'paddw', 'paddd', 'paddq', 'paddsb', 'paddsw', 'paddusb', 'paddusw', 'psubb', 'psubw', 'psubd', 'psubq', 'psubsb', 'psubsw', 'psubusb', 'psubusw',
  'phaddw', 'phaddd', 'phaddsw', 'phsubw', 'phsubd', 'phsubsw', 'pavgb', 'pavgw', 'psadbw', 'mpsadbw', 'phminposuw',
  'pmullw', 'pmulld', 'pmulhw', 'pmulhuw', 'pmulhrsw', 'pmuludq', 'pmuldq', 'pmaddwd', 'pmaddubsw',
  'pminub', 'pminuw', 'pminud', 'pminsb', 'pminsw', 'pminsd', 'pmaxub', 'pmaxuw', 'pmaxud', 'pmaxsb', 'pmaxsw', 'pmaxsd', 'pabsb', 'pabsw', 'pabsd', 'psignb', 'psignw', 'psignd',
  'pcmpeqb', 'pcmpeqw', 'pcmpeqd', 'pcmpeqq', 'pcmpgtb', 'pcmpgtw', 'pcmpgtd', 'pcmpgtq', 'pcmpestrm', 'pcmpestri', 'pcmpistrm', 'pcmpistri',
  'psllw', 'pslld', 'psllq', 'psrlw', 'psrld', 'psrlq', 'psraw', 'psrad', 'pslldq', 'psrldq',
  'pshufb', 'pshufd', 'pshufhw', 'pshuflw', 'shufps', 'shufpd', 'palignr', 'unpcklps', 'unpcklpd', 'unpckhps', 'unpckhpd',
  'punpcklbw', 'punpcklwd', 'punpckldq', 'punpcklqdq', 'punpckhbw', 'punpckhwd', 'punpckhdq', 'punpckhqdq', 'blendps', 'blendpd', 'pblendw',
  'pinsrb', 'pinsrw', 'pinsrd', 'pinsrq', 'insertps', 'pextrb', 'pextrw', 'pextrd', 'pextrq', 'extractps',
  'packsswb', 'packssdw', 'packuswb', 'packusdw', 'pmovsxbw', 'pmovsxbd', 'pmovsxbq', 'pmovsxwd', 'pmovsxwq', 'pmovsxdq',
  'pmovzxbw', 'pmovzxbd', 'pmovzxbq', 'pmovzxwd', 'pmovzxwq', 'pmovzxdq', 'aesenc', 'aesenclast', 'aesdec', 'aesdeclast', 'aesimc', 'aeskeygenassist', 'pclmulqdq',
] as const; // biome-ignore format: a table

/** Those that only VEX encodes. */
const vexOnlyMnemonics = [
  'vpblendvb', 'vblendvps', 'vblendvpd', 'vbroadcastss', 'vbroadcastsd', 'vbroadcastf128', 'vbroadcasti128', 'vpbroadcastb', 'vpbroadcastw', 'vpbroadcastd', 'vpbroadcastq',
  'vpermilps', 'vpermilpd', 'vperm2f128', 'vperm2i128', 'vinsertf128', 'vinserti128', 'vextractf128', 'vextracti128', 'vpermd', 'vpermps', 'vpermq', 'vpermpd', 'vpblendd',
  'vtestps', 'vtestpd', 'vmaskmovps', 'vmaskmovpd', 'vpmaskmovd', 'vpmaskmovq', 'vpsllvd', 'vpsllvq', 'vpsrlvd', 'vpsrlvq', 'vpsravd', 'vzeroupper', 'vzeroall',
] as const; // biome-ignore format: a table

/** Loads of lanes from addresses in another vector register; in pairs by the width of what is loaded. */
export const gatherMnemonics = [
  'vpgatherdd', 'vpgatherdq', 'vpgatherqd', 'vpgatherqq', 'vgatherdps', 'vgatherdpd', 'vgatherqps', 'vgatherqpd',
] as const; // biome-ignore format: a table

/** SSE arithmetic, compares and conversions of floating-point numbers; meaning in isa/semantics/simd, exact cases in arch/sse.ts. */
const legacyFloatMnemonics = [
  'addps', 'addpd', 'addss', 'addsd', 'subps', 'subpd', 'subss', 'subsd', 'mulps', 'mulpd', 'mulss', 'mulsd',
  'divps', 'divpd', 'divss', 'divsd', 'minps', 'minpd', 'minss', 'minsd', 'maxps', 'maxpd', 'maxss', 'maxsd',
  'sqrtps', 'sqrtpd', 'sqrtss', 'sqrtsd', 'rsqrtps', 'rsqrtss', 'rcpps', 'rcpss',
  'addsubps', 'addsubpd', 'haddps', 'haddpd', 'hsubps', 'hsubpd', 'dpps', 'dppd', 'roundps', 'roundpd', 'roundss', 'roundsd',
  'cmpps', 'cmppd', 'cmpss', 'cmpsd', 'comiss', 'comisd', 'ucomiss', 'ucomisd',
  'cvtpi2ps', 'cvtpi2pd', 'cvtps2pi', 'cvtpd2pi', 'cvttps2pi', 'cvttpd2pi',
  'cvtsi2ss', 'cvtsi2sd', 'cvtss2si', 'cvtsd2si', 'cvttss2si', 'cvttsd2si',
  'cvtps2pd', 'cvtpd2ps', 'cvtss2sd', 'cvtsd2ss', 'cvtdq2ps', 'cvtps2dq', 'cvttps2dq', 'cvttpd2dq', 'cvtdq2pd', 'cvtpd2dq',
] as const; // biome-ignore format: a table

/** Those of them that have a VEX-encoded form: all but conversions from and to MM registers. */
export const vexFloatForms = legacyFloatMnemonics.filter(
  (name): name is Exclude<LegacyFloatMnemonic, `cvt${string}pi${string}`> => !/^cvt.*pi/.test(name),
);

/** FMA: what is done with the product and the addend, and which operands they are. */
export const fusedNames = ['fmadd', 'fmsub', 'fnmadd', 'fnmsub'] as const;
export const fusedOrders = ['132', '213', '231'] as const;
export type FusedMnemonic =
  | `v${(typeof fusedNames)[number]}${(typeof fusedOrders)[number]}${'p' | 's'}${'s' | 'd'}`
  | `v${'fmaddsub' | 'fmsubadd'}${(typeof fusedOrders)[number]}p${'s' | 'd'}`;
const fusedMnemonics = fusedOrders.flatMap((order) =>
  (['s', 'd'] as const).flatMap((type): FusedMnemonic[] => [
    ...fusedNames.flatMap((name) => [`v${name}${order}p${type}`, `v${name}${order}s${type}`] as const),
    `vfmaddsub${order}p${type}`,
    `vfmsubadd${order}p${type}`,
  ]),
);

/** Arithmetic of floating-point numbers that is VEX-encoded: AVX, FMA, F16C. */
export const vexFloatMnemonics: readonly VexFloatMnemonic[] = [
  ...vexFloatForms.map((name) => `v${name}` as const),
  ...fusedMnemonics,
  'vcvtph2ps',
  'vcvtps2ph',
];

export const floatMnemonics: readonly FloatMnemonic[] = [...legacyFloatMnemonics, ...vexFloatMnemonics];

/** SIMD instructions that the decoder knows by name and operands, but that have no meaning yet: they decode to `unimplemented`. */
export const pendingMnemonics: readonly string[] = [];

/** Products of tiles: of signed (S) and unsigned (U) bytes, and of numbers in the format BF16. */
export const tileProducts = ['tdpbssd', 'tdpbsud', 'tdpbusd', 'tdpbuud', 'tdpbf16ps'] as const;

/** Instructions of AMX. */
export const tileMnemonics = [
  'ldtilecfg', 'sttilecfg', 'tilerelease', 'tilezero', 'tileloadd', 'tileloaddt1', 'tilestored', ...tileProducts,
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
  'cli', 'sti', 'pushf', 'popf', 'hlt', 'pause', 'clac', 'stac',
  'int', 'int3', 'into', 'int1', 'iret',
  'callf', 'jmpf', 'retf',
  'syscall', 'sysret', 'sysenter', 'sysexit', 'swapgs',
  'rdfsbase', 'rdgsbase', 'wrfsbase', 'wrgsbase',
  'x87', // all of D8 to DF: Instruction.fop tells which
  'wait', 'fxsave', 'fxrstor', 'xsave', 'xsaveopt', 'xsavec', 'xsaves', 'xrstor', 'xrstors', 'ldmxcsr', 'stmxcsr', 'vldmxcsr', 'vstmxcsr',
  ...tileMnemonics,
  'monitor', 'mwait', // #UD unless reported by CPUID
  'rsm', // #UD outside SMM
  'vmcall', // VMX and SVM instructions: #UD, as CPUID does not report them
] as const; // biome-ignore format: a table

/**
 * Not instructions of this processor: `invalid` (#UD), `toolong` (over 15 bytes: #GP(0)), `unimplemented`
 * (x87, AVX...: stops the machine). `nodevice` is what an instruction on vectors is while CR0.TS is set (#NM).
 */
export const otherMnemonics = ['invalid', 'toolong', 'unimplemented', 'nodevice'] as const;

export type IntegerMnemonic = (typeof integerMnemonics)[number];
export type AvxMnemonic =
  | `v${(typeof vexForms)[number]}`
  | (typeof vexOnlyMnemonics)[number]
  | (typeof gatherMnemonics)[number];
/** AVX and AVX2, but for arithmetic of floating-point numbers. */
export const avxMnemonics: readonly AvxMnemonic[] = [
  ...vexForms.map((name) => `v${name}` as const),
  ...vexOnlyMnemonics,
  ...gatherMnemonics,
];
export type SimdMnemonic = (typeof simdMnemonics)[number] | (typeof floatMnemonics)[number] | AvxMnemonic;
/** Those whose meaning is written against the Builder. */
export type BuilderMnemonic = IntegerMnemonic | SimdMnemonic;
export type LegacyFloatMnemonic = (typeof legacyFloatMnemonics)[number];
export type VexFloatMnemonic =
  | `v${(typeof vexFloatForms)[number]}`
  | FusedMnemonic
  | 'vcvtph2ps'
  | 'vcvtps2ph';
export type FloatMnemonic = LegacyFloatMnemonic | VexFloatMnemonic;
export type SystemMnemonic = (typeof systemMnemonics)[number];
export type Mnemonic = BuilderMnemonic | SystemMnemonic | (typeof otherMnemonics)[number];
