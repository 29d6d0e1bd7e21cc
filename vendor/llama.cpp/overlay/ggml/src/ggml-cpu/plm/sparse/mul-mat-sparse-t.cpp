#include "mul-mat-sparse-t.h"

#include "ggml.h"
#include "counts.h"
#include "dense.h"
#include "kernels.h"
#include "../third-cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace sparse_t;

namespace {

// columns that are unpacked together: a whole number of blocks of every type
constexpr int64_t TILE = 256;

// most tokens that share one selection, and most bytes of it
constexpr int64_t GROUP       = 256;
constexpr int64_t GROUP_BYTES = 24 << 20;

// unpacked values of a panel that stay in L1 while all tokens pass over them, and most rows in a tile:
// when few rows are selected a tile may span many
constexpr int64_t PANEL_BYTES   = 24 << 10;
constexpr int64_t TILE_ROWS     = 512;

// Tokens that share few rows are faster one by one, from the packed rows: up to this many tokens a row that any of
// them selects. (Unpacking a row costs about 2.5 times what is saved for one token's sum.)
constexpr double TOKENS_A_ROW = 2.5;

// What the ways through a batch cost, in nanoseconds of 2048 columns of q4_K on Zen 4. A row unpacked for all tokens,
// and each that selects it; every row as bytes, and each token; a row that one token sums by itself from a cache; and a
// row that up to 8 tokens share, and each of them.
constexpr double  SPARSE_ROW = 700, SPARSE_VALUE = 70;
constexpr double  DENSE_ROW = 374, DENSE_VALUE = 11.6;
constexpr double  ALONE = 68;
constexpr int64_t SHARED = 8;
constexpr double  SHARED_ROW = 22, SHARED_TOKEN = 26;

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// How one op is cut into work. A selection is what the tokens of one group select in one head; all of its
// columns are computed from it.
struct plan {
    const ggml_tensor * w;
    const ggml_tensor * x;
    ggml_tensor       * y;
    kernels             k;

    bool    relu_sqr;
    int64_t n_out, n_in, n_tokens;
    int64_t group;       // tokens of a selection
    int64_t n_groups;
    int64_t n_heads;     // of all batches
    int64_t entries;     // room in the list of one token
    int64_t n_starts;    // a token's
    bool    own;         // each thread makes and uses selections of its own, else all work on the same one
    bool    single;      // one token with kernels of its own: no tiles
    bool    may_dense;   // a batch whose values may be rounded to 8 bits
    bool    cached;      // W of a head fits into the third cache, and the CPU is one whose costs are known
    int64_t n_dense;     // blocks of them

    size_t  selection_bytes; // of one selection
    size_t  scratch_bytes;   // of one thread

    plan(ggml_tensor * dst, int nth) : w(dst->src[0]), x(dst->src[1]), y(dst), k(find_kernels(w->type)) {
        relu_sqr = ggml_get_op_params_i32(dst, 0) == GGML_SPARSE_T_RELU_SQR;
        n_out    = w->ne[0];
        n_in     = w->ne[1];
        n_tokens = x->ne[1];
        n_heads  = x->ne[2] * x->ne[3];

        entries  = round_up(n_in, 32) + 32;
        n_starts = (n_in + 31) / 32 + 1;
        own      = n_heads >= nth;
        single   = n_tokens == 1 && k.sum_rows;
        group    = std::clamp<int64_t>(GROUP_BYTES / (entries * 8), 16, GROUP);
        group    = std::min(group, n_tokens);
        n_groups = (n_tokens + group - 1) / group;

        may_dense = has_dense() && ggml_is_quantized(w->type) && n_tokens > (k.sum_shared ? SHARED : 4);
        n_dense   = (n_in + DENSE_ROWS - 1) / DENSE_ROWS;
        cached    = has_dense() && k.sum_rows && (int64_t) w->nb[1] * n_in <= third_cache_bytes();

        selection_bytes = round_up(group * (entries * 8 + n_starts * 8 + (may_dense ? n_dense * (DENSE_ROWS + 8) : 0)), 64);
        scratch_bytes   = single ? 0 : union_bytes() + tile_bytes() + (may_dense ? DENSE_ROWS * PANEL : 0);
    }

