# Adds the reference of each op to ggml-base, which every backend is linked with; included by the project's
# CMakeLists.txt once the target is there.

file(GLOB PLM_OPS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
target_sources(ggml-base PRIVATE ${PLM_OPS})
