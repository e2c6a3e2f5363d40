/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_MACHINE_H
#define TESTS_USER_MACHINE_H

/*
 * What differs between the machines that the test programs run on: uname()'s name,
 * the ELF machine, an address of the kernel's half, and the code of `exit(55)`.
 */

#include <elf.h>
#include <link.h> /* ElfW() */

#if defined(__x86_64__)
#define MACHINE_NAME "x86_64"
#define MACHINE_ELF  EM_X86_64
/* mov $60, %eax; mov $55, %edi; syscall */
#define MACHINE_EXIT_55 0xb8, 60, 0, 0, 0, 0xbf, 55, 0, 0, 0, 0x0f, 0x05
#elif defined(__i386__)
#define MACHINE_NAME    "i686"
#define MACHINE_ELF     EM_386
/* mov $1, %eax; mov $55, %ebx; int $0x80 */
#define MACHINE_EXIT_55 0xb8, 1, 0, 0, 0, 0xbb, 55, 0, 0, 0, 0xcd, 0x80
#elif defined(__aarch64__)
#define MACHINE_NAME    "aarch64"
#define MACHINE_ELF     EM_AARCH64
/* mov x8, #93; mov x0, #55; svc #0 */
#define MACHINE_EXIT_55 0xa8, 0x0b, 0x80, 0xd2, 0xe0, 0x06, 0x80, 0xd2, 0x01, 0, 0, 0xd4
#elif defined(__riscv)
#define MACHINE_NAME    "riscv64"
#define MACHINE_ELF     EM_RISCV
/* li a7, 93; li a0, 55; ecall */
#define MACHINE_EXIT_55 0x93, 0x08, 0xd0, 0x05, 0x13, 0x05, 0x70, 0x03, 0x73, 0, 0, 0
#endif

#define MACHINE_ELF_OTHER EM_S390
#define MACHINE_ELF_CLASS (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)
#define MACHINE_KERNEL_VA (~(uintptr_t)0 - 0x7fffff) /* in the kernel's half */

#endif
