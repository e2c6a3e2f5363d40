/* SPDX-License-Identifier: MIT */
/*
 * ELF, read with suspicion: every number comes from a file that anybody may
 * have written.  What passes here is in ascending order, does not overlap page
 * by page, lies in the user half whatever page-aligned bias is added below the
 * limit, and refers to bytes that the file has.
 */
#include "elf.h"

#include <kstring.h>

#include <quire/types.h>

/* ---- 32 bits ---------------------------------------------------------------------------- */

struct elf32_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint32_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf32_segment {
    uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align;
};

_Static_assert(sizeof(struct elf_header) == 64 && sizeof(struct elf_segment) == 56, "ELF64");
_Static_assert(sizeof(struct elf32_header) == 52 && sizeof(struct elf32_segment) == 32, "ELF32");

static void
header_widen(const void *file, struct elf_header *out)
{
    struct elf32_header h;

    memcpy(&h, file, sizeof h);
    *out = (struct elf_header){
        .type = h.type,
        .machine = h.machine,
        .version = h.version,
        .entry = h.entry,
        .phoff = h.phoff,
        .shoff = h.shoff,
        .flags = h.flags,
        .ehsize = h.ehsize,
        .phentsize = h.phentsize,
        .phnum = h.phnum,
        .shentsize = h.shentsize,
        .shnum = h.shnum,
        .shstrndx = h.shstrndx,
    };
    memcpy(out->ident, h.ident, sizeof out->ident);
}

static void
segment_widen(const char *file, struct elf_segment *out)
{
    struct elf32_segment s;

    memcpy(&s, file, sizeof s);
    *out = (struct elf_segment){
        .type = s.type,
        .flags = s.flags,
        .offset = s.offset,
        .vaddr = s.vaddr,
        .paddr = s.paddr,
        .filesz = s.filesz,
        .memsz = s.memsz,
        .align = s.align,
    };
}

void
elf_header_decode(const void *file, struct elf_header *out)
{
    if (ELF_CLASS == 2)
        memcpy(out, file, sizeof *out);
    else
        header_widen(file, out);
}

void
elf_segments_decode(const void *file, unsigned count, struct elf_segment *out)
{
    const char *at = file;

    if (ELF_CLASS == 2) {
        memmove(out, file, count * sizeof *out);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        segment_widen(at + i * sizeof(struct elf32_segment), &out[i]);
}

/* ---- writing ----------------------------------------------------------------------------- */

size_t
elf_header_encode(const struct elf_header *header, void *file)
{
    struct elf32_header h = {
        .type = header->type,
        .machine = header->machine,
        .version = header->version,
        .entry = (uint32_t)header->entry,
        .phoff = (uint32_t)header->phoff,
        .shoff = (uint32_t)header->shoff,
        .flags = header->flags,
        .ehsize = header->ehsize,
        .phentsize = header->phentsize,
        .phnum = header->phnum,
        .shentsize = header->shentsize,
        .shnum = header->shnum,
        .shstrndx = header->shstrndx,
    };

    memcpy(h.ident, header->ident, sizeof h.ident);
    memcpy(file, ELF_CLASS == 2 ? (const void *)header : &h, ELF_HEADER_BYTES);
    return ELF_HEADER_BYTES;
}

size_t
elf_segment_encode(const struct elf_segment *segment, void *file)
{
    struct elf32_segment s = {
        .type = segment->type,
        .flags = segment->flags,
        .offset = (uint32_t)segment->offset,
        .vaddr = (uint32_t)segment->vaddr,
        .paddr = (uint32_t)segment->paddr,
        .filesz = (uint32_t)segment->filesz,
        .memsz = (uint32_t)segment->memsz,
        .align = (uint32_t)segment->align,
    };

    memcpy(file, ELF_CLASS == 2 ? (const void *)segment : &s, ELF_SEGMENT_BYTES);
    return ELF_SEGMENT_BYTES;
}

/* ---- checks ------------------------------------------------------------------------------ */

bool
elf_header_is_valid(const struct elf_header *header, size_t bytes, uint16_t machine)
{
    static const uint8_t magic[7] = {0x7f, 'E', 'L', 'F', ELF_CLASS, 1, 1};

    if (bytes < sizeof(*header))
        return false;
    for (unsigned i = 0; i < sizeof(magic); i++) {
        if (header->ident[i] != magic[i])
            return false;
    }
    return (header->type == ELF_FIXED || header->type == ELF_MOVABLE) &&
           header->machine == machine && header->phentsize == ELF_SEGMENT_BYTES &&
           header->phnum >= 1 && header->phnum <= ELF_SEGMENTS_MAX &&
           header->phoff < (uint64_t)1 << 62;
}

static bool
is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* One PT_LOAD on its own. */
static bool
load_is_sane(const struct elf_segment *segment, uint64_t file_bytes, uint64_t user_limit)
{
    uint64_t end;

    if (segment->filesz > segment->memsz || segment->memsz > user_limit)
        return false;
    if (__builtin_add_overflow(segment->vaddr, segment->memsz, &end) ||
        end > user_limit - QR_PAGE_SIZE)
        return false;
    if (((segment->vaddr ^ segment->offset) & QR_PAGE_MASK) != 0)
        return false;
    if (segment->align > 1 && !is_power_of_two(segment->align))
        return false;
    if (segment->filesz == 0)
        return true;
    return segment->offset <= file_bytes && segment->filesz <= file_bytes - segment->offset;
}

static bool
plan_add_load(struct elf_plan *plan, const struct elf_segment *segment, bool *first)
{
    uint64_t start = qr_va_page_down(segment->vaddr);
    uint64_t end = qr_va_page_up(segment->vaddr + segment->memsz);

    if (*first)
        plan->start = start;
    else if (start < plan->end)
        return false;
    *first = false;
    plan->end = end;
    if (segment->align > plan->align)
        plan->align = segment->align;
    return true;
}

/* Where the program headers end up in memory: inside the segment that holds their bytes. */
static void
plan_find_phdr(struct elf_plan *plan, const struct elf_header *header,
               const struct elf_segment *segment)
{
    uint64_t bytes = (uint64_t)header->phnum * ELF_SEGMENT_BYTES;

    if (plan->phdr == 0 && header->phoff >= segment->offset &&
        header->phoff - segment->offset <= segment->filesz &&
        bytes <= segment->filesz - (header->phoff - segment->offset))
        plan->phdr = segment->vaddr + (header->phoff - segment->offset);
}

bool
elf_plan_make(const struct elf_header *header, const struct elf_segment *segments,
              uint64_t file_bytes, uint64_t user_limit, struct elf_plan *out)
{
    struct elf_plan plan = {.align = QR_PAGE_SIZE};
    bool first = true;

    for (unsigned i = 0; i < header->phnum; i++) {
        const struct elf_segment *segment = &segments[i];

        if (segment->type == PT_GNU_STACK)
            plan.stack_exec = (segment->flags & PF_X) != 0;
        if (segment->type == PT_INTERP) {
            if (segment->filesz < 2 || segment->filesz > 4096 || segment->offset > file_bytes ||
                segment->filesz > file_bytes - segment->offset || plan.interp_bytes != 0)
                return false;
            plan.interp_offset = segment->offset;
            plan.interp_bytes = segment->filesz;
        }
        if (segment->type != PT_LOAD || segment->memsz == 0)
            continue;
        if (!load_is_sane(segment, file_bytes, user_limit) ||
            !plan_add_load(&plan, segment, &first))
            return false;
        plan_find_phdr(&plan, header, segment);
    }
    if (first || plan.align > (uint64_t)1 << 30)
        return false;
    *out = plan;
    return true;
}
