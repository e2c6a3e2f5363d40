/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_STRING_H
#define KERNEL_STRING_H

#include <stddef.h>

/**
 * @file
 * The string functions of the C library that the kernel uses; the compiler
 * itself calls the first four.
 */

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
void *memchr(const void *bytes, int value, size_t count);

size_t strlen(const char *text);
size_t strnlen(const char *text, size_t limit);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t limit);
char *strchr(const char *text, int c);
char *strrchr(const char *text, int c);
char *strstr(const char *text, const char *part);

/** Copy at most @p size - 1 characters and terminate; returns strlen(@p from). */
size_t strlcpy(char *to, const char *from, size_t size);

#endif
