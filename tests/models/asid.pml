/* SPDX-License-Identifier: MIT */
/*
 * Identifiers (src/tlb/asid.c): three CPUs, three spaces, two numbers, so that a
 * number changes hands all the time and spaces that run at once may have to
 * share.  CPUs 0 and 1 switch as they like; CPU 2 unmaps the page of space 0, and may run it.
 *
 * -DBROADCAST: CPU 2's flush names the number and reaches every CPU, or none but
 * itself where nobody else has run the space.  Else: requests and generations.
 *
 * SWITCHES_0 and _1 say how often CPUs 0 and 1 switch, UNMAPPER_RUNS that CPU 2 runs the
 * space that it unmaps, ENDS that the space ends and is born again.
 *
 * Wrong is an entry that is used by another space than the one it was made for,
 * or after the unmapping of its page has returned.  -DBUG_x seeds a mistake.
 */
#define CPUS    3
#define SPACES  3
#define NUMBERS 2
#define NOBODY  255
#define BIT(n)  (1 << (n))
#define AT(cpu, n) ((cpu) * (NUMBERS + 1) + (n))

byte life[SPACES];       /* which space it is in truth */
byte id[SPACES];         /* what the code takes it for: never given out again */
byte generation[SPACES];
byte asid[SPACES];       /* 0: none yet */
bool taken[SPACES];      /* the flag in asid */
byte running[SPACES];    /* in the code: active; CPUs that have it loaded */
byte held[SPACES];       /* CPUs that may hold entries under its number */
bool mapped[SPACES];
bool returned[SPACES];   /* the unmapping has */

bool lock;
byte owner[NUMBERS + 1] = NOBODY;
byte hand;

byte loaded[CPUS] = NOBODY;
byte number[CPUS];       /* under which it is loaded */
byte slot_id[9];         /* [AT(cpu, number)] */
byte slot_generation[9];
byte entry[9];           /* whose page the TLB holds under it: its life; 0: none */

bool asked[CPUS];        /* CPU 2's request */
byte waiting, asked_space, asked_generation;
byte ended;

#ifdef BROADCAST
#define serve(me) skip
#else
inline serve(me)
{
    if
    :: asked[me] ->
        if
        :: loaded[me] == asked_space && slot_generation[AT(me, number[me])] < asked_generation ->
            entry[AT(me, number[me])] = 0;
            slot_generation[AT(me, number[me])] = asked_generation
        :: else -> skip
        fi;
        atomic { asked[me] = false; waiting = waiting & ~BIT(me) }
    :: else -> skip
    fi
}
#endif

/* Under the lock: a number for @s.  What its taker does to the victim is two steps. */
inline find_number(me, s)
{
    n = hand;
    tries = 0;
    do
    :: tries == NUMBERS -> break /* all are in use: share */
    :: tries < NUMBERS ->
        atomic { tries++; n = n % NUMBERS + 1 };
        if
        :: owner[n] == NOBODY -> break
        :: else ->
#ifdef BUG_LOOK_BEFORE_TAKING
            found = running[owner[n]] == 0;
            taken[owner[n]] = found;
#else
            taken[owner[n]] = true;
            found = running[owner[n]] == 0;
#ifdef BUG_TAKEN_WHILE_RUNNING
            found = true;
#endif
            if
            :: !found -> taken[owner[n]] = false
            :: else -> skip
            fi;
#endif
            if
            :: found -> break
            :: else -> skip
            fi
        fi
    od;
    atomic { found = false; tries = 0; hand = n }
}

/* qr_asid_get() */
inline get_number(me, s)
{
    atomic {
        n = asid[s];
        if
        :: taken[s] -> n = 0
        :: else -> skip
        fi
    };
    if
    :: n != 0 -> skip
    :: else ->
        do
        :: atomic { !lock -> lock = true }; break
        :: lock -> serve(me)
        od;
        if
        :: asid[s] == 0 || taken[s] ->
            find_number(me, s);
            atomic {
                owner[n] = s;
                held[s] = 0;
#ifndef BUG_NO_NEW_GENERATION
                generation[s]++;
#endif
                skip
            };
            atomic { asid[s] = n; taken[s] = false; lock = false }
        :: else -> atomic { n = asid[s]; lock = false }
        fi
    fi
}

/* qr_tlb_switch() */
inline switch_to(me, s)
{
    running[s] = running[s] | BIT(me);
    get_number(me, s);
    seen = generation[s];
    atomic { /* this CPU's own, but `held`, which is early */
#ifdef BUG_KEPT_UNDER_ANOTHERS_NUMBER
        keep = slot_generation[AT(me, n)] == seen;
#else
#ifdef BUG_KEPT_WHEN_BEHIND
        keep = slot_id[AT(me, n)] == id[s];
#else
        keep = slot_id[AT(me, n)] == id[s] && slot_generation[AT(me, n)] == seen;
#endif
#endif
        slot_id[AT(me, n)] = id[s];
        slot_generation[AT(me, n)] = seen;
        seen = 0
    };
    if
    :: !keep ->
        atomic { entry[AT(me, n)] = 0; held[s] = held[s] | BIT(me) }
    :: else -> skip
    fi;
    atomic {
        keep = false;
        previous = loaded[me];
        loaded[me] = s;
        number[me] = n;
        n = 0
    };
    if
    :: previous != NOBODY && previous != s -> running[previous] = running[previous] & ~BIT(me)
    :: else -> skip
    fi;
    previous = 0
}

