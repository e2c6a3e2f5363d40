/* SPDX-License-Identifier: MIT */
/*
 * One flush for several spaces: may a page that was taken out of all of them be given up, and
 * does everybody see what somebody writes meanwhile?
 *
 *   CPU 0  reclaim: takes the page out of spaces A and B, counts both changes, asks whoever runs
 *          either, waits, gives the page up if nobody has mapped it again
 *   CPU 1  goes between A, B and somewhere else, and reads the page wherever it is mapped
 *   CPU 2  runs A, finds no page there and puts a private copy in its place, then says so
 *
 * Wrong is that CPU 1 reads the page after it was given up, or, in A, reads the old page after it
 * was told of the copy.  -DBUG_x seeds mistakes.
 */
#define NONE 0
#define OLD  1 /* the page that all map */
#define NEW  2 /* the copy in A; the page read again once it was given up */

#define A         0
#define B         1
#define ELSEWHERE 2

byte entry[2] = OLD;
bool locked;     /* the table of A */
byte pending[2]; /* flushes to come */
byte generation[2] = 1;
bool freed;
bool announced;

/* CPU 1 */
byte tlb[2] = OLD; /* it has used both */
byte slot[2] = 1;
byte loaded = ELSEWHERE;
bool runs[3];

/* Requests: who asks whom, and the counts that go with them. */
bool asked_0_1, asked_0_2, asked_2_1;
byte wanted_0[2], wanted_2;
byte seen;

#define USES 3

inline catch_up(space, wanted)
{
    if
    :: loaded == space && slot[space] < wanted ->
        if
        :: slot[space] + 1 == wanted -> tlb[space] = NONE; slot[space] = wanted
        :: else -> seen = generation[space]; tlb[space] = NONE; slot[space] = seen
        fi
    :: else -> skip
    fi
}

inline give_up()
{
    d_step {
        if
        :: entry[A] != OLD && entry[B] != OLD -> freed = true
        :: else -> skip
        fi
    }
}

inline count(space)
{
    generation[space]++;
    wanted_0[space] = generation[space]
}

proctype reclaimer()
{
    bool tell = false;

    atomic {
        !locked;
        entry[A] = NONE;
#ifndef BUG_NOT_PENDING
        pending[A]++
#endif
    };
    atomic { entry[B] = NONE; pending[B]++ };
#ifdef BUG_GIVEN_UP_FIRST
    give_up();
#endif
    count(A);
#ifndef BUG_COUNTED_LATE
    count(B);
#endif
    tell = runs[A];
    tell = tell || runs[B];
#ifdef BUG_COUNTED_LATE
    count(B);
#endif
    asked_0_1 = tell;
    asked_0_2 = true;
    !asked_0_1;
    !asked_0_2;
#ifndef BUG_NOT_PENDING
    pending[A]--;
#endif
    pending[B]--;
    give_up()
}

/* What stands in the table, through the TLB; where nothing does, the page comes back. */
inline use(space)
{
    told = announced;
    if
    :: tlb[space] == NONE && entry[space] == NONE ->
        atomic {
            if
            :: entry[space] == NONE && (space == B || !locked) ->
                if
                :: freed -> entry[space] = NEW
                :: else -> entry[space] = OLD
                fi
            :: else -> skip
            fi
        }
    :: else -> skip
    fi;
    atomic {
        if
        :: tlb[space] == NONE -> tlb[space] = entry[space]
        :: else -> skip
        fi;
        assert(!(tlb[space] == OLD && freed));
        assert(!(tlb[space] == OLD && space == A && told))
    }
}

inline switch_to(space)
{
    previous = loaded;
    runs[space] = true;
    if
    :: space != ELSEWHERE ->
        seen = generation[space];
        if
        :: slot[space] != seen -> tlb[space] = NONE; slot[space] = seen
        :: else -> skip
        fi
    :: else -> skip
    fi;
    loaded = space;
    runs[previous] = false
}

proctype user()
{
    byte times = 0;
    byte previous;
    bool told;

end:
    do
    :: asked_0_1 ->
        catch_up(A, wanted_0[A]);
#ifndef BUG_FIRST_SPACE_ONLY
        catch_up(B, wanted_0[B]);
#endif
        asked_0_1 = false
    :: asked_2_1 -> catch_up(A, wanted_2); asked_2_1 = false
    :: times < USES && loaded == A -> times++; use(A)
    :: times < USES && loaded == B -> times++; use(B)
    :: times < USES && loaded != A -> times++; switch_to(A)
    :: times < USES && loaded != B -> times++; switch_to(B)
    :: times < USES && loaded != ELSEWHERE -> times++; switch_to(ELSEWHERE)
    od
}

proctype writer()
{
    bool copied = false;

end:
    do
    :: asked_0_2 -> asked_0_2 = false
    :: !copied && entry[A] == NONE ->
        copied = true;
        atomic { !locked -> locked = true };
        if
        :: entry[A] == NONE ->
#ifndef BUG_NOT_SETTLED
            if
            :: pending[A] > 0 ->
                generation[A]++;
                wanted_2 = generation[A];
                asked_2_1 = runs[A];
                do
                :: asked_0_2 -> asked_0_2 = false
                :: !asked_2_1 -> break
                od
            :: else -> skip
            fi;
#endif
            entry[A] = NEW;
            announced = true
        :: else -> skip
        fi;
        locked = false
    od
}

init
{
    runs[ELSEWHERE] = true;
    atomic { run reclaimer(); run user(); run writer() }
}
