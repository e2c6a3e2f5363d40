/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_STATUS_H
#define QUIRE_STATUS_H

#include <quire/compiler.h>

QR_BEGIN_DECLS

/**
 * The one result type of every call that can fail.
 *
 * A status says what the caller, a device or a user did; what only a
 * programmer can do wrong is an assertion instead.  Functions that return a
 * status are marked QR_MUST_USE, and leave their out_ parameters untouched
 * unless they return QR_OK.
 */
enum qr_status {
    QR_OK = 0,
    QR_ERR_NO_MEMORY,   /**< no frame or descriptor left; nothing changed */
    QR_ERR_INVALID,     /**< an argument outside its documented domain */
    QR_ERR_RANGE,       /**< empty, misaligned, wrapping, or outside the space */
    QR_ERR_EXISTS,      /**< something is there already */
    QR_ERR_NOT_FOUND,   /**< nothing is there */
    QR_ERR_ACCESS,      /**< the protection or the object forbids it */
    QR_ERR_LIMIT,       /**< a configured limit (regions, locked or total size) */
    QR_ERR_BUSY,        /**< in use; try later or from another context */
    QR_ERR_AGAIN,       /**< a transient failure; a retry may succeed */
    QR_ERR_FAULT,       /**< a user address could not be read or written */
    QR_ERR_IO,          /**< the backing store reported an error */
    QR_ERR_INTERRUPTED, /**< the wait was cut short by the host kernel */
    QR_ERR_UNSUPPORTED, /**< not configured in, or the hardware lacks it */
    QR_ERR_SEALED,      /**< a mapping that was made to stay as it is */
};

/** The name of @p status as in its enumerator, without the prefix; never NULL. */
const char *qr_status_name(enum qr_status status);

QR_END_DECLS

#endif
