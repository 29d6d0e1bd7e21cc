// The driver: threads compute coarse logits by groups of rows, count them by their distance from the largest, and compute
// those exactly that may count.

#include "head.h"

#include "coarse.h"
#include "rule.h"
#include "../alone.h"
#include "../counts.h"
#include "../exact.h"
#include "../k-quants/quantize-row.h"
#include "../k-quants/vec-dot.h"

#include "ggml-cpu.h"
#include "ggml-cpu-impl.h"
#include "ggml-impl.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

using namespace head;

namespace {

constexpr int64_t GROUPS = 128;                  // that a thread takes at once
constexpr int64_t ROWS = GROUPS * PLM_HEAD_ROWS; // of which it then computes some exactly
constexpr int64_t AHEAD = 8;                     // as many rows on, one is asked for while one is computed

std::atomic<float> divergence_{ 0.0015f };

size_t padded(size_t bytes) { return GGML_PAD(bytes, 64); }

// what one thread found out about the coarse logits of its groups, of one token
struct part {
    float most;
    histogram distances;
};

// where things lie in the work memory
struct layout {
    int64_t n, n_rows, n_low, n_tokens, n_columns, n_blocks;
    size_t low_bytes, high_bytes; // of a token's h, as the rows' types are multiplied with it; no high_bytes: as src[0]'s

    explicit layout(const ggml_tensor * op)
        : n(op->src[0]->ne[0]), n_rows(op->ne[0]), n_low(op->src[0]->ne[1]), n_tokens(op->src[1]->ne[1]), n_columns(op->src[5]->ne[0]), n_blocks(n_columns / PLM_HEAD_COLUMNS),
          low_bytes(hidden_bytes(op->src[0])), high_bytes(!op->src[7] || multiplied_as(op->src[7]) == multiplied_as(op->src[0]) ? 0 : hidden_bytes(op->src[7])) {}

    static ggml_type multiplied_as(const ggml_tensor * rows) { return ggml_get_type_traits_cpu(rows->type)->vec_dot_type; }
    size_t hidden_bytes(const ggml_tensor * rows) const { return padded(ggml_row_size(multiplied_as(rows), n)); }
    size_t hidden_bytes() const { return low_bytes + high_bytes; }
    size_t blocks_bytes() const { return padded(n_blocks * sizeof(block_q8_K)); }
    size_t offsets_bytes() const { return padded(n_blocks * sizeof(float)); }
    size_t floats_bytes() const { return padded(n_columns * sizeof(float)); }
    size_t token_bytes() const { return padded(sizeof(token) + sizeof(float)) + hidden_bytes() + blocks_bytes() + offsets_bytes() + floats_bytes(); }
    size_t part_bytes() const { return padded(n_tokens * sizeof(part)); }
};

// one token, prepared
struct prepared {
    token * of;
    float * variance;           // of an error of its coarse logits
    char *hidden, *hidden_high; // for rows of src[0], and of src[7]
    block_q8_K * blocks;
    float * offsets;
    float * floats; // scratch memory

