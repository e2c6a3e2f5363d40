/* SPDX-License-Identifier: MIT */
/*
 * The contents of a core file: ELF of type ET_CORE.
 *
 *      header | program headers: notes, one for each region | (one section header) | notes | pad |
 *      the pages of the regions, in their order
 *
 * How much of a region there is says coredump_filter: all of it, its first page, or nothing.  A page that nobody
 * has touched is a hole in the file; so is one that is all zeroes, and one that cannot be
 * read.  Nothing is faulted in that was not there (qr_space_next_data()) but pages of files, and what is in swap.
 *
 * The notes are what a debugger needs: for each thread, first the one that took the signal, NT_PRSTATUS and its
 * other sets of registers, as PTRACE_GETREGSET has them; for the process NT_PRPSINFO, NT_SIGINFO, NT_AUXV and
 * NT_FILE.  One function writes them, and runs twice: first only to count.
 *
 * What is needed beside pages is collected before the first byte is written, and freed in image_free(): the
 * regions with references to their files, the threads with references.  Writing may then fail at
 * any place, where the file just ends.
 */
#include "core_private.h"

#include <quire/assert.h>

#include "abi_errno.h"
#include "elf.h"
#include "file.h"
#include "kstring.h"
#include "memory.h"
#include "proc_private.h"
#include "vfs.h"

enum {
    NOTE_PROCESS = 3,
    NOTE_AUXV = 6,
    NOTE_FILES = 0x46494c45,
    NOTE_SIGNAL = 0x53494749,
    SIGNAL_BYTES = 128,
    ARGUMENT_BYTES = 80,
    REGISTERS_MAX = 4096,
    FILES_BYTES_MAX = 4 << 20,
    PHNUM_ELSEWHERE = 0xffff /* in the one section header */
};

/** A region as it was when the dump began. */
struct core_region {
    uint64_t start, end, dumped; /* dumped: bytes from start */
    uint64_t file_page;
    struct file *file; /* one reference; NULL: none */
    unsigned prot;
    bool maybe_elf; /* its first page, if it begins as a program does */
};

struct core_image {
    struct process *process;
    struct mm *mm;
    const struct signal_info *info;
    struct file *file;
    uint64_t limit, written;
    uint64_t position, end; /* in the file; of what it has */
    bool counting;          /* nothing is written */

    struct core_region *regions;
    size_t region_count;
    struct thread **threads; /* a reference each; the first is the running one */
    size_t thread_count;
    char *files; /* the contents of NT_FILE */
    size_t files_bytes;
    char *page;
    char *registers; /* REGISTERS_MAX bytes, whatever note is being made */
};

/* ---- writing --------------------------------------------------------------------------- */

static bool
emit(struct core_image *image, const void *bytes, size_t n)
{
    if (!image->counting) {
        if (n > image->limit - image->written || signal_is_fatal_pending() ||
            file_write_at(image->file, bytes, n, image->position) != (int64_t)n)
            return false;
        image->written += n;
        image->end = image->position + n;
    }
    image->position += n;
    return true;
}

static bool
emit_note(struct core_image *image, const char *owner, unsigned type, const void *bytes, size_t n)
{
    static const char zeroes[4];
    char head[20] = {0};
    const uint32_t words[3] = {(uint32_t)strlen(owner) + 1, (uint32_t)n, type};

    qr_assert(words[0] <= 8);
    memcpy(head, words, sizeof(words));
    memcpy(head + sizeof(words), owner, words[0]);
    return emit(image, head, sizeof(head)) && emit(image, bytes, n) && emit(image, zeroes, -n & 3);
}

/* ---- memory ------------------------------------------------------------------------------ */

/* A page of the process, if there is one. */
static bool
page_read(struct core_image *image, uint64_t at)
{
    struct qr_va_range page = {qr_va_of((uintptr_t)at), qr_va_of((uintptr_t)at + QR_PAGE_SIZE)};
    qr_va found;

    return qr_space_next_data(image->mm->space, page, &found) &&
           mm_access(image->mm, at, image->page, QR_PAGE_SIZE, MM_FORCE_READ) == QR_PAGE_SIZE;
}

/* Is there anything but zeroes in it? */
static bool
page_has_content(const struct core_image *image)
{
    const unsigned long *word = (const unsigned long *)image->page;

    for (size_t i = 0; i < QR_PAGE_SIZE / sizeof(*word); i++) {
        if (word[i] != 0)
            return true;
    }
    return false;
}

