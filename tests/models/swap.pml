/* SPDX-License-Identifier: MIT */
/*
 * The swap cache: one page, which two spaces share since a fork, and the one slot that there is.
 *
 *   users A, B   read and write their page, through their TLB; A forks B off; both end
 *   reclaim      takes entries out, which name the slot then, and writes what nobody maps
 *   swapoff      closes the area, brings names back, waits for transfers, and removes it; not with -DSTAYS_ON
 *
 * A space reads what it wrote last, or what its parent had at the fork: that is what is checked, and in the end that
 * no frame, no use and no slot is left over.  Steps that src/swap takes under the area's lock are atomic; the lock of
 * a table is a variable.  The number in the environment's BUG seeds a mistake: one verifier looks for all.
 */
#define BUG_MAPPED_WRITABLE    1
#define BUG_FLUSHED_LATE       2
#define BUG_TAKEN_WITH_NAMES   3
#define BUG_TAKEN_IN_FLIGHT    4
#define BUG_FREED_IN_FLIGHT    5
#define BUG_FOUND_TOO_EARLY    6
#define BUG_READ_TWICE         7
#define BUG_FORK_COUNTS_NO_USE 8
#define BUG_WRITTEN_IS_KEPT    9
#define BUG_COPY_OF_NOBODYS    10
#define BUG_REMOVED_UNSEEN     11

#define A      0
#define B      1
#define FRAMES 4
#define NOBODY 255

#ifndef USES
#define USES 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

/* Frames: a free one has no references. */
byte content[FRAMES], refs[FRAMES], maps[FRAMES];
bool cached[FRAMES];

/* The slot. */
byte users, frame = NOBODY, disk;
bool reading, writing, written;
bool open = true, removed;

/* Spaces: what stands in their table, and what their CPU has of it. */
mtype = { ABSENT, LEAF, NAME };
mtype entry[2] = ABSENT;
byte page[2];
bool writable[2], locked[2];
byte tlb[2] = NOBODY;
bool tlb_writable[2];
byte expected[2];
bool forked;
byte ended;

byte bug;

hidden byte gone, old, copy; /* within one step */

/* ---- Steps; each is part of an atomic one ---------------------------------------------------- */

inline take_frame(fresh)
{
    fresh = 0;
    do
    :: refs[fresh] != 0 -> fresh++
    :: else -> break
    od;
    refs[fresh] = 1
}

inline put_frame(which)
{
    assert(refs[which] != 0);
    refs[which]--;
    if
    :: refs[which] == 0 -> assert(!cached[which] && maps[which] == 0); content[which] = 0
    :: else -> skip
    fi
}

inline uncache()
{
    gone = frame;
    cached[gone] = false;
    frame = NOBODY;
    put_frame(gone)
}

inline free_slot()
{
    assert(users == 0 && frame == NOBODY && !reading && !writing);
    written = written && bug == BUG_WRITTEN_IS_KEPT;
    disk = 0
}

/* Nobody names it: I/O that is under way frees it at its end. */
inline drop_unused()
{
    if
    :: (reading || writing) && bug != BUG_FREED_IN_FLIGHT -> skip
    :: else ->
        if
        :: frame != NOBODY -> uncache()
        :: else -> skip
        fi;
        reading = false; /* both already, but for the mistake */
        writing = false;
        free_slot()
    fi
}

inline put_use()
{
    assert(!removed && users != 0);
    users--;
    if
    :: users == 0 && !(frame != NOBODY && written && open &&
                       (maps[frame] != 0 || bug == BUG_COPY_OF_NOBODYS)) -> drop_unused()
    :: else -> skip
    fi
}

/* The entry of @s for frame @old is gone, and so is its reference. */
inline unmapped(was)
{
    maps[was]--;
    if
    :: maps[was] == 0 && cached[was] && users == 0 -> drop_unused()
    :: else -> skip
    fi;
    put_frame(was)
}

inline lock(s)
{
    atomic { !locked[s] -> locked[s] = true }
}

inline unlock(s)
{
    locked[s] = false
}

