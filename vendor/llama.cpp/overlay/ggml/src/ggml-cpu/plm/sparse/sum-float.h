#pragma once

// y += x_i row_i for the rows of one token's list, in floats: any CPU, any type.

#include "rows.h"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace sparse_t {
namespace {

// f(0), f(1), …, f(N - 1) with constants for arguments
template <class F, int... J> PLM_INLINE void each(std::integer_sequence<int, J...>, F f) {
    (f(std::integral_constant<int, J>{}), ...);
}

// Keeps the compiler from holding scales in registers, from where each would have to be spread over the
// lanes by the units that are busy with the sums; from memory the load does it.
#if defined(__GNUC__)
#define SPARSE_T_IN_MEMORY(a) asm volatile("" : "+m"(a))
#else
#define SPARSE_T_IN_MEMORY(a) (void) (a)
#endif

// floats of a block's scales and offsets, and of its sums of offsets
template <class T> constexpr int SCALES = T::GROUPS == 16 ? 32 : T::GROUPS == 8 ? 16
                                                                                : 2;
template <class T> constexpr int OFFSETS = T::GROUPS >= 8 ? 16 : 1;

// columns whose sums of offsets fit into a small array
constexpr int CHUNK = 4096;

// columns 16 j .. 16 j + 15 of a block
template <class T> PLM_INLINE f32x16 quants(const typename T::block & b, int j) {
    if constexpr (T::GROUPS == 0) {
        (void) j;
        return T::values(b);
    } else {
        return floats(T::bytes(b, 16 * j, load_of<i8x16>()));
    }
}

// y += x_r * row_r for R rows at a time: sums are loaded and stored once for all of them.
// A column's value is quant * scale + offset. The scale goes into x: one product a value. The offsets are
// summed by group, and added to the columns when all rows are done.
template <class T, int R>
PLM_INLINE void sum_some(const char * const * rows, const char * const * next, const float * x, float * y, float * offsets, int n_blocks) {
    using block = typename T::block;
    for (int b = 0; b < n_blocks; b++) {
        const block * from[R];
        float scales[R][SCALES<T>];
        for (int r = 0; r < R; r++) {
            from[r] = (const block *) rows[r] + b;
            // rows are scattered, and too short for the hardware's prefetchers to find out
            for (size_t o = 0; o < sizeof(block); o += 64) {
                prefetch((const char *) ((const block *) next[r] + b) + o);
            }
            T::prepare(*from[r], scales[r]);
            if constexpr (T::GROUPS == 0) {
                scales[r][0] = x[r];
            } else if constexpr (T::GROUPS == 1) {
                scales[r][0] *= x[r];
                if constexpr (T::OFFSET) {
                    offsets[b] += x[r] * scales[r][1];
                }
            } else {
                const f32x16 d = load(scales[r]) * splat(x[r]); // of 8 groups, offsets are its upper half
                store(scales[r], d);
                if constexpr (T::OFFSET) {
                    const f32x16 m = T::GROUPS == 8 ? d : load(scales[r] + 16) * splat(x[r]);
                    store(offsets + 16 * b, load(offsets + 16 * b) + m);
                }
            }
            SPARSE_T_IN_MEMORY(scales[r]);
        }
        float * yb = y + b * T::N;
        each(std::make_integer_sequence<int, T::N / 16>{}, [&](auto j) PLM_LAMBDA {
            f32x16 sum = load(yb + 16 * j);
            for (int r = 0; r < R; r++) {
                sum = fma(quants<T>(*from[r], j), splat(scales[r][T::GROUPS * 16 * j / T::N]), sum);
            }
            store(yb + 16 * j, sum);
        });
    }
}

// what is left of a row of plain floats after its last whole block
template <class T> f32x16 partial_block(const char * row, int n_columns) {
    typename T::block b = {};
    const size_t size = sizeof(b) / T::N;
    memcpy(&b, row + n_columns / T::N * sizeof(b), n_columns % T::N * size);
    return quants<T>(b, 0);
}

template <class T> void add_offsets(const float * offsets, float * y, int n_columns) {
    for (int c = 0; c < n_columns; c += 16) {
        const int b = c / T::N, group = T::GROUPS * (c % T::N) / T::N;
        store(y + c, load(y + c) + splat(offsets[OFFSETS<T> * b + (T::GROUPS == 8 ? 8 : 0) + group]));
    }
}

template <class T>
void sum_chunk(const char * w, size_t row_size, const int32_t * index, const float * x, int n, float * y, int n_columns) {
    constexpr int R = 4;
    const int n_blocks = n_columns / T::N;
    const auto row = [&](int k) { return w + index[k] * row_size; };
    float offsets[CHUNK / T::N * OFFSETS<T>] = {};

    int k = 0;
    for (; k + R <= n; k += R) {
        const char * rows[R];
        const char * next[R];
        for (int r = 0; r < R; r++) {
            rows[r] = row(k + r);
            next[r] = row(k + r + 2 * R);
        }
        sum_some<T, R>(rows, next, x + k, y, offsets, n_blocks);
    }
    for (; k < n; k++) {
        const char * rows[1] = { row(k) };
        sum_some<T, 1>(rows, rows, x + k, y, offsets, n_blocks);
    }

    if constexpr (T::OFFSET) {
        add_offsets<T>(offsets, y, n_columns);
    }
    if constexpr (T::GROUPS == 0) {
        if (const int rest = n_columns % T::N) {
            float tail[16] = {};
            std::copy_n(y + n_blocks * T::N, rest, tail);
            f32x16 sum = load(tail);
            for (k = 0; k < n; k++) {
                sum = fma(partial_block<T>(row(k), n_columns), splat(x[k]), sum);
            }
            store(tail, sum);
            std::copy_n(tail, rest, y + n_blocks * T::N);
        }
    }
}

template <class T>
void sum_rows_float(const char * w, size_t row_size, const int32_t * index, const float * x, int n, float * y, int n_columns) {
    for (int c = 0; c < n_columns; c += CHUNK) {
        sum_chunk<T>(w + c / T::N * sizeof(typename T::block), row_size, index, x, n, y + c, std::min(CHUNK, n_columns - c));
    }
}

} // namespace
} // namespace sparse_t
