/* SPDX-License-Identifier: MIT */
/*
 * What each call does.  A call that lets the kernel choose a place is put where both
 * machines agree at once: a mapping made elsewhere goes, one moved elsewhere is moved on to
 * the slot that its last argument names.
 */
#include "differential.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static bool
is_ours(uintptr_t address)
{
    return address - ARENA_BASE <= ARENA_BYTES || address - break_start() <= BREAK_BYTES;
}

static void *
pointer(uintptr_t address)
{
    return (void *)address; /* NOLINT(performance-no-int-to-ptr) */
}

static void
mmap_execute(const uintptr_t *arg, int fd)
{
    long result;

#ifdef SYS_mmap2
    if (arg[5] % PAGE_BYTES != 0) {
        say(" = -EINVAL");
        return;
    }
    result = syscall(SYS_mmap2, arg[0], arg[1], arg[2], arg[3], fd, arg[5] / PAGE_BYTES);
#else
    result = syscall(SYS_mmap, arg[0], arg[1], arg[2], arg[3], fd, arg[5]);
#endif
    if (result == -1) {
        say_result(-1);
        return;
    }
    say(" =");
    say_address((uintptr_t)result);
    if (!is_ours((uintptr_t)result))
        syscall(SYS_munmap, result, arg[1]);
}

/*
 * Linux's DONTUNMAP unlocks the whole region that the old range lies in, wherever that ends; so the
 * range is not locked here.
 */
static void
mremap_execute(const uintptr_t *arg)
{
    long result, moved;

    if (arg[3] == (MREMAP_MAYMOVE | 4) || arg[3] == (MREMAP_MAYMOVE | MREMAP_FIXED | 4))
        syscall(SYS_munlock, arg[0], arg[1]);
    result = syscall(SYS_mremap, arg[0], arg[1], arg[2], arg[3], arg[4]);

    if (result == -1) {
        say_result(-1);
        return;
    }
    say(" =");
    say_address((uintptr_t)result);
    if (is_ours((uintptr_t)result))
        return;
    moved = syscall(SYS_mremap, result, arg[2], arg[2], MREMAP_MAYMOVE | MREMAP_FIXED, arg[5]);
    if (moved == -1) {
        say_result(-1);
        syscall(SYS_munmap, result, arg[2]);
    } else {
        say(" then");
        say_address((uintptr_t)moved);
    }
}

/*
 * Linux 6.18's tmpfs lets a file grow up to where a write begins, and gives it a page there, though
 * nothing could be copied from the buffer; what lies behind the end is taken back.
 */
static void
pwrite_execute(const uintptr_t *arg, int fd)
{
    struct stat before = {0};
    long done;
    int error;

    fstat(fd, &before);
    done = pwrite(fd, pointer(arg[1]), arg[2], (off_t)arg[3]);
    error = errno;
    if (done != (long)arg[2]) {
        if (done != -1)
            fstat(fd, &before);
        (void)!ftruncate(fd, before.st_size);
    }
    errno = error;
    say_result(done);
}

/* Write from one place, read to another, and hash what is left in the pipe. */
static void
pipe_execute(const uintptr_t *arg)
{
    static uint8_t rest[65536];
    uint32_t sum = 0;
    long left;
    int ends[2];

    if (pipe2(ends, O_NONBLOCK) != 0) {
        say_result(-1);
        return;
    }
    say_result(write(ends[1], pointer(arg[0]), arg[1]));
    say_result(read(ends[0], pointer(arg[2]), arg[3]));
    while ((left = read(ends[0], rest, sizeof(rest))) > 0) {
        for (long i = 0; i < left; i++)
            sum = sum * 31 + rest[i];
    }
    say(" rest %x", sum);
    close(ends[0]);
    close(ends[1]);
}

static void
vm_execute(bool write, const uintptr_t *arg)
{
    struct iovec local = {pointer(arg[1]), arg[2]}, remote = {pointer(arg[3]), arg[2]};
    int pid = process_id((unsigned)arg[0]);
    struct fault fault;
    bool there = true, overlap = arg[1] < arg[3] + arg[2] && arg[3] < arg[1] + arg[2];
    uint8_t byte;

    /* Which side is looked at first, and so brought in, is nobody's business. */
    for (size_t at = 0; write && at < arg[2]; at++)
        there = there && touch(arg[1] + at, ACCESS_LOAD, &byte, &fault);
    if (!write && pid != 0) { /* all of it is there before a part of it is copied */
        static uint8_t scratch[16 * PAGE_BYTES];
        struct iovec first = {scratch, arg[2]};

        if (arg[2] <= sizeof(scratch))
            process_vm_readv(pid, &first, 1, &remote, 1, 0);
    }
    if (pid == 0 || !there)
        say(there ? " nobody" : " unreadable");
    else if (pid == getpid() && overlap)
        say(" overlap");
    else if (write)
        say_result(process_vm_writev(pid, &local, 1, &remote, 1, 0));
    else
        say_result(process_vm_readv(pid, &local, 1, &remote, 1, 0));
}

