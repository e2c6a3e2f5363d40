/* SPDX-License-Identifier: MIT */
/*
 * Address-space identifiers: one a space, the same on every CPU, in rounds.
 *
 *   context = | round (48 bits) | number (16 bits) |      number: what hardware knows
 *
 * A space that comes to a CPU without a number of this round gets the next one.
 * When all are given out a new round begins: the numbers of spaces that some CPU has
 * loaded, lazily too, or is coming to, are carried over with their spaces; all others
 * are free again, and their spaces get new ones when they run.  So nobody flushes when
 * a space ends, and a whole identifier is never given out again.
 *
 * What a CPU holds of rounds gone by.  Where hardware broadcasts, nobody counts what
 * a CPU has missed, so one that comes to a space in a round that is new to it first drops
 * everything; then each number's entries are true there to the round's end.  Elsewhere a CPU
 * has slots that say under which number it holds whose entries, by the whole identifier, and up
 * to which change they are true (shoot.c): it drops a number's entries when it comes
 * to use it, and nothing else.  There are fewer slots than numbers: one whose slot was
 * taken over by another is taken for unknown, and dropped.
 *
 * Who runs what.  A CPU says where it goes before it asks whether the round is still
 * the space's; who begins a round says so before it asks who runs what:
 *
 *   beginner, under the lock                 CPU C comes to V, of the old round
 *   round += 1                    <- SB ->   C.coming = V
 *   read C.coming, then C.loaded             round is V's, and C's? else under the lock
 *   V.context = (round, its number)          use the number
 *
 * Either the beginner sees C coming, and V has its number for good; or C sees the new
 * round, waits for the lock, and takes what V has then.  It does so even where V has been
 * carried by now: the beginner has perhaps not read C.loaded yet, and from the space that
 * C leaves hardware fills ahead until it has left it, after C's flush too.  C.loaded stays
 * what it was until then, so that space has kept its number.
 *
 * Invariants: 1 a space's number changes only while no CPU has it loaded or, having
 * asked, comes to it; 2 in one round no number is two spaces'; 3 (broadcast) a CPU whose
 * round is r has no entries of earlier ones, but those of a space carried into r that it had
 * loaded.
 *
 * Unmapping meanwhile.  Where hardware broadcasts, the flusher reads the number after
 * it has cleared the entries:
 *
 *   clear entries                 <- SB ->   V.context = new
 *   read V.context                           walk the tables (qr_arch_root_switch)
 *
 * Is it of a round gone by, then too much is flushed, which harms nobody: no CPU had the space
 * loaded when that round ended (1), and what it left is dropped before it is used (3).  But it may
 * be about to be carried, so it is flushed all the same.  Gets the space a new one just now, whoever
 * runs it under that walks the tables after our change.
 *
 * Enough of them: a CPU has one space loaded and is coming to another, so two numbers
 * a CPU are carried over at most, the one that is asked for not among them.  Where there are not
 * more than that, none are used and each switch flushes (128 CPUs with 8-bit ASIDs).
 *
 * Ended spaces.  The beginner reads spaces that CPUs point at.  One that ends is loaded
 * nowhere, and then takes the lock once: whoever still looks at it has it.
 */
#include <quire/arch.h>
#include <quire/assert.h>

#include "tlb/tlb.h"

size_t
qr_asid_words(unsigned asid_count)
{
    return (asid_count + 63) / 64;
}

/* A round's numbers before any is given out: 0 is the kernel's, and there are no more than there are. */
static void
numbers_reset(struct qr_tlb *tlb)
{
    size_t words = qr_asid_words(tlb->asid_count);

    __builtin_memset(tlb->numbers, 0, words * sizeof(uint64_t));
    tlb->numbers[0] = 1;
    if (tlb->asid_count % 64 != 0)
        tlb->numbers[words - 1] |= ~(uint64_t)0 << tlb->asid_count % 64;
    tlb->asid_word = 0;
}

