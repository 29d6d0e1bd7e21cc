# Adds the form in planes to ggml-base; included by the project's CMakeLists.txt once the target is there.

target_sources(ggml-base PRIVATE ${CMAKE_CURRENT_LIST_DIR}/plm-planes.cpp)
