# Programs that test and time our kernels; included by the project's CMakeLists.txt, built on request.

set(PLM_EDGE_GGML ${CMAKE_CURRENT_LIST_DIR}/../ggml)
file(GLOB PLM_EDGE_SPARSE_T ${PLM_EDGE_GGML}/src/ggml-cpu/plm/sparse/*.cpp)
find_package(Threads REQUIRED)

# The kernels with one set of compiler flags. Not linked to the CPU library, which has its own choice of them.
function(plm_edge_sparse_t_test name)
    add_executable(${name} EXCLUDE_FROM_ALL ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/test-plm-sparse-t.cpp ${PLM_EDGE_SPARSE_T})
    target_compile_features(${name} PRIVATE cxx_std_17)
    target_compile_options(${name} PRIVATE ${ARGN})
    target_include_directories(${name} PRIVATE ${PLM_EDGE_GGML}/src ${PLM_EDGE_GGML}/src/ggml-cpu)
    target_link_libraries(${name} PRIVATE ggml-base Threads::Threads)
    set_property(TARGET ${name} PROPERTY RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
    set_property(TARGET ${name} PROPERTY BUILD_RPATH_USE_ORIGIN ON)
endfunction()

# what this machine's CPU has; what a common x86-64 one has; and plain C++
plm_edge_sparse_t_test(test-plm-sparse-t $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-march=native>)
plm_edge_sparse_t_test(test-plm-sparse-t-plain)
if (CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    plm_edge_sparse_t_test(test-plm-sparse-t-avx2 -mavx2 -mfma -mf16c)
    set(PLM_EDGE_SPARSE_T_AVX2 test-plm-sparse-t-avx2)
endif()

file(GLOB PLM_EDGE_MLA ${PLM_EDGE_GGML}/src/ggml-cpu/plm/attention/*.cpp)
add_executable(test-plm-mla EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/test-plm-mla.cpp ${PLM_EDGE_MLA})
target_compile_features(test-plm-mla PRIVATE cxx_std_17)
target_compile_options(test-plm-mla PRIVATE $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-march=native>)
target_include_directories(test-plm-mla PRIVATE ${PLM_EDGE_GGML}/src ${PLM_EDGE_GGML}/src/ggml-cpu)
target_link_libraries(test-plm-mla PRIVATE ggml-base Threads::Threads)
set_property(TARGET test-plm-mla PROPERTY RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

add_custom_target(test-plm-kernels DEPENDS
    test-plm-sparse-t test-plm-sparse-t-plain ${PLM_EDGE_SPARSE_T_AVX2} test-plm-mla)

foreach (bench bench-plm-sparse-t bench-plm-mla bench-plm-forms bench-plm-k-quants)
    add_executable(${bench} EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/${bench}.cpp)
    target_compile_features(${bench} PRIVATE cxx_std_17)
    target_compile_options(${bench} PRIVATE $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-march=native>)
    target_include_directories(${bench} PRIVATE ${PLM_EDGE_GGML}/src)
    target_link_libraries(${bench} PRIVATE ggml Threads::Threads)
    set_property(TARGET ${bench} PROPERTY RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endforeach()