static bool
region_write(struct core_image *image, const struct core_region *region)
{
    const uint64_t from = image->position;
    struct qr_va_range rest = {qr_va_of((uintptr_t)region->start),
                               qr_va_of((uintptr_t)(region->start + region->dumped))};
    qr_va at;

    while (rest.start.v < rest.end.v && qr_space_next_data(image->mm->space, rest, &at)) {
        image->position = from + (at.v - region->start);
        if (signal_is_fatal_pending() || (page_read(image, at.v) && page_has_content(image) &&
                                          !emit(image, image->page, QR_PAGE_SIZE)))
            return false;
        rest.start.v = at.v + QR_PAGE_SIZE;
        sched_relax();
    }
    image->position = from + region->dumped;
    return true;
}

/* ---- which memory -------------------------------------------------------------------------- */

/* Bytes of a region that are written, by the filter.  The space's lock is held. */
static uint64_t
region_dumped(const struct qr_region *region, unsigned filter, bool *out_maybe_elf)
{
    const uint64_t all = region->end.v - region->start.v;
    bool shared = (region->flags & QR_REGION_SHARED) != 0;

    if ((region->flags & QR_REGION_VDSO) != 0)
        return all;
    if ((region->flags & (QR_REGION_DONT_DUMP | QR_REGION_DEVICE)) != 0)
        return 0;
    if ((region->flags & QR_REGION_HUGETLB) != 0)
        return (filter & (shared ? CORE_HUGE_SHARED : CORE_HUGE_PRIVATE)) != 0 ? all : 0;
    if (shared) {
        bool named = region->file != NULL && !file_is_nameless(region->file);

        return (filter & (named ? CORE_FILE_SHARED : CORE_ANON_SHARED)) != 0 ? all : 0;
    }
    if ((filter & CORE_ANON_PRIVATE) != 0 && qr_region_has_copies(region))
        return all;
    if (region->file == NULL)
        return 0;
    if ((filter & CORE_FILE_PRIVATE) != 0)
        return all;
    *out_maybe_elf = (filter & CORE_ELF_HEADERS) != 0 && region->object_page == 0 &&
                     (region->prot & QR_PROT_READ) != 0;
    return 0;
}

/* Copy as many regions as fit.  @return how many there are */
static size_t
regions_copy(struct core_image *image, size_t room)
{
    struct qr_space *space = image->mm->space;
    unsigned filter = atomic_load(&image->mm->core_filter);
    size_t count = 0;

    qr_rw_read_lock(&space->lock);
    for (struct qr_region *region = qr_space_find(space, qr_va_of(0)); region != NULL;
         region = qr_region_next(region)) {
        struct core_region *copy = &image->regions[count];

        if (count++ >= room)
            continue;
        *copy = (struct core_region){.start = region->start.v,
                                     .end = region->end.v,
                                     .file_page = region->object_page,
                                     .file = region->file,
                                     .prot = region->prot};
        copy->dumped = region_dumped(region, filter, &copy->maybe_elf);
        if (copy->file != NULL)
            file_ref(copy->file);
    }
    qr_rw_read_unlock(&space->lock);
    return count;
}

static void
regions_free(struct core_image *image)
{
    for (size_t i = 0; i < image->region_count; i++) {
        if (image->regions[i].file != NULL)
            file_put(image->regions[i].file);
    }
    kvmem_free(image->regions);
    image->regions = NULL;
    image->region_count = 0;
}

/* Who shares the memory may add regions between the look at their number and the copy: not for ever. */
static bool
regions_collect(struct core_image *image)
{
    struct qr_space_counts counts;

    qr_space_counts(image->mm->space, &counts);
    for (unsigned attempt = 0; attempt < 4; attempt++) {
        size_t room = counts.region_count + 16;

        image->regions = kvmem_zalloc(room * sizeof(*image->regions));
        if (image->regions == NULL)
            return false;
        counts.region_count = regions_copy(image, room);
        image->region_count = counts.region_count < room ? counts.region_count : room;
        if (counts.region_count <= room)
            return true;
        regions_free(image);
    }
    return false;
}

/* The first pages of programs and libraries, which say what was mapped there. */
static void
regions_find_programs(struct core_image *image)
{
    for (size_t i = 0; i < image->region_count; i++) {
        struct core_region *region = &image->regions[i];

        if (region->maybe_elf && page_read(image, region->start) &&
            memcmp(image->page, "\177ELF", 4) == 0)
            region->dumped = QR_PAGE_SIZE;
    }
}

/* ---- the note of files --------------------------------------------------------------------- */

/*
 * Words: how many, the size of a page, then start, end and first page of each; then their names.
 * @return bytes; 0: more than @size
 */
