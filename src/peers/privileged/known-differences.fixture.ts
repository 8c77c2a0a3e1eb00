/** Where Bochs is known to differ from our machine, and how it is known who is right. */
export const knownDifferences: readonly { readonly cases: RegExp; readonly evidence: string }[] = [
  {
    cases: /^int to, CPL [03], turn /,
    evidence:
      'SDM vol. 3A 6.14.1: a gate to code that is not of 64 bits raises #GP with the IDT vector; Bochs names the selector. ' +
      'Whether accessed bits are set before pushes fault the manual leaves open.',
  },
  {
    cases: /^(call|jmp) through a gate to, CPL 3, turn (b8|ba|d8|da)$/,
    evidence: 'Whether accessed bits are set before pushes fault the manual leaves open.',
  },
  {
    cases: /^task (cs rpl3|csdpl\+ss), /,
    evidence: 'SDM vol. 3A table 7-1: the DPL of CS is checked against its RPL before SS. QEMU agrees.',
  },
  {
    cases: /^v86 entry ip big, /,
    evidence: 'SDM vol. 2A, IRET: #GP(0) for an EIP beyond the limit of CS; Bochs drops bits 31:16.',
  },
  { cases: /^rdmsr, /, evidence: 'MSR 0 (IA32_P5_MC_ADDR) is not reported by our machine.' },
  {
    cases: /^code limit after a change of base alone, /,
    evidence: 'SDM vol. 3A 5.3: no fetch beyond the limit. Bochs runs on along code that it has decoded.',
  },
  {
    cases: /^legacy [RWX] cpl[03] wp(true|false) pde, turn [135]$/,
    evidence:
      'SDM vol. 3A 4.8: accessed flags are set in each entry that a translation uses; Bochs does so for the leaf alone ' +
      'where the access then faults. QEMU agrees with our machine.',
  },
  {
    cases: /^(legacy wrap 4G np low|cr0 pg off on), /,
    evidence: 'What the boot loader leaves in low memory and in CR0.',
  },
  {
    cases: /^(rd|wr)[fg]sbase|^wrfsbase|^fsgsbase|^1G page|^op (monitor|rdpmc), /,
    evidence: 'Features that the Bochs processor model does not have, or has beyond ours.',
  },
  {
    cases: /^wrmsr (fmask high|unknown|tsc aux high), /,
    evidence:
      'SDM vol. 2D, WRMSR: #GP(0) for reserved bits and for MSRs that are not there; Bochs ignores them.',
  },
  {
    cases: /^syscall tf masked, /,
    evidence:
      'SDM vol. 2B, SYSCALL: the trap follows TF as IA32_FMASK leaves it; systems rely on masking it. QEMU agrees.',
  },
  { cases: /^dr7 bits, /, evidence: 'DR7.RTM (bit 11) is reserved where CPUID does not report RTM.' },
  {
    cases: /^ist nc -> df, /,
    evidence:
      'SDM vol. 2A, INT n, 64-bit mode exceptions: #SS if a push is in non-canonical space. All are below 800000000000H.',
  },
  { cases: /^gate sel 32, /, evidence: 'SDM vol. 3A 6.14.1: the error code is the IDT vector.' },
  {
    cases: /^(tf rep|data rep movs), /,
    evidence: 'Intel silicon: RF is pushed as 1 between iterations of a repeated string instruction.',
  },
  {
    cases: /^iretq rf tf, /,
    evidence:
      'Intel silicon, by PTRACE_SINGLESTEP onto a breakpoint: DR6 has BS alone, the instruction breakpoint comes after.',
  },
  {
    cases: /^data mov ss shadow int, /,
    evidence:
      'Intel silicon (CVE-2018-8897): the #DB that MOV SS holds off comes at the first instruction of the handler.',
  },
  {
    cases: /^gd /,
    evidence:
      'SDM vol. 3B 17.3.1.1: RF is pushed as 1 for faults but instruction breakpoints. Vol. 2B, MOV DR: #GP(0) at CPL 3.',
  },
  {
    cases: /^iretd 64, /,
    evidence:
      'Intel silicon: IRETD in 64-bit mode pops ESP and SS at the same level too, as the manual says.',
  },
  {
    cases: /^sp16 callf .* sp=1234000[04], /,
    evidence:
      'Intel silicon: far CALL checks its two pushes one by one, and each may wrap in a stack of 64 KiB.',
  },
  { cases: /^cmps, /, evidence: 'Intel silicon: CMPS reads its destination first. QEMU agrees.' },
  { cases: /^code 0f ff, /, evidence: 'Intel silicon: UD0 has a ModR/M byte.' },
];
