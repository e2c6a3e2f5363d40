# SPDX-License-Identifier: MIT
#
# libquire-malloc.so: frames and heap behind the standard malloc interface.

set(quire_malloc_core)
foreach(layer base frame heap)
    list(APPEND quire_malloc_core ${quire_sources_${layer}})
endforeach()

add_library(quire-malloc SHARED ${quire_malloc_core} ${PROJECT_SOURCE_DIR}/preload/malloc.c)
target_include_directories(quire-malloc PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/preload)
target_compile_definitions(quire-malloc PRIVATE _GNU_SOURCE QR_PORT_INLINE_HEADER="preload/port.h")
target_include_directories(quire-malloc PRIVATE ${PROJECT_SOURCE_DIR})
target_compile_options(quire-malloc PRIVATE -fPIC -fvisibility=hidden -fno-builtin-malloc
                       -ftls-model=initial-exec -O2)
target_link_libraries(quire-malloc PRIVATE quire_flags Threads::Threads)
