/* SPDX-License-Identifier: MIT */
#ifndef TESTS_DIFFERENTIAL_HOSTED_H
#define TESTS_DIFFERENTIAL_HOSTED_H

/* Between machine.c, a program of this Linux, and kernel.c, a part of the kernel. */

#include <stdbool.h>
#include <stdint.h>

struct qr_format;
struct qr_frames;
struct qr_heap;
struct qr_objects;
struct qr_space;
struct qr_swap;
struct qr_tlb;
struct qr_vm;
struct thread;

struct hosted_library {
    bool keys; /* protection keys */
    const struct qr_format *format;
    struct qr_frames *frames;
    struct qr_heap *heap;
    struct qr_tlb *tlb;
    struct qr_objects *objects;
    struct qr_vm *vm;
    struct qr_swap *swap;
};

/** Files, processes: an init, which is current then, without a program. */
void hosted_start(const struct hosted_library *library);

/** The thread that process @pid has, or NULL. */
struct thread *hosted_thread(int pid);
struct qr_space *hosted_space(struct thread *thread);

/** From now on @thread makes the calls. */
void hosted_set_current(struct thread *thread);
struct thread *hosted_init_thread(void);
/** What a thread does in its own memory before its first instruction. */
void hosted_begin(void);

int64_t hosted_call(unsigned long number, const uint64_t args[6]);

/** Protection keys of the current process: what its register says, and the key of an address. */
uint32_t hosted_rights(void);
void hosted_set_rights(unsigned key, unsigned rights);
unsigned hosted_key_at(uintptr_t address);
bool hosted_key_denies(uintptr_t address, unsigned access);

/** The current process ends; init is current then. */
void hosted_exit(void);

/** Processes and address spaces that live, beside init's. */
unsigned hosted_alive(void);

#endif