static size_t
files_fill(const struct core_image *image, char *out, size_t size, char *buffer)
{
    unsigned long *word = (unsigned long *)out;
    size_t count = 0, at;

    for (size_t i = 0; i < image->region_count; i++)
        count += image->regions[i].file != NULL;
    at = (2 + 3 * count) * sizeof(*word);
    if (at > size)
        return 0;
    *word++ = count;
    *word++ = QR_PAGE_SIZE;
    for (size_t i = 0; i < image->region_count; i++) {
        const struct core_region *region = &image->regions[i];

        if (region->file == NULL)
            continue;
        const char *path = file_path(region->file, buffer, PATH_MAX);
        size_t length = strlen(path) + 1;

        if (length > size - at)
            return 0;
        memcpy(out + at, path, length);
        at += length;
        *word++ = (unsigned long)region->start;
        *word++ = (unsigned long)region->end;
        *word++ = (unsigned long)region->file_page;
    }
    return at;
}

/* Without memory, or with too many names, there is none. */
static void
files_collect(struct core_image *image)
{
    char *buffer = kmem_alloc(PATH_MAX);

    for (size_t size = 64 << 10; buffer != NULL && size <= FILES_BYTES_MAX; size *= 4) {
        image->files = kvmem_zalloc(size);
        if (image->files == NULL)
            break;
        image->files_bytes = files_fill(image, image->files, size, buffer);
        if (image->files_bytes != 0)
            break;
        kvmem_free(image->files);
        image->files = NULL;
    }
    kmem_free(buffer);
}

/* ---- the other notes ----------------------------------------------------------------------- */

struct core_time {
    long seconds, microseconds;
};

/** Linux's struct elf_prstatus, up to the registers; an int, whether there are others, comes after them. */
struct core_status {
    int32_t signal, code, error;
    int16_t current;
    unsigned long pending, held;
    int32_t id, parent, group, session;
    struct core_time user, system, children_user, children_system;
};
_Static_assert(sizeof(struct core_status) == (sizeof(long) == 8 ? 112 : 72), "Linux ABI");

/** Linux's struct elf_prpsinfo. */
struct core_process {
    char state, letter, zombie, nice;
    unsigned long flags;
    ARCH_CORE_ID uid, gid;
    int32_t id, parent, group, session;
    char name[COMM_BYTES];
    char arguments[ARGUMENT_BYTES];
};
_Static_assert(sizeof(struct core_process) == (sizeof(long) == 8 ? 136 : 124), "Linux ABI");

static struct core_time
time_of(uint64_t ns)
{
    return (struct core_time){(long)(ns / 1000000000u), (long)(ns / 1000u % 1000000u)};
}

/* The leader stands for the process, as to the time used. */
static bool
note_status(struct core_image *image, struct thread *thread)
{
    const size_t registers = arch_trace_bytes(NOTE_GENERAL);
    const int32_t valid = 1;
    struct process_status about;
    char *out = image->registers;

    process_status(image->process, thread == image->process->leader_thread ? NULL : thread, &about);
    struct core_status status = {
        .signal = image->info->number,
        .current = (int16_t)image->info->number,
        .pending = (unsigned long)about.pending,
        .held = (unsigned long)about.blocked,
        .id = thread->tid,
        .parent = about.parent,
        .group = about.group,
        .session = about.session,
        .user = time_of(about.used.user_ns),
        .system = time_of(about.used.system_ns),
        .children_user = time_of(about.children_used.user_ns),
        .children_system = time_of(about.children_used.system_ns),
    };
    memcpy(out, &status, sizeof(status));
    arch_trace_get(&thread->arch, NOTE_GENERAL, out + sizeof(status));
    memset(out + sizeof(status) + registers, 0, sizeof(long));
    memcpy(out + sizeof(status) + registers, &valid, sizeof(valid));
    return emit_note(image, "CORE", NOTE_GENERAL, out, sizeof(status) + registers + sizeof(long));
}

