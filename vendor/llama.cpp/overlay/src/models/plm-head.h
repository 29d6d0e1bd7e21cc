#pragma once

// Logits in two stages, for any architecture: the coarse form of the output matrix that a file may have, and how a graph
// comes to use it (ggml-cpu/plm/head/head.h).

#include "ggml-backend.h"

#define PLM_HEAD_CODES "output.coarse.codes"

struct llama_model_base;
struct llama_model_loader;

// The tensors "output.coarse.…" of a file; all are there, or none is.
struct plm_head {
    ggml_tensor * weight = nullptr;         // E {n, n_vocab}; of one in parts (plm-embed.h) R, or its rows below the split
    ggml_tensor * high = nullptr;           // its other rows
    ggml_tensor *u = nullptr, *v = nullptr; // E = R + v u^T

    ggml_tensor * basis = nullptr;   // P {n, n}
    ggml_tensor * codes = nullptr;   // {bytes of a group, groups}
    ggml_tensor * bias = nullptr;    // {n_vocab}
    ggml_tensor * columns = nullptr; // {n_columns, 2}: j of each, and its s
    ggml_tensor * moments = nullptr; // {n, 3}: P mean, m, what each z_j's columns leave over

    // Takes them from a file, or leaves them there if the output matrix is on another device than the CPU.
    // Throws where they do not fit each other or the matrix.
    void load(llama_model_base & model, llama_model_loader & file, ggml_backend_dev_t device);

    // Returns what computes all logits in two stages instead of `product`, of `weight` and hidden states, if that is of few
    // tokens and in this machine's memory; other products as they are.
    ggml_tensor * attach(ggml_context * ctx, ggml_tensor * product) const;

    // whether it is what attach returned instead of a product
    static bool is_attached(const ggml_tensor * product);
};
