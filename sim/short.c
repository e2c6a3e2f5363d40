/* SPDX-License-Identifier: MIT */
/*
 * The short forms in which tests speak of spaces: pages counted from SIM_BASE,
 * layouts as text, and the global invariants after every operation.
 */
#include "machine.h"

#include <quire/space.h>

#include <string.h>

/* At rest only: while a schedule runs others are in the middle of things. */
static enum qr_status
validated(struct sim *sim, enum qr_status status)
{
    if ((sim->options.features & SIM_NO_VALIDATE) == 0 && !sched_is_seeded(sim) && !sim->threaded)
        sim_validate(sim);
    return status;
}

static enum qr_status
map(struct sim *sim, size_t page, size_t count, struct qr_map_request request)
{
    qr_va start;

    request.hint = sim_page(page);
    request.bytes = count << QR_PAGE_SHIFT;
    request.flags = QR_MAP_FIXED;
    return validated(sim, qr_space_map(sim_space(sim), &request, &start));
}

enum qr_status
sim_map(struct sim *sim, size_t page, size_t count, unsigned prot)
{
    return map(sim, page, count, (struct qr_map_request){.prot = prot});
}

enum qr_status
sim_map_shared(struct sim *sim, size_t page, size_t count, unsigned prot)
{
    return map(sim, page, count,
               (struct qr_map_request){.prot = prot, .region_flags = QR_REGION_SHARED});
}

enum qr_status
sim_map_object(struct sim *sim, size_t page, size_t count, unsigned prot, struct qr_object *object,
               size_t first)
{
    return map(sim, page, count,
               (struct qr_map_request){.prot = prot,
                                       .region_flags = QR_REGION_SHARED,
                                       .object = object,
                                       .object_offset = (uint64_t)first << QR_PAGE_SHIFT});
}

enum qr_status
sim_map_private(struct sim *sim, size_t page, size_t count, unsigned prot, struct qr_object *object,
                size_t first)
{
    return map(sim, page, count,
               (struct qr_map_request){.prot = prot,
                                       .object = object,
                                       .object_offset = (uint64_t)first << QR_PAGE_SHIFT});
}

enum qr_status
sim_protect(struct sim *sim, size_t first, size_t last, unsigned prot)
{
    return validated(sim, qr_space_protect(sim_space(sim), sim_page(first),
                                           (last - first) << QR_PAGE_SHIFT, prot, -1));
}

enum qr_status
sim_unmap(struct sim *sim, size_t first, size_t last)
{
    return validated(
        sim, qr_space_unmap(sim_space(sim), sim_page(first), (last - first) << QR_PAGE_SHIFT));
}

struct qr_space *
sim_fork(struct sim *sim)
{
    struct qr_space *child = NULL;
    enum qr_status status = validated(sim, qr_space_fork(sim_space(sim), &child));

    if (status != QR_OK && status != QR_ERR_NO_MEMORY)
        sim_fail("fork: %s", qr_status_name(status));
    return child;
}

/* ---- Layouts ----------------------------------------------------------------------- */

struct text {
    char *at;
    size_t length, capacity;
};

static void
text_add(struct text *text, char letter, size_t count)
{
    while (count-- > 0 && text->length + 1 < text->capacity)
        text->at[text->length++] = letter;
    text->at[text->length] = '\0';
}

static char
letter_of(const struct qr_region *region)
{
    char letter = 'N';

    if ((region->prot & QR_PROT_READ) != 0)
        letter = 'R';
    if ((region->prot & QR_PROT_EXEC) != 0)
        letter = 'X';
    if ((region->prot & QR_PROT_WRITE) != 0)
        letter = 'W';
    if ((region->flags & QR_REGION_SHARED) != 0)
        letter = (char)(letter - 'A' + 'a');
    return letter;
}

const char *
sim_layout(struct sim *sim)
{
    struct text text = {.at = sim->layout, .capacity = sizeof(sim->layout)};
    struct qr_space *space = sim_space(sim);
    uintptr_t end = SIM_BASE;

    sim->layout[0] = '\0';
    qr_rw_read_lock(&space->lock);
    for (struct qr_region *region = qr_space_find(space, qr_va_of(SIM_BASE)); region != NULL;
         region = qr_region_next(region)) {
        if (region->start.v > end + (1024 << QR_PAGE_SHIFT))
            break; /* another part of the space */
        if (end > SIM_BASE || region->start.v > end)
            text_add(&text, '.',
                     region->start.v > end ? (region->start.v - end) >> QR_PAGE_SHIFT : 0);
        text_add(&text, '[', 1);
        text_add(&text, letter_of(region), (region->end.v - region->start.v) >> QR_PAGE_SHIFT);
        text_add(&text, ']', 1);
        end = region->end.v;
    }
    qr_rw_read_unlock(&space->lock);
    return sim->layout;
}

/* ---- Touching ------------------------------------------------------------------------ */

void
sim_write(struct sim *sim, size_t page, uint64_t value)
{
    enum sim_signal signal = sim_store(sim_page(page), &value, sizeof(value));

    if (signal != SIM_OK)
        sim_fail("a write to page %zu ends with %s", page, sim_signal_name(signal));
    validated(sim, QR_OK);
}

uint64_t
sim_read(struct sim *sim, size_t page)
{
    uint64_t value = 0;
    enum sim_signal signal = sim_load(sim_page(page), &value, sizeof(value));

    if (signal != SIM_OK)
        sim_fail("a read of page %zu ends with %s", page, sim_signal_name(signal));
    validated(sim, QR_OK);
    return value;
}

enum sim_signal
sim_touch(struct sim *sim, size_t page, unsigned access)
{
    unsigned char byte = 1;
    enum sim_signal signal;

    if (access == QR_ACCESS_EXEC)
        signal = sim_exec(sim_page(page));
    else if (access == QR_ACCESS_WRITE)
        signal = sim_store(sim_page(page), &byte, 1);
    else
        signal = sim_load(sim_page(page), &byte, 1);
    validated(sim, QR_OK);
    return signal;
}
