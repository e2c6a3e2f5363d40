/* SPDX-License-Identifier: MIT */
/*
 * Floating-point state.
 *
 * The kernel itself uses no floating-point registers.  They are saved and
 * restored at each switch between threads that have a user mode.
 *
 * XSAVE where the CPU has it, else FXSAVE, else (a Pentium) FNSAVE, which empties
 * the registers as it saves them: they are loaded back where they live on.
 */
#include "cpu.h"

#include <kstring.h>
#include <trace.h>

#define FXSAVE_BYTES       512u
#define FXSAVE_MXCSR       24
#define MXCSR_DEFAULT      0x1f80u
#define MXCSR_MASK         0xffffu
#define FCW_DEFAULT        0x37fu
#define XSAVE_HEADER_BYTES 64u
#define XSTATE_PKRU        ((uint64_t)1 << 9)
#define PKRU_DEFAULT       0x55555554u /* no access but with key 0, as Linux starts programs */

size_t
arch_fpu_bytes(void)
{
    return cpu_features.fpu_bytes;
}

void
arch_fpu_save(void *image)
{
    uint32_t low = (uint32_t)cpu_features.xcr0;

    if (cpu_features.xsave) {
        /* XSAVE leaves the header's reserved part and XCOMP_BV as they are: clear them. */
        memset((char *)image + FXSAVE_BYTES, 0, XSAVE_HEADER_BYTES);
        __asm__ volatile("xsave" FPU_SUFFIX " (%0)" : : "r"(image), "a"(low), "d"(0) : "memory");
    } else if (cpu_features.fxsr) {
        __asm__ volatile("fxsave" FPU_SUFFIX " (%0)" : : "r"(image) : "memory");
    } else {
        __asm__ volatile("fnsave (%0); frstor (%0)" : : "r"(image) : "memory");
    }
}

/** Save where only fpu_restore() will read it: what did not change may be skipped. */
void
fpu_save_fast(void *image)
{
    uint32_t low = (uint32_t)cpu_features.xcr0;

    if (cpu_features.xsaveopt)
        __asm__ volatile("xsaveopt" FPU_SUFFIX " (%0)" : : "r"(image), "a"(low), "d"(0) : "memory");
    else if (cpu_features.xsave)
        __asm__ volatile("xsave" FPU_SUFFIX " (%0)" : : "r"(image), "a"(low), "d"(0) : "memory");
    else if (cpu_features.fxsr)
        __asm__ volatile("fxsave" FPU_SUFFIX " (%0)" : : "r"(image) : "memory");
    else
        __asm__ volatile("fnsave (%0)" : : "r"(image) : "memory");
}

void
fpu_restore(const void *image)
{
    uint32_t low = (uint32_t)cpu_features.xcr0;

    if (cpu_features.xsave)
        __asm__ volatile("xrstor" FPU_SUFFIX " (%0)" : : "r"(image), "a"(low), "d"(0) : "memory");
    else if (cpu_features.fxsr)
        __asm__ volatile("fxrstor" FPU_SUFFIX " (%0)" : : "r"(image) : "memory");
    else
        __asm__ volatile("frstor (%0)" : : "r"(image) : "memory");
}

/** XRSTOR and FXRSTOR raise #GP on what this refuses. */
static bool
fpu_image_is_valid(const uint8_t *image)
{
    uint32_t mxcsr;
    uint64_t header[XSAVE_HEADER_BYTES / 8];
    uint64_t rest = 0;

    if (!cpu_features.fxsr)
        return true; /* FRSTOR takes any */
    memcpy(&mxcsr, image + FXSAVE_MXCSR, sizeof mxcsr);
    if (mxcsr & ~MXCSR_MASK)
        return false;
    if (!cpu_features.xsave)
        return true;
    memcpy(header, image + FXSAVE_BYTES, sizeof header);
    for (size_t i = 1; i < XSAVE_HEADER_BYTES / 8; i++)
        rest |= header[i];
    return (header[0] & ~cpu_features.xcr0) == 0 && rest == 0;
}

bool
arch_fpu_load(const void *image)
{
    if (!fpu_image_is_valid(image))
        return false;
    fpu_restore(image);
    return true;
}

void
fpu_image_init(void *image)
{
    static const uint16_t fcw = FCW_DEFAULT;
    static const uint32_t mxcsr = MXCSR_DEFAULT;
    static const uint32_t fnsave[3] = {0xffff0000u | FCW_DEFAULT, 0xffff0000u, 0xffffffffu};

    memset(image, 0, cpu_features.fpu_bytes);
    if (!cpu_features.fxsr) {
        memcpy(image, fnsave, sizeof fnsave);
        return;
    }
    memcpy(image, &fcw, sizeof fcw);
    memcpy((char *)image + FXSAVE_MXCSR, &mxcsr, sizeof mxcsr);
    if (cpu_features.pku)
        fpu_image_set_pkru(image, PKRU_DEFAULT);
}

void
fpu_image_set_pkru(void *image, uint32_t rights)
{
    uint64_t present;

    memcpy(&present, (char *)image + FXSAVE_BYTES, sizeof present);
    present |= XSTATE_PKRU;
    memcpy((char *)image + FXSAVE_BYTES, &present, sizeof present);
    memcpy((char *)image + cpu_features.pkru_offset, &rights, sizeof rights);
}

