/* SPDX-License-Identifier: MIT */
/*
 * What this CPU can do, and turning it on.
 *
 * The boot CPU's CPUID answers decide for the machine: every CPU enables the same
 * set, so that a thread may run anywhere.  A CPU without a feature still boots;
 * what the kernel cannot do without is checked where the boot begins.
 */
#include "cpu.h"

#include <kstring.h>
#include <quire_x86.h>

#define XCR0_X87_SSE  0x3u
#define XCR0_AVX      0x4u
#define XCR0_AVX512   0xe0u
#define XCR0_PKRU     0x200u
#define XCR0_WANTED   (XCR0_X87_SSE | XCR0_AVX | XCR0_AVX512 | XCR0_PKRU)
#define FNSAVE_BYTES  108u
#define FXSAVE_BYTES  512u
#define FPU_BYTES_MAX 4096u

struct cpu_features cpu_features;

static uint64_t
xcr0_usable(void)
{
    uint64_t usable = cpuid(0xd, 0).eax & XCR0_WANTED;

    /* A component without a place in the standard format (Bochs: PKRU) cannot be switched. */
    for (unsigned i = 2; i < 32; i++) {
        if (cpuid(0xd, i).eax == 0)
            usable &= ~((uint64_t)1 << i);
    }
    /* The three AVX-512 components are enabled together or not at all. */
    if ((usable & XCR0_AVX512) != XCR0_AVX512 || !(usable & XCR0_AVX))
        usable &= ~(uint64_t)XCR0_AVX512;
    return usable | XCR0_X87_SSE;
}

/** The end of the last enabled component in the standard format. */
static unsigned
xsave_bytes(uint64_t xcr0)
{
    unsigned bytes = FXSAVE_BYTES + 64;

    for (unsigned i = 2; i < 32; i++) {
        if (xcr0 & ((uint64_t)1 << i)) {
            struct cpuid component = cpuid(0xd, i);
            unsigned end = component.ebx + component.eax;

            bytes = end > bytes ? end : bytes;
        }
    }
    return bytes;
}

static void
detect_fpu(struct cpu_features *f)
{
    f->fpu_bytes = f->fxsr ? FXSAVE_BYTES : FNSAVE_BYTES;
    if (!f->xsave) {
        f->pku = false;
        return;
    }
    f->xcr0 = xcr0_usable();
    if (!f->pku)
        f->xcr0 &= ~(uint64_t)XCR0_PKRU;
    if (xsave_bytes(f->xcr0) > FPU_BYTES_MAX)
        f->xcr0 &= XCR0_X87_SSE | XCR0_AVX;
    f->pku = (f->xcr0 & XCR0_PKRU) != 0;
    f->pkru_offset = f->pku ? cpuid(0xd, 9).ebx : 0;
    f->fpu_bytes = xsave_bytes(f->xcr0);
    f->xsaveopt = cpuid(0xd, 1).eax & 1;
}

static void
detect_name(struct cpu_features *f, uint32_t max_extended)
{
    if (max_extended < 0x80000004) {
        strlcpy(f->name, "unknown", sizeof f->name);
        return;
    }
    for (uint32_t i = 0; i < 3; i++) {
        struct cpuid r = cpuid(0x80000002 + i, 0);

        memcpy(f->name + i * 16, &r, 16);
    }
    f->name[48] = '\0';
}

enum cpuid_word {
    WORD_1_EDX,
    WORD_1_ECX,
    WORD_7_EBX,
    WORD_7_ECX,
    WORD_7_EDX,
    WORD_EXT_EDX,
    WORD_EXT_ECX,
    WORDS
};

