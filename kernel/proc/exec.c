/* SPDX-License-Identifier: MIT */
/*
 * execve: a new program in an old process.
 *
 * Everything that can fail happens first, on the side: arguments are copied to
 * the kernel, scripts resolved, the ELF files checked and mapped into a fresh
 * address space, its stack written.  Only then do the other threads end and the
 * process changes over, which cannot fail.  So a failed exec leaves the caller
 * as it was.
 *
 * The new stack, from the top down:
 *
 *      8 zero bytes
 *      file name, environment strings, argument strings
 *      the platform (such as "x86_64"), 16 random bytes
 *      auxiliary vector, 0, environment pointers, 0, argument pointers, count  <- sp, 16-aligned
 */
#include "proc_private.h"

#include <quire/assert.h>
#include <quire/space.h>

#include "abi_errno.h"
#include "arch_abi.h"
#include "cgroup.h"
#include "elf.h"
#include "file.h"
#include "kstring.h"
#include "memory.h"
#include "printk.h"
#include "sched_private.h"
#include "syscall.h"
#include "vfs.h"

#define AT_SYMLINK_NOFOLLOW 0x100u
#define AT_EMPTY_PATH       0x1000u
#define PROT_READ           1u
#define PIE_BASE            0x555555554000ull
#define STACK_EXTRA_BYTES   ((uint64_t)128 << 10)

enum {
    HEADER_BYTES = 256, /* what is read to recognise a format; a #! line ends within it */
    SCRIPT_DEPTH = 5,
    STRING_BYTES_MAX = 32 * QR_PAGE_SIZE,
    STRINGS_BYTES_MIN = 4096,
    ARGUMENTS_BYTES_MIN = 131072, /* however small the stack */
    ARGUMENTS_BYTES_MAX = 6 << 20,
    STRINGS_BYTES_MAX = ARGUMENTS_BYTES_MAX + 4096,
    STACK_RANDOM_BYTES = 8192,
    AUX_WORDS = 44
};

enum {
    AT_NULL,
    AT_PHDR = 3,
    AT_PHENT,
    AT_PHNUM,
    AT_PAGESZ,
    AT_BASE,
    AT_FLAGS,
    AT_ENTRY,
    AT_UID = 11,
    AT_EUID,
    AT_GID,
    AT_EGID,
    AT_PLATFORM,
    AT_HWCAP,
    AT_CLKTCK,
    AT_SECURE = 23,
    AT_RANDOM = 25,
    AT_HWCAP2,
    AT_EXECFN = 31,
    AT_MINSIGSTKSZ = 51
};

/** Argument and environment strings, one after the other, each with its terminator. */
struct exec_strings {
    char *bytes;
    size_t used, capacity;
    unsigned argc, envc;
    size_t env_offset; /* where the environment begins in bytes */
};

/** One ELF file, opened and understood. */
struct elf_image {
    struct file *file;
    struct elf_header header;
    struct elf_segment *segments;
    struct elf_plan plan;
    uint64_t bias; /* added to every address, once mapped */
};

struct exec {
    struct exec_strings strings;
    char *path; /* as given: AT_EXECFN, comm */
    struct elf_image program, interpreter;
    struct mm *mm;
    struct signal_actions *actions; /* new, if the old ones are shared */
    struct fd_table *files;         /* the same */
    uint64_t stack_top, sp;
};

/* ---- strings -------------------------------------------------------------------- */

static int64_t
strings_reserve(struct exec_strings *strings, size_t more)
{
    size_t capacity = strings->capacity == 0 ? STRINGS_BYTES_MIN : strings->capacity;
    char *bytes;

    if (more > STRINGS_BYTES_MAX - strings->used)
        return -E2BIG;
    while (capacity - strings->used < more)
        capacity *= 2;
    if (capacity == strings->capacity)
        return 0;
    bytes = kvmem_zalloc(capacity);
    if (bytes == NULL)
        return -ENOMEM;
    if (strings->used > 0)
        memcpy(bytes, strings->bytes, strings->used);
    kvmem_free(strings->bytes);
    strings->bytes = bytes;
    strings->capacity = capacity;
    return 0;
}

static int64_t
strings_add(struct exec_strings *strings, const char *text)
{
    size_t bytes = strlen(text) + 1;
    int64_t error = strings_reserve(strings, bytes);

    if (error != 0)
        return error;
    memcpy(strings->bytes + strings->used, text, bytes);
    strings->used += bytes;
    return 0;
}

