# SPDX-License-Identifier: MIT
#
# differential_hosted: the differential fuzzer's program for the simulated machine, with the
# reference kernel's system calls as a part of it (hosted/kernel.c).  tests/differential/run
# builds it: no other target needs it.

set(quire_hosted_dir ${PROJECT_SOURCE_DIR}/tests/differential/hosted)
set(quire_hosted_kernel ${PROJECT_SOURCE_DIR}/kernel)

file(GLOB quire_hosted_calls CONFIGURE_DEPENDS
     ${quire_hosted_kernel}/mm/*.c ${quire_hosted_kernel}/fs/*.c ${quire_hosted_kernel}/ipc/*.c
     ${quire_hosted_kernel}/net/*.c ${quire_hosted_kernel}/proc/*.c)
# The scheduler is hosted/kernel.c's, and programs are none that are executed.
list(FILTER quire_hosted_calls EXCLUDE REGEX "/proc/(sched|exec)\\.c$")
list(APPEND quire_hosted_calls
     ${quire_hosted_kernel}/lib/cmdline.c ${quire_hosted_kernel}/lib/printk.c
     ${quire_hosted_kernel}/lib/refuse.c ${quire_hosted_kernel}/arch/x86_64/syscall_table.c
     ${quire_hosted_kernel}/drivers/disk.c ${quire_hosted_dir}/kernel.c)
add_library(quire_hosted_calls OBJECT EXCLUDE_FROM_ALL ${quire_hosted_calls})
target_include_directories(quire_hosted_calls PRIVATE
    ${quire_hosted_dir} ${quire_hosted_kernel}/include ${quire_hosted_kernel}/arch/x86_64
    ${quire_hosted_kernel}/arch/x86 ${quire_hosted_kernel})
target_compile_options(quire_hosted_calls PRIVATE
    "SHELL:-include ${quire_hosted_dir}/names.h" -Wno-unused-function -O1 -g1)
target_link_libraries(quire_hosted_calls PRIVATE quire_flags)

file(GLOB quire_differential CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/differential/*.c)
list(FILTER quire_differential EXCLUDE REGEX "/native\\.c$")
add_executable(differential_hosted EXCLUDE_FROM_ALL
    ${quire_differential} ${quire_hosted_dir}/machine.c $<TARGET_OBJECTS:quire_hosted_calls>)
target_include_directories(differential_hosted PRIVATE
    ${PROJECT_SOURCE_DIR}/tests/differential ${quire_hosted_dir})
target_compile_options(differential_hosted PRIVATE "SHELL:-iquote ${PROJECT_SOURCE_DIR}/sim")
target_compile_definitions(differential_hosted PRIVATE QUIRE_HOSTED=1 _GNU_SOURCE)
# What no call reaches is not there.
target_link_options(differential_hosted PRIVATE -no-pie -Wl,--unresolved-symbols=ignore-all)
target_link_libraries(differential_hosted PRIVATE
    quire_flags -Wl,--start-group ${quire_layer_targets} ${quire_machine} -Wl,--end-group
    Threads::Threads)