static const struct {
    enum cpuid_word word;
    unsigned bit;
    const char *name;
} flag_names[] = {
    {WORD_1_EDX, 0, "fpu"},         {WORD_1_EDX, 3, "pse"},        {WORD_1_EDX, 4, "tsc"},
    {WORD_1_EDX, 5, "msr"},         {WORD_1_EDX, 6, "pae"},        {WORD_1_EDX, 8, "cx8"},
    {WORD_1_EDX, 9, "apic"},        {WORD_1_EDX, 11, "sep"},       {WORD_1_EDX, 13, "pge"},
    {WORD_1_EDX, 15, "cmov"},       {WORD_1_EDX, 16, "pat"},       {WORD_1_EDX, 19, "clflush"},
    {WORD_1_EDX, 23, "mmx"},        {WORD_1_EDX, 24, "fxsr"},      {WORD_1_EDX, 25, "sse"},
    {WORD_1_EDX, 26, "sse2"},       {WORD_EXT_EDX, 11, "syscall"}, {WORD_EXT_EDX, 20, "nx"},
    {WORD_EXT_EDX, 26, "pdpe1gb"},  {WORD_EXT_EDX, 29, "lm"},      {WORD_1_ECX, 0, "pni"},
    {WORD_1_ECX, 9, "ssse3"},       {WORD_1_ECX, 13, "cx16"},      {WORD_1_ECX, 17, "pcid"},
    {WORD_1_ECX, 19, "sse4_1"},     {WORD_1_ECX, 20, "sse4_2"},    {WORD_1_ECX, 21, "x2apic"},
    {WORD_1_ECX, 22, "movbe"},      {WORD_1_ECX, 23, "popcnt"},    {WORD_1_ECX, 25, "aes"},
    {WORD_1_ECX, 26, "xsave"},      {WORD_1_ECX, 28, "avx"},       {WORD_1_ECX, 30, "rdrand"},
    {WORD_1_ECX, 31, "hypervisor"}, {WORD_EXT_ECX, 0, "lahf_lm"},  {WORD_7_EBX, 0, "fsgsbase"},
    {WORD_7_EBX, 3, "bmi1"},        {WORD_7_EBX, 5, "avx2"},       {WORD_7_EBX, 7, "smep"},
    {WORD_7_EBX, 8, "bmi2"},        {WORD_7_EBX, 9, "erms"},       {WORD_7_EBX, 10, "invpcid"},
    {WORD_7_ECX, 3, "pku"},         {WORD_7_EDX, 20, "ibt"},

};

static void
detect_flags(struct cpu_features *f, const uint32_t words[WORDS])
{
    size_t used = 0;

    for (size_t i = 0; i < sizeof flag_names / sizeof flag_names[0]; i++) {
        if (words[flag_names[i].word] & ((uint32_t)1 << flag_names[i].bit))
            used += (size_t)snprintf(f->flags + used, sizeof f->flags - used, "%s%s",
                                     used ? " " : "", flag_names[i].name);
    }
}

/** The last leaf of 0x80000000 and up; a CPU without these answers for another leaf. */
static uint32_t
extended_leaves(void)
{
    uint32_t max = cpuid(0x80000000, 0).eax;

    return max >= 0x80000000 && max <= 0x8000ffff ? max : 0;
}