/* Append one string of the user: into what is free, growing it as long as it does not fit. */
static int64_t
strings_add_user(struct exec_strings *strings, uint64_t address)
{
    size_t room = 256;

    for (;;) {
        int64_t length = strings_reserve(strings, room);

        if (length != 0)
            return length;
        room = strings->capacity - strings->used;
        if (room > STRING_BYTES_MAX)
            room = STRING_BYTES_MAX;
        length = user_read_string(strings->bytes + strings->used, address, room);
        if (length >= 0) {
            strings->used += (size_t)length + 1;
            return 0;
        }
        if (length != -ENAMETOOLONG)
            return length;
        if (room >= STRING_BYTES_MAX)
            return -E2BIG;
        room *= 2;
    }
}

/* A NULL-terminated array of pointers to strings; a NULL array is an empty one, as in Linux. */
static int64_t
strings_add_user_array(struct exec_strings *strings, uint64_t array, unsigned *out_count)
{
    unsigned count = 0;

    while (array != 0) {
        uint64_t address;
        int64_t error;

        if (user_read_word(&address, array + (uint64_t)count * sizeof(uintptr_t)) != 0)
            return -EFAULT;
        if (address == 0)
            break;
        if (count == ARGUMENTS_BYTES_MAX / sizeof(uintptr_t))
            return -E2BIG;
        if (signal_is_fatal_pending())
            return -EINTR;
        error = strings_add_user(strings, address);
        if (error != 0)
            return error;
        count++;
        sched_relax();
    }
    *out_count = count;
    return 0;
}

static int64_t
strings_from_user(struct exec_strings *strings, uint64_t argv, uint64_t envp)
{
    int64_t error = strings_add_user_array(strings, argv, &strings->argc);

    if (error == 0 && strings->argc == 0) {
        /* As Linux since 5.18: a program always finds argv[0]. */
        error = strings_add(strings, "");
        strings->argc = 1;
    }
    strings->env_offset = strings->used;
    return error != 0 ? error : strings_add_user_array(strings, envp, &strings->envc);
}

static int64_t
strings_from_kernel(struct exec_strings *strings, const char *const *argv, const char *const *envp)
{
    int64_t error = 0;

    for (; error == 0 && argv[strings->argc] != NULL; strings->argc++)
        error = strings_add(strings, argv[strings->argc]);
    strings->env_offset = strings->used;
    for (; error == 0 && envp[strings->envc] != NULL; strings->envc++)
        error = strings_add(strings, envp[strings->envc]);
    return error;
}

/* For a script: argv[0] gives way to the interpreter, its argument, and the script's path. */
static int64_t
strings_prepend(struct exec_strings *strings, const char *interpreter, const char *argument,
                const char *path)
{
    size_t old_bytes = strings->argc > 0 ? strlen(strings->bytes) + 1 : 0;
    const char *const words[3] = {interpreter, argument[0] != '\0' ? argument : path,
                                  argument[0] != '\0' ? path : NULL};
    size_t new_bytes = 0, at = 0;
    unsigned count = 0;
    int64_t error;

    for (; count < 3 && words[count] != NULL; count++)
        new_bytes += strlen(words[count]) + 1;
    error = strings_reserve(strings, new_bytes);
    if (error != 0)
        return error;
    memmove(strings->bytes + new_bytes, strings->bytes + old_bytes, strings->used - old_bytes);
    for (unsigned i = 0; i < count; i++) {
        size_t bytes = strlen(words[i]) + 1;

        memcpy(strings->bytes + at, words[i], bytes);
        at += bytes;
    }
    strings->used += new_bytes - old_bytes;
    strings->env_offset += new_bytes - old_bytes;
    strings->argc += count - (old_bytes != 0 ? 1 : 0);
    return 0;
}

/* ---- files --------------------------------------------------------------------------- */

static void
image_close(struct elf_image *image)
{
    if (image->file != NULL)
        file_put(image->file);
    kmem_free(image->segments);
    *image = (struct elf_image){0};
}

