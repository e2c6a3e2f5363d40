/* SPDX-License-Identifier: MIT */
/*
 * Generated files: /proc and /sys.
 *
 * A node is a row in a table with a function that writes the whole text.  The text is made when a
 * file is read from its start and kept with that open file, so that one reader sees one
 * consistent text however small its pieces; a seek back to the start makes it afresh (top).
 * Long texts (maps, smaps) are made as they are read, a piece at a time, as Linux's seq_file
 * does; a seek back makes what is before it once more.
 *
 * A write hands its bytes, one page at most, to the node's store function.
 */

#include "text.h"

#include <quire/report.h>

#include "memory.h"
#include "platform.h"
#include "proc.h"

enum { TEXT_FIRST_BYTES = 1024, TEXT_LIMIT_BYTES = 64 << 20, STORE_LIMIT_BYTES = 4096 };

/* ---- the writer ------------------------------------------------------------------- */

static bool
text_grow(struct text_writer *text, size_t bytes)
{
    size_t capacity = text->capacity == 0 ? TEXT_FIRST_BYTES : text->capacity;

    if (bytes > TEXT_LIMIT_BYTES - text->length) {
        return false;
    }
    while (capacity < text->length + bytes) {
        capacity *= 2;
    }
    char *data = kmem_alloc(capacity);
    if (data == NULL) {
        return false;
    }
    if (text->length > 0) {
        memcpy(data, text->data, text->length);
    }
    kmem_free(text->data);
    text->data = data;
    text->capacity = capacity;
    return true;
}

static void
text_emit(struct qr_writer *writer, const char *bytes, size_t count)
{
    struct text_writer *text = (struct text_writer *)writer;

    if (text->error != 0 || count == 0) {
        return;
    }
    if (count > text->capacity - text->length && !text_grow(text, count)) {
        text->error = -ENOMEM;
        return;
    }
    memcpy(text->data + text->length, bytes, count);
    text->length += count;
}

void
text_writer_init(struct text_writer *text)
{
    *text = (struct text_writer){.writer = {.emit = text_emit}};
}

void
text_writer_fail(struct qr_writer *writer, int64_t error)
{
    ((struct text_writer *)writer)->error = error;
}

void
text_writer_free(struct text_writer *text)
{
    kmem_free(text->data);
    text->data = NULL;
}

/* ---- the target ----------------------------------------------------------------------- */

/* inode->key is a process number or 0, key_more a thread number or 0, or a descriptor's. */
static int64_t
target_get(const struct inode *inode, struct text_target *target)
{
    const struct text_node *node = inode->node;

    *target = (struct text_target){.inode = inode};
    if (inode->key == 0) {
        return 0;
    }
    target->process = process_find((int32_t)inode->key);
    if (target->process == NULL) {
        return -ESRCH;
    }
    if (inode->key_more != 0 && !node->of_descriptor) {
        target->thread = thread_find((int32_t)inode->key_more);
        if (target->thread == NULL) {
            process_put(target->process);
            return -ESRCH;
        }
    }
    return 0;
}

static void
target_put(struct text_target *target)
{
    if (target->thread != NULL) {
        thread_put(target->thread);
    }
    if (target->process != NULL) {
        process_put(target->process);
    }
}

/* ---- files --------------------------------------------------------------------------------- */

enum { PIECE_BYTES = 4096 }; /* of a text in pieces, as in Linux: a short read is all that fitted */

/* An open file. The inode's lock. */
struct text_file {
    struct text_writer piece; /* of the text, from byte `base` on */
    uint64_t base;
    qr_va from;    /* show_from's: where the next piece begins */
    bool more;     /* there is a next one */
    bool begun;    /* else none has been made */
    struct mm *mm; /* const: what it is about, held; NULL: a zombie's, or no matter */
};

static void
text_restart(struct text_file *text)
{
    text->base = 0;
    text->from = qr_va_of(0);
    text->piece.length = 0;
    text->more = true;
    text->begun = true;
}

