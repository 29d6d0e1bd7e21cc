#pragma once

// y += x_i row_i over a list of rows, in integers (dot.h), for one token or for some at a time.
//
// A column's value in row i is quant * scale + offset, with a scale for each group of columns. What a row adds is
// x_i scale quant: the quants are bytes as they stand in memory, and x_i scale becomes an integer c of one or two
// digits of 7 bits, by a unit that ROWS rows have in common in each group: the largest |x_i scale| / TOP. So an
// error is at most unit / 2 a quant: with two digits 1/128 of what a dense product of ggml loses, which rounds x
// to 8 bits; with one digit about the same. The sums of integers are exact: |sum| <= 64 * 255 * 128 * 127 < 2^31.
// Offsets are summed in floats, by group.
//
// The result depends on where a span begins, so threads part the columns by whole spans.

#include "coefficients.h"
#include "dot.h"
#include "sum-float.h"

#if defined(SPARSE_T_DOT)

#include <algorithm>

namespace sparse_t {
namespace {

constexpr int ROWS = 64;

// the largest integer of so many digits
template <int DIGITS> constexpr float TOP = DIGITS == 2 ? 127 * 128 : 127;

template <class T> constexpr bool sums_in_integers() {
#if defined(SPARSE_T_DOT_ALL_BITS)
    return T::GROUPS > 0;
#else
    return T::GROUPS > 0 && !T::SIGNED;
#endif
}

// units of a span that are compiled one by one
template <class T, int N> constexpr int UNROLLED = std::max(T::REPEAT / UNIT, N == 1 ? TOGETHER : 1);

// unit first + U of a span of four rows, bytes as this CPU's products take them
template <class T, int U> PLM_INLINE four_rows unit_of(const typename T::block * const (&span)[4], int first) {
    constexpr int units_a_block = T::N / UNIT;
    constexpr int column = U % units_a_block * UNIT;
    const int block = first / units_a_block + U / units_a_block, n = first % units_a_block * UNIT / T::REPEAT;
#if defined(SPARSE_T_DOT_512)
    if constexpr (!T::LOADED_ALONE) { // bits of four rows are taken apart together
        return as_taken<T::SIGNED>(T::bytes(part<T>(span[0][block], n), column, load_interleaved{ (const char * const *) span }));
    }
#endif
    const auto one = [&](int r) { return as_taken<T::SIGNED>(T::bytes(part<T>(span[r][block], n), column, load_of<bytes_of_unit>())); };
    return interleave(one(0), one(1), one(2), one(3));
}

// What some tokens multiply the same rows by, and where their sums go. N tokens at a time are computed.
struct tokens {
    static constexpr int MOST = 8;
    int n;
    const float * x[MOST]; // by number in the window of ROWS
    float * y[MOST];
    float (*offsets[MOST])[16]; // by span
};

// The units u0 .. u0 + TOGETHER - 1 of a span, over all rows, where u0 is first + U and first a multiple of UNROLLED.
// `next` are the rows that come after these: they are scattered and too short for the hardware's prefetchers to
// find out, and asking for all at once would fill its queues, so each step asks for a part of them.
template <class T, int DIGITS, int N, int U>
PLM_INLINE void sum_units(int first, const char * const * row, const char * const * next, size_t at, int n_quads,
                          const int32_t (*c)[DIGITS][ROWS / 4][LANES<T>], const int32_t (*total)[LANES<T>], const float (*unit)[LANES<T>], float * const * y) {
    using block = typename T::block;
    constexpr int WIDE = N == 1 ? TOGETHER : 1;
    constexpr int STEPS = SPAN / UNIT / WIDE; // of a quad
    const int step = (first + U) / WIDE;
    constexpr int BYTES = SPAN / T::N * (int) sizeof(block);
    constexpr int GROUP = SPAN / SPAN_GROUPS<T>;
    constexpr int excess = T::ZERO + T::MIDDLE + (T::SIGNED && WITH_128 ? 128 : 0);
    sums s[WIDE][N][DIGITS];
    for (int i = 0; i < WIDE; i++) {
        for (int t = 0; t < N; t++) {
            for (int d = 0; d < DIGITS; d++) {
                s[i][t][d] = no_sums();
            }
        }
    }
    for (int k = 0; k < n_quads; k++, row += 4, next += 4) {
        const block * span[4];
        for (int r = 0; r < 4; r++) {
            span[r] = (const block *) (row[r] + at);
        }
        // every fourth part of the steps asks for one of the four rows
        each(std::make_integer_sequence<int, (BYTES + 63) / 64>{}, [&](auto i) PLM_LAMBDA {
            const int o = 64 + (step % (STEPS / 4) + i * (STEPS / 4)) * 64;
            if (o < BYTES) {
                prefetch(next[step / (STEPS / 4)] + at + o);
            }
        });
        each(std::make_integer_sequence<int, WIDE>{}, [&](auto i) PLM_LAMBDA {
            constexpr int u = U + i;
            constexpr bool SAME = u * UNIT / GROUP == (u * UNIT + UNIT - 1) / GROUP;
            const int g0 = first * UNIT / GROUP + u * UNIT / GROUP, g1 = g0 + !SAME;
            const four_rows w = unit_of<T, u>(span, first);
            for (int t = 0; t < N; t++) {
                for (int d = 0; d < DIGITS; d++) {
                    add_products(s[i][t][d], w, spread<SAME>(c[t][d][k][g0], c[t][d][k][g1]));
                }
            }
        });
    }
    each(std::make_integer_sequence<int, WIDE>{}, [&](auto i) PLM_LAMBDA {
        constexpr int u = U + i;
        constexpr bool SAME = u * UNIT / GROUP == (u * UNIT + UNIT - 1) / GROUP;
        const int g0 = first * UNIT / GROUP + u * UNIT / GROUP, g1 = g0 + !SAME;
        for (int t = 0; t < N; t++) {
            const sums both = DIGITS == 2 ? join_digits(s[i][t][0], s[i][t][DIGITS - 1]) : s[i][t][0];
            finish(both, spread<SAME>(excess * total[t][g0], excess * total[t][g1]), spread<SAME>(unit[t][g0], unit[t][g1]), y[t] + (first + u) * UNIT);
        }
    });
}

// The same in floats.
template <class T> void sum_by_floats(const char * const * row, const float * x, int n, size_t at, int n_columns, float * y) {
    float offsets[SPAN / T::N * OFFSETS<T>] = {};
    for (int r = 0; r < n; r++) {
        if (x[r] != 0.0f) { // else it is not to be read
            const char * one[1] = { row[r] + at };
            sum_some<T, 1>(one, one, x + r, y, offsets, n_columns / T::N);
        }
    }
    if constexpr (T::OFFSET) {
        add_offsets<T>(offsets, y, n_columns);
    }
}

// Up to ROWS rows, of which row[n ..] repeat one to a multiple of 4, and a span of n_columns.
template <class T, int DIGITS, int N>
void sum_span(const char * const * row, const char * const * next, int n, size_t at, int n_columns, const tokens & all, int first) {
    using block = typename T::block;
    constexpr int quads = ROWS / 4, L = LANES<T>;
    constexpr size_t bytes = SPAN / T::N * sizeof(block);
    alignas(64) float product[N][ROWS][L];
    alignas(64) int32_t c[N][DIGITS][quads][L], total[N][L] = {};
    alignas(64) float unit[N][L];
    const int column = (int) (at / sizeof(block)) * T::N;

    using lanes = floats_in<L>;
    typename lanes::type offset[N];
    largest<L> top[N]; // where OFFSETS_ABOVE, these are seen as well
    for (int t = 0; t < N; t++) {
        offset[t] = lanes::all(0.0f);
    }
    for (int r = 0; r < n; r++) {
        prefetch(next[r] + at);
        if constexpr (NEAR > 0) {
            const char * soon = row[std::min(r + NEAR, n - 1)] + at;
            for (size_t o = 0; o < bytes; o += 64) {
                prefetch_near(soon + o);
            }
        }
        const groups<T> g = groups_of<T>((const block *) (row[r] + at), n_columns);
        for (int t = 0; t < N; t++) {
            const auto x = lanes::all(all.x[first + t][r]);
            const auto p = g.scale * x;
            store(product[t][r], p);
            top[t].see(p);
            if constexpr (HAS_OFFSETS<T>) {
                offset[t] = OFFSETS_ABOVE<T> ? offset[t] + p : fma(g.offset, x, offset[t]);
            }
        }
    }
    const int n_quads = (n + 3) / 4;
    float * y[N];
    alignas(64) float aside[N][SPAN];
    for (int t = 0; t < N; t++) {
        y[t] = all.y[first + t] + column;
        alignas(64) float inverse[L];
        bool fit = units(top[t], SPAN_GROUPS<T>, TOP<DIGITS>, unit[t], inverse);
        if constexpr (HAS_OFFSETS<T> && !OFFSETS_ABOVE<T>) {
            largest<L> of_offset;
            of_offset.see(offset[t]);
            fit &= finite(of_offset);
        }
        if (!fit) {
            // a coefficient that is not finite, or too small to be scaled: this span in floats
            sum_by_floats<T>(row, all.x[first + t], n, at, n_columns, y[t]);
            memset(c[t], 0, sizeof(c[t]));
            y[t] = aside[t]; // what the integers give is not used
            continue;
        }
        if constexpr (HAS_OFFSETS<T>) {
            float before[16], *sum = all.offsets[first + t][column / SPAN];
            store(before, offset[t]);
            for (int i = 0; i < L; i++) {
                sum[i] += before[i];
            }
        }
        std::fill(product[t][n], product[t][0] + (n + 7) / 8 * 8 * L, 0.0f);
        to_digits<DIGITS>(product[t], inverse, n_quads, c[t][0], c[t][DIGITS - 1], total[t]);
    }

    constexpr int WIDE = N == 1 ? TOGETHER : 1;
    for (int u0 = 0; u0 * UNIT < n_columns; u0 += UNROLLED<T, N>) {
        each(std::make_integer_sequence<int, UNROLLED<T, N> / WIDE>{}, [&](auto i) PLM_LAMBDA {
            constexpr int u = i * WIDE;
            if ((u0 + u) * UNIT < n_columns) {
                sum_units<T, DIGITS, N, u>(u0, row, next, at, n_quads, c, total, unit, y);
            }
        });
    }
}

// Rows index[0 .. n) for all tokens, whose x(t, k) is what row index[k] is multiplied by for token t
template <class T, int DIGITS, class X>
PLM_INLINE void sum_windows(const char * w, size_t row_size, const int32_t * index, int n, int n_tokens, X x, float * const * y, int n_columns,
                            const char * following) {
    constexpr int CHUNK = 2048;
    for (int c0 = 0; c0 < n_columns; c0 += CHUNK) {
        const int width = std::min(CHUNK, n_columns - c0);
        const size_t first_column = c0 / T::N * sizeof(typename T::block);
        const char * from = w + first_column;
        alignas(64) float values[tokens::MOST][ROWS];
        float offsets[tokens::MOST][CHUNK / SPAN][16] = {};
        tokens all = { n_tokens, {}, {}, {} };
        for (int t = 0; t < n_tokens; t++) {
            all.x[t] = values[t];
            all.y[t] = y[t] + c0;
            all.offsets[t] = offsets[t];
        }
        for (int k = 0; k < n; k += ROWS) {
            const int rows = std::min(ROWS, n - k);
            const char *row[ROWS], *next[ROWS];
            for (int r = 0; r < (rows + 3) / 4 * 4; r++) {
                row[r] = from + index[k + std::min(r, rows - 1)] * row_size;
                const int later = k + r + ROWS;
                next[r] = later < n || !following ? from + index[std::min(later, n - 1)] * row_size : following + first_column + (later - n) * row_size;
            }
            for (int t = 0; t < n_tokens; t++) {
                for (int r = 0; r < rows; r++) {
                    values[t][r] = x(t, k + r);
                }
            }
            for (int c = 0; c < width; c += SPAN) {
                const int columns = std::min(SPAN, width - c);
                const size_t at = c / T::N * sizeof(typename T::block);
                if constexpr (DIGITS == 2) {
                    sum_span<T, DIGITS, 1>(row, next, rows, at, columns, all, 0);
                } else {
                    for (int t = 0; t < n_tokens;) {
                        if (n_tokens - t >= MANY) {
                            sum_span<T, DIGITS, MANY>(row, next, rows, at, columns, all, t);
                            t += MANY;
                        } else if (n_tokens - t >= 4 && MANY > 4) {
                            sum_span<T, DIGITS, 4>(row, next, rows, at, columns, all, t);
                            t += 4;
                        } else if (n_tokens - t >= 2) {
                            sum_span<T, DIGITS, 2>(row, next, rows, at, columns, all, t);
                            t += 2;
                        } else {
                            sum_span<T, DIGITS, 1>(row, next, rows, at, columns, all, t);
                            t++;
                        }
                    }
                }
            }
        }
        if constexpr (HAS_OFFSETS<T>) {
            constexpr int groups = SPAN_GROUPS<T>;
            for (int t = 0; t < n_tokens; t++) {
                for (int c = 0; c < width; c += 16) {
                    const float * of = offsets[t][c / SPAN] + c % SPAN * groups / SPAN;
                    store(all.y[t] + c, load(all.y[t] + c) + splat(OFFSETS_ABOVE<T> ? of[8] + T::MIDDLE * of[0] : of[0]));
                }
            }
        }
    }
}

// as `kernels::sum_rows`
template <class T>
void sum_rows_int(const char * w, size_t row_size, const int32_t * index, const float * x, int n, float * y, int n_columns) {
    sum_windows<T, 2>(w, row_size, index, n, 1, [x](int, int k) { return x[k]; }, &y, n_columns, nullptr);
}

// as `kernels::sum_shared`
template <class T>
void sum_shared_int(const char * w, size_t row_size, const int32_t * index, int n, const float * const * x, bool relu_sqr, int n_tokens, float * const * y,
                    int n_columns, const char * following) {
    sum_windows<T, 1>(w, row_size, index, n, n_tokens, [=](int t, int k) {
        const float v = x[t][index[k]];
        return relu_sqr ? (v <= 0.0f ? 0.0f : v * v) : v; }, y, n_columns, following);
}

} // namespace
} // namespace sparse_t

#endif
