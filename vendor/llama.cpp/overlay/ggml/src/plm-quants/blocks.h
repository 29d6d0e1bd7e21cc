// Blocks of each type, from the scales that were searched for. What is not worth a vector's while is left to ggml's
// reference: super-blocks with a sub-block of zeros (which keep the quants of the search) or with values so far apart
// that a quotient overflows.

#pragma once

#include "search.h"

#define GGML_COMMON_DECL_C
#include "ggml-common.h"
#include "ggml-quants.h"
#include "ggml.h"

namespace PLM_PARTS {
namespace {

// L = clamp(nearest_int((x + shift) / d))
template <int N> inline void quants(const float * x, float shift, float d, int low, int high, int add, uint8_t * out) {
    constexpr int STEP = LANES < N ? LANES : N;
    for (int i = 0; i < N; i += STEP) {
        const I l = clamp(nearest_int((load(x + i) + shift) / d), low, high) + add;
        for (int lane = 0; lane < STEP; lane++) {
            out[i + lane] = (uint8_t) l[lane];
        }
    }
}

// The scales of LANES sub-blocks of N values from x on.
template <int N, bool ABSOLUTE>
inline void find_min(const float * x, int top, float first, int steps, float * scales, float * mins, int32_t * odd) {
    F turned[N], w[N];
    turn<N>(x, turned);
    if (ABSOLUTE) {
        for (int i = 0; i < N; i++) {
            w[i] = abs(turned[i]);
        }
    } else {
        F sum = {};
        for (int i = 0; i < N; i++) {
            sum += turned[i] * turned[i];
        }
        sum /= (float) N;
        float roots[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            roots[lane] = __builtin_sqrtf(sum[lane]);
        }
        const F mean = load(roots);
        for (int i = 0; i < N; i++) {
            w[i] = mean + abs(turned[i]);
        }
    }
    const MinFound found = search_min<N, ABSOLUTE>(turned, w, top, first, steps);
    memcpy(scales, &found.scale, sizeof(F));
    memcpy(mins, &found.min, sizeof(F));
    memcpy(odd, &found.odd, sizeof(I));
}

inline float largest(const float * x, int n) {
    float max = 0;
    for (int i = 0; i < n; i++) {
        if (x[i] > max) {
            max = x[i];
        }
    }
    return max;
}

inline bool any_odd(const int32_t * odd, int n) {
    int32_t bits = 0;
    for (int i = 0; i < n; i++) {
        bits |= odd[i];
    }
    return bits != 0;
}

// The 6-bit scales and mins of Q4_K and Q5_K, and the quants. False: the reference has to do it.
template <class Block> inline bool finish_k4(const float * x, const float * scales, const float * mins, int top, Block & y, uint8_t * l) {
    const float max_scale = largest(scales, 8), max_min = largest(mins, 8);
    const float inv_scale = max_scale > 0 ? 63.f / max_scale : 0.f;
    const float inv_min = max_min > 0 ? 63.f / max_min : 0.f;
    uint8_t sc[8], m[8];
    for (int j = 0; j < 8; j++) {
        sc[j] = (uint8_t) nearest_int(inv_scale * scales[j]);
        m[j] = (uint8_t) nearest_int(inv_min * mins[j]);
        sc[j] = sc[j] < 63 ? sc[j] : 63;
        m[j] = m[j] < 63 ? m[j] : 63;
    }
    for (int j = 0; j < 4; j++) {
        y.scales[j] = sc[j] | (sc[j + 4] >> 4) << 6;
        y.scales[j + 4] = m[j] | (m[j + 4] >> 4) << 6;
        y.scales[j + 8] = (sc[j + 4] & 15) | (m[j + 4] & 15) << 4;
    }
    y.d = ggml_fp32_to_fp16(max_scale / 63.f);
    y.dmin = ggml_fp32_to_fp16(max_min / 63.f);
    const float d = ggml_fp16_to_fp32(y.d), dmin = ggml_fp16_to_fp32(y.dmin);
    for (int j = 0; j < 8; j++) {
        const float dj = d * sc[j];
        if (dj == 0) {
            return false;
        }
        quants<32>(x + 32 * j, dmin * m[j], dj, 0, top, 0, l + 32 * j);
    }
    return true;
}

inline bool finish(const float * x, const float * scales, const float * mins, block_q4_K & y) {
    uint8_t l[QK_K];
    if (!finish_k4(x, scales, mins, 15, y, l)) {
        return false;
    }
    for (int j = 0; j < QK_K / 64; j++) {
        for (int i = 0; i < 32; i++) {
            y.qs[32 * j + i] = l[64 * j + i] | l[64 * j + 32 + i] << 4;
        }
    }
    return true;
}

inline bool finish(const float * x, const float * scales, const float * mins, block_q5_K & y) {
    uint8_t l[QK_K];
    if (!finish_k4(x, scales, mins, 31, y, l)) {
        return false;
    }
    memset(y.qh, 0, sizeof(y.qh));
    for (int j = 0; j < QK_K / 64; j++) {
        for (int i = 0; i < 32; i++) {
            const uint8_t a = l[64 * j + i], b = l[64 * j + 32 + i];
            y.qs[32 * j + i] = (a & 15) | (b & 15) << 4;
            y.qh[i] |= (a >> 4) << (2 * j) | (b >> 4) << (2 * j + 1);
        }
    }
    return true;
}

inline bool finish(const float * x, const float * scales, const float * mins, block_q2_K & y) {
    const float max_scale = largest(scales, 16), max_min = largest(mins, 16);
    if (!(max_scale > 0) || !(max_min > 0)) {
        return false;
    }
    uint8_t l[QK_K];
    y.d = ggml_fp32_to_fp16(max_scale / 15.f);
    y.dmin = ggml_fp32_to_fp16(max_min / 15.f);
    const float d = ggml_fp16_to_fp32(y.d), dmin = ggml_fp16_to_fp32(y.dmin);
    const float inv_scale = 15.f / max_scale, inv_min = 15.f / max_min;
    for (int j = 0; j < 16; j++) {
        y.scales[j] = (uint8_t) nearest_int(inv_scale * scales[j]);
        y.scales[j] |= nearest_int(inv_min * mins[j]) << 4;
        const float dj = d * (y.scales[j] & 15);
        if (dj == 0) {
            return false;
        }
        quants<16>(x + 16 * j, dmin * (y.scales[j] >> 4), dj, 0, 3, 0, l + 16 * j);
    }
    for (int j = 0; j < QK_K; j += 128) {
        for (int i = 0; i < 32; i++) {
            y.qs[j / 4 + i] = l[j + i] | l[j + i + 32] << 2 | l[j + i + 64] << 4 | l[j + i + 96] << 6;
        }
    }
    return true;
}

inline bool finish(const float * x, const float * scales, block_q6_K & y) {
    float max_scale = 0, max_abs_scale = 0;
    for (int j = 0; j < 16; j++) {
        const float size = __builtin_fabsf(scales[j]);
        if (size > max_abs_scale) {
            max_abs_scale = size;
            max_scale = scales[j];
        }
    }
    if (max_abs_scale < 1e-15f) {
        return false;
    }
    uint8_t l[QK_K];
    const float iscale = -128.f / max_scale;
    y.d = ggml_fp32_to_fp16(1 / iscale);
    const float d = ggml_fp16_to_fp32(y.d);
    for (int j = 0; j < 16; j++) {
        const int scale = nearest_int(iscale * scales[j]);
        y.scales[j] = (int8_t) (scale < 127 ? scale : 127);
        const float dj = d * y.scales[j];
        if (dj == 0) {
            return false;
        }
        quants<16>(x + 16 * j, 0.f, dj, -32, 31, 32, l + 16 * j);
    }
    for (int j = 0; j < QK_K / 128; j++) {
        const uint8_t * a = l + 128 * j;
        for (int i = 0; i < 32; i++) {
            y.ql[64 * j + i] = (a[i] & 15) | (a[i + 64] & 15) << 4;
            y.ql[64 * j + 32 + i] = (a[i + 32] & 15) | (a[i + 96] & 15) << 4;
            y.qh[32 * j + i] = a[i] >> 4 | (a[i + 32] >> 4) << 2 | (a[i + 64] >> 4) << 4 | (a[i + 96] >> 4) << 6;
        }
    }
    return true;
}

// A whole number of super-blocks that fills the lanes, and of lanes that fills super-blocks.
template <int N> struct Group {
    static constexpr int SUB = QK_K / N; // sub-blocks of a super-block
    static constexpr int BLOCKS = LANES > SUB ? LANES / SUB : 1;
    static constexpr int VALUES = BLOCKS * QK_K;
};

template <int N, bool ABSOLUTE, class Block>
inline void rows_min(const float * x, Block * y, int64_t n, int top, float first, int steps,
                     void (*reference)(const float *, Block *, int64_t)) {
    using G = Group<N>;
    float scales[G::VALUES / N], mins[G::VALUES / N];
    int32_t odd[G::VALUES / N];
    const int64_t blocks = n / QK_K;
    int64_t b = 0;
    for (; b + G::BLOCKS <= blocks; b += G::BLOCKS) {
        for (int s = 0; s < G::VALUES / N; s += LANES) {
            find_min<N, ABSOLUTE>(x + b * QK_K + s * N, top, first, steps, scales + s, mins + s, odd + s);
        }
        for (int k = 0; k < G::BLOCKS; k++) {
            const float * xb = x + (b + k) * QK_K;
            if (any_odd(odd + k * G::SUB, G::SUB) || !finish(xb, scales + k * G::SUB, mins + k * G::SUB, y[b + k])) {
                reference(xb, y + b + k, QK_K);
            }
        }
    }
    if (b < blocks) {
        reference(x + b * QK_K, y + b, (blocks - b) * QK_K);
    }
}

inline void rows_q6_K(const float * x, block_q6_K * y, int64_t n) {
    static_assert(Group<16>::BLOCKS == 1, "16 lanes at most");
    for (int64_t b = 0; b < n / QK_K; b++, x += QK_K) {
        float scales[16];
        for (int s = 0; s < 16; s += LANES) {
            F turned[16];
            turn<16>(x + s * 16, turned);
            const F scale = search_scale<16>(turned, 32);
            memcpy(scales + s, &scale, sizeof(scale));
        }
        if (!finish(x, scales, y[b])) {
            quantize_row_q6_K_ref(x, y + b, QK_K);
        }
    }
}

} // namespace
} // namespace PLM_PARTS
