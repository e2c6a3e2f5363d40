# SPDX-License-Identifier: MIT
#
# test_campaign: the tests that run under seeds, over a core in which every
# atomic operation is a point of pre-emption (hooks.c says how).
#
#   SIM_SEEDS=100000 build/hosted/test_campaign --limit 0

file(GLOB quire_campaign_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/campaign/*.c)
set(quire_campaign_core)
foreach(layer IN LISTS quire_layers)
    list(APPEND quire_campaign_core ${quire_sources_${layer}})
endforeach()

add_library(quire_interleaved STATIC ${quire_campaign_core})
target_include_directories(quire_interleaved PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_compile_options(quire_interleaved PRIVATE ${quire_library_warnings} -O1 -g1 -fsanitize=thread
                       $<$<C_COMPILER_ID:GNU>:-Wno-tsan>)
target_compile_definitions(quire_interleaved PRIVATE QUIRE_INTERLEAVED=1 QR_ALWAYS_INLINE=inline)
target_link_libraries(quire_interleaved PUBLIC quire_flags)

quire_add_test(campaign
    SOURCES ${quire_campaign_sources}
            ${PROJECT_SOURCE_DIR}/tests/unit/sim/shootdown_test.c
            ${PROJECT_SOURCE_DIR}/tests/unit/space/race_test.c
    LIBRARIES quire_interleaved ${quire_machine})
target_compile_definitions(test_campaign PRIVATE QUIRE_CAMPAIGN=1)
