/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_CONFIG_H
#define QUIRE_CONFIG_H

/**
 * @file
 * The build's configuration: Kconfig's answers, and the bounds that follow.
 *
 * `quire/autoconf.h` is generated from Kconfig.  Without it (a header compiled
 * alone, an editor's indexer) the defaults below hold.
 */

#if defined(__has_include)
#if __has_include(<quire/autoconf.h>)
#include <quire/autoconf.h>
#endif
#endif

#ifndef CONFIG_PAGE_SHIFT
#define CONFIG_PAGE_SHIFT 12
#endif

#ifndef CONFIG_MAX_CPUS
#define CONFIG_MAX_CPUS 64
#endif

#ifndef CONFIG_USER_START
#define CONFIG_USER_START 0x10000
#endif

#ifndef CONFIG_HEAP_TRACE_DEPTH
#define CONFIG_HEAP_TRACE_DEPTH 8
#endif

#ifndef CONFIG_MAX_NODES
#define CONFIG_MAX_NODES 8
#endif

#endif
