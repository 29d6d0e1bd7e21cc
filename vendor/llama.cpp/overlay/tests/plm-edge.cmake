# Programs that time our kernels; included by the project's CMakeLists.txt, built on request.

set(PLM_EDGE_GGML ${CMAKE_CURRENT_LIST_DIR}/../ggml)
find_package(Threads REQUIRED)
set(PLM_EDGE_NATIVE_FLAG $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-march=native>)

foreach (bench bench-plm-sparse-t bench-plm-mla bench-plm-forms bench-plm-k-quants bench-plm-planes)
    add_executable(${bench} EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/${bench}.cpp)
    target_compile_features(${bench} PRIVATE cxx_std_17)
    target_compile_options(${bench} PRIVATE ${PLM_EDGE_NATIVE_FLAG})
    target_include_directories(${bench} PRIVATE ${PLM_EDGE_GGML}/src)
    target_link_libraries(${bench} PRIVATE ggml Threads::Threads)
    set_property(TARGET ${bench} PROPERTY RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endforeach()
