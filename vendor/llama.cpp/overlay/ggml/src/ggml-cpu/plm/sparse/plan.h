#pragma once

// How one op is cut into work, and the scratch memory that takes.

#include "../alone.h"
#include "../third-cache.h"
#include "dense.h"
#include "ggml-impl.h"
#include "kernels.h"

#include <algorithm>

namespace sparse_t {
namespace {

// columns that are unpacked together: a whole number of blocks of every type
constexpr int64_t TILE = 256;

// most tokens that share one selection, and most bytes of it
constexpr int64_t GROUP = 256;
constexpr int64_t GROUP_BYTES = 24 << 20;

// unpacked values of a panel that stay in L1 while all tokens pass over them, and most rows in a tile:
// when few rows are selected a tile may span many
constexpr int64_t PANEL_BYTES = 24 << 10;
constexpr int64_t TILE_ROWS = 512;

// most tokens that one call of `kernels::sum_shared` serves
constexpr int64_t SHARED = 8;

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// A selection is what the tokens of one group select in one head; all of its columns are computed from it.
struct plan {
    const ggml_tensor * w;
    const ggml_tensor * x;
    ggml_tensor * y;
    kernels k;

    bool relu_sqr;
    int64_t n_out, n_in, n_tokens;
    int64_t group; // tokens of a selection
    int64_t n_groups;
    int64_t n_heads; // of all batches
    int64_t entries; // room in the list of one token
    int64_t n_words; // of 32 rows, a bit each
    bool own;        // each thread makes and uses selections of its own, else all work on the same one
    bool single;     // each token by kernels of its own, which is a group of its own: no tiles
    bool may_dense;  // a batch whose values may be rounded to 8 bits
    bool cached;     // W of a head fits into the third cache, and the CPU is one whose costs are known
    int64_t n_dense; // blocks of DENSE_ROWS rows

    size_t selection_bytes; // of one selection
    size_t scratch_bytes;   // of one thread

    plan(ggml_tensor * dst, int nth) : w(dst->src[0]), x(dst->src[1]), y(dst), k(find_kernels(w->type)) {
        relu_sqr = ggml_get_op_params_i32(dst, 0) == GGML_SPARSE_T_RELU_SQR;
        n_out = w->ne[0];
        n_in = w->ne[1];
        n_tokens = x->ne[1];
        n_heads = x->ne[2] * x->ne[3];

        entries = round_up(n_in, 32) + 32;
        n_words = (n_in + 31) / 32;
        own = n_heads >= nth;
        single = n_tokens <= PLM_ALONE && k.sum_rows;
        group = std::clamp<int64_t>(GROUP_BYTES / (entries * 8), 16, GROUP);
        group = single ? 1 : std::min(group, n_tokens);
        n_groups = (n_tokens + group - 1) / group;

        may_dense = !single && has_dense() && ggml_is_quantized(w->type) && n_tokens > (k.sum_shared ? SHARED : 4);
        n_dense = (n_in + DENSE_ROWS - 1) / DENSE_ROWS;
        cached = has_dense() && k.sum_rows && (int64_t) w->nb[1] * n_in <= third_cache_bytes();

        selection_bytes = round_up(group * token_bytes(), 64);
        scratch_bytes = single ? 0 : union_bytes() + tile_bytes() + (may_dense ? DENSE_ROWS * PANEL : 0);
    }

    int64_t n_starts() const { return n_words + 1; }

    // of one token in a selection (select.h)
    int64_t token_bytes() const {
        const int64_t lists = entries * (sizeof(int32_t) + sizeof(float)) + (n_starts() + n_words) * sizeof(int32_t);
        return lists + sizeof(float) + (may_dense ? n_dense * (DENSE_ROWS + sizeof(float) + sizeof(int32_t)) : 0);
    }

    // Heads are shared out where there are enough; a single token's selection is so quickly made that each
    // thread makes its own.
    int64_t n_selections_at_once(int nth) const { return own || single ? nth : 1; }

    size_t tile_bytes() const {
        const int64_t rows = std::max<int64_t>(std::min(TILE_ROWS, round_up(n_in, 32)), may_dense ? DENSE_ROWS : 0);
        return rows * TILE * sizeof(float);
    }

    size_t union_bytes() const { return round_up((entries + n_starts() + n_words) * sizeof(int32_t), 64); }

    size_t work_size(int nth) const { return n_selections_at_once(nth) * selection_bytes + nth * scratch_bytes + 64; }
};

} // namespace
} // namespace sparse_t