    // costs of sum_tiled and sum_packed; where no cache holds W, reading it for each token costs more than can be told
    double tiled(double n_selected, double n_rows) const { return n_rows * SPARSE_ROW + n_selected * SPARSE_VALUE; }
    double alone(double n_selected) const { return cached ? n_selected * ALONE : INFINITY; }

    // of n tokens, and of rows that any of them selects. Rounding to 8 bits costs q8_0 of its accuracy, for which it is
    // chosen: batches in it are rounded only where that saves half of the time.
    double dense(double n) const { return careful() * n_in * (DENSE_ROW + n * DENSE_VALUE); }
    double shared(int64_t n, double n_rows) const {
        if (!k.sum_shared) {
            return INFINITY;
        }
        return (n > SHARED ? careful() : 1) * n_rows * (double((n + SHARED - 1) / SHARED) * SHARED_ROW + double(n) * SHARED_TOKEN);
    }
    double careful() const { return w->type == GGML_TYPE_Q8_0 ? 2 : 1; }

    // Heads are shared out where there are enough; a single token's selection is so quickly made that each
    // thread makes its own.
    int64_t n_selections_at_once(int nth) const { return own || single ? nth : 1; }

    size_t tile_bytes() const {
        const int64_t rows = std::max<int64_t>(std::min(TILE_ROWS, round_up(n_in, 32)), may_dense ? DENSE_ROWS : 0);
        return rows * TILE * sizeof(float);
    }

    size_t union_bytes() const { return round_up((entries + 2 * n_starts) * sizeof(int32_t), 64); }

    size_t work_size(int nth) const { return n_selections_at_once(nth) * selection_bytes + nth * scratch_bytes + 64; }
};

// Lists of selected rows, by token, in scratch memory.
struct selection {
    const plan & p;
    int32_t    * index_;
    float      * value_;
    int32_t    * starts_;
    uint32_t   * mask_;
    float      * dense_scale_; // these by block, then by token
    int32_t    * dense_sum_;
    int8_t     * dense_;

    selection(const plan & p, char * at) : p(p) {
        index_  = (int32_t *) at;
        value_  = (float *) (index_ + p.group * p.entries);
        starts_ = (int32_t *) (value_ + p.group * p.entries);
        mask_   = (uint32_t *) (starts_ + p.group * p.n_starts);

        dense_scale_ = (float *) (mask_ + p.group * p.n_starts);
        dense_sum_   = (int32_t *) (dense_scale_ + p.group * p.n_dense);
        dense_       = (int8_t *) (dense_sum_ + p.group * p.n_dense);
    }

    int32_t  * index(int64_t t)  const { return index_  + t * p.entries; }
    float    * value(int64_t t)  const { return value_  + t * p.entries; }
    int32_t  * starts(int64_t t) const { return starts_ + t * p.n_starts; }
    uint32_t * mask(int64_t t)   const { return mask_   + t * p.n_starts; }

    int32_t count(int64_t t) const { return starts(t)[p.n_starts - 1]; }

    // the list of token t from row x; returns its length
    int32_t fill(int64_t t, const float * row) const {
        const int32_t n = select(row, (int32_t) p.n_in, p.relu_sqr, index(t), value(t), starts(t), mask(t));
        std::fill_n(index(t) + n, AHEAD, n ? index(t)[n - 1] : 0);
        if (p.may_dense) {
            // the largest magnitude: those of floats order as integers do, infinity and NaN above the others
            uint32_t most = 0;
            for (int32_t k = 0; k < n; k++) {
                uint32_t v;
                memcpy(&v, value(t) + k, sizeof(v));
                most = std::max(most, v & 0x7fffffff);
            }
            mask(t)[p.n_starts - 1] = most;
        }
        return n;
    }

