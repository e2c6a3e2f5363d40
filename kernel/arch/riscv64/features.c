/* SPDX-License-Identifier: MIT */
/*
 * What the CPU can do.
 *
 * How wide addresses may be, nobody but satp says truly: a mode that the CPU lacks
 * leaves the register as it was.  The boot tables of all modes agree on everything
 * that is in use, so the modes are tried from where the code runs.  So are
 * the identifiers' bits: those that do not exist read as zero.
 *
 * Extensions come from the device tree's string; what it does not name is not used.
 */
#include "cpu.h"

#include <boot.h>
#include <kstring.h>

#include <quire_riscv64.h>

#define SCOUNTEREN_USER 7u /* cycle, time, instret may be read by programs */

extern uint64_t boot_sv39[], boot_sv48[], boot_sv57[];

struct cpu_features cpu_features;

/* ---- satp ------------------------------------------------------------------------- */

static bool
satp_try(unsigned mode, const uint64_t *table)
{
    uint64_t pa = (uintptr_t)table - KERNEL_OFFSET;
    uint64_t old = csr_read(satp);

    csr_write(satp, (uint64_t)mode << SATP_MODE_SHIFT | pa >> QR_PAGE_SHIFT);
    __asm__ volatile("sfence.vma" : : : "memory");
    if (csr_read(satp) >> SATP_MODE_SHIFT == mode)
        return true;
    csr_write(satp, old);
    __asm__ volatile("sfence.vma" : : : "memory");
    return false;
}

/** The most levels that `satp=sv39|sv48|sv57` on the command line allows. */
static unsigned
levels_wanted(void)
{
    char word[8];

    if (!boot_option("satp", word, sizeof word))
        return 5;
    return strcmp(word, "sv39") == 0 ? 3 : strcmp(word, "sv48") == 0 ? 4 : 5;
}

static unsigned
satp_levels(void)
{
    unsigned wanted = levels_wanted();

    if (wanted >= 5 && satp_try(SATP_SV57, boot_sv57))
        return 5;
    if (wanted >= 4 && satp_try(SATP_SV48, boot_sv48))
        return 4;
    return 3;
}

static unsigned
satp_asid_bits(void)
{
    uint64_t old = csr_read(satp);
    uint64_t mask = (uint64_t)0xffff << SATP_ASID_SHIFT;
    uint64_t got;
    unsigned bits = 0;

    csr_write(satp, old | mask);
    got = (csr_read(satp) & mask) >> SATP_ASID_SHIFT;
    csr_write(satp, old);
    __asm__ volatile("sfence.vma" : : : "memory");
    while (got >> bits & 1)
        bits++;
    return bits;
}

uint64_t
satp_of(uint64_t root_pa)
{
    return (uint64_t)qr_riscv_satp_mode << SATP_MODE_SHIFT | root_pa >> QR_PAGE_SHIFT;
}

/* ---- Extensions --------------------------------------------------------------------- */

/** Whether the string of extensions has "_name" as a whole word. */
static bool
isa_has(const char *name)
{
    size_t length = strlen(name);

    for (const char *at = strchr(riscv_machine.isa, '_'); at != NULL; at = strchr(at + 1, '_')) {
        if (strncmp(at + 1, name, length) == 0 && (at[length + 1] == '_' || at[length + 1] == '\0'))
            return true;
    }
    return false;
}

/** "rv64imafdc_zicsr_x" becomes "rv64 i m a f d c zicsr x". */
static void
flags_fill(void)
{
    const char *from = riscv_machine.isa;
    char *to = cpu_features.flags;
    char *end = to + sizeof cpu_features.flags - 3;
    bool letters = true;

    if (strncmp(from, "rv64", 4) == 0)
        from += 4;
    for (; *from != '\0' && to < end; from++) {
        if (*from == '_') {
            letters = false;
            *to++ = ' ';
            continue;
        }
        *to++ = *from;
        if (letters && from[1] != '\0' && from[1] != '_')
            *to++ = ' ';
    }
    *to = '\0';
}

void
features_detect(void)
{
    static const uint8_t modes[] = {[3] = SATP_SV39, [4] = SATP_SV48, [5] = SATP_SV57};

    cpu_features.levels = satp_levels();
    qr_riscv_satp_mode = modes[cpu_features.levels];
    cpu_features.asid_bits = satp_asid_bits();
    cpu_features.sstc = isa_has("sstc");
    cpu_features.svinval = isa_has("svinval");
    cpu_features.svpbmt = isa_has("svpbmt");
    cpu_features.svnapot = isa_has("svnapot");
    qr_riscv_svinval = cpu_features.svinval;
    snprintf(cpu_features.name, sizeof cpu_features.name, "RISC-V, Sv%u, %u-bit identifiers",
             9 * cpu_features.levels + 12, cpu_features.asid_bits);
    flags_fill();
}

void
features_enable(void)
{
    csr_clear(sstatus, SSTATUS_SUM | SSTATUS_FS | SSTATUS_SIE);
    csr_write(scounteren, SCOUNTEREN_USER);
    csr_write(sie, 1u << IRQ_SOFTWARE | 1u << IRQ_EXTERNAL);
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

/** Linux: a bit for each single-letter extension of its base set. */
unsigned long
arch_hwcap(void)
{
    static const char letters[] = "imafdc";
    unsigned long bits = 0;

    for (const char *at = riscv_machine.isa + 4;
         riscv_machine.isa[0] != '\0' && *at != '\0' && *at != '_'; at++) {
        if (strchr(letters, *at) != NULL)
            bits |= 1ul << (*at - 'a');
    }
    return bits;
}

unsigned long
arch_hwcap2(void)
{
    return 0;
}