/* The program's access, or hardware ahead of it. */
inline use(me)
{
    atomic {
        if
        :: entry[AT(me, number[me])] != 0 ->
            assert(entry[AT(me, number[me])] == life[loaded[me]]);
            assert(!returned[loaded[me]])
        :: else ->
            if
            :: mapped[loaded[me]] -> entry[AT(me, number[me])] = life[loaded[me]]
            :: else -> skip
            fi
        fi
    }
}

inline leave(me)
{
    atomic { previous = loaded[me]; loaded[me] = NOBODY };
    if
    :: previous != NOBODY -> running[previous] = running[previous] & ~BIT(me)
    :: else -> skip
    fi
}

inline flush_everywhere(s)
{
#ifdef BUG_HELD_READ_FIRST
    found = (held[s] & ~BIT(2)) != 0;
#endif
#ifdef BUG_NUMBER_READ_FIRST
    n = asid[s];
    mapped[s] = false;
#else
    mapped[s] = false;
#ifdef BUG_TAKEN_IS_NOBODYS
    atomic {
        n = asid[s];
        if
        :: taken[s] -> n = 0
        :: else -> skip
        fi
    };
#else
    n = asid[s];
#endif
#endif
#ifndef BUG_HELD_READ_FIRST
    found = (held[s] & ~BIT(2)) != 0;
#endif
    if
    :: n != 0 ->
        if
        :: found ->
            atomic { entry[AT(0, n)] = 0; entry[AT(1, n)] = 0 }
        :: else -> skip
        fi;
        entry[AT(2, n)] = 0
    :: else -> skip
    fi;
    atomic { n = 0; found = false }
}

inline flush_by_request(s)
{
    mapped[s] = false;
    atomic { generation[s]++; asked_space = s; asked_generation = generation[s] };
    atomic {
        waiting = running[s] & 3;
        asked[0] = (waiting & 1) != 0;
        asked[1] = (waiting & 2) != 0
    };
    if
    :: loaded[2] == s && slot_generation[AT(2, number[2])] < asked_generation ->
        atomic {
            entry[AT(2, number[2])] = 0;
            slot_generation[AT(2, number[2])] = asked_generation
        }
    :: else -> skip
    fi;
    waiting == 0
}

inline unmap(s)
{
#ifdef BROADCAST
    flush_everywhere(s);
#else
    flush_by_request(s);
#endif
    returned[s] = true
}

/* Nobody runs it and nobody will: its structure becomes another space. */
inline space_ends(me, s)
{
    do
    :: atomic { !lock -> lock = true }; break
    :: lock -> serve(me)
    od;
    atomic {
        if
        :: asid[s] != 0 && owner[asid[s]] == s -> owner[asid[s]] = NOBODY
        :: else -> skip
        fi;
        life[s] = SPACES + 1;
#ifndef BUG_IDENTITY_USED_AGAIN
        id[s] = SPACES + 1;
#endif
        asid[s] = 0;
        taken[s] = false;
        held[s] = 0;
        generation[s] = 1;
        mapped[s] = true;
        returned[s] = false;
        lock = false
    }
}

proctype cpu(byte me; byte switches)
{
    byte next, seen, previous, n, tries;
    bool keep, found;

    do
    :: switches > 0 ->
        atomic {
            switches--;
            if
            :: loaded[me] != 0 -> next = 0
            :: loaded[me] != 1 -> next = 1
            :: loaded[me] != 2 -> next = 2
            fi
        };
        switch_to(me, next);
        use(me);
        serve(me);
        use(me)
    :: switches == 0 -> break
    od;
    leave(me);
    ended++;
    do
    :: asked[me] -> serve(me)
    :: ended == CPUS && !asked[me] -> break
    od
}

proctype unmapper()
{
    byte seen, previous, n, tries;
    bool keep, found;

#ifdef UNMAPPER_RUNS
    switch_to(2, 0);
    use(2);
#endif
    unmap(0);
    if
    :: loaded[2] == 0 -> use(2); leave(2)
    :: else -> skip
    fi;
#ifdef ENDS
    atomic { running[0] == 0 -> running[0] = BIT(7) }; /* no CPU comes by any more */
    space_ends(2, 0);
    running[0] = 0;
#endif
    ended++
}

init {
    atomic {
        byte i = 0;
        do
        :: i < SPACES ->
            life[i] = i + 1;
            id[i] = i + 1;
            generation[i] = 1;
            mapped[i] = true;
            i++
        :: else -> break
        od;
        /* Two of them have run before, and have a number; CPU 0 still holds the first one's page. */
        asid[0] = 1;
        owner[1] = 0;
        held[0] = BIT(0);
        slot_id[AT(0, 1)] = id[0];
        slot_generation[AT(0, 1)] = generation[0];
        entry[AT(0, 1)] = life[0];
        asid[1] = 2;
        owner[2] = 1;
        run cpu(0, SWITCHES_0);
        run cpu(1, SWITCHES_1);
        run unmapper()
    }
}
