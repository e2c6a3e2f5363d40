/* SPDX-License-Identifier: MIT */
/*
 * Memory that the machine takes from the host.  Every piece is on one list, in
 * the order of its birth, so that a machine which failed half-way
 * (sim_catch) can be forgotten whole: everything born after a mark goes.
 */
#include "machine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct piece {
    struct piece *next, *previous;
    uint64_t serial;
    void *mapping; /* NULL: the memory follows this header */
    size_t bytes;
} QR_CACHE_ALIGNED;

static pthread_mutex_t pieces_lock = PTHREAD_MUTEX_INITIALIZER;
static struct piece *pieces; /* youngest first */
static uint64_t births;

static struct piece *
piece_create(size_t bytes_after)
{
    size_t bytes = sizeof(struct piece) + bytes_after;
    struct piece *piece =
        aligned_alloc(QR_CACHE_LINE, (bytes + QR_CACHE_LINE - 1) & ~(size_t)(QR_CACHE_LINE - 1));

    if (piece == NULL)
        sim_fail("the host has no memory for %zu bytes", bytes);
    memset(piece, 0, bytes);
    piece->bytes = bytes_after;
    pthread_mutex_lock(&pieces_lock);
    piece->serial = ++births;
    piece->next = pieces;
    if (pieces != NULL)
        pieces->previous = piece;
    pieces = piece;
    pthread_mutex_unlock(&pieces_lock);
    return piece;
}

/* The list is locked. */
static void
piece_destroy(struct piece *piece)
{
    if (piece->previous != NULL)
        piece->previous->next = piece->next;
    else
        pieces = piece->next;
    if (piece->next != NULL)
        piece->next->previous = piece->previous;
    if (piece->mapping != NULL)
        munmap(piece->mapping, piece->bytes);
    free(piece);
}

void *
sim_host_alloc(size_t bytes)
{
    return piece_create(bytes) + 1;
}

void
sim_host_free(void *memory)
{
    if (memory == NULL)
        return;
    pthread_mutex_lock(&pieces_lock);
    piece_destroy((struct piece *)memory - 1);
    pthread_mutex_unlock(&pieces_lock);
}

void *
sim_host_grow(void *memory, size_t old_bytes, size_t new_bytes)
{
    void *grown = sim_host_alloc(new_bytes);

    if (memory != NULL)
        memcpy(grown, memory, old_bytes);
    sim_host_free(memory);
    return grown;
}

void *
sim_host_map(size_t bytes, int protection, enum sim_host_sharing sharing)
{
    int kind = sharing == SIM_HOST_ALIASED ? MAP_SHARED : MAP_PRIVATE;
    void *mapping = mmap(NULL, bytes, protection, kind | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (mapping == MAP_FAILED)
        sim_fail("the host cannot map %zu bytes", bytes);
    struct piece *piece = piece_create(0);

    piece->mapping = mapping;
    piece->bytes = bytes;
    return mapping;
}

void
sim_host_alias(void *from, size_t bytes, void *at)
{
    /* An old size of zero leaves @from as it is and maps its memory a second time. */
    if (mremap(from, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED)
        sim_fail("the host cannot map %zu bytes twice", bytes);
}

void
sim_host_hide(void *at, size_t bytes)
{
    if (mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED)
        sim_fail("the host cannot hide %zu bytes", bytes);
}

void
sim_host_unmap(void *mapping)
{
    pthread_mutex_lock(&pieces_lock);
    for (struct piece *piece = pieces; piece != NULL; piece = piece->next) {
        if (piece->mapping == mapping) {
            piece_destroy(piece);
            break;
        }
    }
    pthread_mutex_unlock(&pieces_lock);
}

uint64_t
sim_host_mark(void)
{
    return births;
}

void
sim_host_forget(uint64_t mark)
{
    pthread_mutex_lock(&pieces_lock);
    while (pieces != NULL && pieces->serial > mark)
        piece_destroy(pieces);
    pthread_mutex_unlock(&pieces_lock);
}
