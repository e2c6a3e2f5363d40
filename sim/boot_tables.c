/* SPDX-License-Identifier: MIT */
/*
 * Booting as far as page tables and the tlb layer.  The kernel's tree is made,
 * every CPU goes online on it, and the library's flush batches are shown to the
 * oracle.
 */
#include "boot.h"

#include <quire/tlb.h>

#include <string.h>

/* Those of this build's page size; the library may have been built without the others. */
#if CONFIG_PAGE_SHIFT == 12
#define FORMATS(X)        \
    X(x86_32)             \
    X(x86_pae)            \
    X(x86_pae_basic)      \
    X(x86_64)             \
    X(x86_64_la57)        \
    X(aarch64_4k)         \
    X(aarch64_4k_39)      \
    X(aarch64_4k_52)      \
    X(aarch64_4k_bbm2)    \
    X(aarch64_4k_39_bbm2) \
    X(aarch64_4k_52_bbm2) \
    X(riscv64_sv39)       \
    X(riscv64_sv48)       \
    X(riscv64_sv57)       \
    X(riscv64_sv39_basic) \
    X(riscv64_sv48_basic) \
    X(riscv64_sv57_basic) \
    X(scrambled)
#elif CONFIG_PAGE_SHIFT == 14
#define FORMATS(X)         \
    X(aarch64_16k)         \
    X(aarch64_16k_48)      \
    X(aarch64_16k_52)      \
    X(aarch64_16k_bbm2)    \
    X(aarch64_16k_48_bbm2) \
    X(aarch64_16k_52_bbm2)
#else
#define FORMATS(X)         \
    X(aarch64_64k)         \
    X(aarch64_64k_42)      \
    X(aarch64_64k_52)      \
    X(aarch64_64k_bbm2)    \
    X(aarch64_64k_42_bbm2) \
    X(aarch64_64k_52_bbm2)
#endif
#define ADDRESS_OF(name) &qr_format_##name,

/* The library's format of that name; the variant for CPUs with FEAT_BBM 2, without Svpbmt or NX. */
static const struct qr_format *
format_of(const struct sim_options *options)
{
    static const struct qr_format *const formats[] = {FORMATS(ADDRESS_OF)};
    bool bbm2 = (options->features & SIM_BBM2) != 0;
    bool basic = (options->features & SIM_NO_PBMT) != 0 ||
                 (options->mmu == SIM_MMU_X86_PAE && (options->features & SIM_NO_NX) != 0);
    char name[64];

    if (!sim_mmu_fits(options->mmu))
        sim_fail("%s has another page size than this build of the library",
                 sim_mmu_name(options->mmu));
    snprintf(name, sizeof(name), "%s%s", sim_mmu_name(options->mmu),
             bbm2    ? "_bbm2"
             : basic ? "_basic"
                     : "");
    for (size_t i = 0; i < QR_ARRAY_COUNT(formats); i++) {
        struct qr_format_info info;

        qr_format_info(formats[i], &info);
        if (strcmp(info.name, name) == 0)
            return formats[i];
    }
    sim_fail("the library has no format %s", name);
}

struct qr_tlb_space *
sim_kernel_space(struct sim *sim)
{
    return &sim->kernel->space;
}

bool
sim_can_forbid_exec(struct sim *sim)
{
    struct qr_format_info info;

    qr_format_info(sim->format, &info);
    return info.no_execute && (sim->options.features & SIM_NO_NX) == 0;
}

enum qr_cacheability
sim_uncached(struct sim *sim)
{
    struct qr_format_info info;

    qr_format_info(sim->format, &info);
    return (info.cache_mask >> QR_CACHE_UNCACHED & 1) != 0 ? QR_CACHE_UNCACHED
                                                           : QR_CACHE_WRITE_BACK;
}

/* ---- The oracle's view of a batch --------------------------------------------- */

static void
flush_describe(struct sim *sim, const struct qr_tlb_flush *from, struct sim_flush *out_flush)
{
    struct sim_flush flush = {.whole = from->whole};

    flush.alone = atomic_load(&from->space->pending) <= from->registered;

    if (!from->space->global)
        flush.root = from->space->tables->root_pa;
    for (unsigned i = 0; i < from->run_count; i++) {
        flush.ranges[i].start = from->runs[i].start;
        flush.ranges[i].end = qr_va_of(from->runs[i].last.v + 1);
    }
    flush.range_count = from->run_count;
    for (unsigned i = 0; i < from->table_count; i++)
        flush.tables[i] = qr_frame_pa(sim->frames, from->tables[i]).v;
    flush.table_count = from->table_count;
    *out_flush = flush;
}