/* Of a text in pieces: as many whole lines as fit, but one at least. @return whether there are more */
static bool
text_show_from(const struct text_node *node, const struct text_target *target,
               struct text_file *text)
{
    struct text_writer *piece = &text->piece;

    for (size_t bytes = PIECE_BYTES;; bytes *= 2) {
        struct qr_buffer_writer out;

        if (piece->capacity < bytes && !text_grow(piece, bytes)) {
            piece->error = -ENOMEM;
            return true;
        }
        qr_buffer_writer_init(&out, piece->data, piece->capacity);
        bool more = node->show_from(target, &text->from, &out);

        piece->length = out.length;
        if (!more || out.length > 0) {
            return more;
        }
    }
}

/* The next piece, which may be all. */
static int64_t
text_advance(const struct inode *inode, struct text_file *text)
{
    const struct text_node *node = inode->node;
    struct text_target target;
    int64_t error = target_get(inode, &target);

    if (error != 0) {
        return error;
    }
    target.held = text->mm;
    if (text->mm != NULL && mm_try_ref(text->mm)) {
        target.mm = text->mm;
    }
    text->base += text->piece.length;
    text->piece.length = 0;
    text->piece.error = 0;
    if (node->show_from != NULL) {
        text->more = text_show_from(node, &target, text);
    } else {
        node->show(&target, &text->piece.writer);
        text->more = false;
    }
    if (target.mm != NULL) {
        mm_put(target.mm);
    }
    target_put(&target);
    text->begun = text->piece.error == 0;
    return text->piece.error;
}

/* What is left of this piece, then of one that has what follows. @return bytes, or -errno for none */
static int64_t
text_copy(struct file *file, struct text_file *text, struct io *io, uint64_t *position)
{
    int64_t done = 0, error = 0;
    bool fresh = false;

    while (io->left > 0 && error == 0) {
        uint64_t at = *position - text->base;

        if (at < text->piece.length) {
            size_t left = text->piece.length - (size_t)at;
            size_t want = io->left < left ? io->left : left;
            size_t copied = io_put(io, text->piece.data + at, want);

            *position += copied;
            done += (int64_t)copied;
            error = copied < want ? -EFAULT : 0;
            if (fresh) {
                break;
            }
        } else if (text->more) {
            error = text_advance(file->inode, text);
            fresh = true;
        } else {
            break;
        }
    }
    return done > 0 ? done : error;
}

/* What Linux says of a file that is read or written and has no such thing, by where it lies. */
static int64_t
missing_call(const struct inode *inode)
{
    return inode->key != 0 || inode->superblock->type == &cgroup2_type ? -EINVAL : -EIO;
}

static int64_t
text_read(struct file *file, struct io *io, uint64_t *position)
{
    const struct text_node *node = file->inode->node;
    struct text_file *text = file->context;

    if (node->show == NULL && node->show_from == NULL) {
        return missing_call(file->inode);
    }
    qr_mutex_lock(&file->inode->lock);
    if (*position == 0 || *position < text->base || !text->begun) {
        text_restart(text);
    }
    int64_t result = text_copy(file, text, io, position);
    qr_mutex_unlock(&file->inode->lock);
    return result;
}

static int64_t
text_write(struct file *file, struct io *io, uint64_t *position)
{
    const struct text_node *node = file->inode->node;
    size_t bytes = io->left;
    struct text_target target;

    if (node->store == NULL) {
        return missing_call(file->inode);
    }
    if (node->only_first && *position != 0) {
        *position += bytes;
        return (int64_t)bytes;
    }
    if (bytes >= STORE_LIMIT_BYTES) {
        return -EINVAL;
    }
    char *copy = kmem_alloc(bytes + 1);
    if (copy == NULL) {
        return -ENOMEM;
    }
    int64_t result = -EFAULT;
    if (io_take(io, copy, bytes) == bytes) {
        copy[bytes] = '\0';
        result = target_get(file->inode, &target);
        if (result == 0) {
            result = node->store(&target, copy, bytes);
            target_put(&target);
        }
    }
    kmem_free(copy);
    result = result == 0 ? (int64_t)bytes : result;
    if (result > 0) {
        *position += (uint64_t)result;
    }
    return result;
}

