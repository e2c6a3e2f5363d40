/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_ASSERT_H
#define QUIRE_ASSERT_H

#include <quire/compiler.h>
#include <quire/config.h>

QR_BEGIN_DECLS

/**
 * Stop: the program around the library is wrong.  @p format knows what
 * qr_writer_printf() knows; the message names the mistake and the remedy.
 */
QR_NORETURN QR_COLD void qr_panic(const char *format, ...) QR_PRINTF(1, 2);

QR_NORETURN QR_COLD void qr_assert_failed(const char *condition, const char *file, int line);

QR_END_DECLS

/** What only a programmer can break; stays on in release builds where it is cheap. */
#define qr_assert(condition) \
    (qr_likely(condition) ? (void)0 : qr_assert_failed(#condition, __FILE__, __LINE__))

/** An assertion that costs enough to belong to debug builds alone. */
#ifdef CONFIG_MEMORY_DEBUGGING
#define qr_debug_assert(condition) qr_assert(condition)
#else
#define qr_debug_assert(condition) ((void)sizeof(condition))
#endif

#endif
