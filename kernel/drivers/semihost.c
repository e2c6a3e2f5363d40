/* SPDX-License-Identifier: MIT */
/*
 * The log by semihosting: a way out apart from the one serial port.
 */
#include <semihost.h>

#include <kstring.h>

#define SYS_WRITE0 4u /* a terminated string */

#define PIECE_BYTES 256

void
semihost_write(const char *bytes, size_t count)
{
    char piece[PIECE_BYTES];

    while (count > 0) {
        size_t length = count < sizeof piece - 1 ? count : sizeof piece - 1;

        memcpy(piece, bytes, length);
        piece[length] = '\0';
        (void)semihost_call(SYS_WRITE0, (uintptr_t)piece);
        bytes += length;
        count -= length;
    }
}
