/* SPDX-License-Identifier: MIT */
#ifndef TESTS_DIFFERENTIAL_GENERATE_H
#define TESTS_DIFFERENTIAL_GENERATE_H

/* What the files that make programs share: generate.c has the theory. */

#include "differential.h"

struct generator {
    uint64_t state;
    struct program *program;
    bool mapped[ARENA_PAGES];
    bool alive[PROCESSES];
    unsigned hostile;          /* one argument in that many */
    bool sealed;               /* some pages */
    enum focus focus;          /* what it is about */
    unsigned waits[PROCESSES]; /* for a child by vfork: which, + 1 */
    bool key0_freed; /* by somebody; then it may be handed out, but not with fewer rights */
    bool
        stacks; /* regions grow; else there is a limit for them, by which it shows how those were split */
    bool no_resident; /* Linux says of a page that fallocate() made that it is not there */
};

/** A number below @limit. */
uint64_t rnd(struct generator *g, uint64_t limit);
bool one_in(struct generator *g, unsigned n);

#define PICK(g, array) ((array)[rnd(g, sizeof(array) / sizeof((array)[0]))])

enum { BAD_LENGTHS = 10 };
extern const uint64_t bad_lengths[BAD_LENGTHS];

unsigned some_pages(struct generator *g);
/** A page that is probably mapped, or (@mapped false) probably free. */
unsigned some_page(struct generator *g, bool mapped);
uint64_t address(struct generator *g, bool mapped);
/** A length that stays in the arena from @start on, or a hostile one. */
uint64_t length(struct generator *g, uint64_t start);
/** For accesses: any byte of a page, most often near its ends. */
uint64_t byte_address(struct generator *g);
/** Of buffers: across page ends, so that a part of them may not be there. */
uint64_t byte_count(struct generator *g);
uint64_t file_offset(struct generator *g);
/** A file, as descriptor() has them. */
uint64_t some_file(struct generator *g);

/** Add a call, by some process that lives. */
struct op *emit(struct generator *g, enum op_kind kind);
void note_mapped(struct generator *g, uint64_t start, uint64_t bytes, bool mapped);

/** Threads that call at once. */
void emit_race(struct generator *g);

/** What other programs would see, too. */
void emit_machine(struct generator *g);

/** Protection keys. */
void emit_key(struct generator *g);

/** One of the calls that come less often. */
void emit_other(struct generator *g);

#endif