    bool finite(int64_t t) const { return mask(t)[p.n_starts - 1] < 0x7f800000; }

    // whether the first n tokens are faster with 8-bit integers and all rows
    bool prefers_dense(int64_t n) const {
        if (!p.may_dense) {
            return false;
        }
        double n_selected = 0;
        for (int64_t t = 0; t < n; t++) {
            if (!finite(t)) {
                return false;
            }
            n_selected += count(t);
        }
        // every row counts as one of the union: fewer would only be where few are selected
        return n_selected > TOKENS_A_ROW * p.n_in && p.dense(n) < std::min({ p.tiled(n_selected, p.n_in), p.alone(n_selected), p.shared(n, p.n_in) });
    }

    void fill_dense(int64_t t, const float * row) const {
        quantize_token(row, p.n_in, p.relu_sqr, dense_ + t * DENSE_ROWS, dense_scale_ + t, dense_sum_ + t, p.group);
    }
};

// The rows that any of the first n tokens selects, in scratch memory of a thread.
struct row_union {
    int32_t * rows;   // ascending, and AHEAD more that may be read
    int32_t * starts; // how many lie before row 32 i
    int32_t   count = 0;

    row_union(const selection & s, int64_t n, char * at) {
        const int64_t n_words = s.p.n_starts - 1;
        rows   = (int32_t *) at;
        starts = rows + s.p.entries;
        uint32_t * any = (uint32_t *) (starts + s.p.n_starts);
        std::copy_n(s.mask(0), n_words, any);
        for (int64_t t = 1; t < n; t++) {
            const uint32_t * mask = s.mask(t);
            for (int64_t i = 0; i < n_words; i++) {
                any[i] |= mask[i];
            }
        }
        for (int64_t i = 0; i < n_words; i++) {
            starts[i] = count;
            for (uint32_t left = any[i]; left; left &= left - 1) {
                rows[count++] = (int32_t) (32 * i + __builtin_ctz(left));
            }
        }
        starts[n_words] = count;
        std::fill_n(rows + count, AHEAD, count ? rows[count - 1] : 0);
    }
};

// one head of one batch, tokens [t0, t0 + n)
struct job {
    const plan & p;
    const char * w;
    const char * x;
    char       * y;
    const char * following; // the weights of the thread's next head, or null
    int64_t      n;

    static const char * weights(const plan & p, int64_t head) {
        const int64_t h  = head % p.x->ne[2], b = head / p.x->ne[2];
        const int64_t hw = p.w->ne[2] == 1 ? 0 : h, bw = p.w->ne[3] == 1 ? 0 : b;
        return (const char *) p.w->data + bw * p.w->nb[3] + hw * p.w->nb[2];
    }

    // heads up to `last` are the thread's
    job(const plan & p, int64_t head, int64_t g, int64_t last) : p(p) {
        const int64_t h  = head % p.x->ne[2], b = head / p.x->ne[2];
        const int64_t t0 = g * p.group;
        n = std::min(p.group, p.n_tokens - t0);
        w = weights(p, head);
        following = head < last ? weights(p, head + 1) : nullptr;
        x = (const char *) p.x->data + b * p.x->nb[3] + h * p.x->nb[2] + t0 * p.x->nb[1];
        y = (char *) p.y->data + b * p.y->nb[3] + h * p.y->nb[2] + t0 * p.y->nb[1];
    }

    const float * x_row(int64_t t) const { return (const float *) (x + t * p.x->nb[1]); }
    float       * y_row(int64_t t) const { return (float *) (y + t * p.y->nb[1]); }
    const char  * w_row(int64_t i, int64_t column) const { return w + i * p.w->nb[1] + ggml_row_size(p.w->type, column); }

    // tokens first, first + step, …: fills their lists; returns how many rows they select
    uint64_t select(const selection & s, int64_t first, int64_t step) const {
        uint64_t n_active = 0;
        for (int64_t t = first; t < n; t += step) {
            n_active += s.fill(t, x_row(t));
        }
        return n_active;
    }

