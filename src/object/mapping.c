/* SPDX-License-Identifier: MIT */
/*
 * Who maps an object: a list of mappings, embedded in the space layer's regions.
 *
 * The mapping lock keeps the list and every extent in it still.  The space layer
 * changes an extent only through resize, and holds the lock itself while mremap
 * moves table entries, so that an unmap by address arithmetic never misses an
 * entry that is on its way (invariants 9).
 */
#include "objects.h"

#include <quire/assert.h>

void
qr_object_lock_mappings(struct qr_object *object)
{
    qr_mutex_lock(&object->mappings_lock);
}

void
qr_object_unlock_mappings(struct qr_object *object)
{
    qr_mutex_unlock(&object->mappings_lock);
}

void
qr_object_add_mapping(struct qr_object *object, struct qr_mapping *mapping)
{
    qr_assert(mapping->page_count > 0);
    qr_mutex_lock(&object->mappings_lock);
    qr_list_push_back(&object->mappings, &mapping->link);
    qr_mutex_unlock(&object->mappings_lock);
}

void
qr_object_remove_mapping(struct qr_object *object, struct qr_mapping *mapping)
{
    qr_mutex_lock(&object->mappings_lock);
    qr_list_remove(&mapping->link);
    qr_mutex_unlock(&object->mappings_lock);
}

void
qr_object_resize_mapping(struct qr_object *object, struct qr_mapping *mapping, size_t first_page,
                         size_t page_count)
{
    qr_assert(page_count > 0);
    qr_mutex_lock(&object->mappings_lock);
    mapping->first_page = first_page;
    mapping->page_count = page_count;
    qr_mutex_unlock(&object->mappings_lock);
}

void
qr_object_lock_mapping(struct qr_object *object, struct qr_mapping *mapping, bool locked)
{
    qr_mutex_lock(&object->mappings_lock);
    mapping->locked = locked;
    qr_mutex_unlock(&object->mappings_lock);
}

void
qr_object_each_mapping(struct qr_object *object, size_t page, qr_mapping_fn fn, void *context)
{
    qr_mutex_lock(&object->mappings_lock);
    qr_list_for_each(node, &object->mappings)
    {
        struct qr_mapping *mapping = qr_list_entry(node, struct qr_mapping, link);

        if (page >= mapping->first_page && page - mapping->first_page < mapping->page_count)
            fn(context, mapping, page);
    }
    qr_mutex_unlock(&object->mappings_lock);
}

size_t
qr_object_writable_mappings(struct qr_object *object)
{
    size_t count = 0;

    qr_mutex_lock(&object->mappings_lock);
    qr_list_for_each(node, &object->mappings)
    {
        const struct qr_mapping *mapping = qr_list_entry(node, struct qr_mapping, link);

        count += mapping->shared && mapping->may_write;
    }
    qr_mutex_unlock(&object->mappings_lock);
    return count;
}
