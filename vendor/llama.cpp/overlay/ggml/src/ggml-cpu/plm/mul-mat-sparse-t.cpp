#include "mul-mat-sparse-t.h"

#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>

// columns of W that one unit of work covers: a whole number of blocks of every type,
// small enough that a few tokens' sums and the dequantised piece of a row stay in L1
static constexpr int64_t TILE = 256;

// tokens that share one pass over the rows
static constexpr int64_t TOKENS = 32;

bool ggml_mul_mat_sparse_t_supported(const ggml_tensor * dst) {
    const ggml_tensor * w = dst->src[0];
    const ggml_tensor * x = dst->src[1];
    const bool readable = w->type == GGML_TYPE_F32 || ggml_get_type_traits(w->type)->to_float != nullptr;
    return readable && w->nb[0] == ggml_type_size(w->type) && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float) &&
           dst->type == GGML_TYPE_F32;
}

size_t ggml_mul_mat_sparse_t_work_size(const ggml_tensor * dst, int n_threads) {
    GGML_UNUSED(dst);
    return n_threads * TILE * sizeof(float);
}

void ggml_compute_forward_mul_mat_sparse_t(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * w = dst->src[0];
    const ggml_tensor * x = dst->src[1];

    const int64_t n_out = w->ne[0];
    const int64_t n_in  = w->ne[1];

    const int64_t n_tokens = x->ne[1];
    const int64_t n_head   = x->ne[2];
    const int64_t n_batch  = x->ne[3];

    const auto to_float   = ggml_get_type_traits(w->type)->to_float;
    const size_t  type_size = ggml_type_size(w->type);
    const int64_t blck_size = ggml_blck_size(w->type);

    float * row = (float *) params->wdata + params->ith * TILE;

    // a unit: one column tile of one head of one batch, for up to TOKENS tokens
    const int64_t n_tiles  = (n_out + TILE - 1) / TILE;
    const int64_t n_groups = (n_tokens + TOKENS - 1) / TOKENS;
    const int64_t n_units  = n_tiles * n_groups * n_head * n_batch;

    for (int64_t unit = params->ith; unit < n_units; unit += params->nth) {
        const int64_t tile  = unit % n_tiles;
        const int64_t group = unit / n_tiles % n_groups;
        const int64_t h     = unit / (n_tiles * n_groups) % n_head;
        const int64_t b     = unit / (n_tiles * n_groups * n_head);

        const int64_t c0 = tile * TILE;
        const int64_t nc = std::min(TILE, n_out - c0);
        const int64_t t0 = group * TOKENS;
        const int64_t nt = std::min(TOKENS, n_tokens - t0);

        const int64_t hw = w->ne[2] == 1 ? 0 : h;
        const int64_t bw = w->ne[3] == 1 ? 0 : b;

        const char * w_tile = (const char *) w->data + bw * w->nb[3] + hw * w->nb[2] + c0 / blck_size * type_size;
        const char * x_tile = (const char *) x->data + b * x->nb[3] + h * x->nb[2] + t0 * x->nb[1];
        char       * y_tile = (char *) dst->data + b * dst->nb[3] + h * dst->nb[2] + t0 * dst->nb[1] + c0 * sizeof(float);

        for (int64_t t = 0; t < nt; t++) {
            std::fill_n((float *) (y_tile + t * dst->nb[1]), nc, 0.0f);
        }

        for (int64_t i = 0; i < n_in; i++) {
            const float * piece = nullptr;
            for (int64_t t = 0; t < nt; t++) {
                const float xi = ((const float *) (x_tile + t * x->nb[1]))[i];
                if (xi == 0.0f) {
                    continue;
                }
                if (!piece) {
                    const char * packed = w_tile + i * w->nb[1];
                    if (w->type == GGML_TYPE_F32) {
                        piece = (const float *) packed;
                    } else {
                        to_float(packed, row, nc);
                        piece = row;
                    }
                }
                float * y = (float *) (y_tile + t * dst->nb[1]);
                for (int64_t c = 0; c < nc; c++) {
                    y[c] += xi * piece[c];
                }
            }
        }
    }
}
