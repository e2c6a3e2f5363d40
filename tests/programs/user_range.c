/* SPDX-License-Identifier: MIT */
/*
 * Which addresses are the program's: user_range FIRST END.  The pages at both ends can be mapped, or
 * something of the program's own stands there; those beyond cannot, without privileges.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int
is_ours(uintptr_t at, size_t page)
{
    void *got = mmap((void *)at, page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (got == MAP_FAILED)
        return errno == EEXIST;
    *(volatile char *)got = 1;
    return got == (void *)at && munmap(got, page) == 0;
}

int
main(int count, char **words)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int local = 0;

    if (count != 3 || (getuid() == 0 && setuid(65534) != 0))
        return 2;
    uintptr_t first = strtoul(words[1], NULL, 0), end = strtoul(words[2], NULL, 0);
    uintptr_t text = (uintptr_t)main, stack = (uintptr_t)&local;
    int good = is_ours(first, page) && is_ours(end - page, page) && !is_ours(first - page, page) &&
               !is_ours(end, page) && text >= first && stack < end && stack > text;

    printf("user_range: %lx to %lx, text at %lx, stack at %lx: %s\n", (unsigned long)first,
           (unsigned long)end, (unsigned long)text, (unsigned long)stack, good ? "yes" : "NO");
    return good ? 0 : 1;
}
