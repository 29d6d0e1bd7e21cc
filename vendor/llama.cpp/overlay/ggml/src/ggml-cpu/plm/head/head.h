#pragma once

// Logits in two stages: MUL_MAT of an output matrix with GGML_HINT_TWO_STAGES, and the matrix's coarse form beside it
// (plm-head/plm-head.h):
//
//   src[0]  the matrix E [n_rows][n], in rows          src[1]  hidden states h [n_tokens][n], at most 8 tokens
//   src[2]  z = P h [n_tokens][n]                      src[3]  the codes, bytes [groups][blocks]
//   src[4]  bias [n_rows]                              src[5]  columns [2][n_columns]: j of each column; its s
//   src[6]  [3][n]: P mean; m; of each z_j the mean square over rows of what its columns leave over
//
// or of a matrix in parts (plm-embed.h), whose products have no other way:
//
//   src[7]  the rows from src[0]'s number of rows on, of any type, or null
//   src[8]  u [n_rows], and src[9] v h [n_tokens]: logit i has u_i (v h) more; or null
//
// First all logits are computed by the codes. Then those that may count are computed exactly: as many of the likeliest as
// it takes for the others' error to cost less than a certain divergence (rule.h). An exact logit has the bits that MUL_MAT
// gives it without the hint.

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_compute_params;

// whether the hint is followed for this product; where exact.h says that nothing is approximated it is not, and all rows of a
// matrix in parts are made exact
bool plm_head_applies(const struct ggml_tensor * op);
size_t plm_head_work_size(const struct ggml_tensor * op, int n_threads);
void plm_compute_forward_head(const struct ggml_compute_params * params, struct ggml_tensor * op);

// What the logits that stay coarse may cost, KL divergence in nats a token by estimate: 0.0015 unless this said otherwise.
// May be called while nothing computes.
GGML_BACKEND_API void plm_edge_head_divergence(float nats);

#ifdef __cplusplus
}
#endif
