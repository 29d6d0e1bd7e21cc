#pragma once

// What each way through an op costs, and so which one is taken.

#include "plan.h"

#include <algorithm>
#include <cmath>

namespace sparse_t {
namespace {

// Tokens that share few rows are faster one by one, from the packed rows: up to this many tokens a row that any of
// them selects. (Unpacking a row costs about 2.5 times what is saved for one token's sum.)
constexpr double TOKENS_A_ROW = 2.5;

// Nanoseconds for 2048 columns of q4_K, measured on Zen 4. Tiled: a row that is unpacked for all tokens, and each token
// that selects it. Dense: every row as bytes, and each token. Packed: a row that one token sums by itself from a cache.
// Shared: a row that up to 8 tokens share, and each of them.
constexpr double TILED_ROW = 700, TILED_VALUE = 70;
constexpr double DENSE_ROW = 374, DENSE_VALUE = 11.6;
constexpr double PACKED_VALUE = 68;
constexpr double SHARED_ROW = 22, SHARED_TOKEN = 26;

// The ways that read only rows which a token selects; whether all are read as bytes is asked before (prefers_dense).
enum class way { packed,
                 shared,
                 tiled };

// of n_tokens tokens, which select n_selected values together, in n_rows rows that any of them selects
struct costs {
    const plan & p;
    int64_t n_tokens, n_selected, n_rows;

    double tiled() const { return (double) n_rows * TILED_ROW + (double) n_selected * TILED_VALUE; }

    // where no cache holds W, reading it for each token costs more than can be told
    double packed() const { return p.cached ? n_selected * PACKED_VALUE : INFINITY; }

    double dense() const { return careful() * p.n_in * (DENSE_ROW + n_tokens * DENSE_VALUE); }

    double shared() const {
        if (!p.k.sum_shared) {
            return INFINITY;
        }
        return (n_tokens > SHARED ? careful() : 1) * n_rows * (double((n_tokens + SHARED - 1) / SHARED) * SHARED_ROW + double(n_tokens) * SHARED_TOKEN);
    }

    // Rounding to 8 bits costs q8_0 of its accuracy, for which it is chosen: batches in it are rounded only where that
    // saves half of the time.
    double careful() const { return p.w->type == GGML_TYPE_Q8_0 ? 2 : 1; }
};

// Whether 8-bit integers and all rows are fastest for tokens whose values are finite. This is asked before the union of
// their rows is made, and every row counts as one of it: fewer would only be where few are selected.
bool prefers_dense(const plan & p, int64_t n_tokens, int64_t n_selected) {
    const costs of = { p, n_tokens, n_selected, p.n_in };
    return n_selected > TOKENS_A_ROW * p.n_in && of.dense() < std::min({ of.tiled(), of.packed(), of.shared() });
}

// the fastest of the other ways
way choose(const plan & p, int64_t n_tokens, int64_t n_selected, int64_t n_rows) {
    const costs of = { p, n_tokens, n_selected, n_rows };
    const double shared = of.shared();
    if (2 * n_rows > p.n_in && n_selected * PACKED_VALUE > shared && (n_tokens <= SHARED || (p.may_dense && of.tiled() > shared))) {
        return way::shared;
    }
    if (p.k.sum_rows && (p.single || n_selected <= TOKENS_A_ROW * n_rows || of.packed() < of.tiled())) {
        return way::packed;
    }
    return way::tiled;
}

} // namespace
} // namespace sparse_t
