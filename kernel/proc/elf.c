/* SPDX-License-Identifier: MIT */
/*
 * ELF64, read with suspicion: every number comes from a file that anybody may
 * have written.  What passes here is in ascending order, does not overlap page
 * by page, lies in the user half whatever page-aligned bias is added below the
 * limit, and refers to bytes that the file has.
 */
#include "elf.h"

#include <quire/types.h>

bool
elf_header_is_valid(const struct elf_header *header, size_t bytes, uint16_t machine)
{
    static const uint8_t magic[7] = {0x7f, 'E', 'L', 'F', 2, 1, 1};

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
