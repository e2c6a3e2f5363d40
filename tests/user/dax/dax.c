/* SPDX-License-Identifier: MIT */
/*
 * Persistent memory mapped into a program (docs/persistent.md).
 *
 *      dax DEVICE BYTES fresh    the calls' answers; write all over it
 *      dax DEVICE BYTES later    what the last boot wrote is there
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../check.h"

static int device;
static size_t bytes;
static long page;
static sigjmp_buf after_fault;
static siginfo_t fault;

static void
on_fault(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    fault = *info;
    siglongjmp(after_fault, 1);
}

static bool
faults(volatile char *at, bool write)
{
    if (sigsetjmp(after_fault, 1) != 0)
        return true;
    if (write)
        *at = 3;
    else
        (void)*at;
    return false;
}

/* Mapped as it is meant to be. */
static uint64_t *
map_whole(void)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, device, 0);

    if (at == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return at;
}

static uint64_t
word_of(size_t index)
{
    return (index + 1) * 0x9e3779b97f4a7c15u;
}

static void
check_refusals(void)
{
    int memory = memfd_create("plain", 0);
    char byte = 0;

    CHECK(mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, device, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(ftruncate(memory, page) == 0);
    CHECK(mmap(NULL, page, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, memory, 0) == MAP_FAILED &&
          errno == EOPNOTSUPP);
    CHECK(mmap(NULL, page, PROT_READ, MAP_SHARED_VALIDATE | 0x200000, device, 0) == MAP_FAILED &&
          errno == EOPNOTSUPP);
    CHECK(read(device, &byte, 1) == -1 && errno == EINVAL);
    CHECK(write(device, &byte, 1) == -1 && errno == EINVAL);
    close(memory);
}

/* Behind the last page there is nothing. */
static void
check_end(void)
{
    char *at = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, device, (off_t)bytes - page);

    CHECK(at != MAP_FAILED);
    CHECK(!faults(at, false));
    CHECK(faults(at + page, false));
    CHECK_EQ(fault.si_signo, SIGBUS);
    CHECK_EQ(fault.si_code, BUS_ADRERR);
    CHECK(fault.si_addr == at + page);
    munmap(at, 2 * page);
}

/* A fork and a second mapping see one memory; what is protected is refused; system calls reach it. */
static void
check_sharing(uint64_t *words)
{
    uint64_t *other = map_whole();
    int ends[2], status;

    words[0] = 1;
    if (fork() == 0) {
        words[0] = words[0] == 1 ? 2 : 99;
        _exit(0);
    }
    wait(&status);
    CHECK_EQ(words[0], 2);
    CHECK_EQ(other[0], 2);
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(write(ends[1], words, sizeof(*words)), sizeof(*words));
    words[0] = 0;
    CHECK_EQ(read(ends[0], other, sizeof(*other)), sizeof(*other));
    CHECK_EQ(words[0], 2);
    CHECK_EQ(mprotect(other, page, PROT_READ), 0);
    CHECK(faults((char *)other, true));
    CHECK_EQ(fault.si_signo, SIGSEGV);
    CHECK_EQ(fault.si_code, SEGV_ACCERR);
    CHECK_EQ(words[0], 2);
    CHECK_EQ(msync(words, bytes, MS_SYNC), 0);
    CHECK(madvise(words, page, MADV_DONTNEED) == -1 && errno == EINVAL); /* nothing to free */
    CHECK_EQ(munmap(other, bytes), 0);
}

int
main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    uint64_t *words;
    size_t wrong = 0;

    page = sysconf(_SC_PAGESIZE);
    bytes = argc == 4 ? strtoul(argv[2], NULL, 0) : 0;
    device = argc == 4 ? open(argv[1], O_RDWR) : -1;
    if (device < 0 || bytes == 0) {
        fprintf(stderr, "usage: dax DEVICE BYTES fresh|later\n");
        return 2;
    }
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    words = map_whole();
    if (strcmp(argv[3], "fresh") == 0) {
        check_refusals();
        check_end();
        check_sharing(words);
        for (size_t i = 0; i < bytes / sizeof(*words); i++)
            words[i] = word_of(i);
    }
    for (size_t i = 0; i < bytes / sizeof(*words); i++)
        wrong += words[i] != word_of(i);
    CHECK_EQ(wrong, 0);
    printf("%d checks, %d failures\n", check_count, check_failures);
    return check_failures != 0;
}
