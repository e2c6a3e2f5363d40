# SPDX-License-Identifier: MIT
#
# Our own user programs (kernel/user/*.c): static, for the reference kernel's
# /bin.  They are ordinary Linux programs, so the target's libc builds them.

set(quire_user_compiler_x86_64 musl-gcc)
set(quire_user_compiler_i386 gcc)
set(quire_user_flags_i386 -m32 -idirafter /usr/include/x86_64-linux-gnu) # for asm/
set(quire_user_compiler_aarch64 aarch64-linux-gnu-gcc)
set(quire_user_compiler_riscv64 riscv64-linux-gnu-gcc)

function(quire_add_user_programs)
    set(compiler ${quire_user_compiler_${QUIRE_TARGET}})
    find_program(QUIRE_USER_CC NAMES ${compiler})
    if(NOT compiler OR NOT QUIRE_USER_CC)
        message(NOTICE "no libc for user programs of ${QUIRE_TARGET}: /bin will lack ours")
        return()
    endif()
    set(programs)
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernel/user/*.c)
    foreach(source IN LISTS sources)
        get_filename_component(name ${source} NAME_WE)
        set(program ${CMAKE_BINARY_DIR}/user/${name})
        add_custom_command(OUTPUT ${program}
            COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/user
            COMMAND ${QUIRE_USER_CC} ${quire_user_flags_${QUIRE_TARGET}} -std=gnu11 -static -O2 -s -Wall -Wextra -o ${program} ${source}
            DEPENDS ${source} VERBATIM)
        list(APPEND programs ${program})
    endforeach()
    add_custom_target(user_programs ALL DEPENDS ${programs})
endfunction()
