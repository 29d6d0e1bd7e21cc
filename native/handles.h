// What ggml made, freed at the end of its scope.

#pragma once

#include "ggml-backend.h"
#include "ggml.h"
#include "protocol.h"

#include <memory>

template <typename T, void (*FREE)(T *)> struct freed {
    void operator()(T * it) const { FREE(it); }
};
using context = std::unique_ptr<ggml_context, freed<ggml_context, ggml_free>>;
using buffer = std::unique_ptr<ggml_backend_buffer, freed<ggml_backend_buffer, ggml_backend_buffer_free>>;
using backend = std::unique_ptr<ggml_backend, freed<ggml_backend, ggml_backend_free>>;

inline context make_context(size_t tensors, size_t nodes = 0) {
    const size_t graph = nodes ? ggml_graph_overhead_custom(nodes, false) : 0;
    return context(ggml_init({ tensors * ggml_tensor_overhead() + graph, nullptr, true }));
}

inline buffer kept(ggml_backend_buffer_t made) {
    if (!made) {
        throw failure("there is no memory to measure with", "ggml could not allocate it", "close other programs",
                      RESOURCES);
    }
    return buffer(made);
}