/* Arguments, blanks between them. */
static void
arguments_read(struct core_image *image, char *out)
{
    const struct mm *mm = image->mm;
    uint64_t bytes = mm->arg_end - mm->arg_start;
    size_t offset = (size_t)(mm->arg_start & QR_PAGE_MASK), n = ARGUMENT_BYTES - 1;

    n = bytes < n ? (size_t)bytes : n;
    for (size_t done = 0; done < n;) {
        size_t piece = QR_PAGE_SIZE - offset < n - done ? QR_PAGE_SIZE - offset : n - done;

        if (!page_read(image, mm->arg_start + done - offset))
            break;
        memcpy(out + done, image->page + offset, piece);
        done += piece;
        offset = 0;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = out[i] == '\0' ? ' ' : out[i];
}

static bool
note_process(struct core_image *image)
{
    struct process_status about;

    process_status(image->process, image->threads[0], &about);
    struct core_process process = {
        .letter = 'R',
        .nice = (char)about.nice,
        .uid = (ARCH_CORE_ID)about.credentials.uid,
        .gid = (ARCH_CORE_ID)about.credentials.gid,
        .id = about.id,
        .parent = about.parent,
        .group = about.group,
        .session = about.session,
    };
    memcpy(process.name, image->process->name, COMM_BYTES);
    arguments_read(image, process.arguments);
    return emit_note(image, "CORE", NOTE_PROCESS, &process, sizeof(process));
}

static bool
note_auxv(struct core_image *image)
{
    const uintptr_t *auxv = image->mm->auxv;
    size_t words = 0;

    while (words + 2 < MM_AUXV_WORDS && auxv[words] != 0)
        words += 2;
    return emit_note(image, "CORE", NOTE_AUXV, auxv, (words + 2) * sizeof(*auxv));
}

__attribute__((weak)) void
arch_core_info(const struct signal_info *info, void *out)
{
    QR_STATIC_ASSERT(sizeof(*info) == SIGNAL_BYTES, "Linux ABI");
    memcpy(out, info, SIGNAL_BYTES);
}

static bool
notes_of_process(struct core_image *image)
{
    char info[SIGNAL_BYTES];

    arch_core_info(image->info, info);
    return note_process(image) && emit_note(image, "CORE", NOTE_SIGNAL, info, sizeof(info)) &&
           note_auxv(image) &&
           (image->files == NULL ||
            emit_note(image, "CORE", NOTE_FILES, image->files, image->files_bytes));
}

/* All but the general registers.  FXSAVE is NT_PRFPREG where there is no older form. */
static bool
note_registers(struct core_image *image, struct thread *thread)
{
    static const unsigned notes[] = {NOTE_FLOAT, NOTE_X86_FXSAVE, NOTE_X86_XSTATE, NOTE_ARM_TLS,
                                     NOTE_ARM_SYSCALL};

    for (unsigned i = 0; i < QR_ARRAY_COUNT(notes); i++) {
        size_t bytes = arch_trace_bytes(notes[i]);

        if (bytes == 0 || (notes[i] == NOTE_X86_FXSAVE && arch_trace_bytes(NOTE_FLOAT) != 0))
            continue;
        qr_assert(bytes <= REGISTERS_MAX);
        arch_trace_get(&thread->arch, notes[i], image->registers);
        if (!emit_note(image, notes[i] == NOTE_FLOAT ? "CORE" : "LINUX", notes[i], image->registers,
                       bytes))
            return false;
    }
    return true;
}

static bool
notes_write(struct core_image *image)
{
    for (size_t i = 0; i < image->thread_count; i++) {
        if (!note_status(image, image->threads[i]) || (i == 0 && !notes_of_process(image)) ||
            !note_registers(image, image->threads[i]))
            return false;
    }
    return true;
}

/* ---- headers --------------------------------------------------------------------------------- */

static bool
header_write(struct core_image *image)
{
    size_t count = image->region_count + 1;
    bool elsewhere = count >= PHNUM_ELSEWHERE;
    struct elf_header header = {
        .ident = {0x7f, 'E', 'L', 'F', ELF_CLASS, 1, 1},
        .type = ELF_CORE,
        .machine = ARCH_ELF_MACHINE,
        .version = 1,
        .phoff = ELF_HEADER_BYTES,
        .shoff = elsewhere ? ELF_HEADER_BYTES + (uint64_t)count * ELF_SEGMENT_BYTES : 0,
        .ehsize = ELF_HEADER_BYTES,
        .phentsize = ELF_SEGMENT_BYTES,
        .phnum = elsewhere ? PHNUM_ELSEWHERE : (uint16_t)count,
        .shentsize = elsewhere ? ELF_SECTION_BYTES : 0,
        .shnum = elsewhere,
    };
    char bytes[ELF_HEADER_BYTES];

    return emit(image, bytes, elf_header_encode(&header, bytes));
}

static bool
segment_write(struct core_image *image, const struct elf_segment *segment)
{
    char bytes[ELF_SEGMENT_BYTES];

    return emit(image, bytes, elf_segment_encode(segment, bytes));
}

/* The section header that tells how many program headers there are, where the header cannot. */
static bool
count_write(struct core_image *image)
{
    const uint32_t count = (uint32_t)image->region_count + 1, one = 1;
    char bytes[ELF_SECTION_BYTES] = {0};

    if (count < PHNUM_ELSEWHERE)
        return true;
    memcpy(bytes + (ELF_CLASS == 2 ? 32 : 20), &one, sizeof(one));     /* sh_size: sections */
    memcpy(bytes + (ELF_CLASS == 2 ? 44 : 28), &count, sizeof(count)); /* sh_info */
    return emit(image, bytes, sizeof(bytes));
}

/* All program headers, for notes at @notes and pages behind them. */
static bool
segments_write(struct core_image *image, uint64_t notes, uint64_t notes_bytes)
{
    struct elf_segment segment = {.type = PT_NOTE, .offset = notes, .filesz = notes_bytes};
    uint64_t offset = (notes + notes_bytes + QR_PAGE_SIZE - 1) & ~(uint64_t)QR_PAGE_MASK;

    if (!segment_write(image, &segment))
        return false;
    for (size_t i = 0; i < image->region_count; i++) {
        const struct core_region *region = &image->regions[i];

        segment = (struct elf_segment){
            .type = PT_LOAD,
            .flags = ((region->prot & QR_PROT_READ) != 0 ? PF_R : 0u) |
                     ((region->prot & QR_PROT_WRITE) != 0 ? PF_W : 0u) |
                     ((region->prot & QR_PROT_EXEC) != 0 ? PF_X : 0u),
            .offset = offset,
            .vaddr = region->start,
            .filesz = region->dumped,
            .memsz = region->end - region->start,
            .align = QR_PAGE_SIZE,
        };
        if (!segment_write(image, &segment))
            return false;
        offset += region->dumped;
    }
    return true;
}

/* Everything before the pages; leaves the position at them. */
static bool
front_write(struct core_image *image)
{
    uint64_t notes = ELF_HEADER_BYTES + (uint64_t)(image->region_count + 1) * ELF_SEGMENT_BYTES;
    uint64_t notes_bytes;

    if (image->region_count + 1 >= PHNUM_ELSEWHERE)
        notes += ELF_SECTION_BYTES;
    image->counting = true;
    (void)notes_write(image);
    image->counting = false;
    notes_bytes = image->position;
    image->position = 0;
    if (!header_write(image) || !segments_write(image, notes, notes_bytes) || !count_write(image) ||
        !notes_write(image))
        return false;
    qr_assert(image->position == notes + notes_bytes);
    image->position = (image->position + QR_PAGE_SIZE - 1) & ~(uint64_t)QR_PAGE_MASK;
    return true;
}

static bool
pages_write(struct core_image *image)
{
    static const char zero;

    for (size_t i = 0; i < image->region_count; i++) {
        if (!region_write(image, &image->regions[i]))
            return false;
    }
    if (image->position == image->end)
        return true;
    image->position--; /* a hole at the end has to be there, too */
    return emit(image, &zero, 1);
}

/* ---- collecting ------------------------------------------------------------------------------ */

static bool
threads_collect(struct core_image *image)
{
    struct process *process = image->process;
    struct thread *self = thread_current();

    image->threads = kvmem_zalloc((process->core_others + 1) * sizeof(struct thread *));
    if (image->threads == NULL)
        return false;
    thread_ref(self);
    image->threads[image->thread_count++] = self;
    process_tree_lock();
    qr_list_for_each(link, &process->threads)
    {
        struct thread *thread = qr_list_entry(link, struct thread, thread_link);

        if (!thread->in_core)
            continue;
        thread_ref(thread);
        image->threads[image->thread_count++] = thread;
    }
    process_tree_unlock();
    qr_assert(image->thread_count == process->core_others + 1);
    return true;
}

static bool
image_collect(struct core_image *image)
{
    image->page = kmem_alloc(QR_PAGE_SIZE);
    image->registers = kmem_zalloc(REGISTERS_MAX);
    if (image->page == NULL || image->registers == NULL || !threads_collect(image) ||
        !regions_collect(image))
        return false;
    regions_find_programs(image);
    files_collect(image);
    return true;
}

static void
image_free(struct core_image *image)
{
    for (size_t i = 0; i < image->thread_count; i++)
        thread_put(image->threads[i]);
    kvmem_free(image->threads);
    regions_free(image);
    kvmem_free(image->files);
    kmem_free(image->registers);
    kmem_free(image->page);
}

bool
core_write(struct file *file, uint64_t limit, const struct signal_info *info)
{
    struct process *process = process_current();
    struct core_image image = {
        .process = process, .mm = process->mm, .info = info, .file = file, .limit = limit};
    bool collected = image_collect(&image);

    if (collected && front_write(&image))
        (void)pages_write(&image);
    image_free(&image);
    return collected;
}
