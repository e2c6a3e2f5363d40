/* SPDX-License-Identifier: MIT */
/*
 * usage: differential digest SEED COUNT OPS    one line a seed: SEED DIGEST
 *        differential report SEED... -- OPS    what each call of those seeds did
 *        differential print SEED OPS           the program of a seed
 *        differential file FILE [report]       the programs of a file, which a line of --- ends each
 *
 * OPS: how many calls, and behind that a t for programs about threads, a k about protection keys, an m for
 * a machine that is nobody else's.
 * The last line says how many calls were done.
 */
#include "differential.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct program program;

static uint64_t
digest(const char *report)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (; *report != '\0'; report++)
        hash = (hash ^ (uint8_t)*report) * 0x100000001b3u;
    return hash;
}

static void
make(uint64_t seed, const char *ops)
{
    char *flags;
    unsigned long count = strtoul(ops, &flags, 0);

    generate(&program, seed, (unsigned)count,
             *flags == 't'   ? FOCUS_RACES
             : *flags == 'k' ? FOCUS_KEYS
             : *flags == 'm' ? FOCUS_MACHINE
                             : FOCUS_NONE);
}

static void
show(const char *name, bool whole)
{
    const char *report = execute(&program);

    if (whole)
        printf("program %s\n%s", name, report);
    else
        printf("%s %016" PRIx64 "\n", name, digest(report));
}

static void
print_program(void)
{
    char text[256];

    for (size_t i = 0; i < program.count; i++) {
        op_print(&program.ops[i], text, sizeof(text));
        puts(text);
    }
}

static int
run_file(const char *path, bool whole)
{
    char line[256], name[16];
    unsigned number = 0;
    FILE *file = fopen(path, "r");

    if (file == NULL) {
        perror(path);
        return 2;
    }
    program.count = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        int got;

        if (strncmp(line, "---", 3) == 0) {
            snprintf(name, sizeof(name), "%u", number++);
            show(name, whole);
            program.count = 0;
            continue;
        }
        got = program.count < PROGRAM_OPS ? op_parse(&program.ops[program.count], line) : -1;
        if (got < 0) {
            fprintf(stderr, "%s: bad line: %s", path, line);
            return 2;
        }
        program.count += (size_t)got;
    }
    fclose(file);
    return 0;
}

static void
run_seeds(uint64_t first, uint64_t count, const char *ops)
{
    char name[32];

    for (uint64_t seed = first; seed < first + count; seed++) {
        make(seed, ops);
        snprintf(name, sizeof(name), "%" PRIu64, seed);
        show(name, false);
    }
}

int
main(int argc, char **argv)
{
    static char out[65536];
    const char *mode = argc > 1 ? argv[1] : "";
    const char *ops = argv[argc - 1];
    int status = 0;

    setvbuf(stdout, out, _IOFBF, sizeof(out));
    machine_init();
    if (strcmp(mode, "digest") == 0 && argc == 5) {
        run_seeds(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0), ops);
    } else if (strcmp(mode, "report") == 0 && argc > 4) {
        for (int i = 2; i < argc - 2; i++) {
            make(strtoull(argv[i], NULL, 0), ops);
            show(argv[i], true);
        }
    } else if (strcmp(mode, "print") == 0 && argc == 4) {
        make(strtoull(argv[2], NULL, 0), ops);
        print_program();
    } else if (strcmp(mode, "file") == 0 && argc > 2) {
        status = run_file(argv[2], argc > 3);
    } else {
        fprintf(stderr, "usage: differential digest|report|print|file ...\n");
        status = 2;
    }
    printf("calls %lu deaths %lu timeouts %lu\n", totals.calls, totals.deaths, totals.timeouts);
    return status;
}
