/* SPDX-License-Identifier: MIT */
#include "table/format/x86_pae.h"

static const struct format_traits x86_pae_traits = X86_PAE_TRAITS("x86_pae", true);

WALK_INSTANTIATE(x86_pae, x86_pae_traits)