    prepared(char * memory, const layout & l) {
        of = (token *) memory;
        variance = (float *) (of + 1);
        hidden = memory + padded(sizeof(token) + sizeof(float));
        hidden_high = l.high_bytes ? hidden + l.low_bytes : hidden;
        blocks = (block_q8_K *) (hidden + l.hidden_bytes());
        offsets = (float *) ((char *) blocks + l.blocks_bytes());
        floats = (float *) ((char *) offsets + l.offsets_bytes());
    }
};

// h, as it is multiplied
void convert(const float * h, int64_t n, ggml_type type, char * to) {
    if (type == GGML_TYPE_F32) {
        memcpy(to, h, n * sizeof(float));
    } else {
        ggml_get_type_traits_cpu(type)->from_float(h, to, n);
    }
}

void prepare(const ggml_tensor * op, const layout & l, int64_t t, const prepared & to) {
    const float * h = (const float *) ((const char *) op->src[1]->data + t * op->src[1]->nb[1]);
    const float * z = (const float *) ((const char *) op->src[2]->data + t * op->src[2]->nb[1]);
    const float * which = (const float *) op->src[5]->data;
    const float * scale = which + l.n_columns;
    const float * mean = (const float *) op->src[6]->data;
    const float * common = mean + l.n;
    const float * left = common + l.n;

    double base = 0, variance = 0;
    for (int64_t j = 0; j < l.n; j++) {
        base += double(common[j]) * h[j];
        variance += double(left[j]) * (z[j] - mean[j]) * (z[j] - mean[j]);
    }
    for (int64_t k = 0; k < l.n_columns; k++) {
        const bool is_there = which[k] >= 0 && which[k] < float(l.n); // the file may be damaged
        const int64_t j = is_there ? int64_t(which[k]) : 0;
        to.floats[k] = scale[k] * (z[j] - mean[j]);
    }
    plm_quantize_row_q8_K(to.floats, to.blocks, l.n_columns);
    for (int64_t b = 0; b < l.n_blocks; b++) {
        int32_t sum = 0;
        for (const int16_t of_sixteen : to.blocks[b].bsums) {
            sum += of_sixteen;
        }
        to.offsets[b] = float(-3 * sum);
    }
    *to.of = { to.blocks, to.offsets, float(base) };
    *to.variance = float(variance);

    convert(h, l.n, layout::multiplied_as(op->src[0]), to.hidden);
    if (l.high_bytes) {
        convert(h, l.n, layout::multiplied_as(op->src[7]), to.hidden_high);
    }
}

// a table of rows, the logit of its first one, and h as these rows are multiplied with it
struct table {
    const ggml_tensor * rows;
    int64_t begin;
    const char * hidden;
};

// Computes those of logits [first, last), of rows of one table, exactly whose coarse one in y is `least` or more; logit i
// has u_i times `shared` more where there is a u. Returns how many.
int64_t make_exact(const table & of, int64_t first, int64_t last, const float * u, float shared, float least, float * y) {
    int32_t rows[ROWS];
    int64_t n = 0;
    for (int64_t r = first; r < last; r++) {
        rows[n] = int32_t(r);
        n += !(y[r] < least); // also what is no number
    }
    const ggml_tensor * w = of.rows;
    const auto row = [&](int64_t i) { return (const char *) w->data + (rows[i] - of.begin) * w->nb[1]; };
    for (int64_t i = 0; i < n; i++) {
        plm_dot_of_picked(w->type, int(w->ne[0]), y + rows[i], row(i), of.hidden, row(std::min(i + AHEAD, n - 1)));
    }
    for (int64_t i = 0; u && i < n; i++) {
        y[rows[i]] += u[rows[i]] * shared;
    }
    return n;
}

// the threads go through parts of the rows as they come free: `work` is called for rows [first, last)
template <typename F> void share(const ggml_compute_params * params, int64_t n_rows, const F & work) {
    for (int64_t chunk = params->ith; chunk * ROWS < n_rows; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        work(chunk * ROWS, std::min((chunk + 1) * ROWS, n_rows));
    }
}

bool is_matrix_of_floats(const ggml_tensor * t) { return t && t->type == GGML_TYPE_F32 && ggml_is_contiguous(t) && ggml_is_matrix(t); }

} // namespace

bool plm_head_applies(const ggml_tensor * op) {
    return op->op == GGML_OP_MUL_MAT && ggml_get_op_params_i32(op, 1) == GGML_HINT_TWO_STAGES && op->src[6] && op->src[1]->ne[1] <= PLM_ALONE && (!plm_is_exact() || op->src[7] || op->src[8]);
}

size_t plm_head_work_size(const ggml_tensor * op, int n_threads) {
    const layout l(op);
    return 64 + l.n_tokens * l.token_bytes() + n_threads * l.part_bytes();
}

