#pragma once

// Which rows of W each token of a group selects, and which any of them does.

#include "../counts.h"
#include "../word-at.h"
#include "plan.h"

#include <algorithm>
#include <cstring>

namespace sparse_t {
namespace {

// Lists of selected rows, by token, in scratch memory.
struct selection {
    const plan & p;
    int32_t * index_;
    float * value_;
    int32_t * starts_;
    uint32_t * mask_;
    uint32_t * largest_;
    float * dense_scale_; // these by block, then by token
    int32_t * dense_sum_;
    int8_t * dense_;

    selection(const plan & p, char * at) : p(p) {
        index_ = (int32_t *) at;
        value_ = (float *) (index_ + p.group * p.entries);
        starts_ = (int32_t *) (value_ + p.group * p.entries);
        mask_ = (uint32_t *) (starts_ + p.group * p.n_starts());
        largest_ = mask_ + p.group * p.n_words;

        dense_scale_ = (float *) (largest_ + p.group);
        dense_sum_ = (int32_t *) (dense_scale_ + p.group * p.n_dense);
        dense_ = (int8_t *) (dense_sum_ + p.group * p.n_dense);
    }

    int32_t * index(int64_t t) const { return index_ + t * p.entries; }
    float * value(int64_t t) const { return value_ + t * p.entries; }
    int32_t * starts(int64_t t) const { return starts_ + t * p.n_starts(); }
    uint32_t * mask(int64_t t) const { return mask_ + t * p.n_words; }

    // the largest magnitude of a token's values, as a float's bits; known where the op may be dense
    uint32_t & largest(int64_t t) const { return largest_[t]; }

    int32_t count(int64_t t) const { return starts(t)[p.n_words]; }

    int64_t count_of(int64_t n_tokens) const {
        int64_t n = 0;
        for (int64_t t = 0; t < n_tokens; t++) {
            n += count(t);
        }
        return n;
    }

    // the list of token t from row x; returns its length
    int32_t fill(int64_t t, const float * row) const {
        const int32_t n_in = (int32_t) p.n_in;
        const bool all = p.relu_sqr && !plm_edge_sparsity_skips();
        const int32_t n = all ? select_all(row, n_in, index(t), value(t), starts(t), mask(t))
                              : select(row, n_in, p.relu_sqr, index(t), value(t), starts(t), mask(t));
        std::fill_n(index(t) + n, AHEAD, n ? index(t)[n - 1] : 0);
        if (p.may_dense) {
            // magnitudes of floats order as integers do, infinity and NaN above the others
            uint32_t most = 0;
            for (int32_t k = 0; k < n; k++) {
                most = std::max(most, word_at<uint32_t>(value(t) + k) & 0x7fffffff);
            }
            largest(t) = most;
        }
        return n;
    }

    bool finite(int64_t n_tokens) const {
        return std::all_of(largest_, largest_ + n_tokens, [](uint32_t bits) { return bits < 0x7f800000; });
    }

    void fill_dense(int64_t t, const float * row) const {
        quantize_token(row, p.n_in, p.relu_sqr, dense_ + t * DENSE_ROWS, dense_scale_ + t, dense_sum_ + t, p.group);
    }
};

// The rows that any of the first n tokens selects, in scratch memory of a thread.
struct row_union {
    int32_t * rows;   // ascending, and AHEAD more that may be read
    int32_t * starts; // how many lie before row 32 i
    int32_t count = 0;

    row_union(const selection & s, int64_t n, char * at) {
        const int64_t n_words = s.p.n_words;
        rows = (int32_t *) at;
        starts = rows + s.p.entries;
        uint32_t * any = (uint32_t *) (starts + s.p.n_starts());
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

} // namespace
} // namespace sparse_t
