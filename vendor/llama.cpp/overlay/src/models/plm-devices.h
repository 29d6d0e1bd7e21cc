#pragma once

// What the devices that hold a PLM can compute. Each is asked once, when the model is loaded, by its own supports_op;
// the graph then holds only what its devices compute. Weights that a device cannot read as the file has them are
// transposed for it here, so that no token converts any.

#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <bitset>
#include <map>
#include <vector>

struct llama_model;

struct plm_devices {
    struct layer {
        // attention of a prompt in its expanded form is one operation there
        bool expands = true;
        // cache types whose rows MUL_MAT_SPARSE_T sums there
        std::bitset<GGML_TYPE_COUNT> sums_cache = std::bitset<GGML_TYPE_COUNT>().set();
        // W_kb of each head and W_down, a row an input, for devices without MUL_MAT_SPARSE_T; null: the file's rows are read
        ggml_tensor * w_kb_t = nullptr;   // {n_nope, n_lora, n_head}
        ggml_tensor * w_down_t = nullptr; // {n_ff, n_embd}
    };
    std::vector<layer> layers;

    // Asks the devices of a model whose weights are loaded, and transposes. With `no_alloc` the copies have shapes alone.
    // Throws std::runtime_error if a copy does not fit its device.
    void load(const llama_model & model, bool no_alloc);

    std::map<ggml_backend_buffer_type_t, size_t> copied; // bytes of transposed weights

  private:
    ggml_context_ptr copies;
    std::vector<ggml_backend_buffer_ptr> buffers;

    ggml_tensor * transposed(const ggml_tensor * rows, int64_t n_head, int64_t stride, int64_t n_rows, bool no_alloc);
};

// whether W_down of this layer has one row a neuron (the edge layout)
bool plm_has_row_a_neuron(const ggml_tensor * ffn_up, const ggml_tensor * ffn_down);
