/* SPDX-License-Identifier: MIT */
/*
 * Random numbers: SipHash-2-4 over a counter and the time, under a key from the
 * boot loader's seed.  Without a seed the key is zero and the numbers can be guessed.
 */
#include "cpu.h"

static uint64_t
rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static void
sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static void
sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

uint64_t
arch_random(void)
{
    static _Atomic uint64_t counter;
    const uint64_t *seed = riscv_machine.random_seed;
    uint64_t v[4] = {
        seed[0] ^ 0x736f6d6570736575u,
        seed[1] ^ 0x646f72616e646f6du,
        seed[0] ^ 0x6c7967656e657261u,
        seed[1] ^ 0x7465646279746573u,
    };

    sip_word(v, atomic_fetch_add(&counter, 1));
    sip_word(v, csr_read(time));
    sip_word(v, seed[2]);
    sip_word(v, seed[3]);
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
