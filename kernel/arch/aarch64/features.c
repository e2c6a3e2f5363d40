/* SPDX-License-Identifier: MIT */
/*
 * What this CPU can do, and turning it on.
 *
 * The boot CPU's ID registers decide for the machine: every CPU enables the same
 * set, so that a thread may run anywhere.  A CPU without a feature still boots;
 * 4 KiB granules and floating point are taken for granted, and boot.S checks the
 * former.
 *
 * Programs are told of an instruction set extension only where using it needs
 * nothing from the kernel: SVE, SME, pointer authentication and memory tagging
 * have state of their own and stay off.
 */
#include "cpu.h"

#include <kstring.h>
#include <quire_aarch64.h>

struct cpu_features cpu_features;

/* The ID registers that matter. */
enum id_register {
    ID_ISAR0,
    ID_ISAR1,
    ID_PFR0,
    ID_PFR1,
    ID_MMFR0,
    ID_MMFR1,
    ID_MMFR2,
    ID_REGISTERS
};

/** A field of four bits; 15 in a signed one says that the feature is absent. */
static unsigned
field(uint64_t value, unsigned shift)
{
    return (unsigned)(value >> shift) & 15;
}

/** Which fields give which bit of AT_HWCAP, by Linux's numbers and names. */
static const struct {
    uint8_t id;
    uint8_t shift;
    uint8_t minimum;
    uint8_t bit; /* 32 and above: AT_HWCAP2 */
    const char *name;
} capabilities[] = {
    {ID_PFR0, 16, 0, 0, "fp"},         {ID_PFR0, 20, 0, 1, "asimd"},
    {ID_ISAR0, 4, 1, 3, "aes"},        {ID_ISAR0, 4, 2, 4, "pmull"},
    {ID_ISAR0, 8, 1, 5, "sha1"},       {ID_ISAR0, 12, 1, 6, "sha2"},
    {ID_ISAR0, 16, 1, 7, "crc32"},     {ID_ISAR0, 20, 2, 8, "atomics"},
    {ID_PFR0, 16, 1, 9, "fphp"},       {ID_PFR0, 20, 1, 10, "asimdhp"},
    {ID_ISAR0, 28, 1, 12, "asimdrdm"}, {ID_ISAR1, 12, 1, 13, "jscvt"},
    {ID_ISAR1, 16, 1, 14, "fcma"},     {ID_ISAR1, 20, 1, 15, "lrcpc"},
    {ID_ISAR1, 0, 1, 16, "dcpop"},     {ID_ISAR0, 32, 1, 17, "sha3"},
    {ID_ISAR0, 36, 1, 18, "sm3"},      {ID_ISAR0, 40, 1, 19, "sm4"},
    {ID_ISAR0, 44, 1, 20, "asimddp"},  {ID_ISAR0, 12, 2, 21, "sha512"},
    {ID_ISAR0, 48, 1, 23, "asimdfhm"}, {ID_PFR0, 48, 1, 24, "dit"},
    {ID_MMFR2, 32, 1, 25, "uscat"},    {ID_ISAR1, 20, 2, 26, "ilrcpc"},
    {ID_ISAR0, 52, 1, 27, "flagm"},    {ID_ISAR1, 36, 1, 29, "sb"},
    {ID_ISAR1, 0, 2, 32, "dcpodp"},    {ID_ISAR0, 52, 2, 39, "flagm2"},
    {ID_ISAR1, 32, 1, 40, "frint"},    {ID_ISAR1, 52, 1, 45, "i8mm"},
    {ID_ISAR1, 44, 1, 46, "bf16"},     {ID_ISAR0, 60, 1, 48, "rng"},
};

static void
detect_capabilities(struct cpu_features *f, const uint64_t id[ID_REGISTERS])
{
    size_t used = 0;

    for (size_t i = 0; i < sizeof capabilities / sizeof capabilities[0]; i++) {
        unsigned value = field(id[capabilities[i].id], capabilities[i].shift);
        bool is_signed = capabilities[i].id == ID_PFR0 && capabilities[i].shift <= 20;

        if (value < capabilities[i].minimum || (is_signed && value == 15))
            continue;
        if (capabilities[i].bit < 32)
            f->hwcap |= 1ul << capabilities[i].bit;
        else
            f->hwcap2 |= 1ul << (capabilities[i].bit - 32);
        used += (size_t)snprintf(f->flags + used, sizeof f->flags - used, "%s%s", used ? " " : "",
                                 capabilities[i].name);
    }
}