/* The name in @s becomes a leaf for the frame that the cache has.  Locked. */
inline install(s)
{
    entry[s] = LEAF;
    page[s] = frame;
    writable[s] = bug == BUG_MAPPED_WRITABLE;
    refs[frame]++;
    maps[frame]++;
    put_use()
}

/* ---- Reading: the frame comes in @held with a reference, or NOBODY where nobody names the slot ------ */

inline fetch(got)
{
    got = NOBODY;
    do
    :: atomic {
        removed || users == 0 -> break
       }
    :: atomic {
        !removed && users != 0 && frame != NOBODY && !reading -> got = frame; refs[got]++; break
       }
    :: atomic {
        !removed && users != 0 && (frame == NOBODY || (reading && bug == BUG_READ_TWICE)) ->
        assert(written);
        take_frame(got);
        refs[got]++;
        frame = got;
        cached[got] = true;
        reading = true
       };
       content[got] = disk;
       atomic {
        reading = false;
        if
        :: users == 0 -> drop_unused()
        :: else -> skip
        fi;
        break
       }
    od
}

inline drop_held(ref)
{
    if
    :: ref != NOBODY -> atomic { put_frame(ref); ref = NOBODY }
    :: else -> skip
    fi
}

/* ---- Users ---------------------------------------------------------------------------------- */

/* A write met a read-only leaf.  Locked. */
inline copy_on_write()
{
    atomic {
        old = page[s];
        if
        :: !cached[old] && refs[old] == 1 -> writable[s] = true
        :: cached[old] && refs[old] == 2 && (users == 0 || bug == BUG_TAKEN_WITH_NAMES) &&
            ((!reading && !writing) || bug == BUG_TAKEN_IN_FLIGHT) ->
            uncache();
            if
            :: users == 0 && !reading && !writing -> free_slot()
            :: else -> skip
            fi;
            writable[s] = true
        :: else ->
            take_frame(copy);
            content[copy] = content[old];
            tlb[s] = NOBODY;
            page[s] = copy;
            maps[copy] = 1;
            writable[s] = true;
            unmapped(old)
        fi
    }
}

inline fault()
{
    lock(s);
    if
    :: entry[s] == LEAF && write && !writable[s] -> copy_on_write(); unlock(s)
    :: entry[s] == LEAF && !(write && !writable[s]) ->
        atomic { tlb[s] = page[s]; tlb_writable[s] = writable[s] };
        unlock(s)
    :: entry[s] == NAME ->
        atomic {
            if
            :: frame != NOBODY && (!reading || bug == BUG_FOUND_TOO_EARLY) ->
                install(s);
                unlock(s)
            :: else -> unlock(s); goto wait
            fi
        };
        goto found;
wait:   drop_held(held);
        fetch(held);
        goto again;
found:  skip
    fi;
    drop_held(held);
again: skip
}

/* One load or store. */
inline use()
{
    do
    :: atomic {
        tlb[s] != NOBODY && (!write || tlb_writable[s]) ->
        if
        :: write -> content[tlb[s]] = value; expected[s] = value
        :: else -> assert(content[tlb[s]] == expected[s])
        fi;
        break
       }
    :: atomic { !(tlb[s] != NOBODY && (!write || tlb_writable[s])) -> skip };
       fault()
    od;
    drop_held(held)
}

inline fork_b()
{
    lock(A);
    atomic {
        entry[B] = entry[A];
        if
        :: entry[A] == LEAF ->
            writable[A] = false;
            tlb[A] = NOBODY;
            page[B] = page[A];
            refs[page[A]]++;
            maps[page[A]]++
        :: entry[A] == NAME -> users = users + (bug != BUG_FORK_COUNTS_NO_USE)
        fi;
        expected[B] = expected[A];
        forked = true
    };
    unlock(A)
}

inline end_of()
{
    lock(s);
    atomic {
        tlb[s] = NOBODY;
        if
        :: entry[s] == LEAF -> unmapped(page[s])
        :: entry[s] == NAME -> put_use()
        fi;
        entry[s] = ABSENT;
        ended++
    };
    unlock(s)
}