static int64_t
text_seek(struct file *file, int64_t offset, int whence)
{
    if (whence != SEEK_SET && whence != SEEK_CUR) {
        return -EINVAL;
    }
    return seek_plain(file, offset, whence, 0);
}

int64_t
text_truncate(struct file *file, uint64_t size)
{
    (void)file;
    (void)size;
    return 0; /* `echo x > node` truncates first */
}

static void
text_release(struct file *file)
{
    struct text_file *text = file->context;

    if (text->mm != NULL) {
        mm_release(text->mm);
    }
    text_writer_free(&text->piece);
    kmem_free(text);
}

const struct file_ops text_file_ops = {
    .name = "text",
    .read = text_read,
    .write = text_write,
    .seek = text_seek,
    .truncate = text_truncate,
    .release = text_release,
};

static int64_t
may_inspect(const struct inode *inode)
{
    struct process *process = process_find((int32_t)inode->key);

    if (process == NULL) {
        return -ESRCH;
    }
    bool may = process_may_look(process);
    process_put(process);
    return may ? 0 : -EACCES;
}

int64_t
text_memory_hold(const struct inode *inode, struct mm **out_mm)
{
    struct process *process = process_find((int32_t)inode->key);

    if (process == NULL) {
        return -ESRCH;
    }
    struct mm *mm = mm_of_process(process);
    process_put(process);
    if (mm != NULL) {
        mm_hold(mm);
        mm_put(mm);
    }
    *out_mm = mm;
    return 0;
}

static int64_t
text_open(struct inode *inode, struct file *file)
{
    const struct text_node *node = inode->node;
    int64_t error = node->inspects ? may_inspect(inode) : 0;

    if (error != 0) {
        return error;
    }
    if (node->ops != NULL) {
        file->ops = node->ops;
        return node->open != NULL ? node->open(file) : 0;
    }
    struct text_file *text = kmem_alloc(sizeof *text);
    if (text == NULL) {
        return -ENOMEM;
    }
    *text = (struct text_file){.begun = false};
    text_writer_init(&text->piece);
    error = node->inspects ? text_memory_hold(inode, &text->mm) : 0;
    if (error != 0) {
        kmem_free(text);
        return error;
    }
    file->context = text;
    file->ops = &text_file_ops;
    return 0;
}

const struct inode_ops text_inode_ops = {.open = text_open};

/* ---- trees ------------------------------------------------------------------------------------ */

struct inode *
text_inode_create(struct superblock *superblock, const struct text_node *node)
{
    uint32_t mode = node->mode & S_IFMT ? node->mode : S_IFREG | node->mode;
    const struct inode_ops *ops = node->inode_ops != NULL ? node->inode_ops : &text_inode_ops;
    struct inode *inode = inode_create(superblock, ops, mode);

    if (inode != NULL) {
        inode->file_ops = &text_file_ops;
        inode->node = node;
    }
    return inode;
}

bool
text_node_add(struct dentry *directory, const char *name, const struct text_node *node,
              uint64_t key)
{
    struct inode *inode = text_inode_create(directory->superblock, node);

    if (inode == NULL) {
        return false;
    }
    inode->key_more = key;
    inode->binds_root = directory->inode->binds_root;
    bool added = tree_add(directory, name, inode) != NULL;
    inode_put(inode);
    return added;
}

bool
text_nodes_add(struct dentry *directory, const struct text_node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!text_node_add(directory, nodes[i].name, &nodes[i], 0)) {
            return false;
        }
    }
    return true;
}

