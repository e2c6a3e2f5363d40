# SPDX-License-Identifier: MIT
#
# One static library per layer (quire_base, quire_frame, ...), so that a layer
# in pieces does not keep another layer's tests from building, and one archive
# `quire` of them all.  Sets quire_layers, and quire_layer_targets: the layers
# that have sources, lowest first.
#
# QUIRE_UNITY: each layer is compiled as one file, in a third of the time.  So no two files of
# a layer may have static functions of one name.

option(QUIRE_UNITY "Compile each layer as one file" OFF)

file(STRINGS ${PROJECT_SOURCE_DIR}/src/layers.txt quire_layers REGEX "^[a-z]")
list(TRANSFORM quire_layers REPLACE "[ \t].*" "")
file(STRINGS ${PROJECT_SOURCE_DIR}/src/sources.txt quire_source_lines REGEX "^[a-z]")
set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
             ${PROJECT_SOURCE_DIR}/src/layers.txt ${PROJECT_SOURCE_DIR}/src/sources.txt)

foreach(line IN LISTS quire_source_lines)
    string(REGEX REPLACE "[ \t]+" ";" words "${line}")
    list(GET words 0 path)
    list(LENGTH words count)
    if(count GREATER 1)
        list(GET words 1 symbol)
        if(NOT "${${symbol}}" STREQUAL "y")
            continue()
        endif()
    endif()
    string(REGEX MATCH "^src/([a-z]+)/" matched ${path})
    list(APPEND quire_sources_${CMAKE_MATCH_1} ${PROJECT_SOURCE_DIR}/${path})
endforeach()

# A format is a file for itself: each makes functions of the same names from its own table.
file(GLOB quire_formats ${PROJECT_SOURCE_DIR}/src/table/format/*.c)
set_source_files_properties(${quire_formats} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)

# Those of other machines are in a hosted build for its tests: they need not be the fastest, and take the
# compiler longest.
if(QUIRE_TARGET STREQUAL "hosted" AND CMAKE_BUILD_TYPE)
    list(FILTER quire_formats EXCLUDE REGEX "/${CMAKE_SYSTEM_PROCESSOR}\\.c$")
    set_source_files_properties(${quire_formats} PROPERTIES COMPILE_OPTIONS "-O1;-g1")
endif()

set(quire_layer_targets)
set(quire_objects)
foreach(layer IN LISTS quire_layers)
    if(quire_sources_${layer})
        add_library(quire_${layer} STATIC ${quire_sources_${layer}})
        target_include_directories(quire_${layer} PRIVATE ${PROJECT_SOURCE_DIR}/src)
        target_compile_options(quire_${layer} PRIVATE ${quire_library_warnings})
        target_link_libraries(quire_${layer} PUBLIC quire_flags)
        set_target_properties(quire_${layer} PROPERTIES UNITY_BUILD ${QUIRE_UNITY} UNITY_BUILD_BATCH_SIZE 0)
        list(APPEND quire_layer_targets quire_${layer})
        list(APPEND quire_objects $<TARGET_OBJECTS:quire_${layer}>)
    endif()
endforeach()

if(quire_objects)
    add_library(quire STATIC ${quire_objects})
    set_target_properties(quire PROPERTIES LINKER_LANGUAGE C)
    target_link_libraries(quire PUBLIC quire_flags)
endif()
