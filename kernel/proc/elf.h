/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PROC_ELF_H
#define KERNEL_PROC_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reading ELF headers of the kernel's own word size: pure functions over bytes, which
 * decide what a program wants to have mapped.  exec.c does the mapping.  Writing them: core_image.c.
 */

struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_segment {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

/* The structures above are those of 64 bits; 32-bit programs have narrower ones in the file. */
enum {
    ELF_CLASS = sizeof(void *) == 8 ? 2 : 1,
    ELF_HEADER_BYTES = sizeof(void *) == 8 ? 64 : 52,
    ELF_SECTION_BYTES = sizeof(void *) == 8 ? 64 : 40,
    ELF_SEGMENT_BYTES = sizeof(void *) == 8 ? 56 : 32,
    ELF_SEGMENTS_MAX = 512
};

enum elf_type { ELF_FIXED = 2, ELF_MOVABLE = 3, ELF_CORE = 4 };
enum { PT_LOAD = 1, PT_INTERP = 3, PT_NOTE = 4, PT_PHDR = 6, PT_GNU_STACK = 0x6474e551 };
enum { PF_X = 1, PF_W = 2, PF_R = 4 };

/** What the program headers ask for, checked. */
struct elf_plan {
    uint64_t start, end; /* page-aligned extent of all segments, before any bias */
    uint64_t align;      /* the largest alignment asked for, at least a page */
    uint64_t phdr;       /* address of the program headers in memory; 0: not loaded */
    uint64_t interp_offset, interp_bytes; /* of PT_INTERP's path in the file; 0: none */
    bool stack_exec;
};

/** Fill @out from the file's first bytes, at least sizeof *@out of them. */
void elf_header_decode(const void *file, struct elf_header *out);

/** Fill @out from @count program headers; @file may lie at the end of @out's own memory. */
void elf_segments_decode(const void *file, unsigned count, struct elf_segment *out);

/** The other way: write @header, or @segment, to @file as the machine's class has it. @return bytes */
size_t elf_header_encode(const struct elf_header *header, void *file);
size_t elf_segment_encode(const struct elf_segment *segment, void *file);

/** Is @header a program for this machine with a sane program-header table? */
bool elf_header_is_valid(const struct elf_header *header, size_t bytes, uint16_t machine);

/**
 * Check all segments against each other, the file and the user half.
 * @return false where the program cannot be loaded (ENOEXEC)
 */
bool elf_plan_make(const struct elf_header *header, const struct elf_segment *segments,
                   uint64_t file_bytes, uint64_t user_limit, struct elf_plan *out);

#endif
