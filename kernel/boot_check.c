/* SPDX-License-Identifier: MIT */
/*
 * `boot=NAME` on the command line: stop after the CPUs have started, and check
 * or provoke one thing.  The boot tests run these; none needs a file system.
 *
 *      check        every structure so far is valid; exit 0
 *      overflow     run off the kernel stack
 *      write-text   write to the kernel's text
 *      exec-data    call into the kernel's data
 *      stray-branch call into the middle of a function; seen where branches are tracked
 *      read-user    read a user address without the user-copy functions
 *      touch-user   the same where the address is mapped and the copies reach it
 *      null         read through a null pointer
 *      bad-mapping  map a page writable and executable; the audit must see it
 *      use-after-free, out-of-bounds, double-free   of a guarded heap block
 *
 * The others must end in a panic that names the mistake.
 */
#include <arch.h>
#include <boot.h>
#include <kstring.h>
#include <memory.h>
#include <mm.h>
#include <platform.h>
#include <printk.h>

#include <quire/user.h>

static void
check(void)
{
    char message[160];

    if (!qr_frames_validate(memory.frames, message, sizeof message) ||
        !qr_tables_validate(&memory.kernel_tables, message, sizeof message) ||
        !qr_heap_validate(memory.heap, message, sizeof message))
        panic("boot check: %s", message);
    platform_audit();
    printk("boot: ok, %u CPUs\n", cpu_count());
    kernel_exit(0);
}

static volatile unsigned sink;

static void
write_text(void)
{
    *(volatile uint8_t *)(uintptr_t)&write_text = 0xc3;
}

static void
exec_data(void)
{
    static uint8_t code[] = {0xc3};

    ((void (*)(void))(uintptr_t)code)();
}

static void
stray_branch(void)
{
    void (*volatile target)(void) =
        (void (*)(void))((uintptr_t)&check + 4); /* or it is a direct call */

    target();
}

static void
read_user(void)
{
    sink = *(volatile unsigned *)(uintptr_t)0x400000;
}

static void
touch_user(void)
{
    struct qr_map_request request = {
        .hint = qr_va_of(0x400000),
        .bytes = QR_PAGE_SIZE,
        .prot = QR_PROT_READ | QR_PROT_WRITE,
        .flags = QR_MAP_FIXED,
    };
    struct qr_space *space;
    struct qr_frame *frame;
    uint64_t word = 0;
    qr_va va;

    if (qr_space_create(memory.vm, &space) != QR_OK ||
        qr_space_map(space, &request, &va) != QR_OK ||
        qr_space_get_frame(space, va, QR_ACCESS_WRITE, false, &frame) != QR_OK)
        return;
    qr_space_switch(space);
    if (qr_put_user_u64(va, 42) == QR_OK && qr_get_user_u64(va, &word) == QR_OK && word == 42)
        sink = *(volatile unsigned *)va.v;
}

static void
null(void)
{
    sink = *(volatile unsigned *)(uintptr_t)sink;
}

static void
bad_mapping(void)
{
    struct qr_va_range range = {.end = platform_area(KERNEL_AREA_DEVICES).end};
    struct qr_frame *frame = qr_frame_alloc(memory.frames, 0);
    struct qr_cursor cursor;
    struct qr_leaf leaf;

    if (frame == NULL)
        return;
    leaf = (struct qr_leaf){
        .pa = qr_frame_pa(memory.frames, frame),
        .prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC,
    };
    range.start = qr_va_of(range.end.v - QR_PAGE_SIZE);
    qr_cursor_open(&cursor, &memory.kernel_tables, range, NULL);
    if (qr_cursor_prepare(&cursor, range.start, 0) == QR_OK)
        qr_cursor_map(&cursor, range.start, &leaf);
    qr_cursor_close(&cursor);
    platform_audit();
}

/* A guarded block of 96 bytes that ends where its page does. */
static char *
guarded_block(void)
{
    for (;;) {
        size_t before = qr_guard_samples(memory.heap);

        qr_guard_due(memory.heap);
        char *block = kmem_alloc(96);
        bool guarded = qr_guard_samples(memory.heap) != before;

        if (guarded && ((uintptr_t)block & QR_PAGE_MASK) == QR_PAGE_SIZE - 96)
            return block;
        kmem_free(block);
    }
}

static void
use_after_free(void)
{
    char *block = guarded_block();

    kmem_free(block);
    *(volatile char *)(block + 8) = 1;
}

static void
out_of_bounds(void)
{
    sink = *(volatile unsigned char *)(guarded_block() + 96);
}

static void
double_free(void)
{
    char *block = guarded_block();

    kmem_free(block);
    kmem_free(block);
}

static const struct {
    const char *name;
    void (*run)(void);
} checks[] = {
    {"check", check},
    {"overflow", platform_overflow_stack},
    {"write-text", write_text},
    {"exec-data", exec_data},
    {"stray-branch", stray_branch},
    {"read-user", read_user},
    {"touch-user", touch_user},
    {"null", null},
    {"bad-mapping", bad_mapping},
    {"use-after-free", use_after_free},
    {"out-of-bounds", out_of_bounds},
    {"double-free", double_free},
};

void
boot_check(void)
{
    char name[16];

    if (!boot_option("boot", name, sizeof name))
        return;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        if (strcmp(name, checks[i].name) == 0)
            checks[i].run();
    }
    panic("boot=%s: unknown, or survived what it should not", name);
}
