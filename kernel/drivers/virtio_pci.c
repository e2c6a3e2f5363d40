/* SPDX-License-Identifier: MIT */
/*
 * Virtio devices on PCI (virtio 1.0, section 4.1): found through configuration space by ports
 * 0xcf8 and 0xcfc, driven through memory that their capabilities point to, heard through MSI-X.
 *
 *      capability   type 1 common configuration    offset and length in a base register's memory
 *                   type 2 notification            the same, and a multiplier
 *                   type 4 the device's own
 *      MSI-X        entry 0 of its table: address and data of the interrupt of queue 0
 *
 * Everything that a device says is bounded before it is used: chains of capabilities, buses behind
 * bridges, places within base registers.  A device without MSI-X, or with legacy registers alone, is
 * not used.
 */
#include <block.h>
#include <memory.h>
#include <platform.h>
#include <printk.h>

#include "../arch/x86/cpu.h"
#include "virtio.h"

#define PORT_ADDRESS 0xcf8
#define PORT_DATA    0xcfc

#define PCI_ID              0x00
#define PCI_COMMAND         0x04
#define PCI_HEADER          0x0c
#define PCI_BAR             0x10
#define PCI_BUSES           0x18
#define PCI_CAPABILITIES    0x34
#define COMMAND_MEMORY      (1u << 1)
#define COMMAND_MASTER      (1u << 2)
#define COMMAND_NO_INTX     (1u << 10)
#define STATUS_CAPABILITIES (1u << 20)
#define HEADER_MULTI        (1u << 23)
#define HEADER_BRIDGE       1u

#define CAPABILITY_VENDOR 0x09
#define CAPABILITY_MSIX   0x11
#define CAPABILITIES_MAX  48
#define MSIX_ENABLE       (1u << 31)
#define MSIX_ALL_MASKED   (1u << 30)

#define VENDOR_VIRTIO      0x1af4u
#define DEVICE_MODERN      0x1040u
#define DEVICE_LEGACY_DISK 0x1001u /* with modern registers too, unless it says otherwise */

#define VIRTIO_COMMON 1u
#define VIRTIO_NOTIFY 2u
#define VIRTIO_DEVICE 4u

#define COMMON_FEATURES_SELECT 0x00
#define COMMON_FEATURES        0x04
#define COMMON_ACCEPT_SELECT   0x08
#define COMMON_ACCEPT          0x0c
#define COMMON_CONFIG_VECTOR   0x10
#define COMMON_STATUS          0x14
#define COMMON_QUEUE_SELECT    0x16
#define COMMON_QUEUE_SIZE      0x18
#define COMMON_QUEUE_VECTOR    0x1a
#define COMMON_QUEUE_ENABLE    0x1c
#define COMMON_QUEUE_NOTIFY    0x1e
#define COMMON_QUEUE_PLACES    0x20
#define COMMON_BYTES           0x38
#define NO_VECTOR              0xffffu

#define PLACE_BYTES_MAX (1u << 20)
#define MSIX_ENTRY      16u

/** Bus, device and function as they stand in the address port. */
typedef uint32_t pci_place;

