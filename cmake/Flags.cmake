# SPDX-License-Identifier: MIT
#
# Warnings and sanitizers, in one place.

set(QUIRE_SANITIZE "" CACHE STRING "address, thread, undefined, or address,undefined")

# Warnings are errors with the compilers that the tests use; a newer one may know more of them.
set(quire_known_compiler ON)
if((CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_C_COMPILER_VERSION VERSION_GREATER_EQUAL 13) OR
   (CMAKE_C_COMPILER_ID STREQUAL "Clang" AND CMAKE_C_COMPILER_VERSION VERSION_GREATER_EQUAL 15))
    set(quire_known_compiler OFF)
endif()
option(QUIRE_WERROR "Warnings are errors" ${quire_known_compiler})

set(quire_warnings
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wundef -Wvla
    -Wpointer-arith -Wimplicit-fallthrough)
if(QUIRE_WERROR)
    list(APPEND quire_warnings -Werror)
endif()
set(quire_library_warnings -Wconversion -Wno-sign-conversion)

add_library(quire_flags INTERFACE)
target_compile_options(quire_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:${quire_warnings}> -fno-common -fno-strict-aliasing -fno-omit-frame-pointer)
target_include_directories(quire_flags INTERFACE
    ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
target_compile_features(quire_flags INTERFACE c_std_11)

if(QUIRE_SANITIZE)
    # Reports name functions and lines: more than -g1 is not read.
    target_compile_options(quire_flags INTERFACE -fsanitize=${QUIRE_SANITIZE} -g1)
    target_link_options(quire_flags INTERFACE -fsanitize=${QUIRE_SANITIZE})
    # A format's whole walker in one function, with all its checks, takes the compiler most of its time.
    target_compile_definitions(quire_flags INTERFACE QR_ALWAYS_INLINE=inline)
    # gcc warns of fences; ours order the announcement of sections, which release nothing by themselves.
    if(QUIRE_SANITIZE STREQUAL "thread" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
        target_compile_options(quire_flags INTERFACE -Wno-tsan)
    endif()
    if(QUIRE_SANITIZE MATCHES "undefined")
        target_compile_options(quire_flags INTERFACE -fno-sanitize-recover=undefined)
    endif()
endif()
