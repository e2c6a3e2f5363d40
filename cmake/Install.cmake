# SPDX-License-Identifier: MIT
#
# `cmake --install`: the archive, the public headers with the configuration they
# were built for, and a pkg-config file.

configure_file(${PROJECT_SOURCE_DIR}/quire.pc.in ${PROJECT_BINARY_DIR}/quire.pc @ONLY)
if(TARGET quire)
    install(TARGETS quire ARCHIVE DESTINATION lib)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/quire DESTINATION include FILES_MATCHING PATTERN "*.h")
install(FILES ${quire_autoconf} DESTINATION include/quire)
install(FILES ${PROJECT_BINARY_DIR}/quire.pc DESTINATION lib/pkgconfig)
