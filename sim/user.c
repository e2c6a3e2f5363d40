/* SPDX-License-Identifier: MIT */
/*
 * User memory: what user programs do to it, and the copies of the kernel.
 *
 * Both go byte range by byte range through the MMU of the current CPU and, on a
 * fault, to the library's fault handler, which says whether to try again.  A
 * copy moves `chunk` bytes in one access, as a CPU's wide loads do; where a
 * chunk faults it falls back to single bytes, so that the prefix which was
 * accessible is moved exactly.
 *
 * Bytes are moved by relaxed atomic accesses: user programs may race with each
 * other as they like, while a race with the kernel's own plain accesses (a frame
 * cleared while somebody still maps it) is still a race to a detector.
 */
#include "machine.h"

#include <string.h>

/* A fault that was "handled" again and again at one address is a livelock. */
enum { RETRIES = 200 };

/* ---- Moving bytes ------------------------------------------------------------- */

enum direction { TO_MEMORY, FROM_MEMORY };

static void
move_bytes(unsigned char *memory, unsigned char *buffer, size_t bytes, enum direction direction)
{
    if (bytes == 8 && ((uintptr_t)memory & 7) == 0) {
        uint64_t word;

        if (direction == TO_MEMORY) {
            memcpy(&word, buffer, 8);
            __atomic_store_n((uint64_t *)(void *)memory, word, __ATOMIC_RELAXED);
        } else {
            word = __atomic_load_n((uint64_t *)(void *)memory, __ATOMIC_RELAXED);
            memcpy(buffer, &word, 8);
        }
        return;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (direction == TO_MEMORY)
            __atomic_store_n(&memory[i], buffer[i], __ATOMIC_RELAXED);
        else
            buffer[i] = __atomic_load_n(&memory[i], __ATOMIC_RELAXED);
    }
}

/*
 * One access of @bytes at @va, which may cross a page: nothing is moved unless
 * all of it is accessible.  False: *out_code, *out_va say what faulted.
 */
static bool
access_once(uintptr_t va, void *buffer, size_t bytes, unsigned access, enum sim_mode mode,
            unsigned *out_code, uintptr_t *out_va)
{
    size_t first = QR_PAGE_SIZE - (va & QR_PAGE_MASK);
    unsigned char *buffer_bytes = buffer;
    uint64_t pa[2];

    sim_poll();
    struct sim_cpu *cpu = cpu_with_root(va);

    /* From here to the end one instruction: no other thread runs, no interrupt is taken. */
    if (first > bytes)
        first = bytes;
    for (unsigned part = 0; part < (first < bytes ? 2u : 1u); part++) {
        *out_va = part == 0 ? va : va + first;
        struct sim_access one = {.va = qr_va_of(*out_va), .access = access, .mode = mode};

        if (!cpu_translate(cpu, one, &pa[part], out_code))
            return false;
    }
    enum direction direction = (access & QR_ACCESS_WRITE) != 0 ? TO_MEMORY : FROM_MEMORY;

    move_bytes(sim_ram(cpu->sim, qr_pa_of(pa[0])), buffer_bytes, first, direction);
    if (first < bytes)
        move_bytes(sim_ram(cpu->sim, qr_pa_of(pa[1])), buffer_bytes + first, bytes - first,
                   direction);
    return true;
}

/* ---- Faults -------------------------------------------------------------------- */

static bool
fault_is_handled(uintptr_t va, unsigned access, enum sim_mode mode, unsigned code,
                 enum sim_signal *out_signal)
{
    struct sim_cpu *cpu = here();
    struct sim_access wanted = {.va = qr_va_of(va), .access = access, .mode = mode};

    cpu->stats.faults++;
    *out_signal = SIM_SEGV_MAPERR;
    if ((code & SIM_FAULT_NONCANONICAL) != 0)
        return false;
    if ((code & SIM_FAULT_RESERVED) != 0)
        sim_fail("a page table entry for %#llx has a reserved bit set", (unsigned long long)va);
    if (!cpu->irq_on || cpu->qr.irq_depth != 0)
        sim_fail("user memory at %#llx is touched with interrupts off and faults",
                 (unsigned long long)va);
    if (cpu->sim->hooks.fault == NULL)
        return false;
    return cpu->sim->hooks.fault(cpu->sim, wanted, code, out_signal);
}

/* Access @bytes at @va, faults handled.  False: it cannot be done; *out_signal says why. */
static bool
access_all(uintptr_t va, void *buffer, size_t bytes, unsigned access, enum sim_mode mode,
           enum sim_signal *out_signal)
{
    unsigned code = 0;
    uintptr_t at = va;

    for (unsigned tries = 0; tries < RETRIES; tries++) {
        if (access_once(va, buffer, bytes, access, mode, &code, &at))
            return true;
        if (!fault_is_handled(at, access, mode, code, out_signal))
            return false;
    }
    sim_fail("the fault at %#llx (code %#x) was called handled %d times and comes back",
             (unsigned long long)at, code, RETRIES);
}

static size_t
chunk_size(struct sim *sim)
{
    if (sim->copy_chunk != 0)
        return sim->copy_chunk;
    return (size_t)1 << (sim_random(sim) % 4);
}

