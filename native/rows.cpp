// The counters lie in ggml-cpu, which this program may hold, link, or load when it starts.

#include "rows.h"

#include <cstdint>
#include <dlfcn.h>
#include <string>

#if !defined(__APPLE__)
#include <link.h>

extern "C" {
__attribute__((weak)) int plm_edge_sparsity_layers();
__attribute__((weak)) void plm_edge_sparsity_reset();
__attribute__((weak)) bool plm_edge_sparsity_get(int, uint64_t *, uint64_t *);
__attribute__((weak)) bool plm_edge_planes_get(int, uint64_t *, uint64_t *);
__attribute__((weak)) void plm_edge_head_get(uint64_t *, uint64_t *);
}
#endif

struct counters {
    int (*layers)() = nullptr;
    void (*reset)() = nullptr;
    bool (*get)(int, uint64_t *, uint64_t *) = nullptr;
    bool (*get_low)(int, uint64_t *, uint64_t *) = nullptr;
    void (*get_head)(uint64_t *, uint64_t *) = nullptr;

    explicit operator bool() const { return layers && reset && get && get_low && get_head; }

    void look_into(void * library) {
        layers = (decltype(layers)) dlsym(library, "plm_edge_sparsity_layers");
        reset = (decltype(reset)) dlsym(library, "plm_edge_sparsity_reset");
        get = (decltype(get)) dlsym(library, "plm_edge_sparsity_get");
        get_low = (decltype(get_low)) dlsym(library, "plm_edge_planes_get");
        get_head = (decltype(get_head)) dlsym(library, "plm_edge_head_get");
    }
};

#if !defined(__APPLE__)
// one that ggml has chosen for this CPU and opened is not among what this program links
static int look_into(dl_phdr_info * info, size_t, void * found) {
    if (std::string(info->dlpi_name).find("ggml-cpu") == std::string::npos) {
        return 0;
    }
    if (void * library = dlopen(info->dlpi_name, RTLD_NOW | RTLD_NOLOAD)) {
        ((counters *) found)->look_into(library);
    }
    return (bool) *(counters *) found;
}
#endif

static const counters & found() {
    static const counters made = [] {
        counters them;
#if defined(__APPLE__)
        them.look_into(RTLD_DEFAULT);
#else
        if (plm_edge_sparsity_layers && plm_edge_sparsity_reset && plm_edge_sparsity_get && plm_edge_planes_get && plm_edge_head_get) {
            them.layers = plm_edge_sparsity_layers;
            them.reset = plm_edge_sparsity_reset;
            them.get = plm_edge_sparsity_get;
            them.get_low = plm_edge_planes_get;
            them.get_head = plm_edge_head_get;
        } else {
            dl_iterate_phdr(look_into, &them);
        }
#endif
        return them;
    }();
    return made;
}

void reset_rows() {
    if (found()) {
        found().reset();
    }
}

json read_rows() {
    json all = json::array();
    for (int i = 0; found() && i < found().layers(); i++) {
        uint64_t rows = 0, read = 0, low_rows = 0, low_read = 0;
        if (found().get(i, &rows, &read) && found().get_low(i, &low_rows, &low_read) && rows) {
            all.push_back({ { "layer", i }, { "rows", rows }, { "read", read }, { "low_rows", low_rows }, { "low_read", low_read } });
        }
    }
    return all;
}

json read_head() {
    uint64_t rows = 0, read = 0;
    if (found()) {
        found().get_head(&rows, &read);
    }
    return rows ? json(double(read) / double(rows)) : json();
}
