#include "flash-attn.h"

#include "alone.h"
#include "attention/mla-attention.h"
#include "ops.h"

#include <algorithm>

namespace {

// An op over one token of another op's batch: its tensors are views.
struct one_token {
    ggml_tensor dst, q, mask;

    one_token(const ggml_tensor * batch, int64_t t) : dst(*batch), q(*batch->src[0]) {
        q.ne[1] = 1;
        q.data = at(q, t * q.nb[1]);
        dst.ne[2] = 1;
        dst.data = at(dst, t * dst.nb[2]);
        dst.src[0] = &q;
        if (batch->src[3]) {
            mask = *batch->src[3];
            mask.ne[1] = 1;
            mask.data = at(mask, t * mask.nb[1]);
            dst.src[3] = &mask;
        }
    }

    one_token(const one_token &) = delete;

    static void * at(const ggml_tensor & of, size_t offset) { return of.data ? (char *) of.data + offset : nullptr; }
};

bool by_token(const ggml_tensor * dst) {
    const int64_t n = dst->src[0]->ne[1];
    return n > 1 && n <= PLM_ALONE;
}

void compute(const ggml_compute_params * params, ggml_tensor * dst) {
    if (!params->use_ref && ggml_mla_attention_supported(dst)) {
        ggml_compute_forward_mla_attention(params, dst);
    } else {
        ggml_compute_forward_flash_attn_ext(params, dst);
    }
}

} // namespace

size_t plm_flash_attn_work_size(const ggml_tensor * dst, int n_threads) {
    const size_t together = ggml_mla_attention_work_size(dst, n_threads);
    if (!by_token(dst)) {
        return together;
    }
    const one_token first(dst, 0);
    return std::max(together, ggml_mla_attention_work_size(&first.dst, n_threads));
}

void plm_compute_forward_flash_attn(const ggml_compute_params * params, ggml_tensor * dst) {
    if (params->use_ref || !by_token(dst)) {
        compute(params, dst);
        return;
    }
    for (int64_t t = 0; t < dst->src[0]->ne[1]; t++) {
        if (t > 0) {
            ggml_barrier(params->threadpool); // the last token's scratch is done with
        }
        one_token one(dst, t);
        compute(params, &one.dst);
    }
}