/* @return bytes not moved */
static size_t
access_range(uintptr_t va, unsigned char *buffer, size_t bytes, unsigned access, enum sim_mode mode,
             enum sim_signal *out_signal)
{
    struct sim *sim = sim_here();

    while (bytes > 0) {
        size_t chunk = chunk_size(sim);

        if (chunk > bytes)
            chunk = bytes;
        if (!access_all(va, buffer, chunk, access, mode, out_signal)) {
            /*
             * The accessible head of the chunk, byte by byte, to the one that faults.  A
             * program's own access to one page is one instruction: it does not come in parts,
             * even where somebody maps the page just now.
             */
            bool whole = mode == SIM_USER && (va & QR_PAGE_MASK) + chunk <= QR_PAGE_SIZE;
            size_t done = 0;

            while (!whole && chunk > 1 && done < chunk &&
                   access_all(va + done, buffer + done, 1, access, mode, out_signal))
                done++;
            if (done < chunk)
                return bytes - done;
        }
        va += chunk;
        buffer += chunk;
        bytes -= chunk;
    }
    *out_signal = SIM_OK;
    return 0;
}

/* ---- User programs ---------------------------------------------------------------- */

qr_va
sim_page(size_t page)
{
    return qr_va_of(SIM_BASE + (page << QR_PAGE_SHIFT));
}

const char *
sim_signal_name(enum sim_signal signal)
{
    static const char *const names[] = {
        [SIM_OK] = "no signal",
        [SIM_SEGV_MAPERR] = "SIGSEGV (SEGV_MAPERR)",
        [SIM_SEGV_ACCERR] = "SIGSEGV (SEGV_ACCERR)",
        [SIM_SEGV_PKUERR] = "SIGSEGV (SEGV_PKUERR)",
        [SIM_BUS_ADRERR] = "SIGBUS (BUS_ADRERR)",
        [SIM_BUS_IO] = "SIGBUS (BUS_MCEERR_AR)",
        [SIM_OOM] = "out of memory",
    };

    return names[signal];
}

enum sim_signal
sim_load(qr_va from, void *to, size_t bytes)
{
    enum sim_signal signal;

    return access_range(from.v, to, bytes, QR_ACCESS_READ, SIM_USER, &signal) == 0 ? SIM_OK
                                                                                   : signal;
}

enum sim_signal
sim_store(qr_va to, const void *from, size_t bytes)
{
    enum sim_signal signal;

    return access_range(to.v, (unsigned char *)(uintptr_t)from, bytes, QR_ACCESS_WRITE, SIM_USER,
                        &signal) == 0
               ? SIM_OK
               : signal;
}

enum sim_signal
sim_exec(qr_va at)
{
    enum sim_signal signal;
    unsigned char instruction;

    return access_range(at.v, &instruction, 1, QR_ACCESS_EXEC, SIM_USER, &signal) == 0 ? SIM_OK
                                                                                       : signal;
}

/* ---- quire/arch.h: copies --------------------------------------------------------- */

void
sim_set_copy_chunk(struct sim *sim, unsigned bytes)
{
    sim->copy_chunk = bytes;
}

size_t
qr_arch_copy_from_user(void *to, qr_va from, size_t bytes)
{
    enum sim_signal signal;

    return access_range(from.v, to, bytes, QR_ACCESS_READ, SIM_KERNEL_COPY, &signal);
}

size_t
qr_arch_copy_to_user(qr_va to, const void *from, size_t bytes)
{
    enum sim_signal signal;

    return access_range(to.v, (unsigned char *)(uintptr_t)from, bytes, QR_ACCESS_WRITE,
                        SIM_KERNEL_COPY, &signal);
}

size_t
qr_arch_clear_user(qr_va to, size_t bytes)
{
    unsigned char zeros[256];
    size_t left = bytes;

    memset(zeros, 0, sizeof(zeros));
    while (left > 0) {
        size_t some = left < sizeof(zeros) ? left : sizeof(zeros);
        enum sim_signal signal;
        size_t rest = access_range(to.v + (bytes - left), zeros, some, QR_ACCESS_WRITE,
                                   SIM_KERNEL_COPY, &signal);

        left -= some - rest;
        if (rest != 0)
            break;
    }
    return left;
}

bool
qr_arch_user_cas32(qr_va at, uint32_t expected, uint32_t desired, uint32_t *out_old)
{
    struct sim_access access = {.va = at, .access = QR_ACCESS_WRITE, .mode = SIM_KERNEL_COPY};
    enum sim_signal signal;
    unsigned code;
    qr_pa pa;

    for (unsigned tries = 0; tries < RETRIES; tries++) {
        if (sim_translate(access, &pa, &code)) {
            *out_old = expected;
            __atomic_compare_exchange_n((uint32_t *)sim_ram(sim_here(), pa), out_old, desired,
                                        false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
            return true;
        }
        if (!fault_is_handled(at.v, access.access, access.mode, code, &signal))
            return false;
    }
    sim_fail("a compare-and-swap at %#llx faults for ever", (unsigned long long)at.v);
}
