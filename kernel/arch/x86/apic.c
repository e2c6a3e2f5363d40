/* SPDX-License-Identifier: MIT */
/*
 * Interrupt controllers: the legacy PIC (silenced), one I/O APIC, and each CPU's
 * local APIC, through model-specific registers (x2APIC) where the CPU has them,
 * through memory else.
 */
#include <acpi.h>
#include <boot.h>

#include "cpu.h"
#include <memory.h>

#define LAPIC_DEFAULT_PA  0xfee00000u
#define IOAPIC_DEFAULT_PA 0xfec00000u

#define LAPIC_ID            0x20
#define LAPIC_TASK_PRIORITY 0x80
#define LAPIC_EOI           0xb0
#define LAPIC_SPURIOUS      0xf0
#define LAPIC_COMMAND       0x300
#define LAPIC_COMMAND_HIGH  0x310
#define LAPIC_LVT_TIMER     0x320
#define LAPIC_LVT_LINT0     0x350
#define LAPIC_LVT_LINT1     0x360
#define LAPIC_LVT_ERROR     0x370
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_CURRENT 0x390
#define LAPIC_TIMER_DIVIDE  0x3e0

#define LVT_MASKED       0x10000u
#define LVT_NMI          0x400u
#define TIMER_PERIODIC   0x20000u
#define DIVIDE_BY_16     0x3u
#define SPURIOUS_ENABLE  0x100u
#define COMMAND_PENDING  0x1000u
#define APIC_BASE_ENABLE ((uint64_t)1 << 11)
#define APIC_BASE_X2APIC ((uint64_t)1 << 10)

#define IOAPIC_INDEX       0
#define IOAPIC_DATA        4 /* in words */
#define IOAPIC_REDIRECTION 0x10
#define IOAPIC_ACTIVE_LOW  0x2000u
#define IOAPIC_LEVEL       0x8000u

static volatile uint32_t *lapic; /* NULL with x2APIC */
static volatile uint32_t *ioapic;
static uint32_t timer_counts;
static bool ready;

/* ---- Local APIC ----------------------------------------------------------------- */

static uint32_t
lapic_read(unsigned reg)
{
    return lapic ? lapic[reg / 4] : (uint32_t)msr_read(MSR_X2APIC + reg / 16);
}

static void
lapic_write(unsigned reg, uint32_t value)
{
    if (lapic)
        lapic[reg / 4] = value;
    else
        msr_write(MSR_X2APIC + reg / 16, value);
}

uint32_t
lapic_id(void)
{
    uint32_t id = lapic_read(LAPIC_ID);

    return lapic ? id >> 24 : id;
}

void
lapic_eoi(void)
{
    lapic_write(LAPIC_EOI, 0);
}

void
lapic_send(uint32_t apic_id, uint32_t command)
{
    uintptr_t state = irq_save();

    if (lapic == NULL) {
        /* The register write may pass earlier stores, which the receiver is to see. */
        __asm__ volatile("mfence; lfence" : : : "memory");
        msr_write(MSR_X2APIC + LAPIC_COMMAND / 16, (uint64_t)apic_id << 32 | command);
    } else {
        while (lapic[LAPIC_COMMAND / 4] & COMMAND_PENDING)
            cpu_relax();
        lapic[LAPIC_COMMAND_HIGH / 4] = apic_id << 24;
        lapic[LAPIC_COMMAND / 4] = command;
    }
    irq_restore(state);
}

#define COMMAND_ALL_BUT_SELF 0xc0000u

void
lapic_send_others(uint32_t command)
{
    if (ready)
        lapic_send(0, command | COMMAND_ALL_BUT_SELF);
}

