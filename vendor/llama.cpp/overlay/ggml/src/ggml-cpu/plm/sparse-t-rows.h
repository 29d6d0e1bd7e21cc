#pragma once

// How the values of a row of each type are read: 16 columns at a time, as floats.
//
// A type has
//   block                  what lies in memory, one after the other along a row
//   N                      columns of a block
//   scales                 what is worked out once a block
//   prepare(b, s)          works it out
//   values(b, s, j)        columns 16 j .. 16 j + 15 of the block
//
// `values` is meant to be unrolled over j. The formulas are those of ggml's to_float; the last rounding may
// differ, because scale and offset are applied in one fused step.

#define GGML_COMMON_DECL_C
#include "ggml-common.h"

#include "sparse-t-simd.h"

namespace sparse_t {
namespace {

SPARSE_T_INLINE uint32_t word(const void * p) {
    uint32_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

// --- plain floats: 16 columns are a block --------------------------------------------------------

struct no_scales {};

struct row_f32 {
    struct block { float v[16]; };
    static constexpr int N = 16;
    using scales = no_scales;
    SPARSE_T_INLINE void   prepare(const block &, scales &) {}
    SPARSE_T_INLINE f32x16 values(const block & b, const scales &, int) { return load(b.v); }
};

struct row_f16 {
    struct block { uint16_t v[16]; };
    static constexpr int N = 16;
    using scales = no_scales;
    SPARSE_T_INLINE void   prepare(const block &, scales &) {}
    SPARSE_T_INLINE f32x16 values(const block & b, const scales &, int) { return load_f16(b.v); }
};

struct row_bf16 {
    struct block { uint16_t v[16]; };
    static constexpr int N = 16;
    using scales = no_scales;
    SPARSE_T_INLINE void   prepare(const block &, scales &) {}
    SPARSE_T_INLINE f32x16 values(const block & b, const scales &, int) { return load_bf16(b.v); }
};

// --- blocks of 32 with one scale -----------------------------------------------------------------

struct scale_offset { float d, m; };

struct row_q8_0 {
    using block = block_q8_0;
    static constexpr int N = QK8_0;
    using scales = scale_offset;
    SPARSE_T_INLINE void   prepare(const block & b, scales & s) { s.d = f16(b.d); }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        return floats(load_bytes(b.qs + 16 * j)) * splat(s.d);
    }
};

// low nibbles are the first 16 columns, high nibbles the others
SPARSE_T_INLINE i8x16 nibbles(const uint8_t * qs, int j) { return bits(load_bytes(qs), 4 * j, 4); }

struct row_q4_0 {
    using block = block_q4_0;
    static constexpr int N = QK4_0;
    using scales = scale_offset;
    SPARSE_T_INLINE void   prepare(const block & b, scales & s) { s.d = f16(b.d); s.m = -8 * s.d; }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        return fma(floats(nibbles(b.qs, j)), splat(s.d), splat(s.m));
    }
};

struct row_q4_1 {
    using block = block_q4_1;
    static constexpr int N = QK4_1;
    using scales = scale_offset;
    SPARSE_T_INLINE void   prepare(const block & b, scales & s) { s.d = f16(b.d); s.m = f16(b.m); }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        return fma(floats(nibbles(b.qs, j)), splat(s.d), splat(s.m));
    }
};

struct row_q5_0 {
    using block = block_q5_0;
    static constexpr int N = QK5_0;
    using scales = scale_offset;
    SPARSE_T_INLINE void   prepare(const block & b, scales & s) { s.d = f16(b.d); s.m = -16 * s.d; }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        const i8x16 q = nibbles(b.qs, j) | spread_bits((uint16_t) (word(b.qh) >> (16 * j)), 16);
        return fma(floats(q), splat(s.d), splat(s.m));
    }
};

struct row_q5_1 {
    using block = block_q5_1;
    static constexpr int N = QK5_1;
    using scales = scale_offset;
    SPARSE_T_INLINE void   prepare(const block & b, scales & s) { s.d = f16(b.d); s.m = f16(b.m); }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        const i8x16 q = nibbles(b.qs, j) | spread_bits((uint16_t) (word(b.qh) >> (16 * j)), 16);
        return fma(floats(q), splat(s.d), splat(s.m));
    }
};

// the 16 values that iq4_nl and iq4_xs choose from: part of the format
alignas(16) static const int8_t IQ4_VALUES[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

struct row_iq4_nl {
    using block = block_iq4_nl;
    static constexpr int N = QK4_NL;
    using scales = scale_offset;
    SPARSE_T_INLINE void   prepare(const block & b, scales & s) { s.d = f16(b.d); }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        return floats(lookup(load_bytes(IQ4_VALUES), nibbles(b.qs, j))) * splat(s.d);
    }
};

// --- blocks of 256 with scales of their own for each 16 or 32 columns ----------------------------

struct row_q2_k {
    using block = block_q2_K;
    static constexpr int N = QK_K;
    struct scales { float d[16], m[16]; }; // of 16 columns
    SPARSE_T_INLINE void prepare(const block & b, scales & s) {
        const i8x16 sm = load_bytes(b.scales);
        store(s.d, floats(bits(sm, 0, 4)) * splat( f16(b.d)));
        store(s.m, floats(bits(sm, 4, 4)) * splat(-f16(b.dmin)));
    }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        // 128 columns share 32 bytes, two bits for each 32 columns
        const i8x16 q = bits(load_bytes(b.qs + 32 * (j / 8) + 16 * (j % 2)), 2 * (j % 8 / 2), 2);
        return fma(floats(q), splat(s.d[j]), splat(s.m[j]));
    }
};

