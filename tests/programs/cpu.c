/* SPDX-License-Identifier: MIT */
/*
 * Everything that user code can do to the CPU itself: each attempt runs in a child,
 * which must end as a table row says.  The kernel goes on.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define KERNEL_ADDRESS 0xffffffff80200000u
#define DIRECT_MAP     0xffff888000000000u

/* The first address that is neither the user's nor the kernel's: 2^47, or 2^56 with five levels. */
static uintptr_t not_canonical = (uintptr_t)1 << 47;

static void
find_not_canonical(void)
{
    void *high = (void *)((uintptr_t)1 << 52);

    if (mmap(high, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == high)
        not_canonical = (uintptr_t)1 << 56;
}

/* ---- Attempts: return to survive ---------------------------------------------------- */

static void
hlt(void)
{
    __asm__ volatile("hlt");
}
static void
cli(void)
{
    __asm__ volatile("cli");
}
static void
in_port(void)
{
    __asm__ volatile("inb $0x60, %%al" : : : "eax");
}
static void
out_port(void)
{
    __asm__ volatile("outb %%al, $0xf4" : : "a"(0));
}
static void
read_cr0(void)
{
    __asm__ volatile("movq %%cr0, %%rax" : : : "rax");
}
static void
write_cr3(void)
{
    __asm__ volatile("movq %%rax, %%cr3" : : "a"(0));
}
static void
rdmsr(void)
{
    __asm__ volatile("rdmsr" : : "c"(0xc0000082) : "eax", "edx");
}
static void
wrmsr(void)
{
    __asm__ volatile("wrmsr" : : "c"(0xc0000082), "a"(0), "d"(0));
}
static void
invlpg(void)
{
    __asm__ volatile("invlpg (%0)" : : "r"(&hlt));
}
static void
swapgs(void)
{
    __asm__ volatile("swapgs");
}
static void
sysret(void)
{
    __asm__ volatile("sysretq" : : "c"(0), "S"(0) : "r11");
}
static void
ud2(void)
{
    __asm__ volatile("ud2");
}
static void
int3(void)
{
    __asm__ volatile("int3");
}
static void
lgdt(void)
{
    static uint64_t p[2];
    __asm__ volatile("lgdt %0" : : "m"(p));
}
static void
ltr(void)
{
    __asm__ volatile("ltr %w0" : : "r"(0x40));
}
static void
bad_ss(void)
{
    __asm__ volatile("movl %0, %%ss" : : "r"(0x18));
}
static void
bad_ds(void)
{
    __asm__ volatile("movl %0, %%ds" : : "r"(0xfff8));
}
static void
null_ds(void)
{
    __asm__ volatile("movl %0, %%ds; movl %0, %%es" : : "r"(0));
}
static void
data_fs(void)
{
    __asm__ volatile("movl %0, %%gs" : : "r"(0x2b));
}
static void
divide(void)
{
    __asm__ volatile("divl %0" : : "r"(0), "a"(1), "d"(0));
}
static void
read_kernel(void)
{
    *(volatile char *)KERNEL_ADDRESS;
}
static void
write_kernel(void)
{
    *(volatile char *)KERNEL_ADDRESS = 1;
}
static void
read_direct_map(void)
{
    *(volatile char *)DIRECT_MAP;
}
static void
jump_kernel(void)
{
    ((void (*)(void))KERNEL_ADDRESS)();
}
static void
read_not_canonical(void)
{
    *(volatile char *)not_canonical;
}
static void
jump_not_canonical(void)
{
    ((void (*)(void))not_canonical)();
}

static void
vsyscall_page(void)
{
    ((void (*)(void))0xffffffffff600000u)();
}

/* Every software interrupt but 3 and 4, which are meant for users. */
static void
every_interrupt(void)
{
    uint8_t *code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int survived = 0;

    for (int vector = 0; vector < 256; vector++) {
        int status;

        if (vector == 3 || vector == 4)
            continue;
        if (fork() == 0) {
            memcpy(code, (uint8_t[]){0xcd, (uint8_t)vector, 0xc3}, 3);
            ((void (*)(void))(uintptr_t)code)();
            _exit(0);
        }
        wait(&status);
        /* int 0x80 is Linux's 32-bit entry: a call there with some number is no harm */
        survived += WIFEXITED(status) && vector != 0x80;
    }
    _exit(survived ? 1 : 0);
}

/* Flags that user mode may set must not follow into the kernel. */
static void
every_flag(void)
{
    for (int bit = 0; bit < 22; bit++) {
        if (bit == 8 || bit == 18) /* TF traps; AC faults on this stack */
            continue;
        uint64_t flags = (uint64_t)1 << bit | 2;

        __asm__ volatile("pushq %0; popfq; movl %1, %%eax; syscall; pushq $2; popfq"
                         :
                         : "r"(flags), "i"(SYS_getpid)
                         : "rax", "rcx", "r11", "memory");
    }
    /* AC around system calls and a page fault */
    volatile char *fresh =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; movb $1, (%0); movl %1, %%eax; syscall;"
                     "pushfq; andq $~0x40000, (%%rsp); popfq"
                     :
                     : "r"(fresh), "i"(SYS_getpid)
                     : "rax", "rcx", "r11", "memory");
}