/* ---- for tracers --------------------------------------------------------------- */

#define XSTATE_X87      ((uint64_t)1 << 0)
#define XSTATE_SSE      ((uint64_t)1 << 1)
#define FXSAVE_ST       32
#define FXSAVE_XMM      160
#define FXSAVE_RESERVED 464 /* where a tracer finds XCR0 */

/** Bytes of the image that @p note names; 0: this CPU has none. */
size_t
fpu_note_bytes(unsigned note)
{
    if (note == NOTE_FLOAT || note == NOTE_X86_FXSAVE)
        return cpu_features.fxsr ? FXSAVE_BYTES : 0;
    return note == NOTE_X86_XSTATE && cpu_features.xsave ? cpu_features.fpu_bytes : 0;
}

/* XSAVEOPT does not write what is as it was at the start: fill it in. */
static void
fxsave_complete(uint8_t *image, uint64_t present)
{
    static const uint16_t fcw = FCW_DEFAULT;

    if (!(present & XSTATE_X87)) {
        memset(image, 0, FXSAVE_MXCSR);
        memcpy(image, &fcw, sizeof fcw);
        memset(image + FXSAVE_ST, 0, FXSAVE_XMM - FXSAVE_ST);
    }
    if (!(present & XSTATE_SSE))
        memset(image + FXSAVE_XMM, 0, FXSAVE_RESERVED - FXSAVE_XMM);
}

/* Components that are as they were at the start: their places hold what was there before. */
static void
components_complete(uint8_t *image, uint64_t present)
{
    uint64_t absent = cpu_features.xcr0 & ~present;

    for (unsigned i = 2; i < 32; i++) {
        struct cpuid component;

        if (!(absent & ((uint64_t)1 << i)))
            continue;
        component = cpuid(0xd, i);
        memset(image + component.ebx, 0, component.eax);
    }
}

/** @p from: the saved state of a thread that does not run. */
void
fpu_note_get(const void *from, unsigned note, void *image)
{
    uint64_t present = XSTATE_X87 | XSTATE_SSE;

    memcpy(image, from, fpu_note_bytes(note));
    if (cpu_features.xsave)
        memcpy(&present, (const char *)from + FXSAVE_BYTES, sizeof present);
    fxsave_complete(image, present);
    if (note != NOTE_X86_XSTATE)
        return;
    components_complete(image, present);
    memcpy((char *)image + FXSAVE_RESERVED, &cpu_features.xcr0, sizeof cpu_features.xcr0);
}

/** Set the saved state. @return false where the CPU would not load it */
bool
fpu_note_set(void *to, unsigned note, const void *image)
{
    uint64_t present;
    uint32_t mxcsr;

    memcpy(&mxcsr, (const char *)image + FXSAVE_MXCSR, sizeof mxcsr);
    if (mxcsr & ~MXCSR_MASK)
        return false;
    if (note == NOTE_X86_XSTATE && !fpu_image_is_valid(image))
        return false;
    memcpy(to, image, fpu_note_bytes(note));
    if (note != NOTE_X86_XSTATE && cpu_features.xsave) {
        memcpy(&present, (char *)to + FXSAVE_BYTES, sizeof present);
        present |= XSTATE_X87 | XSTATE_SSE;
        memcpy((char *)to + FXSAVE_BYTES, &present, sizeof present);
    }
    return true;
}

/* ---- protection keys ---------------------------------------------------------- */

unsigned
arch_pkey_count(void)
{
    return cpu_features.pku ? 16 : 0;
}

/* The register is the running thread's, in the kernel too. */
uint32_t
pkru_read(void)
{
    uint32_t rights;
    uint32_t high;

    __asm__ volatile("rdpkru" : "=a"(rights), "=d"(high) : "c"(0));
    return rights;
}

unsigned
arch_pkey_rights(unsigned key)
{
    return cpu_features.pku ? pkru_read() >> (2 * key) & 3 : 0;
}

void
arch_pkey_set_rights(unsigned key, unsigned rights)
{
    uint32_t value = (pkru_read() & ~(3u << (2 * key))) | rights << (2 * key);

    __asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

void
arch_fpu_reset(void)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();
    uintptr_t state = irq_save();

    fpu_image_init(thread->fpu);
    fpu_restore(thread->fpu);
    irq_restore(state);
}

int
frame_float_code(const struct trap_frame *frame)
{
    uint32_t raised;
    uint32_t mxcsr;
    uint16_t fsw;
    uint16_t fcw;

    if (frame->vector == 16) {
        __asm__ volatile("fnstsw %0; fnstcw %1" : "=m"(fsw), "=m"(fcw));
        raised = fsw & ~fcw;
    } else {
        __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
        raised = mxcsr & ~(mxcsr >> 7);
    }
    if (raised & 0x01)
        return 7; /* FPE_FLTINV */
    if (raised & 0x04)
        return 3; /* FPE_FLTDIV */
    if (raised & 0x08)
        return 4; /* FPE_FLTOVF */
    if (raised & 0x12)
        return 5; /* FPE_FLTUND */
    if (raised & 0x20)
        return 6; /* FPE_FLTRES */
    return 0;
}
