// What this library says of itself: plm_edge.engine.library checks it before use.

#if defined(_WIN32)
#define PLM_EDGE_API __declspec(dllexport)
#else
#define PLM_EDGE_API __attribute__((visibility("default")))
#endif

// "key=value" pairs, one a line; the build passes them in
extern "C" PLM_EDGE_API const char * plm_edge_build_info(void) {
#ifdef PLM_EDGE_BUILD_INFO
    return PLM_EDGE_BUILD_INFO;
#else
    return "";
#endif
}
