/* SPDX-License-Identifier: MIT */
/*
 * The shootdown protocol of src/tlb: three CPUs, one space, two pages.
 *
 * A page is never mapped again, so once an unmap of it has returned, nobody may
 * use it.  That holds for an unmap that found the page gone already, too.
 *
 * One statement is one access to shared memory.  Interrupts are taken between
 * operations and in every spin loop, as in the code.  -DBUG_x seeds a mistake
 * that the model has to find (run.sh).
 */
#define CPUS 3
#define BIT(n) (1 << (n))

byte generation = 1;
byte pte = 3;        /* bit p: page p is mapped */
byte returned;       /* bit p: some unmap of page p has returned */
byte pending;        /* batches with notes that nobody flushed */
bool table_lock;
byte running;        /* in the code: space->active */
bool lazy[CPUS];
bool loaded[CPUS];   /* this CPU alone */
byte slot[CPUS];     /* generation up to which the CPU's entries are true */
byte tlb[CPUS];      /* pages that it holds, tagged with the space */
byte incoming[CPUS]; /* CPUs whose request waits for us */
byte waiting[CPUS];  /* of our request: who has not acknowledged */
byte request_generation[CPUS];
byte request_pages[CPUS]; /* 0: the whole space */
byte ended;          /* CPUs that have done all they do */

/* Drop everything; true up to @seen, which was read before.  Hardware may fill ahead at once. */
inline flush_whole(me)
{
    tlb[me] = pte & (tlb[me] | 1);
#ifdef BUG_GENERATION_AFTER_FLUSH
    slot[me] = generation;
#else
    atomic { slot[me] = seen; seen = 0 }
#endif
}

inline catch_up(me, who)
{
    if
    :: slot[me] >= request_generation[who] -> skip
#ifdef BUG_PAGES_WHEN_FURTHER_BEHIND
    :: slot[me] < request_generation[who] && request_pages[who] != 0 ->
#else
    :: slot[me] + 1 == request_generation[who] && request_pages[who] != 0 ->
#endif
        atomic {
            tlb[me] = tlb[me] & ~request_pages[who];
            slot[me] = request_generation[who]
        }
    :: else -> seen = generation; flush_whole(me)
    fi
}

/* tlb_poll() */
inline poll(me)
{
    atomic { taken = incoming[me]; incoming[me] = 0 };
    do
    :: taken == 0 -> break
    :: else ->
        atomic {
            if
            :: (taken & 1) != 0 -> from = 0
            :: (taken & 3) == 2 -> from = 1
            :: (taken & 7) == 4 -> from = 2
            fi;
            taken = taken & ~BIT(from)
        };
        if
        :: loaded[me] -> catch_up(me, from)
        :: else -> skip
        fi;
        atomic { waiting[from] = waiting[from] & ~BIT(me); from = 0 }
    od
}

/* tlb_shoot(): @pages, or the whole space where 0 */
inline shoot(me, pages)
{
#ifdef BUG_LOOK_BEFORE_COUNTING
    targets = running & ~BIT(me);
#endif
    atomic { generation++; request_generation[me] = generation };
#ifndef BUG_LOOK_BEFORE_COUNTING
    targets = running & ~BIT(me);
#endif
    atomic {
        if
        :: lazy[0] -> targets = targets & ~BIT(0)
        :: else -> skip
        fi;
        if
        :: lazy[1] -> targets = targets & ~BIT(1)
        :: else -> skip
        fi;
        if
        :: lazy[2] -> targets = targets & ~BIT(2)
        :: else -> skip
        fi
    };
    atomic {
        request_pages[me] = pages;
        waiting[me] = targets;
        if
        :: (targets & BIT(0)) != 0 -> incoming[0] = incoming[0] | BIT(me)
        :: else -> skip
        fi;
        if
        :: (targets & BIT(1)) != 0 -> incoming[1] = incoming[1] | BIT(me)
        :: else -> skip
        fi;
        if
        :: (targets & BIT(2)) != 0 -> incoming[2] = incoming[2] | BIT(me)
        :: else -> skip
        fi;
        targets = 0
    };
    if
    :: loaded[me] -> from = me; catch_up(me, from); from = 0
    :: else -> skip
    fi;
#ifdef BUG_DO_NOT_WAIT
    skip
#else
    do
    :: waiting[me] == 0 -> break
    :: waiting[me] != 0 && incoming[me] != 0 -> poll(me)
    od
#endif
}

