# Adds the quantisers to ggml-base; included by the project's CMakeLists.txt once the target is there.
# Elsewhere than on x86-64 upstream's compiler fuses products and sums as it likes: no bits to keep to.

set(PLM_QUANTS ${CMAKE_CURRENT_LIST_DIR})
target_sources(ggml-base PRIVATE ${PLM_QUANTS}/plm-quants.cpp)
if (CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64" AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    set(PLM_QUANTS_4)
    set(PLM_QUANTS_8  -mavx2)
    set(PLM_QUANTS_16 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
    foreach (lanes 4 8 16)
        target_sources(ggml-base PRIVATE ${PLM_QUANTS}/lanes-${lanes}.cpp)
        set_source_files_properties(${PLM_QUANTS}/lanes-${lanes}.cpp TARGET_DIRECTORY ggml-base
            PROPERTIES COMPILE_OPTIONS "-ffp-contract=off;${PLM_QUANTS_${lanes}}")
    endforeach()
    set_source_files_properties(${PLM_QUANTS}/plm-quants.cpp TARGET_DIRECTORY ggml-base
        PROPERTIES COMPILE_DEFINITIONS PLM_QUANTS_X86)
endif()
