# SPDX-License-Identifier: MIT
#
# Programs on the hosted machine; each is run as a test.

file(GLOB quire_hosted_examples CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/hosted_*.c)
foreach(source IN LISTS quire_hosted_examples)
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE -Wl,--start-group quire_sim ${quire_layer_targets}
                          -Wl,--end-group Threads::Threads)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/sim)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
    add_test(NAME ${name} COMMAND ${name})
endforeach()
