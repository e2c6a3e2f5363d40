/* SPDX-License-Identifier: MIT */
/*
 * The library's port: what include/quire/port.h asks for and port_inline.h does
 * not inline.  Waiting and waking are the scheduler's (kernel/proc).
 */
#include <boot.h>
#include <memory.h>
#include <printk.h>

#include <arch.h>

QR_NORETURN void
qr_port_panic(const char *message)
{
    panic("%s", message);
}

void
qr_port_log(const char *line)
{
    printk("%s\n", line);
}

uint64_t
qr_port_clock_ns(void)
{
    return clock_monotonic_ns();
}

void
qr_port_random(void *buffer, size_t bytes)
{
    uint8_t *out = buffer;

    while (bytes > 0) {
        uint64_t value = arch_random();

        for (unsigned i = 0; i < sizeof value && bytes > 0; i++, bytes--)
            *out++ = (uint8_t)(value >> 8 * i);
    }
}

__attribute__((weak)) void
arch_ipi_send_set(const struct qr_cpu_set *set, enum ipi_kind kind)
{
    for (unsigned i = 0; i < cpu_count(); i++) {
        if (qr_cpu_set_has(set, i))
            arch_ipi_send(i, kind);
    }
}

void
qr_port_ipi(const struct qr_cpu_set *cpus)
{
    arch_ipi_send_set(cpus, IPI_TLB);
}

uintptr_t
qr_port_user_end(void)
{
    return USER_LIMIT;
}

void
mm_tlb_interrupt(void)
{
    qr_tlb_interrupt();
}