proctype user(byte s)
{
    byte times, value = 10 * (s + 1), held = NOBODY;
    bool write;

    (s == A || forked);
    do
    :: times < USES ->
        times++;
        value++;
        if
        :: write = false
        :: write = true
        fi;
        use()
    :: s == A && !forked -> fork_b()
    :: forked -> break
    od;
    end_of()
}

/* ---- Reclaim --------------------------------------------------------------------------------- */

inline take_out(s)
{
    lock(s);
    atomic {
        f = NOBODY;
        if
        :: entry[s] == LEAF && refs[page[s]] == maps[page[s]] + cached[page[s]] && open ->
            f = page[s];
            if
            :: cached[f] -> users++
            :: !cached[f] && users == 0 && frame == NOBODY ->
                users = 1;
                frame = f;
                cached[f] = true;
                refs[f]++
            :: else -> f = NOBODY
            fi
        :: else -> skip
        fi;
        if
        :: f != NOBODY -> entry[s] = NAME; maps[f]--
        :: else -> skip
        fi
    };
    tlb[s] = (bug == BUG_FLUSHED_LATE -> tlb[s] : NOBODY);
    if
    :: f != NOBODY -> atomic { put_frame(f) }
    :: else -> skip
    fi;
    unlock(s)
}

inline let_go()
{
    uncache();
    if
    :: users == 0 -> free_slot()
    :: else -> skip
    fi
}

inline write_out()
{
    atomic {
        if
        :: frame != NOBODY && !reading && !writing && refs[frame] == 1 ->
            if
            :: written || users == 0 -> let_go(); goto done
            :: else -> writing = true
            fi
        :: else -> goto done
        fi
    };
    disk = content[frame];
    atomic {
        assert(writing && frame != NOBODY);
        writing = false;
        written = true;
        if
        :: users == 0 -> drop_unused()
        :: users != 0 && refs[frame] == 1 -> let_go()
        :: else -> skip
        fi
    };
done: skip
}

proctype reclaim()
{
    byte round, f;

    do
    :: round < ROUNDS ->
        round++;
        if
        :: take_out(A)
        :: take_out(B)
        :: skip
        fi;
        write_out()
    :: atomic {
        bug == BUG_FLUSHED_LATE && round != 0 ->
        tlb[A] = NOBODY;
        tlb[B] = NOBODY
       }
    :: ended == 2 -> break
    od
}

/* ---- swapoff ----------------------------------------------------------------------------------- */

inline bring_back(s)
{
    if
    :: entry[s] == NAME ->
        fetch(held);
        if
        :: held != NOBODY ->
            lock(s);
            atomic {
                if
                :: entry[s] == NAME && frame == held -> install(s)
                :: else -> skip
                fi
            };
            unlock(s)
        :: else -> skip
        fi;
        drop_held(held)
    :: else -> skip
    fi
}

inline settle()
{
    atomic {
        !reading && !writing ->
        if
        :: users == 0 && frame != NOBODY -> drop_unused()
        :: else -> skip
        fi
    }
}

proctype swapoff()
{
    byte held = NOBODY;

    open = false;
    do
    :: bring_back(B);
       bring_back(A);
       settle();
       atomic {
        if
        :: (users == 0 && frame == NOBODY) || bug == BUG_REMOVED_UNSEEN -> removed = true; break
        :: else -> skip
        fi
       }
    od
}

init
{
    byte f;

    c_code { now.bug = getenv("BUG") != 0 ? atoi(getenv("BUG")) : 0; };
    atomic {
        take_frame(f);
        content[f] = 1;
        maps[f] = 1;
        entry[A] = LEAF;
        page[A] = f;
        writable[A] = true;
        expected[A] = 1;
        run user(A);
        run user(B);
#ifndef STAYS_ON
        run swapoff();
#endif
        run reclaim()
    };
    _nr_pr == 1;
    assert(users == 0 && frame == NOBODY && !reading && !writing);
    assert(refs[0] + refs[1] + refs[2] + refs[3] == 0)
}