/* The slot of a flush under way, by the runs that it names; or (NULL) a free one. */
static unsigned
flush_slot(struct sim *sim, const void *runs)
{
    for (unsigned i = 0; i < QR_ARRAY_COUNT(sim->flushes); i++) {
        if (sim->flushes[i].runs == runs)
            return i;
    }
    sim_fail("a flush ends that never began, or too many are under way");
}

static void
flush_begins(void *context, const struct qr_tlb_flush *from)
{
    struct sim *sim = context;
    struct sim_flush flush;

    if (sim->threaded)
        return;
    flush_describe(sim, from, &flush);
    sim_flush_begin(sim, &flush);
    unsigned slot = flush_slot(sim, NULL);

    sim->flushes[slot].runs = from->runs;
    sim->flushes[slot].ticket = flush.ticket;
}

static void
flush_ends(void *context, const struct qr_tlb_flush *from)
{
    struct sim *sim = context;
    struct sim_flush flush;

    if (sim->threaded)
        return;
    unsigned slot = flush_slot(sim, from->runs);

    sim->flushes[slot].runs = NULL;
    flush_describe(sim, from, &flush);
    flush.ticket = sim->flushes[slot].ticket;
    sim_flush_end(sim, &flush);
}

/* ---- Booting ------------------------------------------------------------------- */

static void
switch_tables(struct sim *sim, void *space)
{
    (void)sim;
    if (space == NULL)
        qr_tlb_enter_lazy();
    else
        qr_tlb_switch(space);
}

static void
tables_stop(struct sim *sim)
{
    struct sim_kernel *kernel = sim->kernel;

    for (unsigned i = 0; i < sim->cpu_count; i++)
        sim->cpus[i].root_loaded = false;
    qr_tables_fini(&kernel->tables);
    /* A heap may keep empty slabs; its own end checks that these come back. */
    if (sim->heap == NULL && sim_frames_used(sim) != kernel->frames_before)
        sim_fail("%zu frames were in use before the first page table, %zu after the last",
                 kernel->frames_before, sim_frames_used(sim));
    sim_host_free(kernel);
    sim_host_free(sim->tlb);
    sim_host_free(sim->epoch);
    sim->tlb = NULL;
    sim->epoch = NULL;
    sim->kernel = NULL;
    sim->kernel_tables = NULL;
    sim->hooks.interrupt = NULL;
    sim->hooks.space_switch = NULL;
}

static void
kernel_tables_make(struct sim *sim)
{
    struct sim_kernel *kernel = sim_host_alloc(sizeof(*kernel));
    enum qr_status status;

    sim->kernel = kernel;
    kernel->frames_before = sim_frames_used(sim);
    status = qr_tables_init(&kernel->tables, sim->format, sim->frames, sim->epoch, NULL);
    if (status == QR_OK && (sim->options.features & SIM_KERNEL_HALF) != 0)
        status = qr_tables_fill_upper_half(&kernel->tables);
    if (status != QR_OK)
        sim_fail("no kernel tables: %s", qr_status_name(status));
    sim->kernel_tables = &kernel->tables;
    qr_tlb_space_init(&kernel->space, sim->tlb, &kernel->tables);
    qr_tlb_set_kernel(sim->tlb, &kernel->space);
}

void
sim_start_tables(struct sim *sim)
{
    struct qr_tlb_observer observer = {.context = sim, .begin = flush_begins, .end = flush_ends};

    sim->format = format_of(&sim->options);
    sim->epoch = sim_host_alloc(sizeof(*sim->epoch));
    qr_epoch_init(sim->epoch);
    sim->tlb = sim_host_alloc(qr_tlb_size(sim->cpu_count, sim->options.asids));
    qr_tlb_init(sim->tlb, sim->frames, sim->cpu_count, sim->options.asids);
    qr_tlb_set_observer(sim->tlb, &observer);
    sim->hooks.interrupt = qr_tlb_interrupt;
    sim->hooks.space_switch = switch_tables;
    kernel_tables_make(sim);
    for (unsigned i = sim->cpu_count; i-- > 0;) {
        sim_enter(sim, i);
        sim_set_upper_root(sim->kernel_tables->root_pa);
        qr_arch_root_switch(sim->kernel_tables->root_pa, 0, false);
        qr_tlb_cpu_online(sim->tlb);
    }
    sim_on_stop(sim, tables_stop);
}

struct sim *
sim_boot_tables(struct sim_options options)
{
    struct sim *sim = sim_boot_frames(options);

    sim_start_tables(sim);
    return sim;
}
