/* SPDX-License-Identifier: MIT */
/*
 * The simulated machine as a side of the differential fuzzer: the library, with the reference
 * kernel's system calls above it (kernel.c), in this process.  Its processes are no Linux
 * processes: whose turn it is is made current, and does its call.
 *
 * After each program all must be gone: processes, address spaces, frames, heap.
 */
#include "differential.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <quire/swap.h>

#include "hosted.h"
#include "sim.h"

#define SCRATCH_BASE 0x7f0000000000u
#define BALLAST_BASE 0x7e0000000000u

enum { RIGHTS_FIRST = 0x55555554 }; /* of a handler, which there is none of here: Linux's */
enum { FRAMES = 16384, BALLAST_BYTES = 1 << 20, VALIDATE_EVERY = 64, GROWTHS = 16 };
enum { SWAP_PAGES = 4096 };

static struct sim *sim;
static struct sim_usage most; /* of what is in use between programs */
static unsigned programs, growths;

/* ---- calls ---------------------------------------------------------------------- */

long
machine_call(long number, const uint64_t args[6])
{
    long result = (long)hosted_call((unsigned long)number, args);

    sim_set_pkru(hosted_rights());
    return result;
}

uintptr_t
machine_scratch(void)
{
    return SCRATCH_BASE;
}

/* Page by page: it would take long through the MMU. */
static void
scratch_copy(size_t offset, void *bytes, size_t count, unsigned access)
{
    for (size_t done = 0, piece; done < count; done += piece) {
        uintptr_t at = SCRATCH_BASE + offset + done;
        enum access touched = access == QR_ACCESS_WRITE ? ACCESS_STORE : ACCESS_LOAD;
        struct sim_access translated = {qr_va_of(at), access, SIM_USER};
        struct fault fault;
        unsigned code;
        uint8_t byte = 0;
        qr_pa pa;

        piece = PAGE_BYTES - at % PAGE_BYTES;
        piece = piece < count - done ? piece : count - done;
        if (!touch(at, touched, &byte, &fault) || !sim_translate(translated, &pa, &code))
            sim_fail("scratch memory is gone");
        if (access == QR_ACCESS_WRITE)
            memcpy(sim_ram(sim, pa), (char *)bytes + done, piece);
        else
            memcpy((char *)bytes + done, sim_ram(sim, pa), piece);
    }
}

void
scratch_put(size_t offset, const void *from, size_t bytes)
{
    scratch_copy(offset, (void *)(uintptr_t)from, bytes, QR_ACCESS_WRITE);
}

void
scratch_get(void *to, size_t offset, size_t bytes)
{
    scratch_copy(offset, to, bytes, QR_ACCESS_READ);
}

void
machine_code_written(uintptr_t address, size_t bytes)
{
    (void)address;
    (void)bytes;
}

/* Twice: pages that are used lately are spared the first time. */
void
machine_swap_out(void)
{
    sim_swap_out(sim, FRAMES);
    sim_swap_out(sim, FRAMES);
}

/* ---- user code --------------------------------------------------------------------- */

static bool
fault_of(enum sim_signal signal, unsigned access, uintptr_t address, struct fault *fault)
{
    static const struct {
        int signal, code;
    } rows[] = {
        [SIM_SEGV_MAPERR] = {SIGSEGV, SEGV_MAPERR}, [SIM_SEGV_ACCERR] = {SIGSEGV, SEGV_ACCERR},
        [SIM_SEGV_PKUERR] = {SIGSEGV, SEGV_PKUERR}, [SIM_BUS_ADRERR] = {SIGBUS, BUS_ADRERR},
        [SIM_BUS_IO] = {SIGBUS, BUS_MCEERR_AR},     [SIM_OOM] = {SIGKILL, 0},
    };

    if (signal == SIM_SEGV_ACCERR && hosted_key_denies(address, access))
        signal = SIM_SEGV_PKUERR; /* as mm_page_fault() */
    /* What x86-64 says of an address that is none: a general protection fault. */
    if (signal != SIM_OK && (uint64_t)((int64_t)(address << 16) >> 16) != address)
        *fault = (struct fault){.signal = SIGSEGV, .code = SI_KERNEL};
    else if (signal != SIM_OK)
        *fault = (struct fault){.signal = rows[signal].signal,
                                .code = rows[signal].code,
                                .key = signal == SIM_SEGV_PKUERR ? hosted_key_at(address) : 0,
                                .rights = RIGHTS_FIRST,
                                .address = address};
    return signal == SIM_OK;
}