/* /proc/PID/mem, which reads and writes through protections. */
static void
mem_execute(bool write, const uintptr_t *arg)
{
    static uint8_t bytes[2 * PAGE_BYTES];
    char path[32];
    int pid = process_id((unsigned)arg[0]), fd;
    size_t length = arg[2] % sizeof(bytes);
    uint32_t sum = 0;
    long done;

    if (pid == 0) {
        say(" nobody");
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    fd = open(path, O_RDWR);
    if (fd < 0) {
        say_result(-1);
        return;
    }
    memset(bytes, (int)(arg[2] % 251), sizeof(bytes));
    done =
        write ? pwrite(fd, bytes, length, (off_t)arg[1]) : pread(fd, bytes, length, (off_t)arg[1]);
    say_result(done);
    for (long i = 0; !write && i < done; i++)
        sum = sum * 31 + bytes[i];
    say(" %x", sum);
    close(fd);
}

static void
bytes_execute(enum access access, const uintptr_t *arg)
{
    struct fault fault = {0};
    uint8_t byte = (uint8_t)arg[2];
    uint32_t sum = 0;

    for (size_t i = 0; i < arg[1]; i++) {
        if (!touch(arg[0] + i, access, &byte, &fault)) {
            say(" after %zu", i);
            say_fault(&fault);
            return;
        }
        sum = sum * 31 + byte;
        byte = access == ACCESS_STORE ? (uint8_t)(byte * 5 + 1) : byte;
    }
    say(" ok %x", sum);
}

/* One byte in each page; all pages are tried. */
static void
fill_execute(const uintptr_t *arg)
{
    struct fault fault = {0};
    unsigned done = 0, failed = 0;

    for (size_t i = 0; i < arg[1]; i++) {
        uint8_t byte = (uint8_t)(arg[2] + i);

        if (touch(arg[0] + i * PAGE_BYTES, ACCESS_STORE, &byte, &fault))
            done++;
        else
            failed++;
    }
    say(" ok %u", done);
    if (failed != 0) {
        say(" failed %u", failed);
        say_fault(&fault);
    }
}

#if defined(__x86_64__) || defined(__i386__)
static const uint8_t return_code[] = {0xc3};
#elif defined(__aarch64__)
static const uint8_t return_code[] = {0xc0, 0x03, 0x5f, 0xd6};
#elif defined(__riscv)
static const uint8_t return_code[] = {0x67, 0x80, 0x00, 0x00};
#endif

static void
code_execute(uintptr_t address)
{
    struct fault fault = {0};

    address &= ~(uintptr_t)3;
    for (size_t i = 0; i < sizeof(return_code); i++) {
        uint8_t byte = return_code[i];

        if (!touch(address + i, ACCESS_STORE, &byte, &fault)) {
            say_fault(&fault);
            return;
        }
    }
    __builtin___clear_cache(pointer(address), pointer(address + sizeof(return_code)));
    say(" ok");
}

/* Jump there, where a return instruction stands or nothing can be executed. */
static void
call_execute(uintptr_t address)
{
    struct fault fault = {0};
    uint8_t byte;

    address &= ~(uintptr_t)3;
    for (size_t i = 0; i < sizeof(return_code); i++) {
        bool there = touch(address + i, ACCESS_LOAD, &byte, &fault);

        /* x86's Linux looks whether a page may be executed only once it is there. */
        if (there ? byte != return_code[i] : fault.signal == SIGBUS) {
            say(" other");
            return;
        }
    }
    if (touch(address, ACCESS_CALL, &byte, &fault))
        say(" ok");
    else
        say_fault(&fault);
}

static void
limit_execute(const uintptr_t *arg)
{
    static const int resources[] = {RLIMIT_MEMLOCK, RLIMIT_FSIZE};
    int resource = resources[arg[0] % 2];
    struct rlimit limit;

    getrlimit(resource, &limit);
    limit.rlim_cur = arg[1] * PAGE_BYTES < limit.rlim_max ? arg[1] * PAGE_BYTES : limit.rlim_max;
    say_result(setrlimit(resource, &limit));
}

long
keep_capabilities(uint32_t keep)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];

    memset(data, 0, sizeof(data));
    data[0].effective = data[0].permitted = keep;
    return syscall(SYS_capset, &header, data);
}

