/* SPDX-License-Identifier: MIT */
/*
 * Identifiers (src/tlb/asid.c): three CPUs, three spaces, three numbers in rounds.
 * CPUs 0 and 1 switch as they like; CPU 2 unmaps the page of space 0, and may run it.
 * A round may end before its numbers do, so that they roll over at any moment.
 *
 * -DBROADCAST: CPU 2's flush names the number and reaches every CPU, or none but
 * itself where nobody else has run the space.  Else: requests and generations.
 *
 * SWITCHES_0 and _1 say how often CPUs 0 and 1 switch, ROUNDS how often the numbers
 * may roll over, LAZY that CPU 0 runs kernel threads in between, UNMAPPER_RUNS that
 * CPU 2 runs the space that it unmaps, ENDS that the space ends and is born again.
 *
 * Wrong is an entry that is used by another space than the one it was made for, or
 * after the unmapping of its page has returned; one number that two CPUs load for
 * different spaces; and a look at a space that has ended.  -DBUG_x seeds a mistake.
 */
#define CPUS    3
#define SPACES  3
#define NUMBERS 3
#define ALL     15
#define NOBODY  255
#define BIT(n)  (1 << (n))
#define AT(cpu, n) ((cpu) * (NUMBERS + 1) + (n))
#define SLOT(cpu, n) ((cpu) * 2 + ((n) & 1)) /* two numbers share one */

byte life[SPACES];       /* which space it is in truth */
byte generation[SPACES];
byte in_round[SPACES];   /* with number: the identifier, stored at once */
byte asid[SPACES];       /* 0: none yet */
byte running[SPACES];    /* in the code: active; CPUs that have it loaded */
byte held[SPACES];       /* CPUs that may hold entries under its number */
bool mapped[SPACES];
bool returned[SPACES];   /* the unmapping has */

bool lock;
byte round = 1;
byte used = 1;           /* numbers that this round has given out; 0 is the kernel's */

byte coming[CPUS] = NOBODY;
byte loaded[CPUS] = NOBODY;
byte hardware[CPUS] = NOBODY; /* whose tables it walks in truth */
byte number[CPUS];       /* under which */
bool lazy[CPUS];
byte cpu_round[CPUS] = 1;
byte slot_context[6];    /* [SLOT(cpu, number)]: 8 * round + number */
byte slot_generation[6];
byte entry[12];          /* [AT(cpu, number)]: whose page the TLB holds under it, its life; 0: none */

bool asked[CPUS];        /* CPU 2's request */
byte waiting, asked_space, asked_generation;
byte ended;
byte wanted[CPUS] = NOBODY; /* where the CPU's program goes */
bool gone;                  /* space 0 is about to end: no program goes there */

#ifdef BROADCAST
#define serve(me) skip
#else
inline serve(me)
{
    if
    :: asked[me] ->
        if
        :: loaded[me] == asked_space && slot_generation[SLOT(me, number[me])] < asked_generation ->
            entry[AT(me, number[me])] = 0;
            slot_generation[SLOT(me, number[me])] = asked_generation
        :: else -> skip
        fi;
        atomic { asked[me] = false; waiting = waiting & ~BIT(me) }
    :: else -> skip
    fi
}
#endif

/*
 * asid_carry() of what @where says.  Identifiers change under the lock, which we hold; only
 * a space that ends can come between.
 */
inline carry(where)
{
#ifdef ENDS
    p = where;
    if
    :: p != NOBODY -> was = life[p]
    :: else -> skip
    fi;
#endif
    atomic {
#ifdef ENDS
        assert(p == NOBODY || life[p] == was);
#else
        p = where;
#endif
        if
        :: p != NOBODY ->
            if
            :: in_round[p] == round - 1 -> used = used | BIT(asid[p]); in_round[p] = round
            :: else -> skip
            fi
        :: else -> skip
        fi;
        p = 0;
        was = 0
    }
}

