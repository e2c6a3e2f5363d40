/* SPDX-License-Identifier: MIT */
/*
 * Address-space identifiers: one a space, the same on every CPU, in rounds.
 *
 *   context = | round (48 bits) | number (16 bits) |      number: what hardware knows
 *
 * A space that comes to a CPU without a number of this round gets the next one.
 * When all are given out a new round begins: the numbers of spaces that some CPU has
 * loaded, lazily too, or is coming to, are carried over with their spaces; all others
 * are free again, and their spaces get new ones when they run.  A CPU that comes to a
 * space in a round that is new to it first drops everything.  So a number means one
 * space from a CPU's flush on to the round's end, and nobody flushes when a space ends,
 * nor when its number is another's in the next round.
 *
 * Linux on AArch64 goes about it in this way, and it suits the others: their numbers
 * are as many (4,096 on x86-64, what satp keeps on RISC-V).
 *
 * Who runs what.  A CPU says where it goes before it asks whether the round is still
 * the space's; who begins a round says so before it asks who runs what:
 *
 *   beginner, under the lock                 CPU C comes to V, of the old round
 *   round += 1                    <- SB ->   C.coming = V
 *   read C.coming, then C.loaded             round is V's? else under the lock
 *   V.context = (round, its number)          use the number
 *
 * Either the beginner sees C coming, and V has its number for good; or C sees the new
 * round, waits for the lock, and takes what V has then.  C.loaded stays what it was
 * until hardware translates by V's tables, so the space that C leaves keeps its number
 * until then as well: hardware fills ahead under it, and a flush must still find it.
 *
 * Invariants: 1 a space's number changes only while no CPU has it loaded or, having
 * asked, comes to it; 2 in one round no number is two spaces'; 3 a CPU whose round
 * is r has no entries from before its flush for r, but of spaces carried into r that
 * it had loaded, under their numbers.
 *
 * Unmapping meanwhile.  Where hardware broadcasts, the flusher reads the number after
 * it has cleared the entries:
 *
 *   clear entries                 <- SB ->   V.context = new
 *   read V.context                           walk the tables (qr_arch_root_switch)
 *
 * Is it of a round gone by, then no CPU had the space loaded when that ended (1), and what
 * CPUs hold under it they drop before they use it (3): too much is flushed, which harms
 * nobody.  Gets the space a new one just now, whoever runs it under that walks the tables
 * after our change.  Where requests tell, generations do not care for numbers: a slot
 * names the whole identifier, and another than its own finds nothing that it trusts.
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

uint64_t
qr_asid_assign(struct qr_tlb *tlb, struct qr_tlb_space *space)
{
    qr_spin_lock(&tlb->asid_lock);
    uint64_t context = atomic_load(&space->context);

    if (context >> TLB_NUMBER_BITS != atomic_load(&tlb->round)) {
        unsigned number = number_take(tlb);

        if (number == 0) {
            round_begin(tlb);
            number = number_take(tlb);
        }
        qr_assert(number != 0);
        for (unsigned word = 0; word < QR_CPU_WORDS; word++)
            atomic_store(&space->held.bits[word], 0);
        context = atomic_load(&tlb->round) << TLB_NUMBER_BITS | number;
        atomic_store(&space->context, context);
    }
    qr_spin_unlock(&tlb->asid_lock);
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
