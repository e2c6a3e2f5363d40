/* SPDX-License-Identifier: MIT */
/*
 * ARM's generic interrupt controller, version 2 and version 3.
 *
 *                distributor (one)              each CPU's own
 *      GICv2     shared and private interrupts  CPU interface: memory, banked
 *      GICv3     shared interrupts              redistributor: private interrupts;
 *                                               CPU interface: system registers
 *
 * Numbers: 0 to 15 software, 16 to 31 private to a CPU, shared ones above.  All
 * interrupts have one priority and go to the boot CPU, but software and private
 * ones.  Version 3 with a version-2 interface is not looked for.
 */
#include "../arch/aarch64/cpu.h"

#define GICD_CTLR       0x000
#define GICD_TYPER      0x004
#define GICD_IGROUPR    0x080
#define GICD_ISENABLER  0x100
#define GICD_ICENABLER  0x180
#define GICD_IPRIORITYR 0x400
#define GICD_ITARGETSR  0x800
#define GICD_SGIR       0xf00
#define GICD_IROUTER    0x6000

#define GICD_CTLR_GROUP0 (1u << 0)
#define GICD_CTLR_GROUP1 (1u << 1) /* non-secure view of a GICv3 as well */
#define GICD_CTLR_ARE    (1u << 4)
#define GICD_CTLR_RWP    (1u << 31)

#define GICC_CTLR 0x00
#define GICC_PMR  0x04
#define GICC_IAR  0x0c
#define GICC_EOIR 0x10

#define GICR_WAKER      0x0014
#define GICR_TYPER      0x0008
#define GICR_SGI_BASE   0x10000
#define GICR_FRAME      0x20000
#define GICR_FRAME_VLPI 0x40000
#define GICR_VLPI       (1u << 1)
#define GICR_LAST       (1u << 4)
#define WAKER_SLEEP     (1u << 1)
#define WAKER_ASLEEP    (1u << 2)

#define PRIORITY     0xa0u
#define PRIORITIES   (PRIORITY * 0x01010101u)
#define PRIORITY_ANY 0xf0u

#define REGIONS_MAX 16
#define WAIT_ROUNDS 1000000

static enum { GIC_V2, GIC_V3 } version;
static volatile char *distributor;
static volatile char *cpu_interface; /* GICv2 */
static unsigned line_count;

/* GICv3: stretches of redistributors. */
static struct {
    volatile char *base;
    uint64_t bytes;
} regions[REGIONS_MAX];
static unsigned region_count;

static uint32_t
read32(volatile char *base, unsigned reg)
{
    return *(volatile uint32_t *)(base + reg);
}

static void
write32(volatile char *base, unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(base + reg) = value;
}

/** The frame that holds the registers of private interrupts (as a distributor's first words). */
static volatile char *
private_frame(void)
{
    return version == GIC_V3 ? (volatile char *)cpu_this()->arch.redistributor + GICR_SGI_BASE
                             : distributor;
}

/* ---- GICv3 -------------------------------------------------------------------------- */

#define ICC_SRE_EL1     S3_0_C12_C12_5
#define ICC_PMR_EL1     S3_0_C4_C6_0
#define ICC_BPR1_EL1    S3_0_C12_C12_3
#define ICC_CTLR_EL1    S3_0_C12_C12_4
#define ICC_IGRPEN1_EL1 S3_0_C12_C12_7
#define ICC_IAR1_EL1    S3_0_C12_C12_0
#define ICC_EOIR1_EL1   S3_0_C12_C12_1
#define ICC_SGI1R_EL1   S3_0_C12_C11_5

static void
distributor_wait(void)
{
    for (int i = 0; i < WAIT_ROUNDS && (read32(distributor, GICD_CTLR) & GICD_CTLR_RWP); i++)
        cpu_relax();
}

