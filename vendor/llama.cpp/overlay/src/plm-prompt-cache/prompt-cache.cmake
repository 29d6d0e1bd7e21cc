# Adds the cache of prompts on disk to llama; included by the project's CMakeLists.txt once the target is there.

file(GLOB PLM_PROMPT_CACHE CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
target_sources(llama PRIVATE ${PLM_PROMPT_CACHE})
set_source_files_properties(${PLM_PROMPT_CACHE} TARGET_DIRECTORY llama PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