    void fill_dense(const selection & s, int64_t first, int64_t step) const {
        for (int64_t t = first; t < n; t += step) {
            s.fill_dense(t, x_row(t));
        }
    }

    // whether tokens that select so many values are faster some at a time, over all rows that any of them selects
    bool shares(int64_t n_selected, int64_t n_rows) const {
        const double shared = p.shared(n, n_rows);
        return 2 * n_rows > p.n_in && n_selected * ALONE > shared && (n <= SHARED || (p.may_dense && p.tiled(n_selected, n_rows) > shared));
    }

    // columns [c0, c1), some tokens at a time, in 8-bit integers
    void sum_shared(const int32_t * rows, int64_t n_rows, int64_t c0, int64_t c1) const {
        for (int64_t first = 0; first < n; first += SHARED) {
            const int64_t here = std::min(SHARED, n - first);
            const float * x_of[SHARED];
            float       * y_of[SHARED];
            for (int64_t t = 0; t < here; t++) {
                x_of[t] = x_row(first + t);
                y_of[t] = y_row(first + t) + c0;
                std::fill_n(y_of[t], c1 - c0, 0.0f);
            }
            p.k.sum_shared(w_row(0, c0), p.w->nb[1], rows, (int) n_rows, x_of, p.relu_sqr, (int) here, y_of, (int) (c1 - c0),
                           following && first + here == n ? following + (w_row(0, c0) - w) : nullptr);
        }
    }

    // columns [c0, c1), each token by itself, from the packed rows
    void sum_packed(const selection & s, int64_t c0, int64_t c1) const {
        for (int64_t t = 0; t < n; t++) {
            std::fill_n(y_row(t) + c0, c1 - c0, 0.0f);
            p.k.sum_rows(w_row(0, c0), p.w->nb[1], s.index(t), s.value(t), s.count(t), y_row(t) + c0, (int) (c1 - c0));
        }
    }

    // columns [c0, c1), at most TILE: the rows of the union are unpacked once, some at a time, then each token
    // sums its own
    void sum_tiled(const selection & s, int64_t c0, int64_t c1, const row_union & any, int64_t tile_rows, float * tile) const {
        for (int64_t t = 0; t < n; t++) {
            std::fill_n(y_row(t) + c0, c1 - c0, 0.0f);
        }
        const int64_t panel_stride = tile_rows * PANEL;
        const int     n_columns    = (int) (c1 - c0);
        const int64_t piece        = ggml_row_size(p.w->type, n_columns);
        for (int64_t i0 = 0; i0 < p.n_in; i0 += tile_rows) {
            const int64_t from = i0 / 32, to = (std::min(i0 + tile_rows, p.n_in) + 31) / 32;
            for (int32_t k = any.starts[from]; k < any.starts[to]; k++) {
                const char * next = w_row(any.rows[k + AHEAD / 2], c0);
                for (int64_t o = 0; o < piece; o += 64) {
                    __builtin_prefetch(next + o);
                }
                p.k.unpack(p.w->type, w_row(any.rows[k], c0), n_columns, tile + (any.rows[k] - i0) * PANEL, panel_stride);
            }
            for (int64_t c = c0; c < c1; c += PANEL) {
                const float * panel = tile + (c - c0) / PANEL * panel_stride;
                for (int64_t t = 0; t < n; t++) {
                    const int32_t a = s.starts(t)[from], count = s.starts(t)[to] - a;
                    if (count) {
                        sum_panel(panel, (int32_t) i0, s.index(t) + a, s.value(t) + a, count, y_row(t) + c,
                                  (int) std::min<int64_t>(PANEL, c1 - c));
                    }
                }
            }
        }
    }

