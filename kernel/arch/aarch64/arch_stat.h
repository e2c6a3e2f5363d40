/* SPDX-License-Identifier: MIT */
#include "abi/generic_stat.h"
