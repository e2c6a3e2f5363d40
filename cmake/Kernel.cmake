# SPDX-License-Identifier: MIT
#
# The freestanding build: library and reference kernel for one architecture.
# Everything that differs between architectures in the build stands here.

set(quire_kernel_flags
    -ffreestanding -fno-stack-protector -fno-pic -fno-pie -fno-asynchronous-unwind-tables
    -fno-omit-frame-pointer -fcf-protection=none)

set(quire_flags_x86_64 -m64 -mno-red-zone -mgeneral-regs-only -mcmodel=kernel)
set(quire_flags_i386 -m32 -march=i586 -mtune=generic -mgeneral-regs-only -Wno-psabi)
set(quire_flags_aarch64 -mgeneral-regs-only -mstrict-align -mno-outline-atomics)
# gcc's <limits.h> would go on to that of a C library, which Debian lacks for this ABI.
set(quire_flags_riscv64 -march=rv64imac_zicsr_zifencei -mabi=lp64 -mcmodel=medany
    -D_LIBC_LIMITS_H_)

# The files of kernel/drivers/ for each.
set(quire_drivers_disk disk interrupt virtio_blk virtio_ring)
set(quire_drivers_x86_64 acpi hmat virtio_pci ${quire_drivers_disk})
set(quire_drivers_i386 ${quire_drivers_x86_64})
set(quire_drivers_aarch64 arm_timer console fdt fdt_boot gic pl011 psci semihost virtio_mmio
    ${quire_drivers_disk})
set(quire_drivers_riscv64 clock_riscv console fdt fdt_boot ns16550 plic sbi semihost virtio_mmio
    ${quire_drivers_disk})

# gcc's own helper functions; Debian's for RISC-V are of another ABI, and a 64-bit x86 compiler
# has none for 32 bits: arch/riscv64 and arch/i386 have the few.
set(quire_compiler_library gcc)
set(quire_link_flags_i386 -m32)
if(QUIRE_TARGET MATCHES "riscv64|i386")
    set(quire_compiler_library)
endif()

if(NOT DEFINED quire_flags_${QUIRE_TARGET})
    message(FATAL_ERROR "QUIRE_TARGET=${QUIRE_TARGET}: not an architecture of cmake/Kernel.cmake")
endif()
if(NOT QUIRE_TARGET MATCHES "x86_64|i386")
    list(REMOVE_ITEM quire_kernel_flags -fcf-protection=none)
endif()

# CONFIG_BRANCH_TRACKING: no jump tables, whose targets x86 compilers exempt from the check.
set(quire_tracking_flags_x86_64 -fcf-protection=branch -fno-jump-tables)
set(quire_tracking_flags_aarch64 -mbranch-protection=bti)
if(CONFIG_BRANCH_TRACKING AND quire_tracking_flags_${QUIRE_TARGET})
    list(REMOVE_ITEM quire_kernel_flags -fcf-protection=none)
    list(APPEND quire_kernel_flags ${quire_tracking_flags_${QUIRE_TARGET}})
endif()

# Every target of this build is freestanding.
add_compile_options(${quire_kernel_flags} ${quire_flags_${QUIRE_TARGET}})

# The port functions that are a few instructions each are inlined into the library.
if(EXISTS ${PROJECT_SOURCE_DIR}/kernel/include/port_inline.h)
    add_compile_options($<$<COMPILE_LANGUAGE:C>:-DQR_PORT_INLINE_HEADER=<port_inline.h$<ANGLE-R>>)
endif()
include_directories(
    ${PROJECT_SOURCE_DIR}/kernel/include
    ${PROJECT_SOURCE_DIR}/kernel/arch/${QUIRE_TARGET}
    ${PROJECT_SOURCE_DIR}/arch/${QUIRE_TARGET}
    ${PROJECT_SOURCE_DIR}/arch)

# Beside its own folders an architecture uses those of its family.
set(quire_family_x86_64 x86)
set(quire_family_i386 x86)
set(quire_folders ${QUIRE_TARGET} ${quire_family_${QUIRE_TARGET}})
if(quire_family_${QUIRE_TARGET})
    include_directories(
        ${PROJECT_SOURCE_DIR}/kernel/arch/${quire_family_${QUIRE_TARGET}}
        ${PROJECT_SOURCE_DIR}/arch/${quire_family_${QUIRE_TARGET}})
endif()