static volatile int steps;
static void
on_step(int n)
{
    (void)n;
    steps++;
}

/* Single steps over a system call: TF must not trap in the kernel. */
static void
step_over_syscall(void)
{
    signal(SIGTRAP, on_step);
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; movl %0, %%eax; syscall; nop; nop;"
                     "pushfq; andq $~0x100, (%%rsp); popfq"
                     :
                     : "i"(SYS_getpid)
                     : "rax", "rcx", "r11", "memory");
    _exit(steps > 3 ? 0 : 1);
}

/* The stack pointer is nobody's business in the kernel. */
static void
odd_stacks(void)
{
    const uint64_t stacks[] = {
        0, 1, 8, not_canonical, KERNEL_ADDRESS, DIRECT_MAP, UINT64_MAX, not_canonical - 1};

    for (size_t i = 0; i < sizeof stacks / sizeof stacks[0]; i++) {
        __asm__ volatile("movq %%rsp, %%r12; movq %0, %%rsp; movl %1, %%eax; syscall;"
                         "movl $300000, %%ebx; 1: decl %%ebx; jnz 1b; movq %%r12, %%rsp"
                         :
                         : "r"(stacks[i]), "i"(SYS_getpid)
                         : "rax", "rcx", "r11", "rbx", "r12", "memory");
    }
}

/* A fault with a stack that takes no signal frame ends the process. */
static void
on_segv(int n)
{
    (void)n;
    _exit(9);
}
static void
fault_on_bad_stack(void)
{
    signal(SIGSEGV, on_segv);
    __asm__ volatile("movq %0, %%rsp; movb $0, (0)" : : "r"(DIRECT_MAP) : "memory");
}

