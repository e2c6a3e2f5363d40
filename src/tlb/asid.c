/* SPDX-License-Identifier: MIT */
/*
 * Address-space identifiers: one number a space, the same on every CPU.
 *
 * AArch64 wants that: its flushes are broadcast and name an identifier.  Elsewhere
 * it costs nothing, and a CPU finds what it holds of a space by indexing.  A space
 * gets its number when it runs for the first time and keeps it while numbers last.
 * Then one is taken from a space that runs nowhere, in turn.
 *
 *   taker, under the lock                    CPU C switches to the victim V
 *   V.asid |= TAKEN               <- SB ->   V.active += C
 *   V.active is not empty? take it back      V.asid is TAKEN? under the lock:
 *   else owner[asid] = the new one           taken back meanwhile? else another number
 *
 * Either the taker sees C, or C sees TAKEN; both are harmless.  So a space that some
 * CPU has loaded, lazily too, has the number under which that CPU runs it.
 *
 * A number's entries.  Nobody flushes all CPUs when a number changes hands.  Each
 * CPU knows whose entries it holds under which number, by the space's 64-bit
 * identity, which is never given out again, and up to which generation they are
 * true.  The switch drops them unless both agree.  So a taken number costs one local flush
 * on each CPU that then uses it, when it does; there is no roll-over.  A space that
 * gets a number starts a new generation: entries that it left behind under this very
 * number, when it had it before, were not looked after where hardware broadcasts.
 *
 * Unmapping meanwhile.  Where hardware broadcasts, the flusher reads the number
 * after it has cleared the entries.  Is it another space's by then, too much is
 * flushed, which harms nobody.  Gets the space a new one just now, then whoever runs
 * it under that number walks the tables after our change:
 *
 *   clear entries                 <- SB ->   V.asid = new
 *   read V.asid                              walk the tables (qr_arch_root_switch)
 *
 * More spaces loaded than numbers: two share one.  TLBs belong to one CPU each, and
 * every CPU asks for the identity, so that is right, and only a little slow.  It takes
 * more than asid_count / 2 CPUs (one in a switch has two spaces loaded).
 *
 * Invariants: 1 owner[n] is NULL or a space whose asid is n; 2 a space's asid changes
 * only while no CPU has it loaded.
 */
#include <quire/assert.h>

#include "tlb/tlb.h"

/* Take its number from @space, unless some CPU runs it. */
static bool
asid_take(struct qr_tlb_space *space)
{
    atomic_fetch_or(&space->asid, TLB_ASID_TAKEN);
    if (tlb_set_is_empty(&space->active))
        return true;
    atomic_fetch_and(&space->asid, ~TLB_ASID_TAKEN);
    return false;
}

/* The next number that nobody runs under. */
static unsigned
asid_find(struct qr_tlb *tlb)
{
    unsigned asid = tlb->asid_hand;

    for (unsigned tries = 1; tries < tlb->asid_count; tries++) {
        asid = asid + 1 < tlb->asid_count ? asid + 1 : 1;
        if (tlb->owner[asid] == NULL || asid_take(tlb->owner[asid]))
            break;
    }
    tlb->asid_hand = asid;
    return asid;
}

unsigned
qr_asid_assign(struct qr_tlb *tlb, struct qr_tlb_space *space)
{
    qr_spin_lock(&tlb->asid_lock);
    unsigned asid = atomic_load(&space->asid);

    if (asid == 0 || (asid & TLB_ASID_TAKEN) != 0) {
        asid = asid_find(tlb);
        tlb->owner[asid] = space;
        for (unsigned word = 0; word < QR_CPU_WORDS; word++)
            atomic_store(&space->held.bits[word], 0);
        atomic_fetch_add(&space->generation, 1);
        atomic_store(&space->asid, asid);
    }
    qr_spin_unlock(&tlb->asid_lock);
    return asid;
}

void
qr_asid_release(struct qr_tlb *tlb, struct qr_tlb_space *space)
{
    unsigned asid = qr_asid_of(space);

    if (asid == 0)
        return;
    /* Even where it was taken: the taker may still be looking at the space. */
    qr_spin_lock(&tlb->asid_lock);
    if (tlb->owner[asid] == space)
        tlb->owner[asid] = NULL;
    atomic_store(&space->asid, 0);
    qr_spin_unlock(&tlb->asid_lock);
}
