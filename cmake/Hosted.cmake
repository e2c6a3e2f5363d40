# SPDX-License-Identifier: MIT
#
# The hosted machine (sim/) and the tests that run on it.

find_package(Threads REQUIRED)
enable_testing()

file(GLOB_RECURSE quire_sim_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/sim/*.c)
set(quire_machine)
if(quire_sim_sources)
    add_library(quire_sim STATIC ${quire_sim_sources})
    target_include_directories(quire_sim PRIVATE ${PROJECT_SOURCE_DIR}/sim ${PROJECT_SOURCE_DIR}/src)
    target_compile_definitions(quire_sim PUBLIC QUIRE_HOSTED=1 _GNU_SOURCE)
    target_link_libraries(quire_sim PUBLIC quire_flags Threads::Threads)
    set(quire_machine quire_sim)
endif()

add_library(quire_harness STATIC tests/harness/harness.c tests/harness/hosted.c)
target_include_directories(quire_harness PUBLIC tests/harness)
target_compile_definitions(quire_harness PRIVATE _GNU_SOURCE)
target_link_libraries(quire_harness PUBLIC quire_flags Threads::Threads)

# quire_add_test(NAME SOURCES... LIBRARIES...): one test executable.
function(quire_add_test name)
    cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
    add_executable(test_${name} ${arg_SOURCES})
    target_include_directories(test_${name} PRIVATE
        ${PROJECT_SOURCE_DIR}/tests/contract
        ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
    target_compile_definitions(test_${name} PRIVATE QUIRE_HOSTED=1 _GNU_SOURCE)
    # "sim.h" in quotes; and after the system's, for the kernel has a <signal.h>
    # and a <boot.h> of its own.
    target_compile_options(test_${name} PRIVATE
        "SHELL:-iquote ${PROJECT_SOURCE_DIR}/sim"
        "SHELL:-idirafter ${PROJECT_SOURCE_DIR}/kernel/include")
    target_compile_options(test_${name} PRIVATE -Wno-sign-compare
        $<$<C_COMPILER_ID:GNU>:-fno-toplevel-reorder>) # tests run in the order of the file
    target_link_libraries(test_${name} PRIVATE
        quire_harness quire_flags -Wl,--start-group ${arg_LIBRARIES} -Wl,--end-group Threads::Threads)
    add_test(NAME ${name} COMMAND test_${name})
endfunction()

# Takes out of a list of test files, under the thread sanitizer, those that start no threads.
function(quire_keep_threaded list)
    if(QUIRE_SANITIZE STREQUAL "thread")
        set(kept)
        foreach(file IN LISTS ${list})
            file(STRINGS ${file} threads REGEX "^TEST_THREADS" LIMIT_COUNT 1)
            if(threads)
                list(APPEND kept ${file})
            endif()
        endforeach()
        set(${list} ${kept} PARENT_SCOPE)
    endif()
endfunction()

# tests/unit/<layer>: linked with that layer, those below it, and the machine.
# Any other directory name (sim, kernel) links everything.  A sources.txt beside
# the tests names further files of the tree to compile in.
file(GLOB quire_test_dirs LIST_DIRECTORIES true CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/tests/unit/*)
foreach(dir IN LISTS quire_test_dirs)
    file(GLOB sources CONFIGURE_DEPENDS ${dir}/*_test.c)
    quire_keep_threaded(sources)
    if(NOT sources)
        continue()
    endif()
    get_filename_component(name ${dir} NAME)
    if(EXISTS ${dir}/sources.txt)
        file(STRINGS ${dir}/sources.txt extra REGEX "^[a-z]")
        foreach(path IN LISTS extra)
            if(EXISTS ${PROJECT_SOURCE_DIR}/${path})
                list(APPEND sources ${PROJECT_SOURCE_DIR}/${path})
            else()
                message(NOTICE "${dir}/sources.txt: ${path} does not exist")
            endif()
        endforeach()
    endif()
    list(FIND quire_layers "${name}" top)
    if(NOT top EQUAL -1 AND NOT TARGET quire_${name})
        continue() # configured out
    endif()
    set(libraries)
    foreach(layer IN LISTS quire_layers)
        list(FIND quire_layers ${layer} index)
        if(TARGET quire_${layer} AND (top EQUAL -1 OR index LESS_EQUAL top))
            list(APPEND libraries quire_${layer})
        endif()
    endforeach()
    quire_add_test(${name} SOURCES ${sources} LIBRARIES ${libraries} ${quire_machine})
endforeach()

# tests/contract: the same tests run here and inside the reference kernel.
file(GLOB quire_contract_sources CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/tests/contract/*.c ${PROJECT_SOURCE_DIR}/tests/contract/hosted/*.c)
quire_keep_threaded(quire_contract_sources)
if(quire_contract_sources)
    quire_add_test(contract SOURCES ${quire_contract_sources}
                   LIBRARIES ${quire_layer_targets} ${quire_machine})
endif()

# tests/campaign: seeds, with a pre-emption point at every atomic operation of the core.
if(TARGET quire_fault AND NOT QUIRE_SANITIZE)
    include(${PROJECT_SOURCE_DIR}/tests/campaign/campaign.cmake)
endif()
if(TARGET quire_fault AND quire_machine AND CONFIG_PAGE_SHIFT EQUAL 12)
    include(${PROJECT_SOURCE_DIR}/tests/formats/formats.cmake)
endif()

if(TARGET quire_fault AND quire_machine)
    include(${PROJECT_SOURCE_DIR}/examples/hosted.cmake)
endif()

# The system calls of x86-64, in this process.
if(NOT QUIRE_SANITIZE STREQUAL "thread" AND TARGET quire_fault AND quire_machine AND CONFIG_PAGE_SHIFT EQUAL 12 AND
   CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
    include(${PROJECT_SOURCE_DIR}/tests/differential/differential.cmake)
endif()

# preload: the heap behind malloc, for unmodified programs.
if(TARGET quire_heap AND NOT QUIRE_SANITIZE)
    include(${PROJECT_SOURCE_DIR}/preload/preload.cmake)
endif()
