/* SPDX-License-Identifier: MIT */
#include "fiber.h"

#include "machine.h"

#include <string.h>
#include <sys/mman.h>

#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

enum { STACK_BYTES = 256 * 1024, GUARD_BYTES = 4096 };

void
fiber_of_thread(struct fiber *fiber)
{
    memset(fiber, 0, sizeof(*fiber));
#ifdef FIBER_TSAN
    fiber->tsan = __tsan_get_current_fiber();
#endif
}

void
fiber_create(struct fiber *fiber, void (*start)(void))
{
    unsigned char *memory =
        sim_host_map(STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE, SIM_HOST_PLAIN);

    if (mprotect(memory, GUARD_BYTES, PROT_NONE) != 0)
        sim_fail("the host cannot guard a stack");
    memset(fiber, 0, sizeof(*fiber));
    fiber->stack = memory + GUARD_BYTES;
    fiber->bottom = fiber->stack;
    fiber->bytes = STACK_BYTES;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = fiber->bytes;
    makecontext(&fiber->context, start, 0);
#ifdef FIBER_TSAN
    fiber->tsan = __tsan_create_fiber(0);
#endif
}

void
fiber_destroy(struct fiber *fiber)
{
    if (fiber->stack == NULL)
        return;
#ifdef FIBER_TSAN
    __tsan_destroy_fiber(fiber->tsan);
#endif
    sim_host_unmap((unsigned char *)fiber->stack - GUARD_BYTES);
    fiber->stack = NULL;
}

void
fiber_started(struct fiber *from)
{
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(NULL, &from->bottom, &from->bytes);
#endif
    (void)from;
}

void
fiber_switch(struct fiber *from, struct fiber *to)
{
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->bytes);
#endif
#ifdef FIBER_TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
    swapcontext(&from->context, &to->context);
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}
