# The benchmarks' own programs; included by the project's CMakeLists.txt, built on request (PLM_EDGE_TOOLS).

find_package(Threads REQUIRED)

function(plm_edge_benchmark name)
    add_executable(${name} EXCLUDE_FROM_ALL ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${name}.cpp)
    target_compile_features(${name} PRIVATE cxx_std_17)
    target_compile_options(${name} PRIVATE $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-march=native>)
    target_link_libraries(${name} PRIVATE Threads::Threads)
    set_property(TARGET ${name} PROPERTY RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

plm_edge_benchmark(bench-plm-bandwidth)

# for devices, without what would disturb: what the kernels execute there is recorded under an emulator
add_executable(bench-plm-cycles EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/bench-plm-cycles.cpp)
target_compile_features(bench-plm-cycles PRIVATE cxx_std_17)
target_include_directories(bench-plm-cycles PRIVATE ${PLM_EDGE_TREE}/ggml/src)
target_link_libraries(bench-plm-cycles PRIVATE ggml)
set_property(TARGET bench-plm-cycles PROPERTY RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