void
features_detect(void)
{
    struct cpu_features *f = &cpu_features;
    uint32_t max_basic = cpuid(0, 0).eax;
    uint32_t max_extended = extended_leaves();
    struct cpuid basic = cpuid(1, 0);
    struct cpuid seven = max_basic >= 7 ? cpuid(7, 0) : (struct cpuid){0};
    struct cpuid extended = max_extended >= 0x80000001 ? cpuid(0x80000001, 0) : (struct cpuid){0};
    const uint32_t words[WORDS] = {
        [WORD_1_EDX] = basic.edx,      [WORD_1_ECX] = basic.ecx, [WORD_7_EBX] = seven.ebx,
        [WORD_7_ECX] = seven.ecx,      [WORD_7_EDX] = seven.edx, [WORD_EXT_EDX] = extended.edx,
        [WORD_EXT_ECX] = extended.ecx,
    };

    f->pse = basic.edx >> 3 & 1;
    f->tsc = basic.edx >> 4 & 1;
    f->pae = basic.edx >> 6 & 1;
    f->cx8 = basic.edx >> 8 & 1;
    f->pge = basic.edx >> 13 & 1;
    f->fxsr = basic.edx >> 24 & 1;
    f->sse = f->fxsr && (basic.edx >> 25 & 1);
    f->pat = basic.edx >> 16 & 1;
    f->pcid = basic.ecx >> 17 & 1;
    f->x2apic = basic.ecx >> 21 & 1;
    f->xsave = (basic.ecx >> 26 & 1) && max_basic >= 0xd;
    f->rdrand = basic.ecx >> 30 & 1;
    f->fsgsbase = seven.ebx & 1;
    f->smep = seven.ebx >> 7 & 1;
    f->invpcid = seven.ebx >> 10 & 1;
    f->smap = seven.ebx >> 20 & 1;
    f->umip = seven.ecx >> 2 & 1;
    f->pku = seven.ecx >> 3 & 1;
    f->la57 = seven.ecx >> 16 & 1;
#ifdef CONFIG_BRANCH_TRACKING
    f->branch_tracking = sizeof(uintptr_t) == 8 && (seven.edx >> 20 & 1);
#endif
    f->nx = extended.edx >> 20 & 1;
    f->gib_pages = extended.edx >> 26 & 1;
    f->physical_bits = max_extended >= 0x80000008 ? cpuid(0x80000008, 0).eax & 0xff : 36;
    if (sizeof(uintptr_t) == 4) /* these need 64-bit mode */
        f->pcid = f->invpcid = f->fsgsbase = f->la57 = f->gib_pages = f->pku = false;
    detect_fpu(f);
    detect_name(f, max_extended);
    detect_flags(f, words);
}

static void
xcr0_write(uint64_t value)
{
    __asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

void
features_enable(void)
{
    const struct cpu_features *f = &cpu_features;
    uintptr_t cr4 = cr4_read();

    cr0_write((cr0_read() & ~(CR0_EM | CR0_TS)) | CR0_WP | CR0_NE | CR0_MP | CR0_AM);
    cr4 |= f->fxsr ? CR4_OSFXSR : 0;
    cr4 |= f->sse ? CR4_OSXMMEXCPT : 0;
    cr4 |= f->pge ? CR4_PGE : 0;
    cr4 |= f->smep ? CR4_SMEP : 0;
    cr4 |= f->smap ? CR4_SMAP : 0;
    cr4 |= f->umip ? CR4_UMIP : 0;
    cr4 |= f->pku ? CR4_PKE : 0;
    cr4 |= f->fsgsbase ? CR4_FSGSBASE : 0;
    cr4 |= f->xsave ? CR4_OSXSAVE : 0;
    cr4 |= f->pcid ? CR4_PCIDE : 0; /* CR3 names identifier 0 here, as it must */
    cr4_write(cr4);
    if (f->xsave)
        xcr0_write(f->xcr0);
    if (f->pat)
        msr_write(MSR_PAT, QR_X86_PAT);
    if (f->branch_tracking) {
        cr4_write(cr4 | CR4_CET);
        msr_write(MSR_S_CET, S_CET_ENDBR);
    }
}

const char *
arch_cpu_name(void)
{
    return cpu_features.name;
}

const char *
arch_cpu_flags(void)
{
    return cpu_features.flags;
}

unsigned long
arch_hwcap(void)
{
    return cpuid(1, 0).edx;
}

unsigned long
arch_hwcap2(void)
{
    /* HWCAP2_FSGSBASE */
    return cpu_features.fsgsbase ? 2 : 0;
}

static uintptr_t
hardware_random(void)
{
    uintptr_t value = 0;
    uint8_t ok = 0;

    for (int i = 0; cpu_features.rdrand && !ok && i < 10; i++)
        __asm__ volatile("rdrand %0; setc %1" : "=r"(value), "=q"(ok));
    return value;
}

uint64_t
arch_random(void)
{
    static _Atomic uint64_t state;
    uint64_t value = 0;

    for (size_t i = 0; i < sizeof value / sizeof(uintptr_t); i++)
        value = value << 16 << 16 ^ hardware_random();
    /* splitmix64 over the counter and whatever the hardware gave. */
    value ^= tsc_read() + atomic_fetch_add(&state, 0x9e3779b97f4a7c15u);
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}
