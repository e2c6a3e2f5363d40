/* SPDX-License-Identifier: MIT */
/*
 * Who serves which interrupt.  Rows are added by the boot CPU before other threads run, and
 * never change: looking needs no lock.  Several devices may share a number.
 */
#include <interrupt.h>

#include <stddef.h>

#define ROWS 16

static struct {
    unsigned number;
    interrupt_fn fn;
    void *context;
} rows[ROWS];
static size_t row_count;

bool
interrupt_attach(unsigned number, interrupt_fn fn, void *context)
{
    if (row_count == ROWS)
        return false;
    rows[row_count].number = number;
    rows[row_count].fn = fn;
    rows[row_count].context = context;
    row_count++;
    return true;
}

void
interrupt_dispatch(unsigned number)
{
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].number == number)
            rows[i].fn(rows[i].context);
    }
}
