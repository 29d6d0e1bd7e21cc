// What this library says of itself (plm_edge.engine.library checks it before use), and what upstream's interface lacks.

#include "../../include/plm-logits.h"
#include "../llama-context.h"
#include "../llama-ext.h"
#include "../llama-model.h"

#include <set>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif

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

void plm_edge_full_logits(llama_context * ctx, bool full) { ctx->set_full_logits(full); }

// Upstream's hook for what enters a layer, which it exports under C++ names alone. With keep, every batch leaves the
// layer's input of all its rows, {n_embd, rows} in the batch's order, where plm_edge_layer_input points until the next.
// False: there is no such layer. A model whose graph does not name the input aborts at its next batch.
extern "C" PLM_EDGE_API bool plm_edge_keep_layer_input(llama_context * ctx, uint32_t layer, bool keep) {
    if (layer >= (uint32_t) llama_model_n_layer(llama_get_model(ctx))) {
        return false;
    }
    llama_set_embeddings_layer_inp(ctx, layer, keep);
    return true;
}

extern "C" PLM_EDGE_API const float * plm_edge_layer_input(llama_context * ctx, uint32_t layer) {
    return llama_get_embeddings_layer_inp(ctx, layer);
}

// Locks the weights that are in this machine's memory, and returns how many bytes: fewer than there are where the system
// refuses. Upstream's mlock leaves out the buffers of repacked weights, which are most of a K-quant's.
extern "C" PLM_EDGE_API size_t plm_edge_lock_weights(const llama_model * model) {
    std::set<ggml_backend_buffer_t> buffers;
    for (const auto & item : model->tensors_by_name) {
        ggml_backend_buffer_t buffer = item.second->buffer;
        ggml_backend_dev_t dev = buffer ? ggml_backend_buft_get_device(ggml_backend_buffer_get_type(buffer)) : nullptr;
        if (buffer && (!dev || ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU)) {
            buffers.insert(buffer);
        }
    }
    size_t locked = 0;
#if defined(__unix__) || defined(__APPLE__)
    for (ggml_backend_buffer_t buffer : buffers) {
        const size_t size = ggml_backend_buffer_get_size(buffer);
        locked += mlock(ggml_backend_buffer_get_base(buffer), size) == 0 ? size : 0;
    }
#endif
    return locked;
}