    // columns [c0, c1), at most TILE: all rows, in 8-bit integers
    void sum_dense(const selection & s, int64_t c0, int64_t c1, char * scratch) const {
        float   * tile = (float *) scratch;
        uint8_t * q    = (uint8_t *) scratch + p.tile_bytes();
        for (int64_t t = 0; t < n; t++) {
            std::fill_n(y_row(t) + c0, c1 - c0, 0.0f);
        }
        const int     n_columns    = (int) (c1 - c0);
        const int64_t piece        = ggml_row_size(p.w->type, n_columns);
        const int64_t panel_stride = DENSE_ROWS * PANEL;
        for (int64_t b = 0; b < p.n_dense; b++) {
            const int64_t i0 = b * DENSE_ROWS, i1 = std::min(i0 + DENSE_ROWS, p.n_in);
            for (int64_t i = i0; i < i1; i++) {
                const char * next = w_row(std::min(i + AHEAD / 2, p.n_in - 1), c0);
                for (int64_t o = 0; o < piece; o += 64) {
                    __builtin_prefetch(next + o);
                }
                p.k.unpack(p.w->type, w_row(i, c0), n_columns, tile + (i - i0) * PANEL, panel_stride);
            }
            for (int64_t c = c0; c < c1; c += PANEL) {
                const float * panel = tile + (c - c0) / PANEL * panel_stride;
                const int     width = (int) std::min<int64_t>(PANEL, c1 - c);
                float w_scale[PANEL];
                if (quantize_panel(panel, (int) (i1 - i0), q, w_scale)) {
                    const int64_t at = b * p.group;
                    multiply_panel(q, w_scale, (int) (i1 - i0), s.dense_ + at * DENSE_ROWS, s.dense_scale_ + at, s.dense_sum_ + at, n,
                                   y_row(0) + c, p.y->nb[1] / sizeof(float), width);
                    continue;
                }
                for (int64_t t = 0; t < n; t++) {
                    const int32_t a = s.starts(t)[i0 / 32], count = s.starts(t)[(i1 + 31) / 32] - a;
                    sum_panel(panel, (int32_t) i0, s.index(t) + a, s.value(t) + a, count, y_row(t) + c, width);
                }
            }
        }
    }

    // columns [c0, c1)
    void sum(const selection & s, int64_t c0, int64_t c1, bool dense, char * scratch) const {
        if (c0 >= c1) {
            return;
        }
        if (dense) {
            for (int64_t c = c0; c < c1; c += TILE) {
                sum_dense(s, c, std::min(c + TILE, c1), scratch + p.union_bytes());
            }
            return;
        }
        if (p.single) {
            if (shares(s.count(0), s.count(0))) {
                sum_shared(s.index(0), s.count(0), c0, c1);
            } else {
                sum_packed(s, c0, c1);
            }
            return;
        }
        const row_union any(s, n, scratch);
        int64_t n_selected = 0;
        for (int64_t t = 0; t < n; t++) {
            n_selected += s.count(t);
        }
        if (shares(n_selected, any.count)) {
            sum_shared(any.rows, any.count, c0, c1);
            return;
        }
        if (p.k.sum_rows && (n_selected <= TOKENS_A_ROW * any.count || p.alone(n_selected) < p.tiled(n_selected, any.count))) {
            sum_packed(s, c0, c1);
            return;
        }
        int64_t tile_rows = PANEL_BYTES / (PANEL * sizeof(float)) * p.n_in / std::max<int64_t>(1, any.count);
        tile_rows = std::clamp<int64_t>(tile_rows / 32 * 32, 32, std::min(TILE_ROWS, round_up(p.n_in, 32)));
        float * tile = (float *) (scratch + p.union_bytes());
        for (int64_t c = c0; c < c1; c += TILE) {
            sum_tiled(s, c, std::min(c + TILE, c1), any, tile_rows, tile);
        }
    }
};

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
                const bool dense = s.prefers_dense(j.n);
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
                dense = s.prefers_dense(j.n);
                if (dense) {
                    j.fill_dense(s, ith, nth);
                    ggml_barrier(params->threadpool);
                }
            }
            j.sum(s, c0, c1, dense, scratch);
        }
    }
}
