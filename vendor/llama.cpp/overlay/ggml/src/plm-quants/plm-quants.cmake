# Adds the quantisers to ggml-base; included by the project's CMakeLists.txt once the target is there.

set(PLM_QUANTS ${CMAKE_CURRENT_LIST_DIR})
target_sources(ggml-base PRIVATE ${PLM_QUANTS}/plm-quants.cpp)
set(PLM_QUANTS_WIDTHS)
if (NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    # no vectors of this kind
elseif (CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    set(PLM_QUANTS_CPU PLM_QUANTS_X86)
    set(PLM_QUANTS_WIDTHS 4 8 16)
    set(PLM_QUANTS_4)
    set(PLM_QUANTS_8  -mavx2)
    set(PLM_QUANTS_16 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
elseif (CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
    set(PLM_QUANTS_CPU PLM_QUANTS_ARM)
    set(PLM_QUANTS_WIDTHS 4)
    set(PLM_QUANTS_4)
    # This CPU's compilers fuse a product and a sum where they like, so what ggml's quantisers give would depend on the
    # compiler. Without that they give the bits of x86-64, and so do ours: one file on all machines.
    get_filename_component(PLM_QUANTS_GGML ${PLM_QUANTS}/../ggml-quants.c ABSOLUTE)
    set_source_files_properties(${PLM_QUANTS_GGML} TARGET_DIRECTORY ggml-base
        PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
endif()
foreach (lanes IN LISTS PLM_QUANTS_WIDTHS)
    target_sources(ggml-base PRIVATE ${PLM_QUANTS}/lanes-${lanes}.cpp)
    set_source_files_properties(${PLM_QUANTS}/lanes-${lanes}.cpp TARGET_DIRECTORY ggml-base
        PROPERTIES COMPILE_OPTIONS "-ffp-contract=off;${PLM_QUANTS_${lanes}}")
endforeach()
set_source_files_properties(${PLM_QUANTS}/plm-quants.cpp TARGET_DIRECTORY ggml-base
    PROPERTIES COMPILE_DEFINITIONS "${PLM_QUANTS_CPU}")