struct dentry *
text_directory_add(struct dentry *directory, const char *name)
{
    struct inode *inode = inode_create(directory->superblock, &text_inode_ops, S_IFDIR | 0555u);

    if (inode == NULL) {
        return NULL;
    }
    inode->binds_root = directory->inode->binds_root;
    struct dentry *dentry = tree_add(directory, name, inode);
    inode_put(inode);
    return dentry;
}

struct dentry *
text_path_add(struct dentry *root, const char *const *names, size_t count)
{
    struct dentry *at = root;

    for (size_t i = 0; at != NULL && i < count; i++) {
        struct dentry *child = dentry_child(at, names[i], strlen(names[i]));

        if (child != NULL) {
            dentry_put(child); /* the tree keeps it */
            at = child;
        } else {
            at = text_directory_add(at, names[i]);
        }
    }
    return at;
}

int64_t
text_filesystem_create(const struct superblock_type *type, const struct inode_ops *root_ops,
                       struct superblock **out)
{
    struct superblock *superblock = superblock_create(type);

    if (superblock == NULL) {
        return -ENOMEM;
    }
    struct inode *root = inode_create(superblock, root_ops, S_IFDIR | 0555u);
    if (root != NULL) {
        superblock->root = dentry_create_root(superblock, root);
        if (superblock->root == NULL) {
            inode_put(root);
        }
    }
    if (superblock->root == NULL) {
        superblock_destroy(superblock);
        return -ENOMEM;
    }
    *out = superblock;
    return 0;
}

/* ---- the library's reports ------------------------------------------------------------------------ */

/* One line whatever the name is. */
static void
write_name(struct qr_writer *writer, const char *name)
{
    for (const char *end; (end = strchr(name, '\n')) != NULL; name = end + 1) {
        writer->emit(writer, name, (size_t)(end - name));
        writer->emit(writer, "\\012", 4);
    }
    writer->emit(writer, name, strlen(name));
}

static bool
file_is_writable(const void *host_file)
{
    return (((const struct file *)host_file)->mode & FILE_WRITE) != 0;
}

static void
describe_file(void *host_file, struct qr_report_file *out_file, struct qr_writer *name)
{
    struct file *file = host_file;
    char *buffer = kmem_alloc(PATH_MAX);

    file_identity(file, &out_file->device_major, &out_file->device_minor, &out_file->inode);
    if (buffer != NULL) {
        write_name(name, file_path(file, buffer, PATH_MAX));
        kmem_free(buffer);
    }
}

const struct qr_report *
kernel_report(void)
{
    static struct qr_report report;

    /* The same values whoever fills it, and all of them fixed since start-up. */
    report.frames = memory.frames;
    report.heap = memory.heap;
    report.objects = memory.objects;
    report.vm = memory.vm;
    report.hugetlb = memory.hugetlb;
    report.groups = memory.groups;
    report.swap = memory.swap;
    report.kernel_tables = &memory.kernel_tables;
    report.direct_map = platform_direct_map();
    for (unsigned i = 0; i < KERNEL_AREA_COUNT; i++)
        report.vmalloc[i] = memory.areas[i];
    report.describe_file = describe_file;
    report.file_is_writable = file_is_writable;
    report.protection_keys = arch_pkey_count() > 0;
    return &report;
}

size_t
decimal_parse(const char *text, size_t length, uint64_t *out)
{
    uint64_t value = 0;
    size_t used = 0;

    while (used < length && text[used] >= '0' && text[used] <= '9') {
        if (used == 19) {
            return 0;
        }
        value = value * 10 + (uint64_t)(text[used++] - '0');
    }
    *out = value;
    return used;
}

int64_t
text_number(const char *text, size_t length, uint64_t most, uint64_t *out)
{
    size_t used = decimal_parse(text, length, out);

    if (used < length && text[used] == '\n')
        used++;
    return used == 0 || used != length || *out > most ? -EINVAL : 0;
}
