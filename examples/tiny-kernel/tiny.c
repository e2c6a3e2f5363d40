/* SPDX-License-Identifier: MIT */
/*
 * The smallest kernel that is worth the name and embeds Quire.
 *
 * It reads QEMU's memory map, hands it to the frame allocator, starts the heap,
 * builds page tables of its own, switches to them, and checks with the CPU that
 * they say what was meant.  One CPU, no interrupts, no user programs: port levels
 * 1 and 2.  What is above "the kernel" below is the whole port.
 */
#include <quire/quire.h>

static void
out(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t
in(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void
serial_emit(struct qr_writer *writer, const char *text, size_t bytes)
{
    (void)writer;
    for (size_t i = 0; i < bytes; i++) {
        while ((in(0x3fd) & 0x20) == 0)
            continue;
        out(0x3f8, (uint8_t)text[i]);
    }
}

static struct qr_writer serial = {serial_emit};

/* QEMU ends with status 2 * code + 1. */
QR_NORETURN static void
power_off(uint8_t code)
{
    out(0xf4, code);
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* ---- The port: levels 1 and 2, one CPU, memory mapped to itself ------------- */

static struct qr_cpu cpu;

void *
qr_port_window_open(qr_pa pa)
{
    return (void *)(uintptr_t)pa.v;
}

void
qr_port_window_close(void *window)
{
    (void)window;
}

qr_pa
qr_port_direct_pa(const void *address)
{
    return qr_pa_of((uintptr_t)address);
}

void
qr_port_panic(const char *message)
{
    qr_writer_printf(&serial, "panic: %s\n", message);
    power_off(1);
}

void
qr_port_log(const char *line)
{
    qr_writer_printf(&serial, "%s\n", line);
}

struct qr_cpu *
qr_port_this_cpu(void)
{
    return &cpu;
}

uintptr_t
qr_port_irq_save(void)
{
    return 0; /* they are never on */
}

void
qr_port_irq_restore(uintptr_t state)
{
    (void)state;
}

void
qr_port_relax(void)
{
    __builtin_ia32_pause();
}

void
qr_port_random(void *buffer, size_t bytes)
{
    uint8_t *at = buffer;

    /* Good enough for free-list keys of an example; a kernel asks RDRAND or its firmware. */
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(__builtin_ia32_rdtsc() >> (i % 5));
}

/* The compiler calls these for structure copies. */
void *
memset(void *to, int value, size_t bytes)
{
    void *result = to;

    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
    return result;
}

void *
memcpy(void *to, const void *from, size_t bytes)
{
    void *result = to;

    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
    return result;
}

/* ---- The kernel ------------------------------------------------------------------ */

/* What PVH hands over (Xen's hvm_start_info, version 1): the parts that matter here. */
struct boot_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, command_line, rsdp, map;
    uint32_t map_count, reserved;
};

struct boot_map_entry {
    uint64_t start, bytes;
    uint32_t type, reserved; /* 1: usable */
};

extern char kernel_start[], kernel_end[];

static char frames_storage[1 << 20] QR_CACHE_ALIGNED;
static char heap_storage[1 << 20] QR_CACHE_ALIGNED;
static struct qr_epoch epoch;

static struct qr_frames *
frames_up(const struct boot_info *boot)
{
    static struct qr_memory_range map[64];
    const struct boot_map_entry *entries = (const void *)(uintptr_t)boot->map;
    size_t count = 0;

    for (uint32_t i = 0; i < boot->map_count && count < QR_ARRAY_COUNT(map) - 2; i++)
        map[count++] = (struct qr_memory_range){
            .range = {qr_pa_of(entries[i].start), qr_pa_of(entries[i].start + entries[i].bytes)},
            .kind = entries[i].type == 1 ? QR_MEMORY_USABLE : QR_MEMORY_RESERVED,
        };
    map[count++] = (struct qr_memory_range){
        .range = {qr_pa_of(0), qr_pa_of(0x100000)},
        .kind = QR_MEMORY_RESERVED,
        .description = "first megabyte",
    };
    map[count++] = (struct qr_memory_range){
        .range = {qr_pa_of((uintptr_t)kernel_start), qr_pa_of((uintptr_t)kernel_end)},
        .kind = QR_MEMORY_KERNEL,
        .description = "tiny kernel",
    };
    const struct qr_frames_config config = {.map = map, .map_count = count, .cpu_count = 1};
    struct qr_frames *frames = (void *)frames_storage;

    qr_assert(qr_frames_size(&config) <= sizeof(frames_storage));
    qr_assert(qr_frames_init(frames, &config) == QR_OK);
    return frames;
}

static struct qr_heap *
heap_up(struct qr_frames *frames)
{
    struct qr_heap *heap = (void *)heap_storage;

    qr_assert(qr_heap_size(1) <= sizeof(heap_storage));
    qr_assert(qr_heap_init(heap, frames, 1) == QR_OK);
    return heap;
}

/* Map one page of @tables. */
static void
map(struct qr_tables *tables, uintptr_t va, struct qr_leaf leaf)
{
    uintptr_t bytes = (uintptr_t)1 << qr_format_shift(tables->format, leaf.level);
    struct qr_va_range range = {qr_va_of(va), qr_va_of(va + bytes)};
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, tables, range, NULL);
    qr_assert(qr_cursor_prepare(&cursor, range.start, leaf.level) == QR_OK);
    qr_cursor_map(&cursor, range.start, &leaf);
    qr_cursor_close(&cursor);
}

/* The first 4 GiB to themselves again, this time by the library, in 2 MiB pages. */
static void
tables_up(struct qr_tables *tables, struct qr_frames *frames)
{
    qr_epoch_init(&epoch);
    qr_assert(qr_tables_init(tables, &qr_format_x86_64, frames, &epoch, NULL) == QR_OK);
    for (uint64_t at = 0; at < (uint64_t)4 << 30; at += 2 << 20)
        map(tables, at,
            (struct qr_leaf){
                .pa = qr_pa_of(at),
                .prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC,
                .level = 1,
            });
    __asm__ volatile("mov %0, %%cr3" : : "r"(tables->root_pa.v) : "memory");
}

/* A frame seen at two addresses is the same frame. */
static void
alias_check(struct qr_tables *tables, struct qr_frames *frames)
{
    struct qr_frame *frame = qr_frame_alloc(frames, QR_ALLOC_ZERO);
    uintptr_t va = (uintptr_t)1 << 40;

    qr_assert(frame != NULL);
    map(tables, va,
        (struct qr_leaf){
            .pa = qr_frame_pa(frames, frame),
            .prot = QR_PROT_READ | QR_PROT_WRITE,
        });
    *(volatile uint64_t *)va = 0x5155495245;
    volatile uint64_t *direct = qr_port_window_open(qr_frame_pa(frames, frame));

    qr_assert(*direct == 0x5155495245);
    qr_writer_printf(&serial, "%p and %p show the same frame\n", (void *)va, (void *)direct);
}

void tiny_main(const struct boot_info *boot);

void
tiny_main(const struct boot_info *boot)
{
    static struct qr_tables tables;
    struct qr_frames_stats stats;

    struct qr_frames *frames = frames_up(boot);
    struct qr_heap *heap = heap_up(frames);

    qr_frames_stats(frames, &stats);
    qr_writer_printf(&serial, "%zu of %zu frames free\n", stats.free, stats.total);

    char *text = qr_kmalloc(heap, 32, QR_ALLOC_ZERO);

    qr_assert(text != NULL);
    qr_format(text, 32, "hello from the heap");
    qr_writer_printf(&serial, "%s at %p\n", text, (void *)text);
    qr_kfree(heap, text);

    tables_up(&tables, frames);
    qr_writer_printf(&serial, "running on page tables of %zu frames\n", (size_t)tables.table_count);
    alias_check(&tables, frames);
    qr_writer_printf(&serial, "tiny kernel: all is well\n");
    power_off(16);
}
