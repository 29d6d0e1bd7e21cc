# Programs that test and time our kernels; included by the project's CMakeLists.txt, built on request.

set(PLM_EDGE_GGML ${CMAKE_CURRENT_LIST_DIR}/../ggml)
find_package(Threads REQUIRED)

# A test of the kernels in `folder`, compiled with one set of flags. Where all of a build is for one CPU it links those of
# the CPU library; elsewhere that library has its own choice of them.
function(plm_edge_kernel_test name source folder)
    add_executable(${name} EXCLUDE_FROM_ALL ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${source}.cpp)
    if (BUILD_SHARED_LIBS OR PLM_EDGE_NATIVE)
        file(GLOB kernels ${PLM_EDGE_GGML}/src/ggml-cpu/plm/${folder}/*.cpp ${PLM_EDGE_GGML}/src/ggml-cpu/plm/counts.cpp)
        target_sources(${name} PRIVATE ${kernels})
        target_compile_options(${name} PRIVATE ${ARGN})
    else()
        target_link_libraries(${name} PRIVATE ggml-cpu)
    endif()
    target_compile_features(${name} PRIVATE cxx_std_17)
    target_include_directories(${name} PRIVATE ${PLM_EDGE_GGML}/src ${PLM_EDGE_GGML}/src/ggml-cpu)
    target_link_libraries(${name} PRIVATE ggml-base Threads::Threads)
    set_property(TARGET ${name} PROPERTY RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
    set_property(TARGET ${name} PROPERTY BUILD_RPATH_USE_ORIGIN ON)
endfunction()
set(PLM_EDGE_NATIVE_FLAG $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-march=native>)

# what this machine's CPU has; what a common x86-64 one has; and plain C++
plm_edge_kernel_test(test-plm-sparse-t test-plm-sparse-t sparse ${PLM_EDGE_NATIVE_FLAG})
plm_edge_kernel_test(test-plm-sparse-t-plain test-plm-sparse-t sparse)
if (CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    plm_edge_kernel_test(test-plm-sparse-t-avx2 test-plm-sparse-t sparse -mavx2 -mfma -mf16c)
    set(PLM_EDGE_SPARSE_T_AVX2 test-plm-sparse-t-avx2)
endif()

plm_edge_kernel_test(test-plm-mla test-plm-mla attention ${PLM_EDGE_NATIVE_FLAG})

add_custom_target(test-plm-kernels DEPENDS
    test-plm-sparse-t test-plm-sparse-t-plain ${PLM_EDGE_SPARSE_T_AVX2} test-plm-mla)

foreach (bench bench-plm-sparse-t bench-plm-mla bench-plm-forms bench-plm-k-quants bench-plm-planes)
    add_executable(${bench} EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/${bench}.cpp)
    target_compile_features(${bench} PRIVATE cxx_std_17)
    target_compile_options(${bench} PRIVATE ${PLM_EDGE_NATIVE_FLAG})
    target_include_directories(${bench} PRIVATE ${PLM_EDGE_GGML}/src)
    target_link_libraries(${bench} PRIVATE ggml Threads::Threads)
    set_property(TARGET ${bench} PROPERTY RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endforeach()
