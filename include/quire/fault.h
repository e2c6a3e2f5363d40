/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_FAULT_H
#define QUIRE_FAULT_H

/**
 * @file
 * Page faults: the host decodes its trap into an address and an access, and gets an outcome.
 */

#ifndef __cplusplus
#include <quire/space.h>

enum qr_fault_outcome {
    QR_FAULT_HANDLED,     /**< retry the instruction */
    QR_FAULT_NO_REGION,   /**< SIGSEGV, SEGV_MAPERR */
    QR_FAULT_PROTECTION,  /**< SIGSEGV, SEGV_ACCERR */
    QR_FAULT_KEY,         /**< SIGSEGV, SEGV_PKUERR */
    QR_FAULT_BEYOND_END,  /**< SIGBUS, BUS_ADRERR: past the object's end, it cannot be read,
                              or there is no huge page */
    QR_FAULT_POISON,      /**< SIGBUS, BUS_MCEERR_AR */
    QR_FAULT_NO_MEMORY,   /**< no frame even after reclaim: the host's OOM policy */
    QR_FAULT_INTERRUPTED, /**< left while a listener was to answer: user code retries after its
                               signal, a copy of the kernel's fails */
};

struct qr_fault {
    qr_va va;
    unsigned access;     /**< enum qr_access bits */
    bool key_violation;  /**< the CPU says that a protection key denied it */
    bool user_mode;      /**< user code faulted, not the kernel on its behalf */
    qr_va stack_pointer; /**< of user mode at the fault; 0: unknown.  Not used to deny growth. */
    bool *out_major;     /**< set to true where it waited for a file's backing; may be NULL */
};

/**
 * Handle one fault of @p space.
 * Locks: space lock for reading, cursors, object locks.
 * Context: thread, interrupts on, may sleep (memory, page I/O).
 */
enum qr_fault_outcome qr_fault_handle(struct qr_space *space, const struct qr_fault *fault);

#endif
#endif
