/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_X86_64_H
#define QUIRE_X86_64_H

/**
 * @file
 * What the library's x86-64 back-end has beyond both x86 (quire_x86.h).
 */

#include "../x86/quire_x86.h"

/**
 * What the host turned on in CR4.  Set once, before the first switch of spaces;
 * zero is right for a CPU without them.
 */
extern uint8_t qr_x86_pcid;    /**< CR4.PCIDE: identifiers stand in CR3 */
extern uint8_t qr_x86_invpcid; /**< the INVPCID instruction exists */

#endif
