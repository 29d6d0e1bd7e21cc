// The driver: threads fill the lists of selected rows, together or each its own, and compute their columns from them.

#include "mul-mat-sparse-t.h"

#include "../counts.h"
#include "ggml.h"
#include "run.h"

#include <algorithm>

using namespace sparse_t;

namespace {

// the i-th of n parts of `total` columns, a whole number of blocks
int64_t part(int64_t total, int64_t block, int i, int n) {
    const int64_t n_blocks = (total + block - 1) / block;
    return std::min(total, n_blocks * i / n * block);
}

} // namespace

bool ggml_mul_mat_sparse_t_supported(const ggml_tensor * dst) {
    const ggml_tensor * w = dst->src[0];
    const ggml_tensor * x = dst->src[1];
    const int32_t activation = ggml_get_op_params_i32(dst, 0);
    const bool readable = w->type == GGML_TYPE_F32 || ggml_get_type_traits(w->type)->to_float != nullptr;
    return readable && TILE % ggml_blck_size(w->type) == 0 && w->nb[0] == ggml_type_size(w->type) &&
           x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float) &&
           dst->type == GGML_TYPE_F32 && dst->nb[0] == sizeof(float) &&
           w->ne[1] < INT32_MAX - 64 &&
           (activation == GGML_SPARSE_T_NONE || activation == GGML_SPARSE_T_RELU_SQR);
}

size_t ggml_mul_mat_sparse_t_work_size(const ggml_tensor * dst, int n_threads) {
    return plan(const_cast<ggml_tensor *>(dst), n_threads).work_size(n_threads);
}

void ggml_compute_forward_mul_mat_sparse_t(const ggml_compute_params * params, ggml_tensor * dst) {
    const int ith = params->ith, nth = params->nth;
    if (params->use_ref) {
        if (ith == 0) {
            ggml_mul_mat_sparse_t_reference(dst);
        }
        return;
    }

    const plan p(dst, nth);
    char * work = (char *) round_up((int64_t) params->wdata, 64);
    const int64_t n_selections = p.n_selections_at_once(nth);
    const selection s(p, work + (n_selections > 1 ? ith : 0) * p.selection_bytes);
    char * scratch = work + n_selections * p.selection_bytes + ith * p.scratch_bytes;

    const auto count = [&](uint64_t n_active, int64_t n_tokens) {
        if (p.relu_sqr) {
            plm_edge_sparsity_add(p.w->name, n_tokens * p.n_in, n_active);
        }
    };

    if (p.own) {
        const int64_t end = p.n_heads * (ith + 1) / nth;
        for (int64_t head = p.n_heads * ith / nth; head < end; head++) {
            for (int64_t g = 0; g < p.n_groups; g++) {
                const job j(p, head, g, end - 1);
                count(j.select(s, 0, 1), j.n);
                const bool dense = j.prefers_dense(s);
                if (dense) {
                    j.fill_dense(s, 0, 1);
                }
                j.sum(s, 0, p.n_out, dense, scratch);
            }
        }
        return;
    }

    const int64_t block = p.single || p.n_out < nth * TILE ? std::max<int64_t>(PANEL, p.k.n_block) : TILE;
    const int64_t c0 = part(p.n_out, block, ith, nth), c1 = part(p.n_out, block, ith + 1, nth);
    for (int64_t head = 0; head < p.n_heads; head++) {
        for (int64_t g = 0; g < p.n_groups; g++) {
            const job j(p, head, g, p.n_heads - 1);
            bool dense = false;
            if (p.single) {
                const uint64_t n_active = j.select(s, 0, 1);
                if (ith == 0) {
                    count(n_active, 1);
                }
            } else {
                if (head + g > 0) {
                    ggml_barrier(params->threadpool); // the last selection is done with
                }
                count(j.select(s, ith, nth), (j.n - ith + nth - 1) / nth);
                ggml_barrier(params->threadpool);
                dense = j.prefers_dense(s);
                if (dense) {
                    j.fill_dense(s, ith, nth);
                    ggml_barrier(params->threadpool);
                }
            }
            j.sum(s, c0, c1, dense, scratch);
        }
    }
}