static void
detect_name(struct cpu_features *f)
{
    static const struct {
        unsigned part;
        const char *name;
    } arm_parts[] = {
        {0xd03, "Cortex-A53"},  {0xd04, "Cortex-A35"},  {0xd05, "Cortex-A55"},
        {0xd07, "Cortex-A57"},  {0xd08, "Cortex-A72"},  {0xd09, "Cortex-A73"},
        {0xd0b, "Cortex-A76"},  {0xd0c, "Neoverse-N1"}, {0xd40, "Neoverse-V1"},
        {0xd49, "Neoverse-N2"},
    };
    uint64_t midr = REGISTER_READ(midr_el1);
    unsigned implementer = (unsigned)(midr >> 24) & 0xff;
    unsigned part = (unsigned)(midr >> 4) & 0xfff;

    for (size_t i = 0; implementer == 0x41 && i < sizeof arm_parts / sizeof arm_parts[0]; i++) {
        if (arm_parts[i].part == part) {
            snprintf(f->name, sizeof f->name, "ARM %s", arm_parts[i].name);
            return;
        }
    }
    snprintf(f->name, sizeof f->name, "AArch64 implementer 0x%02x part 0x%03x", implementer, part);
}

void
features_detect(void)
{
    static const uint8_t address_bits[] = {32, 36, 40, 42, 44, 48};
    const uint64_t id[ID_REGISTERS] = {
        [ID_ISAR0] = REGISTER_READ(id_aa64isar0_el1), [ID_ISAR1] = REGISTER_READ(id_aa64isar1_el1),
        [ID_PFR0] = REGISTER_READ(id_aa64pfr0_el1),   [ID_PFR1] = REGISTER_READ(id_aa64pfr1_el1),
        [ID_MMFR0] = REGISTER_READ(id_aa64mmfr0_el1), [ID_MMFR1] = REGISTER_READ(id_aa64mmfr1_el1),
        [ID_MMFR2] = REGISTER_READ(id_aa64mmfr2_el1),
    };
    struct cpu_features *f = &cpu_features;
    unsigned range = field(id[ID_MMFR0], 0);

    f->physical_bits = range < sizeof address_bits ? address_bits[range] : 48;
    f->asid_bits = field(id[ID_MMFR0], 4) == 2 ? 16 : 8;
    f->pan = field(id[ID_MMFR1], 20) >= 1;
    f->af_dbm = field(id[ID_MMFR1], 0) >= 2;
    f->tlbi_range = field(id[ID_ISAR0], 56) >= 2;
    f->bbm2 = field(id[ID_MMFR2], 52) >= 2;
#ifdef CONFIG_BRANCH_TRACKING
    f->branch_tracking = field(id[ID_PFR1], 0) >= 1;
#endif
    f->random = field(id[ID_ISAR0], 60) >= 1;
    detect_capabilities(f, id);
    detect_name(f);
}

#define CPACR_FP_ALL        ((uint64_t)3 << 20)
#define CNTKCTL_USER_VCOUNT ((uint64_t)1 << 1)

void
features_enable(void)
{
    REGISTER_WRITE(cpacr_el1, CPACR_FP_ALL);
    REGISTER_WRITE(cntkctl_el1, CNTKCTL_USER_VCOUNT);
    REGISTER_WRITE(oslar_el1, 0); /* or nothing ever steps */
    REGISTER_WRITE(mdscr_el1, 0);
    REGISTER_WRITE(tpidrro_el0, 0);
    if (cpu_features.pan)
        __asm__ volatile(".inst 0xd500419f" : : : "memory"); /* msr pan, #1 */
    isb();
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
    return cpu_features.hwcap;
}

unsigned long
arch_hwcap2(void)
{
    return cpu_features.hwcap2;
}

/* ---- Random numbers --------------------------------------------------------------------- */

static _Atomic uint64_t random_state;

void
random_seed(const void *bytes, size_t count)
{
    uint64_t word = 0;

    for (size_t i = 0; i < count; i += sizeof word) {
        memcpy(&word, (const char *)bytes + i, count - i < sizeof word ? count - i : sizeof word);
        atomic_fetch_xor(&random_state, word);
    }
}

/** RNDR: zero flag set where it had nothing to give. */
static bool
random_hardware(uint64_t *out)
{
    uint64_t value;
    uint64_t failed;

    __asm__ volatile("mrs %0, S3_3_C2_C4_0\n\tcset %1, eq" : "=r"(value), "=r"(failed) : : "cc");
    *out = value;
    return !failed;
}

uint64_t
arch_random(void)
{
    uint64_t value = 0;

    for (int i = 0; cpu_features.random && i < 10; i++) {
        if (random_hardware(&value))
            break;
    }
    /* splitmix64 over the counter, the loader's seed and whatever the hardware gave. */
    value ^= REGISTER_READ(cntvct_el0) + atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u);
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}
