// The driver: threads pack the queries together, take units as they come, and merge the units' sums.

#include "mla-attention.h"

#include "worker.h"

bool ggml_mla_attention_supported(const ggml_tensor * dst) {
    return mla::is_of_family(dst, true);
}

size_t ggml_mla_attention_work_size(const ggml_tensor * dst, int n_threads) {
    if (!mla::is_of_family(dst, false)) {
        return 0;
    }
    const mla::plan p = mla::make_plan(dst);
    return 64 + p.blocks_bytes + p.states_bytes + p.scratch_bytes * n_threads;
}

void ggml_compute_forward_mla_attention(const ggml_compute_params * params, ggml_tensor * dst) {
    const mla::plan p = mla::make_plan(dst);

    char * work = (char *) mla::aligned((size_t) params->wdata);
    GGML_ASSERT(work + p.blocks_bytes + p.states_bytes + p.scratch_bytes * params->nth <= (char *) params->wdata + params->wsize);

    weights_ahead weights(params);

    const mla::worker w = { p, dst->src[0], dst->src[1], dst->src[2], dst->src[3], mla::is_absorbed(dst), work, work + p.blocks_bytes,
                            work + p.blocks_bytes + p.states_bytes + p.scratch_bytes * params->ith, &weights };

    w.pack(params->ith, params->nth);
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);

    const int64_t n_unit = p.n_set * p.n_group * p.n_piece;
    for (int64_t i = params->ith; i < n_unit; i = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        w.unit(i / (p.n_group * p.n_piece), i / p.n_piece % p.n_group, i % p.n_piece);
    }
    ggml_barrier(params->threadpool);

    for (int64_t i = params->ith; i < p.n_rows * p.n_set; i += params->nth) {
        const int64_t set = i / p.n_rows, row = i % p.n_rows;
        const int64_t head = set % p.n_kv_head * p.n_head + row % p.n_head;
        w.merge(set, row, (float *) ((char *) dst->data + row / p.n_head * dst->nb[2] + head * dst->nb[1] + set / p.n_kv_head * dst->nb[3]));
    }
}
