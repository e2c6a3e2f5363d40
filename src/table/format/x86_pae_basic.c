/* SPDX-License-Identifier: MIT */
/*
 * PAE on a CPU without NX: bit 63 is reserved, and what can be read can be executed.
 */
#include "table/format/x86_pae.h"

static const struct format_traits x86_pae_basic_traits = X86_PAE_TRAITS("x86_pae_basic", false);

WALK_INSTANTIATE(x86_pae_basic, x86_pae_basic_traits)