inline carry_both(c)
{
#ifdef BUG_LOADED_READ_FIRST
    carry(loaded[c]);
#endif
#if !defined(BUG_COMING_IS_NOT_CARRIED) && !defined(BUG_LOOK_BEFORE_ROUND)
    carry(coming[c]);
#endif
#if !defined(BUG_LOADED_IS_NOT_CARRIED) && !defined(BUG_LOADED_READ_FIRST)
    carry(loaded[c]);
#endif
    skip
}

/* round_begin() */
inline begin_round()
{
#ifdef BUG_LOOK_BEFORE_ROUND
    p0 = coming[0];
    p1 = coming[1];
    atomic { round++; used = 1 };
    carry(p0);
    carry(p1);
    atomic { p0 = 0; p1 = 0 };
#else
    atomic { round++; used = 1 };
#endif
    carry_both(0);
    carry_both(1);
#ifdef UNMAPPER_RUNS
    carry_both(2);
#endif
    skip
}

/* qr_asid_get() */
inline get_number(me, s)
{
#ifdef BUG_ROUND_READ_FIRST
    r = round;
    coming[me] = s;
    atomic { found = in_round[s] == r && cpu_round[me] == r; n = asid[s] };
#else
    coming[me] = s;
    atomic { r = in_round[s]; n = asid[s] };
#ifdef BUG_OWN_ROUND_IS_NOT_ASKED
    found = r == round;
#else
    found = r == round && cpu_round[me] == r;
#endif
#endif
    if
    :: atomic { found -> found = false }
    :: atomic { !found -> n = 0; r = 0 };
        do
        :: atomic { !lock -> lock = true }; break
        :: lock -> serve(me)
        od;
        if
        :: in_round[s] != round ->
            if
            :: used != ALL -> skip
            :: used == ALL || round <= ROUNDS -> begin_round()
            fi;
            atomic {
                n = 1;
                do
                :: (used & BIT(n)) != 0 -> n++
                :: else -> break
                od;
                assert(n <= NUMBERS);
                used = used | BIT(n);
                held[s] = 0
            };
            atomic { in_round[s] = round; asid[s] = n; r = round; lock = false }
        :: else -> atomic { n = asid[s]; r = round; lock = false }
        fi
    fi
}

/* Hardware fills by itself. */
inline ahead(me)
{
    if
    :: atomic {
           hardware[me] != NOBODY && entry[AT(me, number[me])] == 0 && mapped[hardware[me]] ->
           entry[AT(me, number[me])] = life[hardware[me]]
       }
    :: skip
    fi
}

inline nobody_else(me, s)
{
#ifdef BROADCAST
    assert(me == 0 || number[0] != n || hardware[0] == NOBODY || hardware[0] == s);
    assert(me == 1 || number[1] != n || hardware[1] == NOBODY || hardware[1] == s);
    assert(me == 2 || number[2] != n || hardware[2] == NOBODY || hardware[2] == s)
#else
    skip
#endif
}