void
lapic_init(void)
{
    uint64_t base = msr_read(MSR_APIC_BASE) | APIC_BASE_ENABLE;

    msr_write(MSR_APIC_BASE, base);
    if (lapic == NULL)
        msr_write(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
    lapic_write(LAPIC_TASK_PRIORITY, 0);
    lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
    lapic_write(LAPIC_LVT_LINT1, LVT_NMI);
    lapic_write(LAPIC_LVT_ERROR, LVT_MASKED);
    lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
    lapic_write(LAPIC_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
}

/* ---- Timer ------------------------------------------------------------------------ */

void
lapic_timer_calibrate_start(void)
{
    lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
    lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
    lapic_write(LAPIC_TIMER_INITIAL, UINT32_MAX);
}

uint32_t
lapic_timer_calibrate_read(void)
{
    return UINT32_MAX - lapic_read(LAPIC_TIMER_CURRENT);
}

void
lapic_timer_calibrated(uint64_t counts_per_tick)
{
    timer_counts = counts_per_tick == 0           ? 1
                   : counts_per_tick > UINT32_MAX ? UINT32_MAX
                                                  : (uint32_t)counts_per_tick;
}

void
lapic_timer_start(void)
{
    lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
    lapic_write(LAPIC_LVT_TIMER, TIMER_PERIODIC | VECTOR_TIMER);
    lapic_write(LAPIC_TIMER_INITIAL, timer_counts);
}

/* ---- PIC and I/O APIC --------------------------------------------------------------- */

/** Move the PIC's vectors out of the exceptions' way, then silence it. */
static void
pic_disable(void)
{
    outb(0x20, 0x11);
    outb(0xa0, 0x11);
    outb(0x21, VECTOR_IRQ_BASE);
    outb(0xa1, VECTOR_IRQ_BASE + 8);
    outb(0x21, 4);
    outb(0xa1, 2);
    outb(0x21, 1);
    outb(0xa1, 1);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
}

static void
ioapic_write(uint32_t reg, uint32_t value)
{
    ioapic[IOAPIC_INDEX] = reg;
    ioapic[IOAPIC_DATA] = value;
}

void
ioapic_route(unsigned irq)
{
    uint32_t line = irq;
    uint32_t low = VECTOR_IRQ_BASE + irq;

    for (unsigned i = 0; i < acpi_info.override_count; i++) {
        const struct acpi_override *o = &acpi_info.overrides[i];

        if (o->irq == irq) {
            line = o->line;
            low |= (o->flags & 3) == 3 ? IOAPIC_ACTIVE_LOW : 0;
            low |= (o->flags >> 2 & 3) == 3 ? IOAPIC_LEVEL : 0;
        }
    }
    line -= acpi_info.ioapic_base;
    ioapic_write(IOAPIC_REDIRECTION + line * 2 + 1, cpus[0].arch.apic_id << 24);
    ioapic_write(IOAPIC_REDIRECTION + line * 2, low);
}

#define MSI_ADDRESS 0xfee00000u
#define MSI_VECTORS 16u

bool
msi_allocate(struct msi_message *out_message, unsigned *out_number)
{
    static unsigned taken;
    uint32_t id = cpus[0].arch.apic_id;

    if (taken == MSI_VECTORS || id > 0xff)
        return false;
    *out_number = VECTOR_DEVICES + taken++;
    *out_message = (struct msi_message){.address = MSI_ADDRESS | id << 12, .data = *out_number};
    return true;
}

static volatile uint32_t *
map_registers(uint64_t pa, const char *name)
{
    void *window = qr_vmalloc_device(memory.areas[KERNEL_AREA_DEVICES], qr_pa_of(pa), QR_PAGE_SIZE,
                                     QR_CACHE_UNCACHED, name);

    if (window == NULL)
        panic("no memory to map the %s", name);
    return window;
}

void
apic_init(void)
{
    uint64_t lapic_pa = acpi_info.lapic_pa ? acpi_info.lapic_pa : LAPIC_DEFAULT_PA;
    uint64_t ioapic_pa = acpi_info.ioapic_pa ? acpi_info.ioapic_pa : IOAPIC_DEFAULT_PA;

    pic_disable();
    if (!cpu_features.x2apic)
        lapic = map_registers(lapic_pa, "local APIC");
    ioapic = map_registers(ioapic_pa, "I/O APIC");
    lapic_init();
    ready = true;
    cpus[0].arch.apic_id = lapic_id();
}
