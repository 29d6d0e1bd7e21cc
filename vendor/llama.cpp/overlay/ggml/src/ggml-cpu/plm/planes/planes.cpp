// The driver: threads prepare the tokens together, and take groups of rows as they come free.

#include "planes.h"

#include "batch.h"
#include "few.h"
#include "pieces.h"
#include "../alone.h"
#include "../counts.h"
#include "../exact.h"

#include "ggml-cpu-impl.h"
#include "ggml-impl.h"

#include <atomic>
#include <cmath>

using namespace planes;

namespace {

std::atomic<float> margin_{ 1.0f };

size_t padded(size_t bytes) { return GGML_PAD(bytes, 64); }

// where things lie in the work memory
struct layout {
    int64_t n_tokens, n_blocks;
    bool is_few;

    explicit layout(const ggml_tensor * op) : n_tokens(op->src[1]->ne[1]), n_blocks(op->src[0]->ne[0] / QK_K), is_few(n_tokens <= PLM_ALONE) {}

    size_t tokens() const { return padded(n_tokens * n_blocks * (is_few ? sizeof(input) : sizeof(block_q8_K))); }
    size_t scratch() const {
        return is_few ? few_scratch(n_blocks, n_tokens) : padded(PLM_PLANES_ROWS * n_blocks * sizeof(block_q4_K));
    }
};

} // namespace

bool plm_planes_supported(const ggml_tensor * op) {
    const ggml_tensor *w = op->src[0], *x = op->src[1];
    return op->op == GGML_OP_MUL_MAT && plm_planes_fits(w->type, w->ne[0], w->ne[1]) && ggml_is_contiguous(w) && ggml_is_matrix(w) && x->type == GGML_TYPE_F32 &&
           ggml_is_contiguous(x) && ggml_is_matrix(x);
}

size_t plm_planes_work_size(const ggml_tensor * op, int n_threads) {
    const layout l(op);
    return 64 + l.tokens() + n_threads * l.scratch();
}

void plm_compute_forward_planes(const ggml_compute_params * params, ggml_tensor * op) {
    const int ith = params->ith, nth = params->nth;
    const ggml_tensor *w = op->src[0], *x = op->src[1];
    const layout l(op);
    const matrix m = { (const char *) w->data, l.n_blocks, w->ne[1] };
    char * tokens = (char *) GGML_PAD((uintptr_t) params->wdata, 64);
    char * scratch = tokens + l.tokens() + ith * l.scratch();
    const batches how = batches_here();

    if (l.is_few) {
        for (int64_t t = ith; t < l.n_tokens; t += nth) {
            prepare((const float *) ((const char *) x->data + t * x->nb[1]), x->ne[0], (input *) tokens + t * l.n_blocks);
        }
    } else {
        quantize(how, (const char *) x->data, x->nb[1], x->ne[0], l.n_tokens, tokens, ith, nth);
    }
    if (ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, nth);
    }
    ggml_barrier(params->threadpool);

    const bool may_skip = ggml_get_op_params_i32(op, 1) == GGML_HINT_POSITIVE && !plm_is_exact();
    const float margin = may_skip ? margin_.load() : INFINITY;
    const int64_t n_groups = m.n_rows / PLM_PLANES_ROWS, stride = op->nb[1] / sizeof(float);
    float * y = (float *) op->data;
    int64_t read = 0, total = 0;
    for (int64_t i = ith;; i = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const auto [first, last] = piece(i, n_groups, nth);
        if (first >= n_groups) {
            break;
        }
        if (l.is_few) {
            read += few(m, first, last, (const input *) tokens, l.n_tokens, margin, y, stride, scratch);
            total += (last - first) * PLM_PLANES_ROWS;
        } else {
            for (int64_t g = first; g < last; g++) {
                batch_of_group(how, m, g, tokens, l.n_tokens, y + g * PLM_PLANES_ROWS, stride, scratch);
            }
        }
    }
    if (total > 0) {
        plm_edge_planes_add(w->name, total, read);
    }
}

void plm_edge_planes_margin(float margin) { margin_ = margin; }
