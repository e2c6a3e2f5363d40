/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_QUIRE_H
#define QUIRE_QUIRE_H

/** @file Everything at once. */

#include <quire/assert.h>
#include <quire/compiler.h>
#include <quire/config.h>
#include <quire/counter.h>
#include <quire/cpu.h>
#include <quire/epoch.h>
#include <quire/fault.h>
#include <quire/frame.h>
#include <quire/group.h>
#include <quire/heap.h>
#include <quire/list.h>
#include <quire/listener.h>
#include <quire/lock.h>
#include <quire/merge.h>
#include <quire/object.h>
#include <quire/port.h>
#include <quire/reclaim.h>
#include <quire/report.h>
#include <quire/shrink.h>
#include <quire/space.h>
#include <quire/status.h>
#include <quire/table.h>
#include <quire/tlb.h>
#include <quire/tree.h>
#include <quire/types.h>
#include <quire/user.h>
#include <quire/vmalloc.h>
#include <quire/writer.h>

#endif