struct row_q3_k {
    using block = block_q3_K;
    static constexpr int N = QK_K;
    struct scales { float d[16], m[16]; }; // of 16 columns
    SPARSE_T_INLINE void prepare(const block & b, scales & s) {
        const uint32_t lo = 0x0f0f0f0f, hi = 0x30303030;
        const uint32_t a = word(b.scales), c = word(b.scales + 4), h = word(b.scales + 8);
        const i8x16 six = bytes_of((a & lo) | (h << 4 & hi), (c & lo) | (h << 2 & hi),
                                   (a >> 4 & lo) | (h & hi), (c >> 4 & lo) | (h >> 2 & hi));
        const f32x16 d = fma(floats(six), splat(1.0f), splat(-32.0f)) * splat(f16(b.d));
        store(s.d, d);
        store(s.m, d * splat(-4.0f));
    }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        const i8x16 low  = bits(load_bytes(b.qs + 32 * (j / 8) + 16 * (j % 2)), 2 * (j % 8 / 2), 2);
        const i8x16 high = shl(bits(load_bytes(b.hmask + 16 * (j % 2)), j / 2, 1), 2);
        return fma(floats(low | high), splat(s.d[j]), splat(s.m[j]));
    }
};

// d * scale and -dmin * min of each 32 columns, from the six-bit numbers of q4_K and q5_K
struct scales_32 { float d[8], m[8]; };

SPARSE_T_INLINE void prepare_32(const uint8_t * packed, float d, float dmin, scales_32 & s) {
    const uint32_t six = 0x3f3f3f3f, lo = 0x0f0f0f0f, hi = 0x30303030;
    const uint32_t a = word(packed), b = word(packed + 4), c = word(packed + 8);
    const f32x16 sm = floats(bytes_of(a & six, (c & lo) | (a >> 2 & hi), b & six, (c >> 4 & lo) | (b >> 2 & hi)));
    const float n = -dmin;
    const float factors[16] = { d, d, d, d, d, d, d, d, n, n, n, n, n, n, n, n };
    float both[16];
    store(both, sm * load(factors));
    memcpy(&s, both, sizeof(both));
}

// 64 columns share 32 bytes: low nibbles are the first 32 columns, high nibbles the others
SPARSE_T_INLINE i8x16 nibbles_64(const uint8_t * qs, int j) {
    return bits(load_bytes(qs + 32 * (j / 4) + 16 * (j % 2)), 4 * (j % 4 / 2), 4);
}

struct row_q4_k {
    using block = block_q4_K;
    static constexpr int N = QK_K;
    using scales = scales_32;
    SPARSE_T_INLINE void   prepare(const block & b, scales & s) { prepare_32(b.scales, f16(b.d), f16(b.dmin), s); }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        return fma(floats(nibbles_64(b.qs, j)), splat(s.d[j / 2]), splat(s.m[j / 2]));
    }
};

struct row_q5_k {
    using block = block_q5_K;
    static constexpr int N = QK_K;
    using scales = scales_32;
    SPARSE_T_INLINE void   prepare(const block & b, scales & s) { prepare_32(b.scales, f16(b.d), f16(b.dmin), s); }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        const i8x16 high = shl(bits(load_bytes(b.qh + 16 * (j % 2)), j / 2, 1), 4);
        return fma(floats(nibbles_64(b.qs, j) | high), splat(s.d[j / 2]), splat(s.m[j / 2]));
    }
};

struct row_q6_k {
    using block = block_q6_K;
    static constexpr int N = QK_K;
    struct scales { float d[16], m[16]; }; // of 16 columns
    SPARSE_T_INLINE void prepare(const block & b, scales & s) {
        const f32x16 d = floats(load_bytes(b.scales)) * splat(f16(b.d));
        store(s.d, d);
        store(s.m, d * splat(-32.0f));
    }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        // 128 columns share 64 bytes of low nibbles and 32 bytes of high bit pairs
        const int half = j / 8, quarter = j % 8 / 2, part = j % 2;
        const i8x16 low  = bits(load_bytes(b.ql + 64 * half + 32 * (quarter % 2) + 16 * part), 4 * (quarter / 2), 4);
        const i8x16 high = shl(bits(load_bytes(b.qh + 32 * half + 16 * part), 2 * quarter, 2), 4);
        return fma(floats(low | high), splat(s.d[j]), splat(s.m[j]));
    }
};

struct row_iq4_xs {
    using block = block_iq4_xs;
    static constexpr int N = QK_K;
    struct scales { float d[8]; }; // of 32 columns
    SPARSE_T_INLINE void prepare(const block & b, scales & s) {
        const float d = f16(b.d);
        for (int i = 0; i < 8; i++) {
            const int six = (b.scales_l[i / 2] >> (4 * (i % 2)) & 15) | (b.scales_h >> (2 * i) & 3) << 4;
            s.d[i] = d * (six - 32);
        }
    }
    SPARSE_T_INLINE f32x16 values(const block & b, const scales & s, int j) {
        return floats(lookup(load_bytes(IQ4_VALUES), nibbles(b.qs + 16 * (j / 2), j % 2))) * splat(s.d[j / 2]);
    }
};

} // namespace
} // namespace sparse_t