/** The redistributor whose affinity is this CPU's, from one stretch of frames. */
static volatile char *
redistributor_in(unsigned region, uint64_t affinity)
{
    uint64_t at = 0;

    while (at + GICR_FRAME <= regions[region].bytes) {
        volatile char *frame = regions[region].base + at;
        uint64_t type = *(volatile uint64_t *)(frame + GICR_TYPER);

        if (type >> 32 == affinity)
            return frame;
        if (type & GICR_LAST)
            return NULL;
        at += type & GICR_VLPI ? GICR_FRAME_VLPI : GICR_FRAME;
    }
    return NULL;
}

static void
v3_cpu_init(void)
{
    uint64_t mpidr = mpidr_affinity();
    uint64_t affinity = (mpidr & 0xffffff) | (mpidr >> 32 & 0xff) << 24;
    volatile char *frame = NULL;

    for (unsigned i = 0; i < region_count && frame == NULL; i++)
        frame = redistributor_in(i, affinity);
    if (frame == NULL)
        panic("the GIC has no redistributor for the CPU with affinity %lx", mpidr);
    cpu_this()->arch.redistributor = (void *)frame;
    write32(frame, GICR_WAKER, read32(frame, GICR_WAKER) & ~WAKER_SLEEP);
    for (int i = 0; i < WAIT_ROUNDS && (read32(frame, GICR_WAKER) & WAKER_ASLEEP); i++)
        cpu_relax();
    write32(frame + GICR_SGI_BASE, GICD_IGROUPR, UINT32_MAX);

    REGISTER_WRITE(ICC_SRE_EL1, REGISTER_READ(ICC_SRE_EL1) | 1);
    isb();
    REGISTER_WRITE(ICC_PMR_EL1, PRIORITY_ANY);
    REGISTER_WRITE(ICC_BPR1_EL1, 0);
    REGISTER_WRITE(ICC_CTLR_EL1, 0); /* one write ends an interrupt */
    REGISTER_WRITE(ICC_IGRPEN1_EL1, 1);
    isb();
}

static void
v3_send(const struct cpu *cpu, unsigned number)
{
    uint64_t m = cpu->arch.mpidr;
    uint64_t value = (m >> 32 & 0xff) << 48 | (m >> 16 & 0xff) << 32 | (m >> 8 & 0xff) << 16 |
                     (uint64_t)number << 24 | (m >> 4 & 15) << 44 | (uint64_t)1 << (m & 15);

    __asm__ volatile("dsb ishst" : : : "memory"); /* what the receiver is to see */
    REGISTER_WRITE(ICC_SGI1R_EL1, value);
    isb();
}

/* ---- Both ---------------------------------------------------------------------------- */

static void
distributor_init(void)
{
    uint32_t blocks = (read32(distributor, GICD_TYPER) & 31) + 1;

    line_count = blocks * 32 < GIC_SPECIAL ? blocks * 32 : GIC_SPECIAL;
    write32(distributor, GICD_CTLR, 0);
    for (unsigned i = GIC_FIRST_SHARED; i < line_count; i += 32) {
        write32(distributor, GICD_ICENABLER + i / 8, UINT32_MAX);
        if (version == GIC_V3)
            write32(distributor, GICD_IGROUPR + i / 8, UINT32_MAX);
    }
    for (unsigned i = GIC_FIRST_SHARED; i < line_count; i += 4)
        write32(distributor, GICD_IPRIORITYR + i, PRIORITIES);
    if (version == GIC_V3) {
        distributor_wait();
        write32(distributor, GICD_CTLR, GICD_CTLR_ARE | GICD_CTLR_GROUP1);
        distributor_wait();
    } else {
        write32(distributor, GICD_CTLR, GICD_CTLR_GROUP0);
    }
}

