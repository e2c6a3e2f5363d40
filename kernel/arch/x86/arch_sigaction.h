/* SPDX-License-Identifier: MIT */
#include "abi/sigaction.h"