/* A cursor on one page, and the batch's end. */
inline unmap(me, page)
{
    do
    :: atomic {
           !table_lock -> /* what is done under the lock is one step for all who take it */
           table_lock = true;
           holds = true;
           if
           :: (pte & page) != 0 -> pte = pte & ~page; noted = true; pending++
           :: else -> skip
           fi;
           /* The batch may be finished with the lock held, or after it. */
           if
           :: table_lock = false; holds = false
           :: skip
           fi;
           break
       }
#ifndef BUG_SPIN_WITHOUT_SERVING
    :: table_lock && incoming[me] != 0 -> poll(me)
#endif
    od;
    if
    :: noted -> shoot(me, page); atomic { pending--; noted = false }
#ifndef BUG_TRUST_EMPTY_ENTRIES
    :: !noted && pending > 0 -> shoot(me, 0)
    :: !noted && pending == 0 -> skip
#else
    :: !noted -> skip
#endif
    fi;
    if
    :: holds -> table_lock = false; holds = false
    :: else -> skip
    fi;
    returned = returned | page
}

/* The user program, or hardware ahead of it, uses a page. */
inline use(me, page)
{
    if
    :: atomic { (tlb[me] & page) != 0 -> assert(lazy[me] || (returned & page) == 0) }
    :: atomic { (tlb[me] & page) == 0 -> tlb[me] = tlb[me] | (pte & page) }
    fi
}

/* qr_tlb_switch() to the space */
inline come(me)
{
#ifdef BUG_COMPARE_BEFORE_ACTIVE
    seen = generation;
    running = running | BIT(me);
#else
    running = running | BIT(me);
    seen = generation;
#endif
    if
    :: slot[me] == seen -> skip
    :: else -> tlb[me] = 0
    fi;
    atomic { slot[me] = seen; loaded[me] = true; seen = 0 }
}

/* ... and to another one; entries stay, tagged */
inline go(me)
{
    atomic { loaded[me] = false; lazy[me] = false };
    running = running & ~BIT(me)
}

inline stop_being_lazy(me)
{
#ifdef BUG_COMPARE_BEFORE_AWAKE
    seen = generation;
    lazy[me] = false;
#else
    lazy[me] = false;
    seen = generation;
#endif
    if
    :: slot[me] != seen -> flush_whole(me)
    :: else -> seen = 0
    fi
}

/*
 * CPU 0 runs the space, uses and unmaps page 1.  CPU 1 unmaps page 1 or 2 from
 * outside.  CPU 2 runs user programs, and may leave and come back or be lazy in
 * between.  In the end everybody uses what he still holds.
 */
proctype cpu(byte me)
{
    byte taken, from, seen, targets;
    bool noted, holds;

    if
    :: me == 0 -> come(me); use(me, 1); unmap(me, 1)
    :: me == 1 -> unmap(me, 1)
    :: me == 1 -> unmap(me, 2)
    :: me == 2 ->
        come(me);
        use(me, 1);
        use(me, 2);
        if
        :: skip
        :: lazy[me] = true; poll(me); stop_being_lazy(me)
        :: go(me); poll(me); come(me)
        fi;
        poll(me);
        use(me, 1);
        use(me, 2)
    fi;
    ended++;
    do
    :: incoming[me] != 0 -> poll(me)
    :: ended == CPUS && incoming[me] == 0 -> break
    od;
    if
    :: loaded[me] -> use(me, 1); use(me, 2)
    :: else -> skip
    fi
}

init {
    atomic { run cpu(0); run cpu(1); run cpu(2) }
}
