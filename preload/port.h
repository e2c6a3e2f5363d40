/* SPDX-License-Identifier: MIT */
#ifndef PRELOAD_PORT_H
#define PRELOAD_PORT_H

/* The inline half of the port for libquire-malloc.so. */
#include <quire/cpu.h>

extern char *malloc_ram __attribute__((visibility("hidden")));
extern __thread struct qr_cpu *malloc_cpu
    __attribute__((visibility("hidden"), tls_model("initial-exec")));

#define qr_port_window_open qr_port_window_open
static inline void *
qr_port_window_open(qr_pa pa)
{
    return malloc_ram + pa.v;
}

#define qr_port_window_close qr_port_window_close
static inline void
qr_port_window_close(void *window)
{
    (void)window;
}

#define qr_port_direct_pa qr_port_direct_pa
static inline qr_pa
qr_port_direct_pa(const void *pointer)
{
    return qr_pa_of((uint64_t)((const char *)pointer - malloc_ram));
}

#define qr_port_this_cpu qr_port_this_cpu
static inline struct qr_cpu *
qr_port_this_cpu(void)
{
    return malloc_cpu;
}

/* Nothing interrupts a thread here that would allocate: signal handlers must not. */
#define qr_port_irq_save qr_port_irq_save
static inline uintptr_t
qr_port_irq_save(void)
{
    return 0;
}

#define qr_port_irq_restore qr_port_irq_restore
static inline void
qr_port_irq_restore(uintptr_t state)
{
    (void)state;
}

#endif