/* `syscall` as the last two bytes of the user half: SYSRET's return address is not canonical. */
static void
syscall_at_the_end(void)
{
    uint8_t *last = (uint8_t *)(not_canonical - 0x2000);
    void *got = mmap(last, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    if (got != last)
        raise(SIGSEGV);
    memcpy(last + 4094, "\x0f\x05", 2);
    __asm__ volatile("jmp *%0" : : "r"(last + 4094), "a"(SYS_getpid) : "rcx", "r11");
}

static void
map_beyond_the_end(void)
{
    void *got = mmap((void *)(not_canonical - 0x1000), 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    _exit(got == MAP_FAILED ? 0 : 1);
}

/* A handler rewrites its own return: where, with which segments and flags. */
static uint64_t new_rip, new_rsp, new_flags;
static uint16_t new_cs, new_ss;

static void
on_usr1(int n, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;

    (void)n;
    (void)info;
    if (new_rip)
        regs[REG_RIP] = (greg_t)new_rip;
    if (new_rsp)
        regs[REG_RSP] = (greg_t)new_rsp;
    if (new_flags)
        regs[REG_EFL] = (greg_t)new_flags;
    if (new_cs)
        regs[REG_CSGSFS] = (regs[REG_CSGSFS] & ~(greg_t)0xffff) | new_cs;
    if (new_ss)
        regs[REG_CSGSFS] = (regs[REG_CSGSFS] & 0x0000ffffffffffff) | (greg_t)new_ss << 48;
}

static void
sigreturn_with(void)
{
    struct sigaction action = {.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO};

    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    syscall(SYS_getpid);
}

static void
return_to_kernel(void)
{
    new_rip = KERNEL_ADDRESS;
    sigreturn_with();
}
static void
return_to_not_canonical(void)
{
    new_rip = not_canonical;
    sigreturn_with();
}
static void
return_to_top(void)
{
    new_rip = UINT64_MAX;
    sigreturn_with();
}
static void
return_with_kernel_segments(void)
{
    new_cs = 0x10;
    new_ss = 0x18;
    sigreturn_with();
}
static void
return_with_io_privilege(void)
{
    new_flags = 0x3202;
    sigreturn_with();
    out_port();
}
static void
return_with_interrupts_off(void)
{
    new_flags = 2;
    sigreturn_with();
    for (volatile int i = 0; i < 30000000; i++) /* the tick must still come */
        ;
}
static void
return_with_every_flag(void)
{
    new_flags = 0xffffffff & ~0x40500u;
    sigreturn_with();
}

/* A floating-point image that XRSTOR refuses. */
static void
on_usr2(int n, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)n;
    (void)info;
    memset((char *)uc->uc_mcontext.fpregs + 24, 0xff, 4);
    memset((char *)uc->uc_mcontext.fpregs + 512, 0xff, 64);
}

static void
return_with_bad_fpu(void)
{
    struct sigaction action = {.sa_sigaction = on_usr2, .sa_flags = SA_SIGINFO};

    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
}

/* 32-bit code: a far jump there, a system call, and back. */
static void
compatibility_mode(void)
{
    uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    static const uint8_t program[] = {
        0x31, 0xc9,                   /* xor %ecx, %ecx */
        0xbb, 0x40, 0x42, 0x0f, 0x00, /* mov $1000000, %ebx: some ticks pass */
        0x4b, 0x75, 0xfd,             /* 1: dec %ebx; jnz 1b */
        0x0f, 0x0b,                   /* ud2 */
    };
    struct __attribute__((packed)) {
        uint32_t offset;
        uint16_t selector;
    } target;

    memcpy(code, program, sizeof program);
    target.offset = (uint32_t)(uintptr_t)code;
    target.selector = 0x23;
    __asm__ volatile("ljmpl *%0" : : "m"(target) : "rbx", "rcx", "memory");
}

/* With FSGSBASE a program may put any canonical address there; the kernel's is its own. */
static void
kernel_gs_base(void)
{
    if (!(__builtin_cpu_supports("avx2"))) /* every model with FSGSBASE here has it */
        return;
    __asm__ volatile("wrgsbase %0" : : "r"(KERNEL_ADDRESS));
    for (int i = 0; i < 1000; i++)
        syscall(SYS_sched_yield);
    for (volatile int i = 0; i < 10000000; i++)
        ;
    uint64_t back;
    __asm__ volatile("rdgsbase %0" : "=r"(back));
    _exit(back == KERNEL_ADDRESS ? 0 : 1);
}

#define SURVIVES 0

static const struct {
    const char *name;
    void (*run)(void);
    int signal, other; /* how it ends; `other` is also right */
} rows[] = {
    {"hlt", hlt, SIGSEGV, 0},
    {"cli", cli, SIGSEGV, 0},
    {"in", in_port, SIGSEGV, 0},
    {"out", out_port, SIGSEGV, 0},
    {"read cr0", read_cr0, SIGSEGV, 0},
    {"write cr3", write_cr3, SIGSEGV, 0},
    {"rdmsr", rdmsr, SIGSEGV, 0},
    {"wrmsr", wrmsr, SIGSEGV, 0},
    {"invlpg", invlpg, SIGSEGV, 0},
    {"swapgs", swapgs, SIGSEGV, 0},
    {"sysret", sysret, SIGSEGV, 0},
    {"ud2", ud2, SIGILL, 0},
    {"int3", int3, SIGTRAP, 0},
    {"lgdt", lgdt, SIGSEGV, 0},
    {"ltr", ltr, SIGSEGV, 0},
    {"kernel ss", bad_ss, SIGSEGV, 0},
    {"ds beyond the table", bad_ds, SIGSEGV, 0},
    {"null ds", null_ds, SURVIVES, 0},
    {"data gs", data_fs, SURVIVES, 0},
    {"divide by zero", divide, SIGFPE, 0},
    {"read kernel", read_kernel, SIGSEGV, 0},
    {"write kernel", write_kernel, SIGSEGV, 0},
    {"read direct map", read_direct_map, SIGSEGV, 0},
    {"jump to kernel", jump_kernel, SIGSEGV, 0},
    {"read non-canonical", read_not_canonical, SIGSEGV, SIGBUS},
    {"jump to non-canonical", jump_not_canonical, SIGSEGV, SIGBUS},
    {"vsyscall page", vsyscall_page, SIGSEGV, 0},
    {"every interrupt", every_interrupt, SURVIVES, 0},
    {"every flag", every_flag, SURVIVES, 0},
    {"single step over a system call", step_over_syscall, SURVIVES, 0},
    {"odd stacks", odd_stacks, SURVIVES, 0},
    {"fault on a bad stack", fault_on_bad_stack, SIGSEGV, 0},
    {"system call at the end of memory", syscall_at_the_end, SIGSEGV, 0},
    {"map beyond the end", map_beyond_the_end, SURVIVES, 0},
    {"sigreturn to kernel", return_to_kernel, SIGSEGV, 0},
    {"sigreturn to non-canonical", return_to_not_canonical, SIGSEGV, SIGBUS},
    {"sigreturn to the top", return_to_top, SIGSEGV, SIGBUS},
    {"sigreturn with kernel segments", return_with_kernel_segments, SURVIVES, SIGSEGV},
    {"sigreturn with I/O privilege", return_with_io_privilege, SIGSEGV, 0},
    {"sigreturn with interrupts off", return_with_interrupts_off, SURVIVES, 0},
    {"sigreturn with every flag", return_with_every_flag, SURVIVES, SIGTRAP},
    {"sigreturn with a bad image", return_with_bad_fpu, SIGSEGV, SURVIVES},
    {"32-bit code", compatibility_mode, SIGILL, 0},
    {"a kernel address in GS", kernel_gs_base, SURVIVES, 0},
};

static int
run(size_t row)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        rows[row].run();
        _exit(0);
    }
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        printf("%s: exit %d\n", rows[row].name, WEXITSTATUS(status));
        return 1;
    }
    int ended = WIFSIGNALED(status) ? WTERMSIG(status) : SURVIVES;
    if (ended != rows[row].signal && ended != rows[row].other) {
        printf("%s: signal %d, expected %d\n", rows[row].name, ended, rows[row].signal);
        return 1;
    }
    return 0;
}

int
main(void)
{
    int wrong = 0;

    find_not_canonical();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        wrong += run(i);
    printf("cpu: %zu attempts, %d wrong\n", sizeof rows / sizeof rows[0], wrong);
    return wrong != 0;
}