bool
touch(uintptr_t address, enum access access, uint8_t *byte, struct fault *fault)
{
    static const unsigned kinds[] = {[ACCESS_LOAD] = QR_ACCESS_READ,
                                     [ACCESS_STORE] = QR_ACCESS_WRITE,
                                     [ACCESS_CALL] = QR_ACCESS_EXEC};
    qr_va at = qr_va_of(address);
    enum sim_signal signal;

    if (access == ACCESS_LOAD)
        signal = sim_load(at, byte, 1);
    else if (access == ACCESS_STORE)
        signal = sim_store(at, byte, 1);
    else
        signal = sim_exec(at);
    return fault_of(signal, kinds[access], address, fault);
}

bool
touch_page(uintptr_t address, uint64_t *hash, struct fault *fault)
{
    struct sim_access access = {qr_va_of(address), QR_ACCESS_READ, SIM_USER};
    unsigned code;
    uint8_t byte;
    qr_pa pa;

    if (!touch(address, ACCESS_LOAD, &byte, fault))
        return false;
    if (!sim_translate(access, &pa, &code))
        sim_fail("a page that was read a moment ago is not there");
    *hash = hash_words(sim_ram(sim, pa), PAGE_BYTES / sizeof(uint64_t));
    return true;
}

/* ---- processes -------------------------------------------------------------------------- */

static void
enter(struct thread *thread)
{
    hosted_set_current(thread);
    sim_use(sim, hosted_space(thread));
    sim_set_pkru(hosted_rights());
    hosted_begin();
}

long
machine_fork(enum birth birth, unsigned index)
{
    struct clone_args args = {.flags = CLONE_PARENT};

    (void)index;
    /* Who waits for a child by vfork just has no turn. */
    if (birth != BIRTH_CLONE3 && birth != BIRTH_VFORK3)
        return call(SYS_clone, CLONE_PARENT | SIGCHLD | (birth == BIRTH_CLONE ? 0u : CLONE_VM));
    if (birth == BIRTH_VFORK3)
        args.flags |= CLONE_VM;
    scratch_put(0, &args, sizeof(args));
    return call(SYS_clone3, machine_scratch(), sizeof(args));
}

/* One call of one, one of another, as the dice say. */
void
machine_race(struct racer *racers, unsigned count)
{
    uint64_t state = racers[0].state;
    unsigned left = 0;

    for (unsigned i = 0; i < count; i++)
        left += racers[i].steps;
    while (left != 0) {
        state = state * 6364136223846793005u + 1442695040888963407u;

        struct racer *racer = &racers[(state >> 33) % count];

        if (racer->steps != 0) {
            racer_step(racer);
            racer->steps--;
            left--;
        }
    }
}

long
machine_child(const struct clone_args *args, int (*run)(const void *), const void *argument,
              uint32_t *out_pid)
{
    struct thread *parent = hosted_thread(shared->pids[self]);
    long pid, result;

    scratch_put(0, args, sizeof(*args));
    pid = call(SYS_clone3, machine_scratch(), sizeof(*args));
    if (pid < 0)
        return pid;
    *out_pid = (uint32_t)pid;
    enter(hosted_thread((int)pid));
    result = run(argument);
    sim_use(sim, NULL);
    hosted_exit();
    enter(parent);
    return result; /* nobody waits: SIGCHLD is ignored here */
}

void
machine_add(uintptr_t address)
{
    struct fault fault;
    uint8_t byte;

    if (touch(address, ACCESS_LOAD, &byte, &fault)) {
        byte++;
        touch(address, ACCESS_STORE, &byte, &fault);
    }
}

