#pragma once

// Stands in for ggml-cuda/mma.cuh, whose inline assembler the emulator does not execute: tiles of registers as Turing's and
// newer tensor cores have them, read and multiplied by what the instructions mean.

#include "common.cuh"

#include <type_traits>

namespace ggml_cuda_mma {

enum data_layout { DATA_LAYOUT_I_MAJOR,
                   DATA_LAYOUT_I_MAJOR_SCRAMBLED };

// element l of a lane's is row get_i(l), column get_j(l); a column of half2 is two of the matrix
template <int I_, int J_, typename T, data_layout dl_ = DATA_LAYOUT_I_MAJOR>
struct tile {
    static constexpr int I = I_, J = J_, ne = I * J / 32;
    static constexpr data_layout dl = dl_;
    T x[ne] = {};

    static int get_i(int l) {
        const int lane = threadIdx.x;
        return lane / 4 + (I == 8 ? 0 : 8 * (std::is_same_v<T, float> ? l / 2 % 2 : J == 4 ? l
                                                                                           : l % 2));
    }
    static int get_j(int l) {
        const int lane = threadIdx.x;
        if (std::is_same_v<T, float>) {
            return 8 * (l / 4) + 2 * (lane % 4) + l % 2;
        }
        return lane % 4 + (J == 4 ? 0 : 4 * (I == 8 ? l : l / 2));
    }
};

template <int I, int J> tile<I, J, half2> unscramble(const tile<I, J, half2, DATA_LAYOUT_I_MAJOR_SCRAMBLED> &);

// byte of column j of row i
template <bool swz, typename T> int swizzle_bytes(int i, int j, int stride) {
    const int at = (i * stride + j) * int(sizeof(T));
    return swz ? at ^ ((i & 7) << 4) : at;
}

template <bool swz, int I, int J, typename T>
void load_ldmatrix(tile<I, J, T> & t, const T * base, int i0, int j0, int stride) {
    for (int l = 0; l < t.ne; l++) {
        t.x[l] = *(const T *) ((const char *) base + swizzle_bytes<swz, T>(i0 + t.get_i(l), j0 + t.get_j(l), stride));
    }
}

template <int I, int J, typename T> void load_ldmatrix(tile<I, J, T> & t, const T * base, int stride) { load_ldmatrix<false>(t, base, 0, 0, stride); }

// the matrix is transposed: t's rows are its columns
template <bool swz, int I>
void load_ldmatrix_trans(tile<I, 8, half2> & t, const half2 * base, int i0, int j0, int stride) {
    for (int l = 0; l < t.ne; l++) {
        const int column = 2 * j0 + t.get_i(l);
        half pair[2];
        for (int k = 0; k < 2; k++) {
            const half * at = (const half *) ((const char *) base + swizzle_bytes<swz, half2>(i0 + 2 * t.get_j(l) + k, column / 2, stride));
            pair[k] = at[column % 2];
        }
        t.x[l] = { pair[0], pair[1] };
    }
}

// what a warp's lanes show each other
struct shown {
    float a[16][16], b[16][16];
};
inline shown warps[16];

template <int I, int J> void show(const tile<I, J, half2> & t, float (&matrix)[16][16]) {
    for (int l = 0; l < t.ne; l++) {
        matrix[t.get_i(l)][2 * t.get_j(l)] = t.x[l].x;
        matrix[t.get_i(l)][2 * t.get_j(l) + 1] = t.x[l].y;
    }
}

template <int I, int J, typename T, int IA, int IB>
void mma(tile<I, J, T> & d, const tile<IA, 8, half2> & a, const tile<IB, 8, half2> & b) {
    shown & warp = warps[emulator::current / 32];
    show(a, warp.a);
    show(b, warp.b);
    emulator::wait_for_warp();
    const auto product = [&](int i, int j) {
        float sum = 0.0f;
        for (int k = 0; k < 16; k++) {
            sum += warp.a[i][k] * warp.b[j][k];
        }
        return sum;
    };
    for (int l = 0; l < d.ne; l++) {
        const int i = d.get_i(l), j = d.get_j(l);
        if constexpr (std::is_same_v<T, float>) {
            d.x[l] += product(i, j);
        } else {
            d.x[l] = { d.x[l].x + product(i, 2 * j), d.x[l].y + product(i, 2 * j + 1) };
        }
    }
    emulator::wait_for_warp();
}

template <int I, int J> tile<I, J / 2, half2> get_half2(const tile<I, J, float> & t) {
    tile<I, J / 2, half2> half;
    for (int l = 0; l < half.ne; l++) {
        half.x[l] = { t.x[2 * l], t.x[2 * l + 1] };
    }
    return half;
}

inline tile<8, 8, half2> get_transposed(const tile<16, 4, half2> & t) {
    shown & warp = warps[emulator::current / 32];
    show(t, warp.a);
    emulator::wait_for_warp();
    tile<8, 8, half2> turned;
    for (int l = 0; l < turned.ne; l++) {
        const int i = turned.get_i(l), j = 2 * turned.get_j(l);
        turned.x[l] = { warp.a[j][i], warp.a[j + 1][i] };
    }
    emulator::wait_for_warp();
    return turned;
}

} // namespace ggml_cuda_mma