void plm_compute_forward_head(const ggml_compute_params * params, ggml_tensor * op) {
    const int ith = params->ith, nth = params->nth;
    const layout l(op);
    GGML_ASSERT(is_matrix_of_floats(op->src[1]) && is_matrix_of_floats(op->src[2]) && ggml_is_contiguous(op->src[0]) && ggml_is_matrix(op->src[0]));

    char * tokens = (char *) GGML_PAD((uintptr_t) params->wdata, 64);
    const auto token_at = [&](int64_t t) { return prepared(tokens + t * l.token_bytes(), l); };
    const auto parts_of = [&](int thread) { return (part *) (tokens + l.n_tokens * l.token_bytes() + thread * l.part_bytes()); };
    part * mine = parts_of(ith);
    float * y = (float *) op->data;
    const int64_t stride = op->nb[1] / sizeof(float);
    const auto next = [&] { // all threads begin with a chunk of their own
        if (ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, nth);
        }
        ggml_barrier(params->threadpool);
    };

    for (int64_t t = ith; t < l.n_tokens; t += nth) {
        prepare(op, l, t, token_at(t));
    }
    next();

    token of[PLM_ALONE];
    float most[PLM_ALONE];
    for (int64_t t = 0; t < l.n_tokens; t++) {
        of[t] = *token_at(t).of;
        most[t] = -INFINITY;
    }
    const float * bias = (const float *) op->src[4]->data;
    share(params, l.n_rows, [&](int64_t first, int64_t last) {
        coarse((const plm_head_block *) op->src[3]->data, l.n_blocks, bias, l.n_rows, first / PLM_HEAD_ROWS, (last + PLM_HEAD_ROWS - 1) / PLM_HEAD_ROWS, of, l.n_tokens, y, stride, most);
    });
    for (int64_t t = 0; t < l.n_tokens; t++) {
        mine[t].most = most[t];
    }
    ggml_barrier(params->threadpool);

    for (int64_t t = 0; t < l.n_tokens; t++) {
        for (int i = 0; i < nth; i++) {
            most[t] = std::max(most[t], parts_of(i)[t].most);
        }
    }
    const int64_t share_of_rows = (l.n_rows + nth - 1) / nth, begin = ith * share_of_rows, end = std::min(begin + share_of_rows, l.n_rows);
    for (int64_t t = 0; t < l.n_tokens; t++) {
        uint32_t count[histogram::BINS + 1] = {};
        for (int64_t r = begin; r < end; r++) {
            count[histogram::bin(most[t] - y[t * stride + r])]++;
        }
        memcpy(mine[t].distances.count, count, sizeof(mine[t].distances.count));
    }
    next();

    float least[PLM_ALONE];
    std::fill_n(least, l.n_tokens, -INFINITY);
    if (!plm_is_exact()) {
        for (int64_t t = 0; t < l.n_tokens; t++) {
            histogram all = {};
            for (int i = 0; i < nth; i++) {
                for (int bin = 0; bin < histogram::BINS; bin++) {
                    all.count[bin] += parts_of(i)[t].distances.count[bin];
                }
            }
            least[t] = most[t] - all.reach(*token_at(t).variance, divergence_);
        }
    }
    int64_t read = 0;
    const float * u = op->src[8] ? (const float *) op->src[8]->data : nullptr;
    share(params, l.n_rows, [&](int64_t first, int64_t last) {
        const int64_t end = std::min(last, l.n_low), start = std::max(first, l.n_low);
        for (int64_t t = 0; t < l.n_tokens; t++) {
            const float shared = u ? ((const float *) op->src[9]->data)[t] : 0.0f;
            read += make_exact({ op->src[0], 0, token_at(t).hidden }, first, end, u, shared, least[t], y + t * stride);
            if (start < last) {
                read += make_exact({ op->src[7], l.n_low, token_at(t).hidden_high }, start, last, u, shared, least[t], y + t * stride);
            }
        }
    });
    plm_edge_head_add(ith == 0 ? l.n_tokens * l.n_rows : 0, read);
}

void plm_edge_head_divergence(float nats) { divergence_ = nats; }
