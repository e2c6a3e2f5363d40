/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_COMPILER_H
#define QUIRE_COMPILER_H

/**
 * @file
 * What the code asks of the compiler beyond C11.  gcc and clang only.
 */

#define QR_MUST_USE      __attribute__((warn_unused_result))
#define QR_NOINLINE      __attribute__((noinline))
#define QR_COLD          __attribute__((cold, noinline))
#define QR_NORETURN      __attribute__((noreturn))
#define QR_PRINTF(f, a)  __attribute__((format(printf, f, a)))
#define QR_CACHE_LINE    64
#define QR_CACHE_ALIGNED __attribute__((aligned(QR_CACHE_LINE)))

/** Inlined for the sake of speed; a build that is not after speed may define it as `inline`. */
#ifndef QR_ALWAYS_INLINE
#define QR_ALWAYS_INLINE inline __attribute__((always_inline))
#endif

#define qr_likely(x)   __builtin_expect(!!(x), 1)
#define qr_unlikely(x) __builtin_expect(!!(x), 0)
/** Promise the compiler that @p x holds; undefined where it does not. */
#define qr_assume(x) ((x) ? (void)0 : __builtin_unreachable())

/** The structure that embeds @p member, from a pointer to the member. */
#define qr_container_of(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define QR_ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#ifdef __cplusplus
#define QR_STATIC_ASSERT(condition, message) static_assert(condition, message)
#define QR_BEGIN_DECLS                       extern "C" {
#define QR_END_DECLS                         }
#else
#define QR_STATIC_ASSERT(condition, message) _Static_assert(condition, message)
#define QR_BEGIN_DECLS
#define QR_END_DECLS
#endif

#endif
