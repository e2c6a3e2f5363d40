/* SPDX-License-Identifier: MIT */
/* Programs as text: one call a line, so that a regression file can be read and edited. */
#include "differential.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct op_name op_names[OP_KINDS] = {
    [OP_MMAP] = {"mmap", 6},
    [OP_MUNMAP] = {"munmap", 2},
    [OP_MPROTECT] = {"mprotect", 3},
    [OP_MREMAP] = {"mremap", 6},
    [OP_MADVISE] = {"madvise", 3},
    [OP_BRK] = {"brk", 1},
    [OP_MLOCK] = {"mlock", 2},
    [OP_MLOCK2] = {"mlock2", 3},
    [OP_MUNLOCK] = {"munlock", 2},
    [OP_MLOCKALL] = {"mlockall", 1},
    [OP_MUNLOCKALL] = {"munlockall", 0},
    [OP_MINCORE] = {"mincore", 3},
    [OP_MSYNC] = {"msync", 3},
    [OP_FTRUNCATE] = {"ftruncate", 2},
    [OP_FALLOCATE] = {"fallocate", 4},
    [OP_PREAD] = {"pread", 4},
    [OP_PWRITE] = {"pwrite", 4},
    [OP_READV] = {"readv", 6},
    [OP_PIPE] = {"pipe", 4},
    [OP_VM_READ] = {"vm_read", 4},
    [OP_VM_WRITE] = {"vm_write", 4},
    [OP_PEEK] = {"peek", 3},
    [OP_POKE] = {"poke", 3},
    [OP_LOAD] = {"load", 2},
    [OP_STORE] = {"store", 3},
    [OP_FILL] = {"fill", 3},
    [OP_CODE] = {"code", 1},
    [OP_CALL] = {"call", 1},
    [OP_FORK] = {"fork", 2},
    [OP_EXIT] = {"exit", 0},
    [OP_LIMIT] = {"limit", 2},
    [OP_DROP] = {"drop", 0},
    [OP_MSEAL] = {"mseal", 3},
    [OP_REMAP_FILE] = {"remap_file_pages", 5},
    [OP_ADVISE_OTHER] = {"process_madvise", 5},
    [OP_MBIND] = {"mbind", 6},
    [OP_SET_POLICY] = {"set_mempolicy", 3},
    [OP_GET_POLICY] = {"get_mempolicy", 3},
    [OP_HOME_NODE] = {"home_node", 4},
    [OP_MOVE_PAGES] = {"move_pages", 4},
    [OP_MIGRATE] = {"migrate_pages", 4},
    [OP_SHMGET] = {"shmget", 3},
    [OP_SHMAT] = {"shmat", 3},
    [OP_SHMDT] = {"shmdt", 1},
    [OP_SHMCTL] = {"shmctl", 2},
    [OP_SEAL] = {"seal", 2},
    [OP_FADVISE] = {"fadvise", 4},
    [OP_READAHEAD] = {"readahead", 3},
    [OP_CACHESTAT] = {"cachestat", 4},
    [OP_VMSPLICE] = {"vmsplice", 5},
    [OP_SPLICE] = {"splice", 5},
    [OP_TEE] = {"tee", 4},
    [OP_WATCH] = {"watch", 3},
    [OP_UNWATCH] = {"unwatch", 2},
    [OP_RESOLVE] = {"resolve", 5},
    [OP_KEY_ALLOC] = {"pkey_alloc", 2},
    [OP_KEY_FREE] = {"pkey_free", 1},
    [OP_KEY_PROTECT] = {"pkey_mprotect", 4},
    [OP_KEY_RIGHTS] = {"pkey_rights", 2},
    [OP_KEY_SIGNAL] = {"pkey_signal", 2},
    [OP_OVERCOMMIT] = {"overcommit", 3},
    [OP_COMMIT] = {"commit", 3},
    [OP_BARRIER] = {"membarrier", 2},
    [OP_GETCPU] = {"getcpu", 0},
    [OP_MEMFD] = {"memfd_create", 2},
    [OP_RACE] = {"race", 6},
    [OP_TID] = {"clone_tid", 2},
    [OP_REFUSED] = {"clone3_refused", 1},
    [OP_USER] = {"user", 0},
    [OP_ASK] = {"ask", 2},
    [OP_SHMKEY] = {"shmget_key", 3},
    [OP_SHMSET] = {"shm_set", 2},
    [OP_PIECES] = {"vm_pieces", 6},
    [OP_HUGE] = {"huge", 4},
    [OP_PROBE] = {"probe", 0},
    [OP_RESIDENT] = {"resident", 0},
    [OP_MAPS] = {"maps", 0},
    [OP_FLAGS] = {"flags", 0},
    [OP_PAGEMAP] = {"pagemap", 0},
    [OP_FILES] = {"files", 0},
    [OP_STATUS] = {"status", 0},
    [OP_SMAPS] = {"smaps", 0},
};

static void
value_print(uint64_t value, char *out, size_t bytes)
{
    uint64_t tag = VALUE_TAG(value), offset = VALUE_OFFSET(value);
    uint64_t page = offset / PAGE_BYTES, rest = offset % PAGE_BYTES;
    char letter = tag == VALUE_ARENA ? 'p' : 'b';

    if (tag != VALUE_ARENA && tag != VALUE_BREAK)
        snprintf(out, bytes, "0x%" PRIx64, value);
    else if (rest == 0)
        snprintf(out, bytes, "%c%" PRIu64, letter, page);
    else
        snprintf(out, bytes, "%c%" PRIu64 "+0x%" PRIx64, letter, page, rest);
}

static bool
value_parse(const char *word, uint64_t *out)
{
    char *end;

    if (*word == 'p' || *word == 'b') {
        uint64_t offset = strtoull(word + 1, &end, 10) * PAGE_BYTES;

        if (*end == '+')
            offset += strtoull(end + 1, &end, 0);
        *out = (*word == 'p' ? VALUE_ARENA : VALUE_BREAK) | offset;
    } else {
        *out = strtoull(word, &end, 0);
    }
    return *end == '\0';
}

void
op_print(const struct op *op, char *out, size_t bytes)
{
    int at = snprintf(out, bytes, "%u %s", op->process, op_names[op->kind].name);

    for (unsigned i = 0; i < op_names[op->kind].args; i++) {
        char value[32];

        value_print(op->arg[i], value, sizeof(value));
        at += snprintf(out + at, bytes - (size_t)at, " %s", value);
    }
}

static bool
kind_parse(const char *word, enum op_kind *out)
{
    for (unsigned kind = 0; kind < OP_KINDS; kind++) {
        if (strcmp(word, op_names[kind].name) == 0) {
            *out = (enum op_kind)kind;
            return true;
        }
    }
    return false;
}

int
op_parse(struct op *op, const char *line)
{
    char text[256], *save, *word;
    uint64_t process;

    if (strlen(line) >= sizeof(text))
        return -1;
    strcpy(text, line);
    text[strcspn(text, "#\n")] = '\0';
    word = strtok_r(text, " ", &save);
    if (word == NULL)
        return 0;
    if (!value_parse(word, &process) || process >= PROCESSES)
        return -1;
    *op = (struct op){.process = (unsigned)process};
    word = strtok_r(NULL, " ", &save);
    if (word == NULL || !kind_parse(word, &op->kind))
        return -1;
    for (unsigned i = 0; i < op_names[op->kind].args; i++) {
        word = strtok_r(NULL, " ", &save);
        if (word == NULL || !value_parse(word, &op->arg[i]))
            return -1;
    }
    return strtok_r(NULL, " ", &save) == NULL ? 1 : -1;
}