void
qr_asid_init(struct qr_tlb *tlb)
{
    qr_spin_init(&tlb->asid_lock, QR_RANK_TLB);
    numbers_reset(tlb);
    atomic_init(&tlb->round, tlb->tagged);
}

/* @space, if it has a number of the round before @round, keeps it. */
static void
asid_carry(struct qr_tlb *tlb, struct qr_tlb_space *space, uint64_t round)
{
    if (space == NULL)
        return;

    uint64_t context = atomic_load(&space->context);
    uint64_t number = context & TLB_NUMBER_MASK;

    if (context >> TLB_NUMBER_BITS != round - 1)
        return; /* it is coming, and has none; or another CPU runs it, too */
    tlb->numbers[number / 64] |= (uint64_t)1 << number % 64;
    atomic_store(&space->context, round << TLB_NUMBER_BITS | number);
}

static void
round_begin(struct qr_tlb *tlb)
{
    uint64_t round = atomic_fetch_add(&tlb->round, 1) + 1;

    numbers_reset(tlb);
    for (unsigned cpu = 0; cpu < tlb->cpu_count; cpu++) {
        asid_carry(tlb, atomic_load(&tlb->cpus[cpu].coming), round);
        asid_carry(tlb, atomic_load(&tlb->cpus[cpu].loaded), round);
    }
    tlb_count(tlb, QR_EVENT_ASID_ROUND, 1);
}

/* A number that this round has not given out yet; 0 where none is left. */
static unsigned
number_take(struct qr_tlb *tlb)
{
    size_t words = qr_asid_words(tlb->asid_count);

    for (; tlb->asid_word < words; tlb->asid_word++) {
        uint64_t free = ~tlb->numbers[tlb->asid_word];

        if (free == 0)
            continue;
        tlb->numbers[tlb->asid_word] |= free & -free;
        return tlb->asid_word * 64 + (unsigned)__builtin_ctzll(free);
    }
    return 0;
}

/* A new identifier for @space, which no CPU has loaded. */
static void
asid_assign(struct qr_tlb *tlb, struct qr_tlb_space *space)
{
    uint64_t number = number_take(tlb);

    if (number == 0) {
        round_begin(tlb);
        number = number_take(tlb);
    }
    qr_assert(number != 0);
    for (unsigned word = 0; word < QR_CPU_WORDS; word++)
        atomic_store(&space->held.bits[word], 0);
    atomic_store(&space->context, atomic_load(&tlb->round) << TLB_NUMBER_BITS | number);
}

/*
 * A round that is new to this CPU.  Where hardware keeps entries true, what is left of the
 * rounds before goes, before any number of this one is used; else slots say whose it is.
 */
static void
round_enter(struct qr_tlb *tlb, struct tlb_cpu *me, uint64_t round)
{
    me->round = round;
    if (!tlb->broadcast)
        return;
    qr_arch_flush_all(QR_FLUSH_HERE);
    tlb_count(tlb, QR_EVENT_FLUSH_ALL, 1);
}

uint64_t
qr_asid_renew(struct qr_tlb *tlb, struct tlb_cpu *me, struct qr_tlb_space *space)
{
    qr_spin_lock(&tlb->asid_lock);
    if (atomic_load(&space->context) >> TLB_NUMBER_BITS != atomic_load(&tlb->round))
        asid_assign(tlb, space);

    uint64_t context = atomic_load(&space->context);

    qr_spin_unlock(&tlb->asid_lock);
    if (me->round != context >> TLB_NUMBER_BITS)
        round_enter(tlb, me, context >> TLB_NUMBER_BITS);
    return context;
}

void
qr_asid_release(struct qr_tlb *tlb, struct qr_tlb_space *space)
{
    if (atomic_load(&space->context) == 0)
        return;
    qr_spin_lock(&tlb->asid_lock);
    atomic_store(&space->context, 0);
    qr_spin_unlock(&tlb->asid_lock);
}