static void
file_execute(enum op_kind kind, const uintptr_t *arg, int fd)
{
    struct iovec pieces[] = {{pointer(arg[1]), arg[2]}, {pointer(arg[3]), arg[4]}};

    switch (kind) {
    case OP_FTRUNCATE:
        say_result(ftruncate(fd, (off_t)arg[1]));
        break;
    case OP_FALLOCATE:
        say_result(fallocate(fd, (int)arg[1], (off_t)arg[2], (off_t)arg[3]));
        break;
    case OP_PREAD:
        say_result(pread(fd, pointer(arg[1]), arg[2], (off_t)arg[3]));
        break;
    case OP_PWRITE:
        pwrite_execute(arg, fd);
        break;
    default:
        say_result(preadv(fd, pieces, 2, (off_t)arg[5]));
        break;
    }
}

/* What MADV_FREE leaves may be old or zero, there or not: then let it be gone. */
static long
advise_execute(const uintptr_t *arg)
{
    long result = syscall(SYS_madvise, arg[0], arg[1], arg[2]);
    int error = errno;

    for (uintptr_t at = arg[0]; arg[2] == MADV_FREE && at - arg[0] < arg[1] && is_ours(at);
         at += PAGE_BYTES) {
        if (syscall(SYS_madvise, at, PAGE_BYTES, MADV_FREE) == 0)
            syscall(SYS_madvise, at, PAGE_BYTES, MADV_DONTNEED);
    }
    errno = error;
    return result;
}

static void
memory_execute(enum op_kind kind, const uintptr_t *arg)
{
    switch (kind) {
    case OP_MUNMAP:
        say_result(syscall(SYS_munmap, arg[0], arg[1]));
        break;
    case OP_MPROTECT:
        say_result(syscall(SYS_mprotect, arg[0], arg[1], arg[2]));
        break;
    case OP_MADVISE:
        say_result(advise_execute(arg));
        break;
    case OP_BRK:
        say_address((uintptr_t)syscall(SYS_brk, arg[0]));
        break;
    case OP_MLOCK:
        say_result(syscall(SYS_mlock, arg[0], arg[1]));
        break;
    case OP_MLOCK2:
        say_result(syscall(SYS_mlock2, arg[0], arg[1], arg[2]));
        break;
    case OP_MUNLOCK:
        say_result(syscall(SYS_munlock, arg[0], arg[1]));
        break;
    case OP_MLOCKALL:
        say_result(syscall(SYS_mlockall, arg[0]));
        break;
    case OP_MUNLOCKALL:
        say_result(syscall(SYS_munlockall));
        break;
    case OP_MINCORE:
        say_result(syscall(SYS_mincore, arg[0], arg[1], arg[2]));
        break;
    default:
        say_result(syscall(SYS_msync, arg[0], arg[1], arg[2]));
        break;
    }
}

void
op_execute(const struct op *op)
{
    uintptr_t arg[ARGS];

    for (unsigned i = 0; i < ARGS; i++)
        arg[i] = resolve(op->arg[i]);
    switch (op->kind) {
    case OP_MMAP:
        mmap_execute(arg, descriptor(op->arg[4]));
        break;
    case OP_MREMAP:
        mremap_execute(arg);
        break;
    case OP_FTRUNCATE:
    case OP_FALLOCATE:
    case OP_PREAD:
    case OP_PWRITE:
    case OP_READV:
        file_execute(op->kind, arg, descriptor(op->arg[0]));
        break;
    case OP_PIPE:
        pipe_execute(arg);
        break;
    case OP_VM_READ:
    case OP_VM_WRITE:
        vm_execute(op->kind == OP_VM_WRITE, arg);
        break;
    case OP_PEEK:
    case OP_POKE:
        mem_execute(op->kind == OP_POKE, arg);
        break;
    case OP_LOAD:
    case OP_STORE:
        bytes_execute(op->kind == OP_LOAD ? ACCESS_LOAD : ACCESS_STORE, arg);
        break;
    case OP_FILL:
        fill_execute(arg);
        break;
    case OP_CODE:
        code_execute(arg[0]);
        break;
    case OP_CALL:
        call_execute(arg[0]);
        break;
    case OP_LIMIT:
        limit_execute(arg);
        break;
    case OP_DROP:
        say_result(keep_capabilities(0));
        break;
    default:
        if (op->kind >= OP_PROBE)
            look(op);
        else
            memory_execute(op->kind, arg);
        break;
    }
}
