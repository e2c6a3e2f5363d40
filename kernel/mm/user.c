/* SPDX-License-Identifier: MIT */
/*
 * User memory in the kernel's terms: error numbers and strings.  The library does
 * the copying; nothing here looks at a user pointer.
 */
#include "mm.h"

#include <quire/user.h>

#include "abi_errno.h"
#include "arch.h"
#include "kstring.h"

enum { STRING_PIECE = 64 };

/*
 * Sums of a 32-bit program's pointers and lengths may leave 32 bits: never may they come
 * back in at the bottom.  On 64 bits every address fits.
 */
static inline bool
fits_pointer(uint64_t address)
{
    uintptr_t pointer = (uintptr_t)address;

    return pointer == address;
}

__attribute__((weak)) void *
arch_exchange(uint64_t address, size_t n)
{
    (void)address;
    (void)n;
    return NULL;
}

static QR_NOINLINE int64_t
exchange_read(void *to, uint64_t from, size_t n)
{
    const void *kernel = arch_exchange(from, n);

    if (kernel == NULL)
        return -EFAULT;
    memcpy(to, kernel, n);
    return 0;
}

static QR_NOINLINE int64_t
exchange_write(uint64_t to, const void *from, size_t n)
{
    void *kernel = arch_exchange(to, n);

    if (kernel == NULL)
        return -EFAULT;
    memcpy(kernel, from, n);
    return 0;
}

int64_t
user_read(void *to, uint64_t user_from, size_t n)
{
    if (!fits_pointer(user_from))
        return exchange_read(to, user_from, n);
    return qr_copy_from_user(to, qr_va_of((uintptr_t)user_from), n) == 0 ? 0 : -EFAULT;
}

int64_t
user_write(uint64_t user_to, const void *from, size_t n)
{
    if (!fits_pointer(user_to))
        return exchange_write(user_to, from, n);
    return qr_copy_to_user(qr_va_of((uintptr_t)user_to), from, n) == 0 ? 0 : -EFAULT;
}

/*
 * A range that starts in the user half and runs out of it: move what lies
 * inside, so that a read or write ends short exactly at the border.
 */
static size_t
clip(uint64_t address, size_t n)
{
    uint64_t limit = mm_user_limit();

    if (address >= limit)
        return 0;
    return n > limit - address ? limit - address : n;
}

size_t
user_read_partial(void *to, uint64_t user_from, size_t n)
{
    n = clip(user_from, n);
    return n - qr_copy_from_user(to, qr_va_of(user_from), n);
}

size_t
user_write_partial(uint64_t user_to, const void *from, size_t n)
{
    n = clip(user_to, n);
    return n - qr_copy_to_user(qr_va_of(user_to), from, n);
}

size_t
user_clear_partial(uint64_t user_to, size_t n)
{
    n = clip(user_to, n);
    return n - qr_clear_user(qr_va_of(user_to), n);
}

/*
 * In short pieces, none of which crosses a page: most strings are short, and one
 * that ends just before an unmapped page must be readable.
 */
int64_t
user_read_string(char *to, uint64_t user_from, size_t size)
{
    size_t done = 0;

    while (done < size) {
        uint64_t at = user_from + done;
        size_t piece = QR_PAGE_SIZE - (at & QR_PAGE_MASK);
        size_t copied;
        const char *end;

        if (piece > STRING_PIECE)
            piece = STRING_PIECE;
        if (piece > size - done)
            piece = size - done;
        copied = user_read_partial(to + done, at, piece);
        end = memchr(to + done, 0, copied);
        if (end != NULL)
            return end - to;
        if (copied < piece || piece == 0)
            return -EFAULT;
        done += piece;
    }
    return -ENAMETOOLONG;
}

int64_t
user_read_u32(uint32_t *to, uint64_t user_from)
{
    if (!fits_pointer(user_from))
        return exchange_read(to, user_from, sizeof *to);
    return qr_get_user_u32(qr_va_of((uintptr_t)user_from), to) == QR_OK ? 0 : -EFAULT;
}

/* With interrupts off a fault is not handled: the copy ends at once. */
int64_t
user_read_nofault(void *to, uint64_t user_from, size_t n)
{
    uintptr_t flags = irq_save();
    int64_t error = user_read(to, user_from, n);

    irq_restore(flags);
    return error;
}

int64_t
user_read_u32_nofault(uint32_t *to, uint64_t user_from)
{
    return user_read_nofault(to, user_from, sizeof(*to));
}

int64_t
user_read_u64(uint64_t *to, uint64_t user_from)
{
    if (!fits_pointer(user_from))
        return exchange_read(to, user_from, sizeof *to);
    return qr_get_user_u64(qr_va_of((uintptr_t)user_from), to) == QR_OK ? 0 : -EFAULT;
}

int64_t
user_write_u32(uint64_t user_to, uint32_t value)
{
    if (!fits_pointer(user_to))
        return exchange_write(user_to, &value, sizeof value);
    return qr_put_user_u32(qr_va_of((uintptr_t)user_to), value) == QR_OK ? 0 : -EFAULT;
}

int64_t
user_write_u64(uint64_t user_to, uint64_t value)
{
    if (!fits_pointer(user_to))
        return exchange_write(user_to, &value, sizeof value);
    return qr_put_user_u64(qr_va_of((uintptr_t)user_to), value) == QR_OK ? 0 : -EFAULT;
}

int64_t
user_read_word(uint64_t *to, uint64_t user_from)
{
    uint32_t narrow;

    if (sizeof(uintptr_t) == sizeof(uint64_t))
        return user_read_u64(to, user_from);
    if (user_read_u32(&narrow, user_from) != 0)
        return -EFAULT;
    *to = narrow;
    return 0;
}

int64_t
user_write_word(uint64_t user_to, uint64_t value)
{
    return sizeof(uintptr_t) == sizeof(uint64_t) ? user_write_u64(user_to, value)
                                                 : user_write_u32(user_to, (uint32_t)value);
}
