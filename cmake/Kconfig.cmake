# SPDX-License-Identifier: MIT
#
# Turn QUIRE_CONFIG (a name from configs/, or a path) into
# <build>/include/quire/autoconf.h, and each CONFIG_X into a CMake variable.

set(QUIRE_CONFIG "hosted" CACHE STRING "A name from configs/ without _defconfig, or a path")

if(EXISTS ${PROJECT_SOURCE_DIR}/configs/${QUIRE_CONFIG}_defconfig)
    set(quire_defconfig ${PROJECT_SOURCE_DIR}/configs/${QUIRE_CONFIG}_defconfig)
elseif(EXISTS ${QUIRE_CONFIG})
    set(quire_defconfig ${QUIRE_CONFIG})
else()
    message(FATAL_ERROR "QUIRE_CONFIG: no configs/${QUIRE_CONFIG}_defconfig and no such file")
endif()

# Debian's kconfiglib belongs to Debian's python; another one may stand first on the PATH.
find_program(QUIRE_KCONFIG_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(QUIRE_KCONFIG_PYTHON python3)
set(quire_autoconf ${PROJECT_BINARY_DIR}/include/quire/autoconf.h)
set(quire_dotconfig ${PROJECT_BINARY_DIR}/config)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/include/quire)

execute_process(
    COMMAND ${CMAKE_COMMAND} -E env KCONFIG_CONFIG=${quire_defconfig} srctree=${PROJECT_SOURCE_DIR}
            ${QUIRE_KCONFIG_PYTHON} -m genconfig --header-path ${quire_autoconf}
            --config-out ${quire_dotconfig} ${PROJECT_SOURCE_DIR}/Kconfig
    RESULT_VARIABLE quire_kconfig_result
    OUTPUT_VARIABLE quire_kconfig_output
    ERROR_VARIABLE quire_kconfig_output)
if(NOT quire_kconfig_result EQUAL 0)
    message(FATAL_ERROR "Kconfig failed (is the package python3-kconfiglib installed? "
                        "apt-get install python3-kconfiglib):\n${quire_kconfig_output}")
endif()

file(STRINGS ${quire_dotconfig} quire_config_lines REGEX "^CONFIG_")
foreach(line IN LISTS quire_config_lines)
    string(REGEX MATCH "^(CONFIG_[A-Z0-9_]+)=(.*)$" matched "${line}")
    set(${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
endforeach()

set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
             ${PROJECT_SOURCE_DIR}/Kconfig ${quire_defconfig})