static void
port_write32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t
port_read32(uint16_t port)
{
    uint32_t value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static uint32_t
pci_read(pci_place place, unsigned reg)
{
    port_write32(PORT_ADDRESS, 0x80000000u | place | (reg & 0xfcu));
    return port_read32(PORT_DATA);
}

static void
pci_write(pci_place place, unsigned reg, uint32_t value)
{
    port_write32(PORT_ADDRESS, 0x80000000u | place | (reg & 0xfcu));
    port_write32(PORT_DATA, value);
}

/* ---- Registers ---------------------------------------------------------------------- */

/** A stretch of one base register's memory. */
struct bar_place {
    unsigned bar;
    uint32_t offset, bytes;
};

/** Map it; NULL where it is not there, or cannot be reached. */
static volatile uint8_t *
bar_map(pci_place place, struct bar_place where)
{
    if (where.bar > 5 || where.bytes == 0 || where.bytes > PLACE_BYTES_MAX)
        return NULL;
    uint32_t low = pci_read(place, PCI_BAR + 4 * where.bar);
    uint64_t base = low & ~15u;

    if (low & 1)
        return NULL; /* ports */
    if ((low >> 1 & 3) == 2) {
        if (where.bar == 5)
            return NULL;
        base |= (uint64_t)pci_read(place, PCI_BAR + 4 * where.bar + 4) << 32;
    }
    uint64_t start = base + where.offset;

    if (base == 0 || start < base || start > platform_physical_limit() - where.bytes)
        return NULL;
    uint64_t within = start & QR_PAGE_MASK;
    char *window = qr_vmalloc_device(memory.areas[KERNEL_AREA_DEVICES], qr_pa_of(start - within),
                                     qr_va_page_up((uintptr_t)(within + where.bytes)),
                                     QR_CACHE_UNCACHED, "virtio device");

    return window == NULL ? NULL : (volatile uint8_t *)window + within;
}

static uint8_t
read8(volatile uint8_t *base, unsigned offset)
{
    return base[offset];
}

static uint16_t
read16(volatile uint8_t *base, unsigned offset)
{
    return *(volatile uint16_t *)(base + offset);
}

static uint32_t
read32(volatile uint8_t *base, unsigned offset)
{
    return *(volatile uint32_t *)(base + offset);
}

static void
write16(volatile uint8_t *base, unsigned offset, uint16_t value)
{
    *(volatile uint16_t *)(base + offset) = value;
}

static void
write32(volatile uint8_t *base, unsigned offset, uint32_t value)
{
    *(volatile uint32_t *)(base + offset) = value;
}

/* ---- The transport --------------------------------------------------------------------- */

static uint32_t
pci_status(struct virtio_device *device)
{
    return read8(device->common, COMMON_STATUS);
}

static void
pci_set_status(struct virtio_device *device, uint32_t status)
{
    device->common[COMMON_STATUS] = (uint8_t)status;
}

static uint64_t
pci_features(struct virtio_device *device)
{
    write32(device->common, COMMON_FEATURES_SELECT, 1);
    uint64_t high = read32(device->common, COMMON_FEATURES);

    write32(device->common, COMMON_FEATURES_SELECT, 0);
    return high << 32 | read32(device->common, COMMON_FEATURES);
}

static void
pci_accept(struct virtio_device *device, uint64_t features)
{
    write32(device->common, COMMON_ACCEPT_SELECT, 1);
    write32(device->common, COMMON_ACCEPT, (uint32_t)(features >> 32));
    write32(device->common, COMMON_ACCEPT_SELECT, 0);
    write32(device->common, COMMON_ACCEPT, (uint32_t)features);
}

static unsigned
pci_queue_size_max(struct virtio_device *device)
{
    write16(device->common, COMMON_QUEUE_SELECT, 0);
    return read16(device->common, COMMON_QUEUE_SIZE);
}

static bool
pci_queue_start(struct virtio_device *device, const struct vring_place *place)
{
    const uint64_t places[] = {place->descriptors.v, place->available.v, place->used.v};

    write16(device->common, COMMON_QUEUE_SELECT, 0);
    write16(device->common, COMMON_QUEUE_SIZE, place->size);
    write16(device->common, COMMON_CONFIG_VECTOR, NO_VECTOR);
    write16(device->common, COMMON_QUEUE_VECTOR, 0);
    if (read16(device->common, COMMON_QUEUE_VECTOR) != 0)
        return false;
    for (unsigned i = 0; i < 3; i++) {
        write32(device->common, COMMON_QUEUE_PLACES + 8 * i, (uint32_t)places[i]);
        write32(device->common, COMMON_QUEUE_PLACES + 8 * i + 4, (uint32_t)(places[i] >> 32));
    }
    write16(device->common, COMMON_QUEUE_ENABLE, 1);
    return true;
}

static void
pci_notify(struct virtio_device *device)
{
    write16(device->notify_at, 0, 0);
}

/* A message is no line that stays up. */
static void
pci_acknowledge(struct virtio_device *device)
{
    (void)device;
}

static uint8_t
pci_config(struct virtio_device *device, unsigned offset)
{
    return offset < device->config_bytes ? device->device_config[offset] : 0;
}

static const struct virtio_transport pci_transport = {
    .name = "PCI",
    .status = pci_status,
    .set_status = pci_set_status,
    .features = pci_features,
    .accept = pci_accept,
    .queue_size_max = pci_queue_size_max,
    .queue_start = pci_queue_start,
    .notify = pci_notify,
    .acknowledge = pci_acknowledge,
    .config = pci_config,
};

/* ---- Capabilities ------------------------------------------------------------------------ */

/** What the list of capabilities names; `bytes` 0: not there. */
struct found {
    struct bar_place common, notify, device, msix_table;
    uint32_t notify_multiplier;
    unsigned msix; /**< offset of the capability */
};

static void
vendor_capability(pci_place place, unsigned at, struct found *found)
{
    struct bar_place where = {
        .bar = pci_read(place, at + 4) & 0xff,
        .offset = pci_read(place, at + 8),
        .bytes = pci_read(place, at + 12),
    };

    switch (pci_read(place, at) >> 24) {
    case VIRTIO_COMMON:
        found->common = where;
        break;
    case VIRTIO_NOTIFY:
        found->notify = where;
        found->notify_multiplier = pci_read(place, at + 16);
        break;
    case VIRTIO_DEVICE:
        found->device = where;
        break;
    }
}

static void
capabilities_read(pci_place place, struct found *found)
{
    unsigned at = pci_read(place, PCI_CAPABILITIES) & 0xfc;

    *found = (struct found){0};
    if (!(pci_read(place, PCI_COMMAND) & STATUS_CAPABILITIES))
        return;
    for (unsigned i = 0; i < CAPABILITIES_MAX && at >= 0x40; i++) {
        uint32_t head = pci_read(place, at);

        if ((head & 0xff) == CAPABILITY_VENDOR) {
            vendor_capability(place, at, found);
        } else if ((head & 0xff) == CAPABILITY_MSIX) {
            uint32_t table = pci_read(place, at + 4);

            found->msix = at;
            found->msix_table = (struct bar_place){table & 7, table & ~7u, MSIX_ENTRY};
        }
        at = head >> 8 & 0xfc;
    }
}

/** Entry 0 of the table interrupts the boot CPU. */
static bool
msix_enable(pci_place place, const struct found *found, unsigned *out_interrupt)
{
    struct msi_message message;
    volatile uint8_t *table = found->msix == 0 ? NULL : bar_map(place, found->msix_table);

    if (table == NULL || !msi_allocate(&message, out_interrupt))
        return false;
    write32(table, 0, message.address);
    write32(table, 4, 0);
    write32(table, 8, message.data);
    write32(table, 12, 0);
    pci_write(place, found->msix, (pci_read(place, found->msix) & ~MSIX_ALL_MASKED) | MSIX_ENABLE);
    return true;
}

static void
device_use(pci_place place)
{
    struct virtio_device device = {.transport = &pci_transport};
    struct found found;

    capabilities_read(place, &found);
    pci_write(place, PCI_COMMAND,
              (pci_read(place, PCI_COMMAND) & 0xffff) | COMMAND_MEMORY | COMMAND_MASTER |
                  COMMAND_NO_INTX);
    if (found.common.bytes < COMMON_BYTES || found.notify.bytes < 2 ||
        !msix_enable(place, &found, &device.interrupt)) {
        printk("virtio: the disk at PCI %x is of a kind that is not used\n", place >> 8);
        return;
    }
    device.common = bar_map(place, found.common);
    device.device_config = bar_map(place, found.device);
    device.config_bytes = device.device_config == NULL ? 0 : found.device.bytes;
    if (device.common == NULL)
        return;
    write16(device.common, COMMON_QUEUE_SELECT, 0);
    uint64_t notify =
        (uint64_t)read16(device.common, COMMON_QUEUE_NOTIFY) * found.notify_multiplier;

    if (notify > found.notify.bytes - 2)
        return;
    device.notify_at = bar_map(place, found.notify);
    if (device.notify_at == NULL)
        return;
    device.notify_at += notify;
    if (!virtio_blk_add(&device))
        printk("virtio: one disk too many\n");
}

/* ---- Looking ------------------------------------------------------------------------------- */

static bool
is_disk(uint32_t id)
{
    return (id & 0xffff) == VENDOR_VIRTIO &&
           (id >> 16 == DEVICE_LEGACY_DISK || id >> 16 == DEVICE_MODERN + VIRTIO_ID_BLOCK);
}

/** One function.  @return the bus behind it where it is a bridge; 0: none */
static unsigned
function_look(pci_place place)
{
    uint32_t id = pci_read(place, PCI_ID);

    if ((id & 0xffff) == 0xffff)
        return 0;
    if (is_disk(id))
        device_use(place);
    if ((pci_read(place, PCI_HEADER) >> 16 & 0x7f) == HEADER_BRIDGE)
        return pci_read(place, PCI_BUSES) >> 8 & 0xff;
    return 0;
}

/** All of one bus; buses behind its bridges are added to @p wanted. */
static void
bus_look(unsigned bus, uint8_t *wanted)
{
    for (unsigned slot = 0; slot < 32; slot++) {
        pci_place first = bus << 16 | slot << 11;
        bool several = (pci_read(first, PCI_ID) & 0xffff) != 0xffff &&
                       (pci_read(first, PCI_HEADER) & HEADER_MULTI) != 0;

        for (unsigned function = 0; function < (several ? 8u : 1u); function++) {
            unsigned behind = function_look(first | function << 8);

            if (behind > bus)
                wanted[behind] = 1;
        }
    }
}

void
platform_find_disks(void)
{
    uint8_t wanted[256] = {1};

    /* A bus behind a bridge has a higher number than the bridge's own. */
    for (unsigned bus = 0; bus < 256; bus++) {
        if (wanted[bus])
            bus_look(bus, wanted);
    }
}
