/* SPDX-License-Identifier: MIT */
/*
 * What huge pages save a program that reads all over a large array: TLB misses on the
 * hosted machine, with small pages, transparent huge ones and huge ones by name.
 *
 *     bench/hugepage
 *
 * A TLB holds 64 entries (as the first level of today's CPUs) or 1,024 (as their second), whatever
 * the size of their pages, and replaces one at random; every miss is a walk of the tables that
 * the library wrote.  The array is built first (its faults are counted apart), then read at random.
 */
#include "sim.h"

#include <quire/hugetlb.h>
#include <quire/space.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB   ((size_t)1 << 20)
#define ARRAY (256 * MIB)
#define AT    ((uintptr_t)0x40000000)
#define READS 100000u

enum { SIZES = 2 };
static const size_t tlb_sizes[SIZES] = {64, 1024};

enum kind { SMALL, TRANSPARENT, BY_NAME, KINDS };

static const char *const kind_names[KINDS] = {"small pages", "transparent", "by name"};

struct result {
    long faults;            /* to build the array */
    uint64_t misses[SIZES]; /* of READS */
    unsigned shift;         /* of the leaf at the array's middle */
    size_t table_pages;
};

static struct qr_hugetlb *
pools_start(struct sim *sim)
{
    struct qr_hugetlb *huge = aligned_alloc(64, (qr_hugetlb_size() + 63) / 64 * 64);

    memset(huge, 0, qr_hugetlb_size());
    qr_hugetlb_init(huge, sim_frames(sim));
    qr_hugetlb_add_all(huge, sim_space(sim)->tables.format, 25);
    return huge;
}

static enum qr_status
array_map(struct sim *sim, enum kind kind, struct qr_hugetlb *huge)
{
    struct qr_map_request request = {
        .hint = qr_va_of(AT), .bytes = ARRAY, .prot = SIM_W, .flags = QR_MAP_FIXED};
    struct qr_hugetlb_pool *pool = qr_hugetlb_find(huge, 0);
    qr_va va;

    if (kind == BY_NAME) {
        request.align_bytes = qr_hugetlb_pool_bytes(pool);
        qr_hugetlb_pool_resize(pool, -1, ARRAY / request.align_bytes);
        enum qr_status status =
            qr_object_create_hugetlb(sim_objects(sim), pool, ARRAY, &request.object);
        if (status != QR_OK)
            return status;
    }
    if (kind == TRANSPARENT) {
        const struct qr_huge_policy policy = {.mode = QR_HUGE_ALWAYS, .zero_page = true};

        qr_vm_set_huge_policy(sim_vm(sim), &policy);
    }
    enum qr_status status = qr_space_map(sim_space(sim), &request, &va);

    if (request.object != NULL)
        qr_object_put(request.object);
    return status;
}

static uint64_t
misses_of_reads(struct sim *sim)
{
    uint64_t before = sim_stats(sim).tlb_misses, state = 1, value;

    for (unsigned i = 0; i < READS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        (void)sim_load(qr_va_of(AT + (state >> 20) % ARRAY / 8 * 8), &value, sizeof(value));
    }
    return sim_stats(sim).tlb_misses - before;
}

static void
run(struct sim *sim, struct result *result)
{
    struct qr_counters *counters = qr_frames_counters(sim_frames(sim));
    long before = qr_counter_read(counters, QR_EVENT_FAULT);
    struct qr_space_counts counts;
    uint64_t value = 1;

    sim_set_tlb_size(sim, tlb_sizes[0]);
    for (size_t at = 0; at < ARRAY; at += QR_PAGE_SIZE)
        (void)sim_store(qr_va_of(AT + at), &value, sizeof(value));
    result->faults = qr_counter_read(counters, QR_EVENT_FAULT) - before;
    result->shift = sim_walk(sim, sim_space(sim)->tables.root_pa, qr_va_of(AT + ARRAY / 2)).shift;
    qr_space_counts(sim_space(sim), &counts);
    result->table_pages = counts.table_pages;
    for (unsigned i = 0; i < SIZES; i++) {
        sim_set_tlb_size(sim, tlb_sizes[i]);
        result->misses[i] = misses_of_reads(sim);
    }
}

static bool
measure(enum sim_mmu mmu, enum kind kind, struct result *result)
{
    const struct sim_bank bank = {.start = 16 * MIB, .bytes = ARRAY + 96 * MIB};
    struct sim *sim = sim_boot((struct sim_options){
        .banks = &bank,
        .bank_count = 1,
        .mmu = mmu,
        .features = SIM_NO_ORACLE | SIM_NO_VALIDATE,
        .seed = 1,
    });
    struct qr_hugetlb *huge = pools_start(sim);
    bool done =
        (kind == SMALL || qr_hugetlb_count(huge) > 0) && array_map(sim, kind, huge) == QR_OK;

    if (done)
        run(sim, result);
    qr_space_clear(sim_space(sim));
    if (qr_hugetlb_fini(huge) != 0)
        abort();
    free(huge);
    sim_shutdown(sim);
    return done;
}

static double
per_thousand(uint64_t misses)
{
    return 1000.0 * (double)misses / READS;
}

static void
write_rows(enum sim_mmu mmu, const struct result *small, const struct result *huge, enum kind kind)
{
    for (unsigned i = 0; i < SIZES; i++)
        printf("BENCH hugepage_misses_%zu_%s_%s quire %.1f per-1000 small-pages %.1f\n",
               tlb_sizes[i], sim_mmu_name(mmu), kind == BY_NAME ? "hugetlb" : "thp",
               per_thousand(huge->misses[i]), per_thousand(small->misses[i]));
}

int
main(void)
{
    static const enum sim_mmu mmus[] = {SIM_MMU_X86_64, SIM_MMU_X86_PAE, SIM_MMU_X86_32,
                                        SIM_MMU_AARCH64_4K, SIM_MMU_RISCV64_SV39};
    struct result results[sizeof(mmus) / sizeof(mmus[0])][KINDS];

    memset(results, 0, sizeof(results));
    printf("%u random reads in %zu MiB\n\n%61s\n", READS, ARRAY / MIB,
           "misses in 1,000 with entries");
    printf("%-14s %-12s %10s %8s %7s %8zu %8zu\n", "", "", "page", "faults", "tables", tlb_sizes[0],
           tlb_sizes[1]);
    for (size_t m = 0; m < sizeof(mmus) / sizeof(mmus[0]); m++) {
        for (enum kind kind = SMALL; kind < KINDS; kind++) {
            struct result *result = &results[m][kind];

            if (!sim_mmu_fits(mmus[m]) || !measure(mmus[m], kind, result))
                continue;
            printf("%-14s %-12s %6zu KiB %8ld %7zu %8.1f %8.1f\n",
                   kind == SMALL ? sim_mmu_name(mmus[m]) : "", kind_names[kind],
                   ((size_t)1 << result->shift) >> 10, result->faults, result->table_pages,
                   per_thousand(result->misses[0]), per_thousand(result->misses[1]));
        }
    }
    printf("\n");
    for (size_t m = 0; m < sizeof(mmus) / sizeof(mmus[0]); m++) {
        for (enum kind kind = TRANSPARENT; kind < KINDS && results[m][SMALL].faults != 0; kind++)
            write_rows(mmus[m], &results[m][SMALL], &results[m][kind], kind);
    }
    return 0;
}
