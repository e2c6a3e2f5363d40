/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_USER_H
#define QUIRE_USER_H

/**
 * @file
 * Copies between kernel and user memory of the current space: the only code that
 * dereferences a user address.  Every range is checked against the user half
 * first; every copy moves an exact prefix and says how much it did not move.
 *
 * Context: thread, interrupts on (may fault and sleep); no spin lock held.
 */

#ifndef __cplusplus
#include <quire/status.h>
#include <quire/types.h>

/** Whether [va, va+bytes) lies below @p user_end without wrapping. */
static inline bool
qr_user_range_is_valid(uintptr_t va, size_t bytes, uintptr_t user_end)
{
    return bytes <= user_end && va <= user_end - bytes;
}

/** One past the highest user address of this machine; the host sets it in its port. */
uintptr_t qr_port_user_end(void);

/** @return bytes not copied; 0 is success */
QR_MUST_USE size_t qr_copy_from_user(void *to, qr_va from, size_t bytes);
QR_MUST_USE size_t qr_copy_to_user(qr_va to, const void *from, size_t bytes);
QR_MUST_USE size_t qr_clear_user(qr_va to, size_t bytes);

/**
 * Copy a string with its terminator, at most @p capacity bytes.
 * The bytes are fetched once; a string changed meanwhile still ends up terminated.
 * @param out_length  without the terminator
 * @return QR_OK; QR_ERR_FAULT; QR_ERR_LIMIT where no terminator is within capacity bytes
 */
QR_MUST_USE enum qr_status qr_strncpy_from_user(char *to, qr_va from, size_t capacity,
                                                size_t *out_length);
/** The length up to the terminator, at most @p limit (then QR_ERR_LIMIT). */
QR_MUST_USE enum qr_status qr_strnlen_user(qr_va from, size_t limit, size_t *out_length);

/** One naturally aligned or unaligned word. */
QR_MUST_USE enum qr_status qr_get_user_u32(qr_va from, uint32_t *out_value);
QR_MUST_USE enum qr_status qr_get_user_u64(qr_va from, uint64_t *out_value);
QR_MUST_USE enum qr_status qr_put_user_u32(qr_va to, uint32_t value);
QR_MUST_USE enum qr_status qr_put_user_u64(qr_va to, uint64_t value);
/** Aligned compare-and-swap (futex, robust lists). */
QR_MUST_USE enum qr_status qr_cas_user_u32(qr_va at, uint32_t expected, uint32_t desired,
                                           uint32_t *out_old);

#endif
#endif
