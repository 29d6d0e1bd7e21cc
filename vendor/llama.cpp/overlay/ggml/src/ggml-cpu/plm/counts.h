#pragma once

// Rows that were read and rows that there were, by layer, counted at no extra pass: of W_down those that squared ReLU left,
// of W_up in planes those whose lower bits were read, and of the output matrix those that were. And whether the other rows of W_down are skipped.

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

// All functions may be called while a model computes; a sum is then of some moment in between.
// Layers are those of weights named "blk.N.…", N below plm_edge_sparsity_layers().

GGML_BACKEND_API int plm_edge_sparsity_layers(void);

// forget what was counted
GGML_BACKEND_API void plm_edge_sparsity_reset(void);

// rows that there were, and rows that were not zero, since the last reset, summed over tokens.
// Returns false, and leaves both alone, when there is no such layer.
GGML_BACKEND_API bool plm_edge_sparsity_get(int layer, uint64_t * rows_total, uint64_t * rows_active);

// of W_up in planes, in batches of up to 8 tokens: rows, and rows whose lower bits were read for any of the tokens
GGML_BACKEND_API bool plm_edge_planes_get(int layer, uint64_t * rows_total, uint64_t * rows_read);

// of the output matrix in two stages (head/head.h): rows, and rows that were read, summed over tokens
GGML_BACKEND_API void plm_edge_head_get(uint64_t * rows_total, uint64_t * rows_read);

// the same as plm_edge_sparsity_get of all layers together; llama-server finds it by name (ggml_backend_reg_get_proc_address)
GGML_BACKEND_API void plm_edge_sparsity_sum(uint64_t * rows_total, uint64_t * rows_active);

// Whether rows of zero neurons are skipped, as they are unless this said otherwise: with false all rows are read, multiplied
// by zero. It is there to measure what skipping changes. May be called while nothing computes.
GGML_BACKEND_API void plm_edge_sparsity_skip(bool skip);

#ifdef __cplusplus
}
#endif

bool plm_edge_sparsity_skips(void);

// add to the layer that the weight's name tells; do nothing for other names
void plm_edge_sparsity_add(const char * weight, uint64_t rows_total, uint64_t rows_active);
void plm_edge_planes_add(const char * weight, uint64_t rows_total, uint64_t rows_read);
void plm_edge_head_add(uint64_t rows_total, uint64_t rows_read);
