/**
 * Why survivors are harmless. A survivor that nothing here explains is a defect of the checker, of the list of cases, or of
 * the kernel, and fails the run.
 *
 * Most survivors come in families: the same reason for several mutants of an instruction. A pattern names the keys of one.
 * Any that are not harmless stand in `open`, each with what it would take to catch it.
 */
import type { Mutant } from './mutant.ts';

/** A reason, and the keys of the mutants that it is the reason of: they match as a whole. */
type Reason = readonly [why: string, keys: RegExp];

const harmless: readonly Reason[] = [
  [
    'The word pushed in place of an error code is dropped again at the return. Only a signal handler would see it, and these vectors deliver no signal.',
    /vector\.(1|2|3|6|18|64|65|128|146|255): immediate \^.*/,
  ],
  [
    'Both vectors have the same handler, and nothing else on the way asks which it was.',
    /vector\.(3|64|65)\+0x2: immediate \^1/,
  ],
  [
    'An NMI in a handler of a machine check returns without IRET, so NMIs stay blocked until the IRET of that handler: later, not for ever.',
    /vector\.2\+0x2: immediate \^1/,
  ],
  [
    'The stand-in for a machine check comes from user mode alone and leaves no machine check to end: counted as an NMI it is served alike.',
    /vector\.146\+0x2: immediate \^0x10/,
  ],
  ['The jump goes to the next instruction.', /vector\.255\+0x[0-9a-f]+: delete/],
  [
    'RPL of a saved CS is 0 or 3: one of its bits says as much as both.',
    /(interrupt_entry\+0x1|paranoid_entry\+0x18|return_from_interrupt\+0x1|handle_event|handle_invalid_opcode|handle_debug\+0x8|handle_exception|handle_machine_check): immediate \^(1|0x2)/,
  ],
  [
    'Interrupts are off already on every way that leads there.',
    /return_from_interrupt: (delete|swap with next)/,
  ],
  ['The return turns interrupts off by itself; in between they may come.', /handle_int80\+0x6: .*/],
  [
    'The system call is served with interrupts off: they come later.',
    /(handle_int80|user_stack_pointer_end\+0x30): (cli|delete|swap with next)/,
  ],
  [
    'Only an exception in kernel mode would tell, which no event brings there: it would be a fault of the kernel itself.',
    /(handle_invalid_opcode(\+0xa)?|handle_exception(\+0xa)?): .*/,
  ],
  [
    'User code of this kernel lies below 4 GiB.',
    /(handle_invalid_opcode\+0x10|handle_debug\+0x1[4b]): 32 bits/,
  ],
  [
    'Nobody reads DR6: the handler needs no more than that it came.',
    /handle_debug(\+0x5)?: (delete|swap with next|to .*|immediate .*|from .*)/,
  ],
  [
    'The next task to step sets the place where stepping ends anew; what else is written instead is set before it is read.',
    /handle_debug\+0x26: .*/,
  ],
  [
    'The task single-steps further than it asked to. Each step is served, and the stepping ends with the next load of its flags.',
    /handle_debug\.stop: .*/,
  ],
  [
    "Only a debugger's change of the frame (`poke`) looks at the vector of a single step that has not arrived.",
    /handle_debug\.on: .*/,
  ],
  [
    'Whether stepping ends when there is nowhere to end it concerns the stepping task alone: each step is served.',
    /handle_debug\.on\+0x(8|12): .*/,
  ],
  [
    'Machine checks take another place for their registers, as free as the right one: each is away from the others, from where they arrive, and within a stack that holds nothing there.',
    /leave_machine_check_stack\+0x(12: immediate \^0x4|15: immediate \^(1|0x200)|1b: (delete|displacement .*|the other way|to rsi)|27: immediate \^1)/,
  ],
  [
    'Two subtractions from the same register: their order does not matter.',
    /(leave_machine_check_stack\+0x24|paranoid_exit\+0x8): swap with next/,
  ],
  [
    'RSP moves before the registers are copied. Nothing is pushed to this stack meanwhile: interrupts are off, NMI and #DB have stacks of their own, and another machine check cannot be taken yet.',
    /leave_machine_check_stack\+0x39: swap with next/,
  ],
  [
    'RSP moves before or after the frame is copied from the address in RSI: nothing is pushed meanwhile, for interrupts are off and the rest has stacks of its own.',
    /paranoid_entry_from_user\+0x1e: swap with next/,
  ],
  [
    'The upper half of the operand is zero, or the same on both sides.',
    /(paranoid_entry\.kernel_gs\+0x11|handle_debug\.on(\+0x8)?|paranoid_exit\.gs_restored\+0x8|return_without_iret|exit_work|paranoid_exit\+0x1a|user_stack_pointer_end\+0x79): 32 bits/,
  ],
  ['Bit 10 of DR7 is always set.', /return_without_iret\+0x8: immediate \^0x400/],
  ['Not zero is not zero.', /paranoid_entry\+0x36: dec/],
  [
    'The limit moves by a byte, and stack pointers are multiples of 8.',
    /paranoid_exit\+0x(11|1a): immediate \^1/,
  ],
  [
    'Around the stacks nothing is mapped: a limit that is a page off takes in no other stack pointer.',
    /percpu\.nmiStack: (16 bytes down|a page down)/,
  ],
  [
    'The stack is shorter by what is skipped, and far from full.',
    /(RSP0|percpu\.(kernelStack|mainStack|childStack|machineCheckStack)): (16 bytes down|a page down)/,
  ],
  [
    'The stack is shorter by what is skipped, and far from full.',
    /IST of .*: 16 bytes down|IST of (?!machine checks).*: a page down/,
  ],
  [
    'On delivery in 64-bit mode the processor aligns the stack pointer down to 16 bytes.',
    /(RSP0|IST of .*): 8 bytes up/,
  ],
  [
    'The next stack is mapped as well, and free whenever this one is needed.',
    /(RSP0|percpu\.machineCheckStack): another stack/,
  ],
  ['RSP1 is for CPL 1, which nobody uses.', /RSP1: something/],
  [
    'The flags that SYSRET loads are those of R11, so comparing with something that never equals them only means the longer way by IRETQ.',
    /user_stack_pointer_end\+0x79: (displacement .*|from .*)/,
  ],
  [
    'The longer way by IRETQ does the same.',
    /user_stack_pointer_end\+0x(80: .*|85: (delete|other condition)|7e: always|49: always|64: always|6f: always|59: always)/,
  ],
  [
    'SYSRET with TF or RF in the flags: it sets them as IRETQ does but for RF, which means that a breakpoint at the first user instruction is met once more.',
    /user_stack_pointer_end\+0x85: always/,
  ],
  [
    'It falls into the return from an interrupt, which does the same once more.',
    /user_stack_pointer_end\+0x8b: delete/,
  ],
  ['IRET takes 16 bits of CS and SS and 22 of RFLAGS.', /return_to_ldt\+0x(19|1e|22|27|2b|30): 32 bits/],
  ['Set-up is done by one processor, for all, before the others run.', /espfix_map.*: no lock/],
  [
    'The table takes a page of low memory that nobody uses in this machine.',
    /espfix_map(\+0x37|\.pgd_there\+0x28|\.pud_there\+0x1a|\.pmd_there\+0x25): (delete|displacement .*|from .*)|espfix_map(\+0x30|\.pgd_there\+0x21|\.pud_there\+0x13): swap with next/,
  ],
  [
    'Physical addresses of this image, and the other operands there, fit in 32 bits.',
    /espfix_(map|set_up).*: 32 bits/,
  ],
  ['One entry is written: where the next would be does not matter.', /espfix_map\.pgd_fill\+0x(3|7|9): .*/],
  ['The processor sets the accessed flag when it needs it.', /espfix_map.*: immediate \^0x20/],
  [
    'Addresses of ministacks are multiples of 64, and entries of tables of 8.',
    /(espfix_set_up\+0x19|espfix_map\.pgd_there\+0xd|espfix_map\.pmd_there\+0xd): immediate \^1/,
  ],
  [
    'The registers hold the same, or the sum of base and index is the same.',
    /espfix_set_up\+0x(36|3e): index rbx/,
  ],
  [
    'An interrupt that comes before SWAPGS, on any stack, is served without an access through GS, and no NMI is in service.',
    /gate of vector (1|3|6|18|64|65|128|146|255): trap gate/,
  ],
  [
    'IRETQ to user mode is done with interrupts off, so a double fault there finds them off.',
    /gate of vector 8: trap gate/,
  ],
  ['Faults of IRETQ come with interrupts off.', /gate of vector (11|13): trap gate/],
  [
    'The vector comes from user mode alone, whatever the stack: the one that it takes is free then.',
    /gate of vector (3|6|146|255): next IST/,
  ],
  [
    'User mode may now raise it by INT: it comes like the real one from user mode, and is served as such.',
    /gate of vector (1|2|6|18|64|65|255): DPL 3/,
  ],
  ['The bits are reserved and not looked at.', /gate of vector .*: reserved bits/],
  ['LLDT and LTR do not look at DPL.', /descriptor of (LDT|TSS): other DPL/],
  [
    'The LDT has room for 32 descriptors, of which tasks use 7: the limit leaves these in and the one that is to be outside out.',
    /descriptor of LDT: limit .*/,
  ],
  [
    'Kernel mode does not write there, and user mode cannot: the page stays a supervisor page.',
    /PT entry of (\.text page .*|IDT|handlers): R\/W/,
  ],
  [
    'The page stays a supervisor page, and the kernel jumps to no address in it.',
    /(PT|PD|PDPT|PML4) entry of .*: NX/,
  ],
  [
    'User mode loses a right to pages of this range that no lower entry gives.',
    /(PD|PDPT|PML4) entry of .*: U\/S/,
  ],
  [
    'Nobody gets so far down in this stack that the page is touched.',
    /PT entry of .* stack, lower page: (P|R\/W|NX|next frame|frame before|reserved bit)/,
  ],
  [
    'The page takes the memory of another one, of this stack or the next, that nobody gets down to.',
    /PT entry of .* stack, upper page: (next frame|frame before)/,
  ],
  [
    'The tests of CS, RIP and RSP each say enough: nothing else in the kernel double-faults.',
    /handle_double_fault\+0x(14|1d|24|39): (delete|swap with next|32 bits)/,
  ],
  ['CR2 of a double fault is kept for the report of an oops alone.', /handle_double_fault(\+0x3)?: .*/],
  [
    'All addresses of the kernel have the same upper half, and CS has none.',
    /(handle_double_fault\+0x(c|1d)|interrupt_entry\.from_kernel\+0x8|paranoid_exit\+0x(33|3f)): 32 bits/,
  ],
  [
    'Handlers of what came in kernel mode leave this register as it is, so it need not be restored.',
    /(return_to_user_end|return_without_iret\.breakpoints_stay)\+0x[0-9a-f]+: to .*|return_to_user_end: to .*/,
  ],
  [
    'An NMI in a handler of #DB or #MC returns without IRET, so NMIs stay blocked until the IRET of that handler: later, not for ever.',
    /paranoid_exit\.gs_restored\+0x(8|e): .*/,
  ],
  [
    "Only a debugger's change of the frame (`poke`) looks at the number that stands for a system call, and nobody at its error code.",
    /user_stack_pointer_end\+0x(f|11): (immediate .*|swap with next)/,
  ],
  [
    'RCX holds the same already: the comparison before SYSRET has seen to that.',
    /return_by_sysret\+0x15: to rax/,
  ],
  [
    'The next instruction is at no address that the moved limit would take in or leave out.',
    /paranoid_exit\+0x(2c: displacement -8|38: displacement .*)/,
  ],
  [
    'RAX is overwritten on one way and not used on the other.',
    /(paranoid_exit\+0x36|handle_double_fault\+0x14|return_without_iret\+0x6|handle_debug\+0x12): swap with next/,
  ],
  [
    'User mode: counted first, asked later. Kernel mode: nothing is counted, and the same is asked.',
    /handle_machine_check\+0xa: swap with next/,
  ],
  [
    'The vector comes from user mode, or with interrupts off: nothing nests on the stack that it takes, and a double fault of its return finds it left.',
    /gate of vector (18|64|65|128): next IST/,
  ],
  ['Entries of these tables have no PWT.', /espfix_map.*: immediate \^0x8/],
  [
    'RDX holds the same bits from the level before.',
    /espfix_map\.(pgd|pud)_there\+0x(31|23): (delete|to rbx|swap with next)/,
  ],
  [
    'The fifth entry belongs to ministacks of processors that an image cannot have.',
    /espfix_map\.pgd_there\+0x3b: immediate \^1/,
  ],
  [
    "A frame that IRETQ refused stands already where it is copied to: at the top of the task's stack, from where it went to the ministack, and nothing has been pushed there since.",
    /handle_double_fault\+0x(4c|4f|54): .*|interrupt_entry\.bad_iret\+0x35: swap with next/,
  ],
  [
    'The frame and the saved registers lie a byte lower, together.',
    /interrupt_entry\.bad_iret\+0x2c: immediate \^1/,
  ],
  [
    'The longer way by IRETQ does the same: the comparison never finds what it compares equal.',
    /user_stack_pointer_end\+0x(3c|44|4b|4e|52|56|5b|66|71): .*|user_stack_pointer_end\+0x(7e|6f): swap with next/,
  ],
  [
    'RAX and RCX are loaded from the saved registers on both ways.',
    /user_stack_pointer_end\+0x(49|59|64|6f|7e): swap with next/,
  ],
  ['User code of this kernel lies below 4 GiB.', /user_stack_pointer_end\+0x(3c|44): 32 bits/],
  [
    'What the kernel does after a system call turns interrupts off by itself.',
    /user_stack_pointer_end\+0x(31|36): .*/,
  ],
  [
    'A change of the frame by a debugger (`poke`) is for returns from interrupts and exceptions.',
    /user_stack_pointer_end\+0x37: .*/,
  ],
  [
    'It counts events of kernel mode too, or counts downwards: a task only looks whether the count changed.',
    /handle_event(\+0xa|\+0x15)?: .*/,
  ],
  [
    'The processor has the machine-check architecture: the flag that says so is set, as are the words beside it.',
    /end_machine_check(\+0x7)?: .*/,
  ],
  [
    'Clearing IA32_MCG_STATUS by the way is harmless unless a machine check is in service, and then it has been read.',
    /end_machine_check\.done: delete/,
  ],
  ['Any value written to the EOI register ends the interrupt.', /handle_interrupt\+0x7: immediate .*/],
  [
    'RBX is loaded from the saved registers, and asked before only whether it is zero.',
    /handle_double_fault\+0x(78: to rdx|3b: swap with next)/,
  ],
  [
    'Nothing in this kernel double-faults but the IRETQ on a ministack.',
    /handle_double_fault\.not_espfix: .*/,
  ],
  [
    'Upper halves are equal, or zero, or not looked at: of addresses on one stack, of RFLAGS, of a counter.',
    /return_without_iret\.breakpoints_stay\+0x(18|20|23): 32 bits|leave_machine_check_stack(\+0x9)?: 32 bits|handle_double_fault\+0x(57|71): 32 bits|exit_work: 32 bits/,
  ],
  [
    'Two stores to different places.',
    /return_without_iret\.breakpoints_stay\+0x20: swap with next|handle_double_fault\+0x(63|57): swap with next|espfix_set_up\+0x36: swap with next/,
  ],
  [
    'The places for saved registers are used in another order, or the next first.',
    /leave_machine_check_stack\+0x9: (dec|swap with next)|leave_machine_check_stack: swap with next/,
  ],
  [
    '64-bit mode does not look at base, limit, and such rights of a code or data segment.',
    /descriptor of (kernel code|kernel data|64-bit user code): .*/,
  ],
  [
    'No instruction that a task executes comes to the limit, or looks at this bit of a 32-bit segment.',
    /descriptor of (32-bit user code|user data): (accessed|conforming or expand-down|limit|readable or writable|L)/,
  ],
  [
    'Nobody loads this descriptor once the kernel runs.',
    /descriptor of (null|32-bit kernel code|segment-base stack): .*/,
  ],
  [
    "Another entry on the way still forbids it: tables and pages of ministacks are read-only and the supervisor's, each by itself.",
    /espfix (PT|PD|PDPT|PML4) entry of .*: (R\/W|U\/S)/,
  ],
  ['Nobody executes a ministack.', /espfix .* entry of .*: NX/],
  [
    "Bit 12 of a large page's entry is PAT, a matter of caches.",
    /PD entry of physical map of the ministack: next frame/,
  ],
  [
    'The next table is the directory below, whose first entry maps the same memory as a page of 1 GiB.',
    /PML4 entry of physical map of the ministack: next table/,
  ],
  [
    'User mode has the local APIC mapped anyway: its tasks raise interrupts there.',
    /PT entry of local APIC: U\/S/,
  ],
  [
    "The vector comes from user mode alone: the task's stack is where its registers are copied to anyway.",
    /gate of vector 146: no IST/,
  ],
  [
    'The last page that is taken need not be marked as taken: the ministacks of all processors that an image can have are on one.',
    /espfix_map\.pmd_there\+0x1e: (delete|immediate .*|to .*|swap with next)/,
  ],
  [
    'The stray bit falls on P, which is set.',
    /espfix_map(\.pgd_there|\.pud_there)?\+0x(30|21|13): immediate \^1/,
  ],
  [
    'The ministack can be executed or has an ignored bit set; nobody executes it, and it is read-only all the same.',
    /espfix_map\.pmd_there\+0x2e: (delete|immediate .*|to .*|swap with next)/,
  ],
  [
    'The entry too many falls into the page of ministacks, before they are used.',
    /espfix_map\.pmd_there\+0x3b: immediate \^1/,
  ],
  ['Physical addresses of this machine have fewer bits.', /espfix_map: immediate \^0x8000000000000/],
  [
    'The entry that it looks at is empty, as the flags left over say too.',
    /espfix_map\+0x29: (delete|swap with next)/,
  ],
  [
    'SYSCALL leaves R11 to the kernel: user mode finds another value of its own there.',
    /user_stack_pointer_end\+0x23: to r10/,
  ],
  [
    'The handler sees the frame on the interrupt stack, not the copy that is returned from: only the end of single-stepping is lost, as above.',
    /paranoid_entry_from_user\+0x21: swap with next/,
  ],
  [
    'They change different registers, and nobody looks at the flags.',
    /(end_machine_check\+0xe|paranoid_exit\+0x11): swap with next/,
  ],
];

/** Not harmless, and not caught: what it would take. */
const open: readonly Reason[] = [];

const matches = (keys: RegExp, key: string) => keys.exec(key)?.[0] === key;

/** The explanation of a survivor; undefined if there is none. */
export function explain({ key, independent }: Mutant): { why: string; harmless: boolean } | undefined {
  for (const [why, keys] of harmless) if (matches(keys, key)) return { why, harmless: true };
  for (const [why, keys] of open) if (matches(keys, key)) return { why, harmless: false };
  if (independent)
    return {
      why: 'Two instructions neither of which uses what the other changes: their order does not matter.',
      harmless: true,
    };
  return undefined;
}

/** Reasons that are the reason of none of these mutants. */
export function unusedReasons(survivors: readonly Mutant[]): string[] {
  return [...open, ...harmless]
    .filter(([, keys]) => !survivors.some(({ key }) => matches(keys, key)))
    .map(([why, keys]) => `${keys}: ${why}`);
}
