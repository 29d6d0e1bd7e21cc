#pragma once

// y += x_i row_i for the rows of one token's list, in integers (sparse-t-dot.h).
//
// A column's value in row i is quant * scale + offset, with a scale for each group of columns. What a row adds is
// x_i scale quant: the quants are bytes as they stand in memory, and x_i scale becomes an integer c of 15 bits,
// by a unit that ROWS rows and SPAN columns have in common: the largest |x_i scale| among them / C_TOP. So an
// error is at most unit / 2 a quant: 1/128 of what a dense product of ggml loses, which rounds x to 8 bits.
// The sums of integers are exact: |sum| <= 64 * 255 * 128 * 127 < 2^31. Offsets are summed in floats, by group.
//
// The result depends on where a span begins, so threads part the columns by whole spans.

#include "sparse-t-dot.h"
#include "sparse-t-sum-float.h"

#if defined(SPARSE_T_DOT)

#include <algorithm>

namespace sparse_t {
namespace {

constexpr int   SPAN  = 256;
constexpr int   ROWS  = 64;
constexpr float C_TOP = 127 * 128;

template <class T> constexpr bool sums_in_integers() {
#if defined(SPARSE_T_DOT_ALL_BITS)
    return T::GROUPS > 0;
#else
    return T::GROUPS > 0 && !T::SIGNED;
#endif
}

// groups of a span
template <class T> constexpr int SPAN_GROUPS = T::GROUPS == 16 ? 16 : 8;

// offsets of their own; others are multiples of the scales, and go with the integers
template <class T> constexpr bool HAS_OFFSETS = T::OFFSET && T::ZERO == 0;

// columns of a unit: its bytes as this CPU's products take them
template <class T> SPARSE_T_INLINE bytes_of_unit unit_bytes(const typename T::block * span, int u) {
    constexpr int units_a_block = T::N / UNIT;
    const bytes_of_unit b = T::template bytes<bytes_of_unit>(span[u / units_a_block], u % units_a_block * UNIT);
    return as_taken<T::SIGNED>(b);
}

// x * scale of each group, and offsets += x * offset
template <class T> SPARSE_T_INLINE void coefficients(const typename T::block * span, int n_columns, float x, float * c, float * offsets) {
    if constexpr (T::N == SPAN) {
        (void) n_columns;
        float s[32];
        T::prepare(*span, s);
        const f32x16 d = load(s) * splat(x);
        store(c, d);
        if constexpr (HAS_OFFSETS<T>) {
            store(offsets, load(offsets) + (T::GROUPS == 8 ? d : load(s + 16) * splat(x)));
        }
    } else {
        float of[16] = {};
        for (int g = 0; g < n_columns / T::N; g++) {
            float s[2];
            T::prepare(span[g], s);
            of[g] = s[0];
            if constexpr (HAS_OFFSETS<T>) {
                of[8 + g] = s[1];
            }
        }
        const f32x16 d = load(of) * splat(x);
        store(c, d);
        if constexpr (HAS_OFFSETS<T>) {
            store(offsets, load(offsets) + d);
        }
    }
}

// Asks for the rows of the next tile while this one is summed, some lines at a time: they are scattered and too
// short for the hardware's prefetchers to find out, and asking for all at once would fill its queues.
struct lookahead {
    const char * const * row;
    int          left;  // rows after *row
    size_t       bytes; // of a row
    int          lines; // a step
    const char * at  = nullptr;
    const char * end = nullptr;

    lookahead(const char * const * row, int n, size_t bytes, int n_steps) : row(row), left(n), bytes(bytes) {
        lines = (int) (((bytes + 63) / 64 + 1) * (size_t) n / (size_t) n_steps + 1);
    }

