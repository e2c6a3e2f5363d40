# SPDX-License-Identifier: MIT
#
# test_on_<name>: tests that ran on x86-64 again, on every other MMU of the hosted
# machine and on CPUs that lack something.  One line each: name, SIM_MMU, SIM_FEATURES,
# SIM_WINDOWS, and the test programs.
#
#   build/hosted/test_on_riscv64_sv39              all of it
#   SIM_MMU=aarch64_4k build/hosted/test_space     one program, one MMU
#
# Formats of 16 and 64 KiB pages need a library built for these:
#
#   cmake -B build/hosted_16k -G Ninja -DQUIRE_CONFIG=hosted_16k
#   ninja -C build/hosted_16k test_contract test_fault test_space test_refusal test_object

function(quire_add_format_test name mmu features windows)
    set(programs)
    foreach(program IN LISTS ARGN)
        if(TARGET test_${program}) # under the thread sanitizer, not each of them is built
            string(APPEND programs " ${program}")
        endif()
    endforeach()
    set(script ${CMAKE_BINARY_DIR}/test_on_${name})
    file(WRITE ${CMAKE_BINARY_DIR}/CMakeFiles/on_${name}.sh "#!/bin/sh
# Written by tests/formats/formats.cmake.
here=$(dirname \"$0\")
status=0
for program in${programs}; do
    SIM_MMU=${mmu} SIM_FEATURES=${features} SIM_WINDOWS=${windows} \"$here/test_$program\" \"$@\" || status=1
done
exit $status
")
    configure_file(${CMAKE_BINARY_DIR}/CMakeFiles/on_${name}.sh ${script} COPYONLY FILE_PERMISSIONS
                   OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
    add_test(NAME on_${name} COMMAND ${script})
endfunction()

set(quire_model contract fault space refusal)

if(QUIRE_SANITIZE)
    # The sanitizers see most on x86-64: of the others, one of 32 bits and one like no other.
    quire_add_format_test(x86_32 x86_32 "" 0 contract fault)
    quire_add_format_test(scrambled scrambled "" 0 contract fault)
else()
    quire_add_format_test(x86_32 x86_32 "" 0 ${quire_model})
    quire_add_format_test(x86_pae x86_pae "" 1 ${quire_model} object)
    quire_add_format_test(x86_pae_basic x86_pae "no_nx" 0 contract fault)
    quire_add_format_test(x86_64_windows x86_64 "" 1 contract fault object)
    quire_add_format_test(x86_64_la57 x86_64_la57 "" 0 contract fault)
    quire_add_format_test(aarch64_4k aarch64_4k "" 0 ${quire_model})
    quire_add_format_test(aarch64_4k_39 aarch64_4k_39 "no_ad" 0 contract fault space)
    quire_add_format_test(aarch64_4k_52 aarch64_4k_52 "no_dirty,speculate" 0 contract fault)
    quire_add_format_test(aarch64_4k_bbm2 aarch64_4k "bbm2" 0 contract fault space)
    quire_add_format_test(riscv64_sv39 riscv64_sv39 "no_ad,cache_invalid" 0 ${quire_model})
    quire_add_format_test(riscv64_sv48 riscv64_sv48 "no_pbmt" 0 contract fault space)
    quire_add_format_test(riscv64_sv57 riscv64_sv57 "speculate,evict" 0 contract fault)
    quire_add_format_test(scrambled scrambled "" 0 ${quire_model})
endif()