/* Read and check the headers of image->file, whose first bytes are in @head. */
static int64_t
image_read(struct elf_image *image, const char *head, size_t head_bytes)
{
    size_t bytes, room;
    char *in_file;
    int64_t got;

    if (head_bytes < sizeof(image->header))
        return -ENOEXEC;
    elf_header_decode(head, &image->header);
    if (!elf_header_is_valid(&image->header, head_bytes, ARCH_ELF_MACHINE))
        return -ENOEXEC;
    bytes = (size_t)image->header.phnum * ELF_SEGMENT_BYTES;
    room = image->header.phnum * sizeof(image->segments[0]);
    image->segments = kmem_alloc(room);
    if (image->segments == NULL)
        return -ENOMEM;
    in_file = (char *)image->segments + room - bytes; /* decoding goes upwards */
    got = file_read_at(image->file, in_file, bytes, image->header.phoff);
    if (got < 0)
        return got;
    elf_segments_decode(in_file, image->header.phnum, image->segments);
    if ((size_t)got != bytes ||
        !elf_plan_make(&image->header, image->segments, file_size(image->file), mm_user_limit(),
                       &image->plan))
        return -ENOEXEC;
    return 0;
}

static int64_t
read_head(struct file *file, char *head)
{
    int64_t got = file_read_at(file, head, HEADER_BYTES, 0);

    if (got >= 0)
        memset(head + got, 0, (size_t)(HEADER_BYTES - got));
    return got;
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/*
 * "#! interpreter argument": both are cut out of @head in place.  The argument
 * is all the rest of the line, without blanks at its ends.
 */
static int64_t
script_parse(char *head, char **out_interpreter, char **out_argument)
{
    char *end = memchr(head, '\n', HEADER_BYTES), *at = head + 2;

    if (end == NULL) {
        /* Without an end the interpreter's name must at least be whole. */
        end = head + HEADER_BYTES - 1;
        while (at < end && is_blank(*at))
            at++;
        while (at < end && !is_blank(*at) && *at != '\0')
            at++;
        if (at == end)
            return -ENOEXEC;
        at = head + 2;
    }
    *end = '\0';
    while (end > at && is_blank(end[-1]))
        *--end = '\0';
    while (is_blank(*at))
        at++;
    if (*at == '\0')
        return -ENOEXEC;
    *out_interpreter = at;
    while (*at != '\0' && !is_blank(*at))
        at++;
    if (*at != '\0')
        *at++ = '\0';
    while (is_blank(*at))
        at++;
    *out_argument = at;
    return 0;
}

/* Open @path and follow scripts until an ELF program is found. */
static int64_t
exec_open(struct exec *exec, int dirfd, uint32_t at_flags)
{
    char head[HEADER_BYTES + 1], interpreter_path[HEADER_BYTES];
    const char *path = exec->path, *script = exec->path;
    int64_t error;

    for (unsigned depth = 0; depth <= SCRIPT_DEPTH; depth++) {
        char *interpreter, *argument;

        error = vfs_open_exec(depth == 0 ? dirfd : AT_FDCWD, path, depth == 0 ? at_flags : 0,
                              &exec->program.file);
        if (error != 0)
            return error;
        error = read_head(exec->program.file, head);
        if (error < 0)
            return error;
        if (head[0] != '#' || head[1] != '!')
            return image_read(&exec->program, head, (size_t)error);
        head[HEADER_BYTES] = '\0';
        error = script_parse(head, &interpreter, &argument);
        if (error == 0)
            error = strings_prepend(&exec->strings, interpreter, argument, script);
        if (error != 0)
            return error;
        image_close(&exec->program);
        strlcpy(interpreter_path, interpreter, sizeof(interpreter_path));
        path = interpreter_path;
        script = interpreter_path;
    }
    return -ELOOP;
}

/* The program's dynamic loader, if it names one. */
static int64_t
exec_open_interpreter(struct exec *exec)
{
    const struct elf_plan *plan = &exec->program.plan;
    char head[HEADER_BYTES], *path;
    int64_t result;

    if (plan->interp_bytes == 0)
        return 0;
    path = kmem_alloc(plan->interp_bytes);
    if (path == NULL)
        return -ENOMEM;
    result = file_read_at(exec->program.file, path, plan->interp_bytes, plan->interp_offset);
    if (result >= 0)
        result = (uint64_t)result != plan->interp_bytes || path[plan->interp_bytes - 1] != '\0'
                     ? -ENOEXEC
                     : vfs_open_exec(AT_FDCWD, path, 0, &exec->interpreter.file);
    kmem_free(path);
    if (result != 0)
        return result;
    result = read_head(exec->interpreter.file, head);
    if (result < 0)
        return result;
    result = image_read(&exec->interpreter, head, (size_t)result);
    return result == -ENOEXEC ? -ELIBBAD : result;
}

/* ---- mapping ----------------------------------------------------------------------------- */

static int64_t
map_at(struct mm *mm, struct qr_map_request *request, uint64_t start, uint64_t bytes)
{
    enum qr_status status;
    qr_va va;

    request->hint = qr_va_of(start);
    request->bytes = bytes;
    request->flags |= QR_MAP_FIXED_NOREPLACE;
    status = MM_RETRY(mm->space, qr_space_map(mm->space, request, &va));
    if (status == QR_OK)
        return 0;
    return status == QR_ERR_EXISTS || status == QR_ERR_RANGE ? -ENOEXEC : -ENOMEM;
}

static unsigned
prot_of_segment(const struct elf_segment *segment)
{
    return (segment->flags & PF_R ? (unsigned)QR_PROT_READ : 0) |
           (segment->flags & PF_W ? (unsigned)QR_PROT_WRITE : 0) |
           (segment->flags & PF_X ? (unsigned)QR_PROT_EXEC : 0);
}

/* The bytes of a segment that the file has. */
static int64_t
map_file_part(struct mm *mm, const struct elf_image *image, const struct elf_segment *segment,
              uint64_t start, uint64_t end)
{
    unsigned prot = prot_of_segment(segment);
    struct file_mapping mapping;
    struct qr_map_request request = {.prot = prot, .file = image->file};
    int64_t error;

    error = file_mmap_object(image->file, PROT_READ, false, &mapping);
    if (error != 0)
        return error;
    if (mapping.kind != FILE_MAPPING_OBJECT)
        return -ENOEXEC;
    request.object = mapping.object;
    request.object_offset = segment->offset & ~(uint64_t)QR_PAGE_MASK;
    error = map_at(mm, &request, start, end - start);
    qr_object_put(mapping.object);
    return error;
}

/*
 *   vaddr        vaddr + filesz            vaddr + memsz
 *     |  bytes of the file  |  zeros                |
 *   [ file pages . . . . . . . . . ][ anonymous pages ]
 *
 * The file's last page is shared with whatever follows in the file: its tail is
 * cleared in a private copy, to the page's end: glibc's dynamic linker takes its
 * first memory there.
 */
static int64_t
map_segment(struct mm *mm, const struct elf_image *image, const struct elf_segment *segment)
{
    static const char zeros[512];
    uint64_t base = segment->vaddr + image->bias, start = qr_va_page_down(base);
    uint64_t file_end = base + segment->filesz, file_pages_end = qr_va_page_up(file_end);
    uint64_t end = qr_va_page_up(base + segment->memsz);
    struct qr_map_request zero = {.prot = prot_of_segment(segment)};
    int64_t error = 0;

    if (segment->filesz == 0)
        file_pages_end = start;
    if (segment->filesz != 0)
        error = map_file_part(mm, image, segment, start, file_pages_end);
    if (error == 0 && end > file_pages_end)
        error = map_at(mm, &zero, file_pages_end, end - file_pages_end);
    if (error != 0 || segment->filesz == 0 || segment->memsz == segment->filesz)
        return error;
    for (uint64_t at = file_end; at < file_pages_end;) {
        size_t piece =
            file_pages_end - at < sizeof(zeros) ? (size_t)(file_pages_end - at) : sizeof(zeros);

        if (mm_access(mm, at, (void *)(uintptr_t)zeros, piece, MM_FORCE_WRITE) != piece)
            return -ENOMEM;
        at += piece;
    }
    return 0;
}

static int64_t
map_image(struct mm *mm, const struct elf_image *image)
{
    for (unsigned i = 0; i < image->header.phnum; i++) {
        const struct elf_segment *segment = &image->segments[i];
        int64_t error;

        if (segment->type != PT_LOAD || segment->memsz == 0)
            continue;
        error = map_segment(mm, image, segment);
        if (error != 0)
            return error;
    }
    return 0;
}

/* Where a movable image goes: a place that is free for all of it. */
static int64_t
choose_bias(struct mm *mm, struct elf_image *image, bool is_program)
{
    uint64_t bytes = image->plan.end - image->plan.start, align = image->plan.align;
    struct qr_map_request probe = {.bytes = bytes, .align_bytes = align};
    qr_va va;

    image->bias = 0;
    if (image->header.type != ELF_MOVABLE)
        return 0;
    if (is_program) {
        uint64_t pages = mm_is_random() ? arch_random() & 0xfffffff : 0;

        probe.hint = qr_va_of((PIE_BASE + (pages << QR_PAGE_SHIFT)) & ~(align - 1));
    }
    /* A reservation finds the place; the segments then replace it. */
    if (qr_space_map(mm->space, &probe, &va) != QR_OK)
        return -ENOMEM;
    if (qr_space_unmap(mm->space, va, bytes) != QR_OK)
        return -ENOMEM;
    image->bias = va.v - image->plan.start;
    return 0;
}

static int64_t
exec_map_images(struct exec *exec)
{
    struct elf_image *program = &exec->program, *interpreter = &exec->interpreter;
    struct mm *mm = exec->mm;
    int64_t error = choose_bias(mm, program, true);

    if (error == 0)
        error = map_image(mm, program);
    if (error == 0 && interpreter->file != NULL) {
        error = choose_bias(mm, interpreter, false);
        if (error == 0)
            error = map_image(mm, interpreter);
    }
    if (error != 0)
        return error;
    qr_space_set_brk(mm->space, qr_va_of(program->plan.end + program->bias));
    mm->exe = program->file;
    file_ref(mm->exe);
    return 0;
}

static void
note_extents(struct mm *mm, const struct elf_image *image)
{
    for (unsigned i = 0; i < image->header.phnum; i++) {
        const struct elf_segment *segment = &image->segments[i];
        uint64_t start = segment->vaddr + image->bias;

        if (segment->type != PT_LOAD)
            continue;
        if ((segment->flags & PF_X) && mm->code_start == 0) {
            mm->code_start = start;
            mm->code_end = start + segment->filesz;
            mm->space->code_pages =
                (size_t)((mm->code_end + QR_PAGE_MASK) / QR_PAGE_SIZE - start / QR_PAGE_SIZE);
        }
        if (segment->flags & PF_W) {
            mm->data_start = start;
            mm->data_end = start + segment->filesz;
        }
    }
}

/* ---- the stack ------------------------------------------------------------------------------ */

static int64_t
map_stack(struct exec *exec, uint64_t bytes)
{
    struct qr_map_request request = {
        .prot = QR_PROT_READ | QR_PROT_WRITE |
                (exec->program.plan.stack_exec ? (unsigned)QR_PROT_EXEC : 0),
        .region_flags = QR_REGION_GROWS_DOWN | QR_REGION_STACK,
    };

    exec->stack_top = exec->mm->space->stack_top.v;
    bytes = qr_va_page_up(bytes + STACK_EXTRA_BYTES);
    if (bytes > process_limit(RLIMIT_STACK))
        bytes = qr_va_page_up(bytes - STACK_EXTRA_BYTES);
    return map_at(exec->mm, &request, exec->stack_top - bytes, bytes) == 0 ? 0 : -ENOMEM;
}

static void
aux_put(uintptr_t **at, uint64_t key, uint64_t value)
{
    *(*at)++ = (uintptr_t)key;
    *(*at)++ = (uintptr_t)value;
}

/* In Linux's order. */
static size_t
aux_fill(uintptr_t *words, const struct exec *exec, uint64_t random, uint64_t platform,
         uint64_t name)
{
    const struct credentials *who = &process_current()->credentials;
    const struct elf_image *program = &exec->program;
    uintptr_t *at = words;

    aux_put(&at, AT_MINSIGSTKSZ, arch_signal_frame_bytes());
    aux_put(&at, AT_HWCAP, arch_hwcap());
    aux_put(&at, AT_PAGESZ, QR_PAGE_SIZE);
    aux_put(&at, AT_CLKTCK, 100);
    aux_put(&at, AT_PHDR, program->plan.phdr == 0 ? 0 : program->plan.phdr + program->bias);
    aux_put(&at, AT_PHENT, ELF_SEGMENT_BYTES);
    aux_put(&at, AT_PHNUM, program->header.phnum);
    aux_put(&at, AT_BASE,
            exec->interpreter.file == NULL ? 0
                                           : exec->interpreter.bias + exec->interpreter.plan.start);
    aux_put(&at, AT_FLAGS, 0);
    aux_put(&at, AT_ENTRY, program->header.entry + program->bias);
    aux_put(&at, AT_UID, who->uid);
    aux_put(&at, AT_EUID, who->euid);
    aux_put(&at, AT_GID, who->gid);
    aux_put(&at, AT_EGID, who->egid);
    aux_put(&at, AT_SECURE, 0);
    aux_put(&at, AT_RANDOM, random);
    aux_put(&at, AT_HWCAP2, arch_hwcap2());
    aux_put(&at, AT_EXECFN, name);
    aux_put(&at, AT_PLATFORM, platform);
    aux_put(&at, AT_NULL, 0);
    return (size_t)(at - words);
}

/* Pointers to @count strings, the first of which was put at @address. */
static uintptr_t *
pointers_fill(uintptr_t *at, const char *bytes, uint64_t address, unsigned count)
{
    size_t offset = 0;

    for (unsigned i = 0; i < count; i++) {
        *at++ = (uintptr_t)(address + offset);
        offset += strlen(bytes + offset) + 1;
    }
    *at++ = 0;
    return at;
}

static bool
space_write(const struct exec *exec, uint64_t address, const void *bytes, size_t n)
{
    return mm_access(exec->mm, address, (void *)(uintptr_t)bytes, n, MM_FORCE_WRITE) == n;
}

/* Strings and the pointers to them: a quarter of the stack's limit, between two bounds. */
static uint64_t
arguments_limit(void)
{
    uint64_t limit = process_limit(RLIMIT_STACK) / 4;

    return limit < ARGUMENTS_BYTES_MIN   ? ARGUMENTS_BYTES_MIN
           : limit > ARGUMENTS_BYTES_MAX ? ARGUMENTS_BYTES_MAX
                                         : limit;
}

static int64_t
exec_build_stack(struct exec *exec)
{
    const struct exec_strings *strings = &exec->strings;
    struct mm *mm = exec->mm;
    size_t name_bytes = strlen(exec->path) + 1;
    size_t words = 3 + (size_t)strings->argc + strings->envc + AUX_WORDS;
    uint64_t random[2] = {arch_random(), arch_random()};
    const size_t word = sizeof(uintptr_t);
    uintptr_t *table, *at;
    uint64_t name, block, platform, sp;
    bool written;

    if (strings->used + name_bytes + ((size_t)strings->argc + strings->envc) * word >
            arguments_limit() ||
        (strings->used + name_bytes > process_limit(RLIMIT_STACK) &&
         strings->used + name_bytes > QR_PAGE_SIZE)) /* which a stack always has */
        return -E2BIG;
    if (map_stack(exec, strings->used + name_bytes + words * word + 256 + STACK_RANDOM_BYTES) != 0)
        return -ENOMEM;
    table = kvmem_zalloc(words * word);
    if (table == NULL)
        return -ENOMEM;
    name = exec->stack_top - 8 - name_bytes;
    block = name - strings->used;
    platform =
        (block - 16 - sizeof(random) - (mm_is_random() ? arch_random() % STACK_RANDOM_BYTES : 0)) &
        ~(uint64_t)15;
    sp = (platform - words * word) & ~(uint64_t)15;

    at = table;
    *at++ = strings->argc;
    at = pointers_fill(at, strings->bytes, block, strings->argc);
    at = pointers_fill(at, strings->bytes + strings->env_offset, block + strings->env_offset,
                       strings->envc);
    size_t aux_words = aux_fill(at, exec, platform + 16, platform, name);
    memcpy(mm->auxv, at, aux_words * word);
    qr_assert(aux_words <= AUX_WORDS);

    written = space_write(exec, name, exec->path, name_bytes) &&
              space_write(exec, block, strings->bytes, strings->used) &&
              space_write(exec, platform, ARCH_PLATFORM, sizeof(ARCH_PLATFORM)) &&
              space_write(exec, platform + 16, random, sizeof(random)) &&
              space_write(exec, sp, table, (size_t)((char *)(at + aux_words) - (char *)table));
    kvmem_free(table);
    if (!written)
        return -ENOMEM;
    mm->stack_start = sp;
    mm->arg_start = block;
    mm->arg_end = mm->env_start = block + strings->env_offset;
    mm->env_end = block + strings->used;
    exec->sp = sp;
    return 0;
}

/* A page with the code that signal handlers return to, where programs bring none of their own. */
static int64_t
exec_map_sigreturn(struct exec *exec)
{
    struct qr_map_request request = {
        .prot = QR_PROT_READ | QR_PROT_EXEC, .bytes = QR_PAGE_SIZE, .region_flags = QR_REGION_VDSO};
    size_t bytes;
    const void *code = arch_sigreturn_code(&bytes);
    qr_va va;

    if (code == NULL)
        return 0;
    qr_assert(bytes <= QR_PAGE_SIZE);
    if (qr_space_map(exec->mm->space, &request, &va) != QR_OK ||
        !space_write(exec, va.v, code, bytes))
        return -ENOMEM;
    exec->mm->sigreturn = va.v;
    return 0;
}

/* ---- preparing all of it ----------------------------------------------------------------------- */

static void
exec_discard(struct exec *exec)
{
    image_close(&exec->program);
    image_close(&exec->interpreter);
    if (exec->mm != NULL)
        mm_put(exec->mm);
    if (exec->actions != NULL)
        signal_actions_put(exec->actions);
    if (exec->files != NULL)
        fd_table_put(exec->files);
    kvmem_free(exec->strings.bytes);
}

static int64_t
exec_prepare(struct exec *exec, int dirfd, uint32_t at_flags)
{
    struct thread *thread = thread_current();
    struct process *process = thread->process;
    int64_t error = exec_open(exec, dirfd, at_flags);

    if (error == 0)
        error = exec_open_interpreter(exec);
    if (error != 0)
        return error;
    if (atomic_load(&process->actions->refs) > 1) {
        exec->actions = signal_actions_create(process->actions);
        if (exec->actions == NULL)
            return -ENOMEM;
    }
    if (fd_table_is_shared(thread->files)) {
        exec->files = fd_table_clone(thread->files);
        if (exec->files == NULL)
            return -ENOMEM;
    }
    exec->mm = mm_create();
    if (exec->mm == NULL)
        return -ENOMEM;
    error = cgroup_adopt(process, exec->mm);
    if (error == 0)
        error = exec_map_images(exec);
    if (error == 0)
        error = exec_build_stack(exec);
    if (error == 0)
        error = exec_map_sigreturn(exec);
    if (error == 0) {
        note_extents(exec->mm, &exec->program);
        if (process->mm != NULL) { /* the first process has none */
            qr_space_set_huge_disabled(exec->mm->space, qr_space_huge_disabled(process->mm->space));
            atomic_store(&exec->mm->core_filter, atomic_load(&process->mm->core_filter));
        }
    }
    return error;
}

/* ---- changing over --------------------------------------------------------------------------------- */

static bool
is_alone(struct process *process)
{
    return __atomic_load_n(&process->thread_count, __ATOMIC_ACQUIRE) == 1;
}

/*
 * End the other threads and wait until they are gone.
 * @return false where this thread itself is to end
 */
static bool
exec_end_others(struct thread *thread)
{
    struct process *process = thread->process;
    int64_t result;

    if (is_alone(process))
        return true;
    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    bool refused =
        process->group_exit || process->exec_thread != NULL || process->core_thread != NULL;
    if (!refused) {
        process->exec_thread = thread;
        qr_list_for_each(link, &process->threads)
        {
            struct thread *other = qr_list_entry(link, struct thread, thread_link);

            if (other != thread)
                signal_wake(other, true);
        }
    }
    qr_spin_unlock(&process->signal_lock);
    process_tree_unlock();
    if (refused)
        return false;
    WAIT_EVENT_UNTIL(result, &process->exec_wait, is_alone(process), WAIT_KILLABLE, WAIT_FOREVER);
    qr_spin_lock(&process->signal_lock);
    process->exec_thread = NULL;
    qr_spin_unlock(&process->signal_lock);
    return result == 0;
}

/* The surviving thread takes over the process's number. */
static void
become_leader(struct process *process, struct thread *thread)
{
    if (process->leader_thread == thread)
        return;
    process_tree_lock();
    trace_forget_leader(process);
    thread->pid->thread = NULL;
    pid_put(thread->pid);
    thread->pid = process->pid;
    process->pid->refs++;
    process->pid->thread = thread;
    thread->tid = process->id;
    process->leader_thread = thread;
    process_tree_unlock();
}

static void
set_names(struct process *process, struct thread *thread, const char *path)
{
    const char *name = strrchr(path, '/');

    name = name != NULL ? name + 1 : path;
    process_tree_lock();
    memset(thread->name, 0, COMM_BYTES);
    strlcpy(thread->name, name, COMM_BYTES);
    memcpy(process->name, thread->name, COMM_BYTES);
    process_tree_unlock();
}

static void
change_memory(struct process *process, struct thread *thread, struct exec *exec)
{
    struct mm *old = process->mm;
    uintptr_t flags;

    process_tree_lock();
    process->mm = exec->mm;
    exec->mm = NULL;
    bool moved = !cgroup_is_charged(process, atomic_load(&process->mm->space->group));

    process_tree_unlock();
    if (moved)
        cgroup_settle(process);
    flags = irq_save();
    thread->space = process->mm->space;
    qr_space_switch(thread->space);
    irq_restore(flags);
    if (old != NULL)
        mm_put(old);
}

static void
change_tables(struct process *process, struct thread *thread, struct exec *exec)
{
    struct fd_table *old_files = NULL;
    struct signal_actions *old_actions = NULL;

    process_tree_lock();
    if (exec->files != NULL) {
        old_files = thread->files;
        thread->files = exec->files;
        exec->files = NULL;
    }
    if (exec->actions != NULL) {
        qr_spin_lock(&process->signal_lock);
        old_actions = process->actions;
        process->actions = exec->actions;
        exec->actions = NULL;
        qr_spin_unlock(&process->signal_lock);
    }
    process_tree_unlock();
    if (old_files != NULL)
        fd_table_put(old_files);
    if (old_actions != NULL)
        signal_actions_put(old_actions);
    fd_table_close_on_exec(thread->files);
    signal_actions_reset(process->actions);
}

static void
exec_commit(struct exec *exec)
{
    struct thread *thread = thread_current();
    struct process *process = thread->process;
    const struct elf_image *start =
        exec->interpreter.file != NULL ? &exec->interpreter : &exec->program;
    uint64_t entry = start->header.entry + start->bias;

    int32_t tid = thread->tid;

    become_leader(process, thread);
    if (process->mm != NULL)
        thread_release_memory(thread);
    change_memory(process, thread, exec);
    vfork_release(thread);
    change_tables(process, thread, exec);
    posix_timers_destroy(process);
    set_names(process, thread, exec->path);
    thread->altstack = (struct signal_stack){.flags = SS_DISABLE};
    thread->rseq = 0;
    thread->restart = NULL;
    process->exit_signal = SIGCHLD;
    atomic_fetch_or(&process->flags, PROCESS_EXECED);
    arch_thread_reset(&thread->arch);
    frame_init_user(arch_user_frame(&thread->arch), entry, exec->sp);
    trace_exec(thread, tid);
}

static int64_t
exec_run(struct exec *exec, int dirfd, uint32_t at_flags)
{
    int64_t error = exec_prepare(exec, dirfd, at_flags);

    if (error == 0) {
        if (exec_end_others(thread_current()))
            exec_commit(exec);
        else
            error = -EINTR;
    }
    exec_discard(exec);
    return error;
}

int64_t
exec_kernel(const char *path, const char *const *argv, const char *const *envp)
{
    struct exec exec = {.path = (char *)(uintptr_t)path};
    int64_t error = strings_from_kernel(&exec.strings, argv, envp);

    if (error != 0) {
        kvmem_free(exec.strings.bytes);
        return error;
    }
    return exec_run(&exec, AT_FDCWD, 0);
}

static int64_t
exec_user(int dirfd, uint64_t path, uint64_t argv, uint64_t envp, uint32_t at_flags)
{
    struct exec exec = {0};
    int64_t error;

    error = path_from_user(path, &exec.path);
    if (error == -ENOENT && (at_flags & AT_EMPTY_PATH)) {
        exec.path = kmem_zalloc(1);
        error = exec.path == NULL ? -ENOMEM : 0;
        if (error == 0) {
            error = strings_from_user(&exec.strings, argv, envp);
            if (error == 0)
                error = exec_run(&exec, dirfd, at_flags);
            else
                kvmem_free(exec.strings.bytes);
            kmem_free(exec.path);
        }
        return error;
    }
    if (error != 0)
        return error;
    error = strings_from_user(&exec.strings, argv, envp);
    if (error == 0)
        error = exec_run(&exec, dirfd, at_flags);
    else
        kvmem_free(exec.strings.bytes);
    path_free(exec.path);
    return error;
}

int64_t
sys_execve(const struct syscall_args *args)
{
    return exec_user(AT_FDCWD, args->arg[0], args->arg[1], args->arg[2], 0);
}

int64_t
sys_execveat(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[4];

    if (flags & ~(uint32_t)(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
        return -EINVAL;
    return exec_user((int)args->arg[0], args->arg[1], args->arg[2], args->arg[3], flags);
}