/* qr_tlb_switch() */
inline switch_to(me, s)
{
    get_number(me, s);
#ifndef BUG_LAZY_WHEN_SEEN
    lazy[me] = false;
#endif
    running[s] = running[s] | BIT(me);
    seen = generation[s];
#ifdef BUG_LAZY_WHEN_SEEN
    lazy[me] = false;
#endif
    atomic { /* this CPU's own */
        keep = slot_context[SLOT(me, n)] == 8 * r + n && slot_generation[SLOT(me, n)] == seen;
#ifdef BUG_KEPT_WHEN_BEHIND
        keep = slot_context[SLOT(me, n)] == 8 * r + n;
#endif
#ifdef BROADCAST
        keep = true;
#endif
#if defined(BROADCAST) && !defined(BUG_NO_FLUSH_IN_A_NEW_ROUND)
        if
        :: cpu_round[me] != r ->
            entry[AT(me, 1)] = 0;
            entry[AT(me, 2)] = 0;
            entry[AT(me, 3)] = 0
        :: else -> skip
        fi;
#endif
        cpu_round[me] = r;
        slot_context[SLOT(me, n)] = 8 * r + n;
        slot_generation[SLOT(me, n)] = seen;
        r = 0;
        seen = 0
    };
#ifdef BROADCAST
    held[s] = held[s] | BIT(me);
#endif
    ahead(me);
#ifdef BUG_LOADED_TOO_EARLY
    previous = loaded[me];
    loaded[me] = s;
#endif
    atomic {
        nobody_else(me, s);
        if
        :: !keep -> entry[AT(me, n)] = 0
        :: else -> skip
        fi;
        hardware[me] = s;
        number[me] = n;
        keep = false;
        n = 0
    };
#ifndef BUG_LOADED_TOO_EARLY
    atomic { previous = loaded[me]; loaded[me] = s };
#endif
    atomic {
        if
        :: previous != NOBODY && previous != s -> running[previous] = running[previous] & ~BIT(me)
        :: else -> skip
        fi;
        previous = 0
    }
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

/* qr_tlb_load_kernel() */
inline leave(me)
{
    hardware[me] = NOBODY;
    atomic { previous = loaded[me]; loaded[me] = NOBODY };
    coming[me] = NOBODY;
    atomic {
        if
        :: previous != NOBODY -> running[previous] = running[previous] & ~BIT(me)
        :: else -> skip
        fi;
        previous = 0
    }
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
#ifdef BUG_OLD_ROUND_IS_NOBODYS
    atomic {
        n = asid[s];
        if
        :: in_round[s] != round -> n = 0
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
    r = running[s] & 3;
    if
    :: (r & 1) != 0 && lazy[0] -> r = r & ~1
    :: else -> skip
    fi;
    atomic {
        waiting = r;
        asked[0] = (waiting & 1) != 0;
        asked[1] = (waiting & 2) != 0;
        r = 0
    };
    if
    :: loaded[2] == s && slot_generation[SLOT(2, number[2])] < asked_generation ->
        atomic {
            entry[AT(2, number[2])] = 0;
            slot_generation[SLOT(2, number[2])] = asked_generation
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
#ifndef BUG_END_WITHOUT_LOCK
    do
    :: atomic { !lock -> lock = true }; break
    :: lock -> serve(me)
    od;
    lock = false;
#endif
    atomic {
        life[s] = SPACES + 1;
        in_round[s] = 0;
        asid[s] = 0;
        held[s] = 0;
        generation[s] = 1;
        mapped[s] = true;
        returned[s] = false;
        gone = false
    }
}

proctype cpu(byte me; byte switches)
{
    byte next, seen, previous, n, r, p, p0, p1, was;
    bool keep, found;

    do
    :: switches > 0 ->
        atomic {
            switches--;
            if
            :: loaded[me] != 0 && !gone -> next = 0
            :: loaded[me] != 1 -> next = 1
            :: loaded[me] != 2 -> next = 2
            fi;
            wanted[me] = next
        };
        switch_to(me, next);
        use(me);
        serve(me);
        use(me);
#ifdef LAZY
        if
        :: me == 0 -> lazy[0] = true; serve(me); ahead(me)
        :: skip
        fi
#endif
    :: switches == 0 -> break
    od;
    wanted[me] = NOBODY;
    leave(me);
    ended++;
    do
    :: asked[me] -> serve(me)
    :: ended == CPUS && !asked[me] -> break
    od
}

proctype unmapper()
{
    byte seen, previous, n, r, p, p0, p1, was;
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
    atomic { running[0] == 0 && wanted[0] != 0 && wanted[1] != 0 -> gone = true };
    space_ends(2, 0);
#endif
    ended++
}

init {
    atomic {
        byte i = 0;
        do
        :: i < SPACES ->
            life[i] = i + 1;
            generation[i] = 1;
            mapped[i] = true;
            i++
        :: else -> break
        od;
        /* Two of them have run before, and have a number; CPU 0 still holds the first one's page. */
        in_round[0] = 1;
        asid[0] = 1;
        held[0] = BIT(0);
        slot_context[SLOT(0, 1)] = 8 + 1;
        slot_generation[SLOT(0, 1)] = generation[0];
        entry[AT(0, 1)] = life[0];
        in_round[1] = 1;
        asid[1] = 2;
        used = 7;
        run cpu(0, SWITCHES_0);
        run cpu(1, SWITCHES_1);
        run unmapper()
    }
}
