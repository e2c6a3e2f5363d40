/* SPDX-License-Identifier: MIT */
/*
 * Virtio devices whose registers are memory, version 2 (virtio 1.0, section 4.2).
 */
#include "virtio_mmio.h"

#include <arch.h>
#include <memory.h>
#include <platform.h>
#include <printk.h>

#define MAGIC   0x74726976u /* "virt" */
#define VERSION 2u

#define REGISTERS_MAX 0x1000u

#define REG_MAGIC            0x000
#define REG_VERSION          0x004
#define REG_DEVICE_ID        0x008
#define REG_FEATURES         0x010
#define REG_FEATURES_SELECT  0x014
#define REG_ACCEPT           0x020
#define REG_ACCEPT_SELECT    0x024
#define REG_QUEUE_SELECT     0x030
#define REG_QUEUE_SIZE_MAX   0x034
#define REG_QUEUE_SIZE       0x038
#define REG_QUEUE_READY      0x044
#define REG_QUEUE_NOTIFY     0x050
#define REG_INTERRUPT_STATUS 0x060
#define REG_INTERRUPT_ACK    0x064
#define REG_STATUS           0x070
#define REG_DESCRIPTORS      0x080
#define REG_AVAILABLE        0x090
#define REG_USED             0x0a0
#define REG_CONFIG           0x100

static uint32_t
reg_read(struct virtio_device *device, unsigned reg)
{
    return *(volatile uint32_t *)(device->common + reg);
}

static void
reg_write(struct virtio_device *device, unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(device->common + reg) = value;
}

static uint32_t
mmio_status(struct virtio_device *device)
{
    return reg_read(device, REG_STATUS);
}

static void
mmio_set_status(struct virtio_device *device, uint32_t status)
{
    reg_write(device, REG_STATUS, status);
}

static uint64_t
mmio_features(struct virtio_device *device)
{
    reg_write(device, REG_FEATURES_SELECT, 1);
    uint64_t high = reg_read(device, REG_FEATURES);

    reg_write(device, REG_FEATURES_SELECT, 0);
    return high << 32 | reg_read(device, REG_FEATURES);
}

static void
mmio_accept(struct virtio_device *device, uint64_t features)
{
    reg_write(device, REG_ACCEPT_SELECT, 1);
    reg_write(device, REG_ACCEPT, (uint32_t)(features >> 32));
    reg_write(device, REG_ACCEPT_SELECT, 0);
    reg_write(device, REG_ACCEPT, (uint32_t)features);
}

static unsigned
mmio_queue_size_max(struct virtio_device *device)
{
    reg_write(device, REG_QUEUE_SELECT, 0);
    return reg_read(device, REG_QUEUE_SIZE_MAX);
}

static void
write_address(struct virtio_device *device, unsigned reg, qr_pa pa)
{
    reg_write(device, reg, (uint32_t)pa.v);
    reg_write(device, reg + 4, (uint32_t)(pa.v >> 32));
}

static bool
mmio_queue_start(struct virtio_device *device, const struct vring_place *place)
{
    reg_write(device, REG_QUEUE_SELECT, 0);
    if (reg_read(device, REG_QUEUE_READY) != 0)
        return false;
    reg_write(device, REG_QUEUE_SIZE, place->size);
    write_address(device, REG_DESCRIPTORS, place->descriptors);
    write_address(device, REG_AVAILABLE, place->available);
    write_address(device, REG_USED, place->used);
    reg_write(device, REG_QUEUE_READY, 1);
    return true;
}

static void
mmio_notify(struct virtio_device *device)
{
    arch_device_barrier();
    reg_write(device, REG_QUEUE_NOTIFY, 0);
}

static void
mmio_acknowledge(struct virtio_device *device)
{
    reg_write(device, REG_INTERRUPT_ACK, reg_read(device, REG_INTERRUPT_STATUS));
    arch_device_barrier();
}

static uint8_t
mmio_config(struct virtio_device *device, unsigned offset)
{
    return offset < device->config_bytes ? device->device_config[offset] : 0;
}

static const struct virtio_transport mmio_transport = {
    .name = "registers",
    .status = mmio_status,
    .set_status = mmio_set_status,
    .features = mmio_features,
    .accept = mmio_accept,
    .queue_size_max = mmio_queue_size_max,
    .queue_start = mmio_queue_start,
    .notify = mmio_notify,
    .acknowledge = mmio_acknowledge,
    .config = mmio_config,
};

/** What stands behind mapped registers.  @return whether it is a disk and in use */
static bool
registers_look(volatile uint8_t *registers, size_t bytes, unsigned interrupt)
{
    struct virtio_device device = {
        .transport = &mmio_transport,
        .common = registers,
        .device_config = registers + REG_CONFIG,
        .config_bytes = bytes - REG_CONFIG,
        .interrupt = interrupt,
    };

    if (reg_read(&device, REG_MAGIC) != MAGIC ||
        reg_read(&device, REG_DEVICE_ID) != VIRTIO_ID_BLOCK)
        return false;
    if (reg_read(&device, REG_VERSION) != VERSION) {
        printk("virtio: a disk of version %u, not %u, is not used\n",
               reg_read(&device, REG_VERSION), VERSION);
        return false;
    }
    return virtio_blk_add(&device);
}

bool
virtio_mmio_probe(struct fdt_range range, unsigned interrupt)
{
    uint64_t within = range.start & QR_PAGE_MASK;
    struct qr_vmalloc *area = memory.areas[KERNEL_AREA_DEVICES];

    if (range.bytes < REG_CONFIG || range.bytes > REGISTERS_MAX || (range.start & 3) != 0 ||
        range.start > platform_physical_limit() - REGISTERS_MAX)
        return false;
    char *window = qr_vmalloc_device(area, qr_pa_of(range.start - within),
                                     qr_va_page_up((uintptr_t)(within + range.bytes)),
                                     QR_CACHE_UNCACHED, "virtio device");

    if (window == NULL)
        return false;
    bool used = registers_look((volatile uint8_t *)window + within, (size_t)range.bytes, interrupt);

    if (!used)
        qr_vfree(area, window);
    return used;
}
