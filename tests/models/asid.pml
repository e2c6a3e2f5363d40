/* SPDX-License-Identifier: MIT */
/*
 * Identifiers: two CPUs with two slots each switch among three spaces, one of
 * which ends and is born again at the same address, while a third CPU unmaps
 * the page that each of them has.  A slot's number tags the entries.
 *
 * Wrong is an entry that is used by another space than the one it was made for,
 * or after the unmapping of its page has returned.  -DBUG_x seeds a mistake.
 */
#define CPUS   2
#define SLOTS  2
#define SPACES 3
#define BIT(n) (1 << (n))
#define AT(me) (me * SLOTS + slot[me])

byte life[SPACES];       /* which space it is in truth */
byte id[SPACES];         /* what the code takes it for: never given out again */
byte next_life = 1;
byte generation[SPACES];
byte running[SPACES];    /* CPUs that have it loaded */
bool mapped[SPACES];
bool returned[SPACES];   /* the unmapping has */

byte slot[CPUS];         /* in use now */
byte loaded[CPUS] = 255; /* space */
byte victim[CPUS];
byte slot_id[4];         /* [CPU * SLOTS + slot] */
byte slot_generation[4];
byte entry_life[4];      /* whose page the TLB holds under this tag; 0: none */

bool asked[CPUS];        /* the third CPU's request */
bool waiting[CPUS];
byte asked_space, asked_generation;
byte ended;

inline serve(me)
{
    if
    :: loaded[me] == asked_space && slot_generation[AT(me)] < asked_generation ->
        entry_life[AT(me)] = 0;
        slot_generation[AT(me)] = asked_generation
    :: else -> skip
    fi;
    atomic { asked[me] = false; waiting[me] = false }
}

/* qr_tlb_switch() */
inline switch_to(me, s)
{
    running[s] = running[s] | BIT(me);
    seen = generation[s];
    atomic { /* this CPU's own */
        if
        :: slot_id[me * SLOTS] == id[s] ->
            slot[me] = 0;
            keep = slot_generation[AT(me)] == seen
        :: slot_id[me * SLOTS] != id[s] && slot_id[me * SLOTS + 1] == id[s] ->
            slot[me] = 1;
            keep = slot_generation[AT(me)] == seen
        :: else ->
            slot[me] = victim[me];
            victim[me] = 1 - victim[me];
#ifdef BUG_TAKEN_WITHOUT_FLUSH
            keep = true
#else
            keep = false
#endif
        fi;
#ifdef BUG_KEPT_WHEN_BEHIND
        if
        :: slot_id[AT(me)] == id[s] -> keep = true
        :: else -> skip
        fi;
#endif
        slot_id[AT(me)] = id[s];
        slot_generation[AT(me)] = seen;
        if
        :: !keep -> entry_life[AT(me)] = 0
        :: else -> skip
        fi;
        previous = loaded[me];
        loaded[me] = s;
        seen = 0;
        keep = false
    };
    if
    :: previous != 255 && previous != s -> running[previous] = running[previous] & ~BIT(me)
    :: else -> skip
    fi;
    previous = 0
}

inline use(me)
{
    atomic {
        if
        :: entry_life[AT(me)] != 0 ->
            assert(entry_life[AT(me)] == life[loaded[me]]);
            assert(!returned[loaded[me]])
        :: else ->
            if
            :: mapped[loaded[me]] -> entry_life[AT(me)] = life[loaded[me]]
            :: else -> skip
            fi
        fi
    }
}

proctype cpu(byte me)
{
    byte times = 0;
    byte seen, previous;
    bool keep;

    do
    :: asked[me] -> serve(me)
    :: times < 4 - 2 * me ->
        times++;
        if
        :: loaded[me] != 0 -> switch_to(me, 0)
        :: loaded[me] != 1 -> switch_to(me, 1)
        :: me == 0 && loaded[me] != 2 -> switch_to(me, 2)
        fi;
        use(me)
    :: times == 4 - 2 * me -> break
    od;
    /* Off to the kernel's tables. */
    previous = loaded[me];
    loaded[me] = 255;
    running[previous] = running[previous] & ~BIT(me);
    ended++;
    do
    :: asked[me] -> serve(me)
    :: ended == CPUS + 1 && !asked[me] -> break
    od
}

inline unmap(s)
{
    mapped[s] = false;
    atomic {
        generation[s]++;
        asked_space = s;
        asked_generation = generation[s]
    };
    atomic {
        waiting[0] = (running[s] & 1) != 0;
        waiting[1] = (running[s] & 2) != 0;
        asked[0] = waiting[0];
        asked[1] = waiting[1]
    };
    (!waiting[0] && !waiting[1]);
    returned[s] = true
}

proctype unmapper()
{
    unmap(1);
    unmap(0);
    /* Space 0 ends when nobody runs it, and its structure is used for a new one. */
    if
    :: atomic {
           running[0] == 0 ->
           life[0] = next_life;
           next_life++;
#ifndef BUG_IDENTITY_USED_AGAIN
           id[0] = life[0];
#endif
           generation[0] = 1;
           mapped[0] = true;
           returned[0] = false
       }
    :: skip
    fi;
    ended++
}

init {
    atomic {
        byte i = 0;
        do
        :: i < SPACES ->
            life[i] = next_life;
            id[i] = next_life;
            next_life++;
            generation[i] = 1;
            mapped[i] = true;
            i++
        :: else -> break
        od;
        run cpu(0);
        run cpu(1);
        run unmapper()
    }
}
