/* SPDX-License-Identifier: MIT */
/*
 * When may an unlinked page table be used for something else?
 *
 *   CPU 0  unmaps and unlinks the table, flushes, retires it, frees it
 *   CPU 1  has the space loaded, perhaps lazily; its hardware walks through the
 *          table at any time, from the tree or from its walk cache
 *   CPU 2  opens a cursor: walks without locks, locks the table, looks whether
 *          it is dead, writes an entry
 *
 * Wrong is that hardware or the cursor reads the table after it was freed, or that
 * the cursor writes into a table that is not linked any more.  -DBUG_x seeds mistakes.
 */
bool linked = true; /* the parent's entry */
bool dead;          /* flag in the descriptor */
bool locked;        /* bit lock in the descriptor */
bool freed;
bool written;       /* by the cursor, into the live table */

byte generation = 1;
byte slot = 1;      /* of CPU 1 */
bool walk_cache;    /* CPU 1 knows the table's address */
bool lazy;
bool asked;         /* a request waits for CPU 1 */
bool waiting;

byte epoch = 1;
byte section;       /* of CPU 2; 0: none */

#define FLUSH seen = generation; walk_cache = false; slot = seen

proctype unmapper()
{
    byte retired;
    bool tell;

    /* The parent's lock is held throughout; the table's: */
    atomic { !locked -> locked = true };
    if
    :: written -> locked = false; goto end /* not empty: it stays */
    :: else -> skip
    fi;
    linked = false;
#ifndef BUG_NOT_MARKED_DEAD
    dead = true;
#endif
    locked = false;
    /* tlb_shoot(), tables_freed */
    generation++;
    tell = true;
#ifdef BUG_LAZY_IS_SKIPPED
    if
    :: lazy -> tell = false
    :: else -> skip
    fi;
#endif
    if
    :: tell ->
        waiting = true;
        asked = true;
#ifdef BUG_FREE_BEFORE_FLUSH
        skip
#else
        !waiting
#endif
    :: else -> skip
    fi;
    /* tables_retire() */
    atomic { retired = epoch; epoch++ };
#ifndef BUG_WALKERS_ARE_FORGOTTEN
    (section == 0 || section > retired);
#endif
    freed = true;
end:
    skip
}

proctype user()
{
    byte times = 0;
    byte seen;

    do
#ifdef BUG_ACKNOWLEDGE_FIRST
    :: atomic { asked -> asked = false }; waiting = false; FLUSH
#else
    :: atomic { asked -> asked = false }; FLUSH; waiting = false
#endif
    :: times < 2 && !lazy -> times++; lazy = true
    :: lazy ->
        lazy = false;
        if
        :: slot != generation -> FLUSH
        :: else -> skip
        fi
    :: timeout -> break
    od
}

/* CPU 1's hardware walks whenever it likes, whatever its program does. */
proctype hardware()
{
    byte walks = 0;

    do
    :: walks < 3 ->
        walks++;
        if
        :: atomic { walk_cache -> assert(!freed) }
        :: atomic { !walk_cache -> walk_cache = linked }
        fi
    :: walks == 3 -> break
    od
}

proctype cursor()
{
    bool found;
    byte tries = 0;

again:
    /* qr_epoch_enter(): the two steps may be far apart */
#ifdef BUG_SECTION_AFTER_WALK
    found = linked;
    section = epoch;
#else
    section = epoch;
    found = linked;
#endif
    if
    :: !found -> section = 0; goto end /* an empty entry: the parent is the covering table */
    :: else -> skip
    fi;
    assert(!freed);
#ifdef BUG_SECTION_ENDS_BEFORE_LOCK
    section = 0;
#endif
    atomic { !locked -> locked = true };
    assert(!freed);
#ifndef BUG_SECTION_ENDS_BEFORE_LOCK
    section = 0;
#endif
    if
    :: dead -> locked = false; tries++; assert(tries < 2); goto again
    :: else -> skip
    fi;
    assert(linked);
    written = true;
    assert(!freed);
    locked = false;
end:
    skip
}

init {
    atomic { run unmapper(); run user(); run hardware(); run cursor() }
}