void
gic_cpu_init(void)
{
    struct cpu *cpu = cpu_this();
    volatile char *frame;

    if (version == GIC_V3)
        v3_cpu_init();
    frame = private_frame();
    write32(frame, GICD_ICENABLER, 0xffff0000u);
    write32(frame, GICD_ISENABLER, 0x0000ffffu);
    for (unsigned i = 0; i < GIC_FIRST_SHARED; i += 4)
        write32(frame, GICD_IPRIORITYR + i, PRIORITIES);
    if (version == GIC_V3)
        return;
    cpu->arch.gic_target = read32(distributor, GICD_ITARGETSR) & 0xff;
    write32(cpu_interface, GICC_PMR, PRIORITY_ANY);
    write32(cpu_interface, GICC_CTLR, 1);
}

/** One region as large as all redistributors, or several: as `reg` lists them. */
static void
map_redistributors(const struct fdt_walk *node)
{
    uint64_t count = fdt_number(node, "#redistributor-regions", 1);
    struct fdt_range range;

    for (unsigned i = 0; i < count && i < REGIONS_MAX && fdt_reg(node, 1 + i, &range); i++) {
        regions[region_count].base = device_map(node, 1 + i, "GICv3 redistributors");
        regions[region_count++].bytes = range.bytes;
    }
}

void
gic_init(void)
{
    static const char *const v2_names[] = {"arm,cortex-a15-gic", "arm,gic-400"};
    struct fdt_walk node;
    bool found = fdt_find_compatible(&boot_fdt, "arm,gic-v3", &node);

    version = found ? GIC_V3 : GIC_V2;
    for (unsigned i = 0; i < 2 && !found; i++)
        found = fdt_find_compatible(&boot_fdt, v2_names[i], &node);
    if (!found)
        panic("the device tree names no interrupt controller that this kernel knows");
    distributor = device_map(&node, 0, "GIC distributor");
    if (version == GIC_V3)
        map_redistributors(&node);
    else
        cpu_interface = device_map(&node, 1, "GIC CPU interface");
    distributor_init();
    cpu_this()->arch.mpidr = mpidr_affinity();
    gic_cpu_init();
}

unsigned
gic_interrupt_of(const struct fdt_walk *node, unsigned index)
{
    struct fdt_interrupt interrupt;
    unsigned number;

    if (!fdt_interrupt(node, index, &interrupt) || interrupt.count < 3)
        return 0;
    number = interrupt.cells[1] + (interrupt.cells[0] == 0 ? GIC_FIRST_SHARED : 16);
    return interrupt.cells[1] < line_count && number < line_count ? number : 0;
}

void
gic_enable(unsigned number)
{
    volatile char *frame = number < GIC_FIRST_SHARED ? private_frame() : distributor;

    if (number >= GIC_FIRST_SHARED) {
        if (version == GIC_V3)
            *(volatile uint64_t *)(distributor + GICD_IROUTER + 8 * number) = cpus[0].arch.mpidr;
        else
            distributor[GICD_ITARGETSR + number] = (char)cpus[0].arch.gic_target;
    }
    write32(frame, GICD_ISENABLER + number / 32 * 4, 1u << number % 32);
}

unsigned
gic_acknowledge(void)
{
    unsigned acknowledged;

    if (version == GIC_V2)
        return read32(cpu_interface, GICC_IAR);
    acknowledged = (unsigned)REGISTER_READ(ICC_IAR1_EL1);
    __asm__ volatile("dsb sy" : : : "memory");
    return acknowledged;
}

void
gic_end(unsigned acknowledged)
{
    if (version == GIC_V2) {
        write32(cpu_interface, GICC_EOIR, acknowledged);
    } else {
        REGISTER_WRITE(ICC_EOIR1_EL1, acknowledged);
        isb();
    }
}

void
gic_send(const struct cpu *cpu, unsigned number)
{
    if (distributor == NULL)
        return; /* a panic before gic_init() */
    if (version == GIC_V3) {
        v3_send(cpu, number);
    } else {
        __asm__ volatile("dsb ishst" : : : "memory");
        write32(distributor, GICD_SGIR, (uint32_t)cpu->arch.gic_target << 16 | number);
    }
}