/* As many as this machine's Linux has, or where a case wants them. */
uintptr_t
machine_user_end(void)
{
    return 0x7ffffffff000u; /* x86-64's, with four levels */
}

bool
machine_has_keys(void)
{
    unsigned a = 7, b, c = 0, d;

    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return (c >> 4 & 1) != 0 || getenv("DIFFERENTIAL_KEYS") != NULL;
}

void
machine_set_rights(unsigned key, unsigned rights)
{
    hosted_set_rights(key, rights);
    sim_set_pkru(hosted_rights());
}

void
machine_signal_rights(unsigned key, unsigned rights, uint32_t out[2])
{
    (void)key;
    (void)rights;
    out[0] = RIGHTS_FIRST;
    out[1] = hosted_rights();
}

void
machine_exit(void)
{
    sim_use(sim, NULL);
    hosted_exit();
    process_gone(self);
    enter(hosted_init_thread());
}

/*
 * Scratch memory; as much more as a program of Linux has, at least; and a page below the break, as
 * the C library's is.
 */
static void
memory_prepare(void)
{
    const uint64_t flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

    call(SYS_mmap, SCRATCH_BASE, SCRATCH_BYTES, PROT_READ | PROT_WRITE, flags, (uint64_t)-1, 0);
    call(SYS_mmap, BALLAST_BASE, BALLAST_BYTES, PROT_NONE, flags, (uint64_t)-1, 0);
    call(SYS_brk, (uint64_t)call(SYS_brk, 0) + PAGE_BYTES);
}

/* Tables that grow once and stay are no leak: what is left behind again and again is. */
static void
check_idle(void)
{
    struct sim_usage now = sim_usage(sim);

    struct qr_swap_stats swapped;

    qr_swap_stats(sim_swap(sim), &swapped);
    if (swapped.used != 0)
        sim_fail("after a program %zu pages are swapped out, of nobody", swapped.used);
    if (hosted_alive() != 0)
        sim_fail("after a program %u processes or spaces are left", hosted_alive());
    if (now.frames > most.frames || now.heap_bytes > most.heap_bytes) {
        most = now;
        if (++growths > GROWTHS)
            sim_fail("programs leak: %zu frames, %zu bytes of heap", now.frames, now.heap_bytes);
    }
    if (++programs % VALIDATE_EVERY == 0)
        sim_validate(sim);
}

void
machine_run(void)
{
    long pid = call(SYS_clone, SIGCHLD);

    if (pid <= 0)
        sim_fail("no first process: %ld", pid);
    shared->pids[0] = (int)pid;
    self = 0;
    enter(hosted_thread((int)pid));
    memory_prepare();
    process_prepare();
    for (unsigned next; (next = step_process()) != PROCESSES;) {
        if (next != self || shared->pids[next] != 0) {
            self = next;
            enter(hosted_thread(shared->pids[self]));
        }
        process_step();
    }
    for (self = 0; self < PROCESSES; self++) {
        if (shared->pids[self] != 0) {
            enter(hosted_thread(shared->pids[self]));
            machine_exit();
        }
    }
    program_finish();
    check_idle();
}

void
machine_init(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* what stands there when the machine finds something wrong */
    shared = calloc(1, sizeof(*shared));
    sim = sim_boot(
        (struct sim_options){.frames = FRAMES, .mmu = SIM_MMU_X86_64, .features = SIM_NO_VALIDATE});
    if (swapping() == SWAP_HERE)
        sim_swap_on(sim, SWAP_PAGES, 0);
    hosted_start(&(struct hosted_library){
        .keys = machine_has_keys(),
        .format = sim_format(sim),
        .frames = sim_frames(sim),
        .heap = sim_heap(sim),
        .tlb = sim_tlb(sim),
        .objects = sim_objects(sim),
        .vm = sim_vm(sim),
        .swap = sim_swap(sim),
    });
    enter(hosted_init_thread());
}