# The kernel's sources: every folder of kernel/ but the parts and drivers for another
# architecture, the user programs and the contract tests' main.
function(quire_kernel_sources out)
    file(GLOB_RECURSE found CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
         ${PROJECT_SOURCE_DIR}/kernel/*.c ${PROJECT_SOURCE_DIR}/kernel/*.S
         ${PROJECT_SOURCE_DIR}/arch/*.c ${PROJECT_SOURCE_DIR}/arch/*.S)
    set(sources)
    foreach(path IN LISTS found)
        if(path MATCHES "^kernel/(user|contract)/")
            continue()
        endif()
        if(path MATCHES "^(arch|kernel/arch|kernel/boot)/([a-z0-9_]+)/" AND
           NOT CMAKE_MATCH_2 IN_LIST quire_folders)
            continue()
        endif()
        if(path MATCHES "^kernel/drivers/([a-z0-9_]+)\\.c$" AND
           NOT CMAKE_MATCH_1 IN_LIST quire_drivers_${QUIRE_TARGET})
            continue()
        endif()
        list(APPEND sources ${PROJECT_SOURCE_DIR}/${path})
    endforeach()
    set(${out} ${sources} PARENT_SCOPE)
endfunction()

# One linked image from the kernel's objects and any further ones.
function(quire_link_image name objects)
    set(script ${PROJECT_SOURCE_DIR}/kernel/boot/${QUIRE_TARGET}/kernel.ld)
    math(EXPR page_bytes "1 << ${CONFIG_PAGE_SHIFT}")
    add_executable(${name} $<TARGET_OBJECTS:quire_kernel> ${objects})
    set_target_properties(${name} PROPERTIES OUTPUT_NAME ${name}.elf LINK_DEPENDS ${script})
    target_link_options(${name} PRIVATE
        ${quire_link_flags_${QUIRE_TARGET}} -nostdlib -static -no-pie -Wl,-T,${script} -Wl,--build-id=none
        -Wl,-z,max-page-size=${page_bytes} -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -Wl,-Map=${name}.map
        ${ARGN})
    target_link_libraries(${name} PRIVATE quire_flags
        -Wl,--start-group ${quire_layer_targets} ${quire_compiler_library} -Wl,--end-group)
endfunction()

# A bootable image: linked twice, the second time with the names that the first one's functions
# have.  Further arguments are link options.
function(quire_add_image name objects)
    set(tool ${PROJECT_SOURCE_DIR}/tools/kernel-symbols)
    set(table ${PROJECT_BINARY_DIR}/${name}.symbols)
    set(source ${PROJECT_BINARY_DIR}/${name}-symbols.S)
    quire_link_image(${name}-unnamed "${objects}" ${ARGN})
    add_custom_command(OUTPUT ${table}
        COMMAND ${QUIRE_KCONFIG_PYTHON} ${tool} $<TARGET_FILE:${name}-unnamed> ${table}
        DEPENDS ${name}-unnamed ${tool})
    file(CONFIGURE OUTPUT ${source} CONTENT ".section .symbols, \"a\"\n.incbin \"${table}\"\n")
    set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS ${table})
    quire_link_image(${name} "${objects};${source}" ${ARGN})
    add_custom_command(TARGET ${name} POST_BUILD
        COMMAND ${QUIRE_KCONFIG_PYTHON} ${tool} --check $<TARGET_FILE:${name}> ${table})
    if(QUIRE_TARGET STREQUAL "aarch64") # the boot protocol's flat Image
        add_custom_command(TARGET ${name} POST_BUILD
            COMMAND ${CMAKE_OBJCOPY} -O binary $<TARGET_FILE:${name}> ${name}.img)
    endif()
endfunction()

function(quire_add_kernel)
    quire_kernel_sources(sources)
    if(NOT sources OR NOT EXISTS ${PROJECT_SOURCE_DIR}/kernel/boot/${QUIRE_TARGET}/kernel.ld)
        message(NOTICE "kernel/boot/${QUIRE_TARGET}/kernel.ld does not exist: library only")
        return()
    endif()
    add_library(quire_kernel OBJECT ${sources})
    target_link_libraries(quire_kernel PRIVATE quire_flags)
    target_include_directories(quire_kernel PRIVATE ${PROJECT_SOURCE_DIR}/kernel)
    quire_add_image(quire-kernel "")

    # The contract tests inside the kernel: an image of their own.
    file(GLOB contract CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/contract/*.c)
    file(GLOB contract_main CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernel/contract/*.c)
    if(contract AND contract_main)
        add_library(quire_contract OBJECT ${contract} ${contract_main}
                    ${PROJECT_SOURCE_DIR}/tests/harness/harness.c)
        target_link_libraries(quire_contract PRIVATE quire_flags)
        target_include_directories(quire_contract PRIVATE
            ${PROJECT_SOURCE_DIR}/kernel ${PROJECT_SOURCE_DIR}/tests/harness
            ${PROJECT_SOURCE_DIR}/tests/contract)
        target_compile_options(quire_contract PRIVATE -Wno-sign-compare)
        quire_add_image(quire-kernel-contract "$<TARGET_OBJECTS:quire_contract>"
                        -Wl,--wrap=process_start_init)
    endif()
endfunction()
