/* SPDX-License-Identifier: MIT */
/*
 * Makes the kernel's table of this process's descriptors large, so that it comes out of the
 * kernel's heap area, and has the kernel's mappings dumped.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int
main(void)
{
    static const char command[] = "dump_pt kernel\n";
    struct rlimit limit = {100000, 100000};
    FILE *node = fopen("/sys/kernel/debug/memory", "w");

    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || dup2(0, 60000) != 60000) {
        perror("large_table");
        return 1;
    }
    return node == NULL || fputs(command, node) < 0 || fclose(node) != 0;
}