    inline void step() {
        for (int i = 0; i < lines; i++) {
            if (at >= end) {
                if (left <= 0) {
                    return;
                }
                left--;
                at  = *row++;
                end = at + bytes;
            }
            prefetch(at);
            at += 64;
        }
    }
};

// The units U .. U + TOGETHER - 1 of a span, over all rows. (A unit behind the last column repeats the last.)
template <class T, int U>
SPARSE_T_INLINE void sum_units(const char * const * row, size_t at, int n_quads, const int32_t (*high)[16], const int32_t (*low)[16], const int32_t * total,
                               float unit, lookahead & ahead, float * y) {
    using block = typename T::block;
    constexpr int GROUP  = SPAN / SPAN_GROUPS<T>;
    constexpr int excess = T::ZERO + (T::SIGNED && WITH_128 ? 128 : 0);
    sums h[TOGETHER], l[TOGETHER];
    for (int i = 0; i < TOGETHER; i++) {
        h[i] = l[i] = no_sums();
    }
    for (int k = 0; k < n_quads; k++, row += 4) {
        const block * span[4];
        for (int r = 0; r < 4; r++) {
            span[r] = (const block *) (row[r] + at);
        }
        ahead.step();
        each([&](auto i) SPARSE_T_LAMBDA {
            constexpr int u = U + i, g0 = u * UNIT / GROUP, g1 = (u * UNIT + UNIT - 1) / GROUP;
            const four_rows w = interleave(unit_bytes<T>(span[0], u), unit_bytes<T>(span[1], u), unit_bytes<T>(span[2], u), unit_bytes<T>(span[3], u));
            add_products(h[i], w, spread<g0 == g1>(high[k][g0], high[k][g1]));
            add_products(l[i], w, spread<g0 == g1>(low[k][g0], low[k][g1]));
        }, std::make_integer_sequence<int, TOGETHER>{});
    }
    each([&](auto i) SPARSE_T_LAMBDA {
        constexpr int u = U + i, g0 = u * UNIT / GROUP, g1 = (u * UNIT + UNIT - 1) / GROUP;
        finish(h[i], l[i], spread<g0 == g1>(excess * total[g0], excess * total[g1]), unit, y + u * UNIT);
    }, std::make_integer_sequence<int, TOGETHER>{});
}

// Up to ROWS rows, of which row[n ..] repeat one to a multiple of 4, and a span of n_columns. False where a
// coefficient is not finite, or all are too small: nothing was added to y then.
template <class T>
bool sum_span(const char * const * row, const float * x, int n, size_t at, int n_columns, lookahead & ahead, float * y, float * offsets) {
    using block = typename T::block;
    constexpr int quads = ROWS / 4;
    alignas(64) float   c[ROWS][16];
    alignas(64) int32_t high[quads][16], low[quads][16], total[16] = {};
    largest top_of_group;

    for (int r = 0; r < n; r++) {
        coefficients<T>((const block *) (row[r] + at), n_columns, x[r], c[r], offsets);
        top_of_group.see(load(c[r]));
    }
    const uint32_t bits = top_of_group.bits(SPAN_GROUPS<T>);
    float top;
    memcpy(&top, &bits, sizeof(top));
    if (bits >= 0x7f800000 || top < 1e-30f) {
        return false;
    }
    const int n_quads = (n + 3) / 4;
    for (int r = n; r < 4 * n_quads; r++) {
        store(c[r], splat(0.0f));
    }
    for (int k = 0; k < n_quads; k++) {
        to_digits(c + 4 * k, C_TOP / top, high[k], low[k], total);
    }

    each([&](auto i) SPARSE_T_LAMBDA {
        constexpr int u = i * TOGETHER;
        if (u * UNIT < n_columns) {
            sum_units<T, u>(row, at, n_quads, high, low, total, top / C_TOP, ahead, y);
        }
    }, std::make_integer_sequence<int, SPAN / UNIT / TOGETHER>{});
    return true;
}

// The same in floats, without the offsets that `coefficients` has counted.
template <class T> void sum_by_floats(const char * const * row, const float * x, int n, size_t at, int n_columns, float * y) {
    float offsets[SPAN / T::N * OFFSETS<T>] = {};
    for (int r = 0; r < n; r++) {
        const char * one[1] = { row[r] + at };
        sum_some<T, 1>(one, one, x + r, y, offsets, n_columns / T::N);
    }
    if constexpr (T::OFFSET && !HAS_OFFSETS<T>) {
        add_offsets<T>(offsets, y, n_columns);
    }
}

// as `kernels::sum_rows`
template <class T>
void sum_rows_int(const char * w, size_t row_size, const int32_t * index, const float * x, int n, float * y, int n_columns) {
    constexpr int CHUNK = 4096;
    for (int c0 = 0; c0 < n_columns; c0 += CHUNK) {
        const int width = std::min(CHUNK, n_columns - c0);
        const char * from = w + c0 / T::N * sizeof(typename T::block);
        const size_t bytes = (size_t) width / T::N * sizeof(typename T::block);
        float offsets[CHUNK / SPAN][16] = {};
        for (int k = 0; k < n; k += ROWS) {
            const int rows = std::min(ROWS, n - k);
            const char * row[ROWS], * next[ROWS];
            for (int r = 0; r < (rows + 3) / 4 * 4; r++) {
                row[r] = from + index[k + std::min(r, rows - 1)] * row_size;
            }
            const int n_next = std::clamp(n - k - ROWS, 0, ROWS);
            for (int r = 0; r < n_next; r++) {
                next[r] = from + index[k + ROWS + r] * row_size;
            }
            lookahead ahead(next, n_next, bytes, ROWS / 4 * ((width + UNIT * TOGETHER - 1) / (UNIT * TOGETHER)));
            for (int c = 0; c < width; c += SPAN) {
                const int    columns = std::min(SPAN, width - c);
                const size_t at      = c / T::N * sizeof(typename T::block);
                if (!sum_span<T>(row, x + k, rows, at, columns, ahead, y + c0 + c, offsets[c / SPAN])) {
                    sum_by_floats<T>(row, x + k, rows, at, columns, y + c0 + c);
                }
            }
        }
        if constexpr (HAS_OFFSETS<T>) {
            constexpr int groups = SPAN_GROUPS<T>;
            for (int c = 0; c < width; c += 16) {
                const float offset = offsets[c / SPAN][(groups == 8 ? 8 : 0) + c % SPAN * groups / SPAN];
                store(y + c0 + c, load(y + c0 + c) + splat(offset));
            }
        }
    }
}

} // namespace
} // namespace sparse_t

#endif
