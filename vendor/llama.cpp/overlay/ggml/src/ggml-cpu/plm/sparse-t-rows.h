#pragma once

// How the values of a row of each type are read: 16 columns at a time.
//
// A type has
//   block              what lies in memory, one after the other along a row
//   N                  columns of a block
//   GROUPS             groups of columns of a block with a scale of their own (0: plain floats)
//   prepare(b, s)      scales of a block: s[0 .. GROUPS), and where OFFSET, offsets: s[GROUPS .. 2 GROUPS)
//   quants(b, j)       columns 16 j .. 16 j + 15 of the block, as floats
//
// The value of a column is quants * scale + offset, of its group. `quants` is meant to be unrolled over j.

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

struct floats_16 {
    static constexpr int  N = 16, GROUPS = 0;
    static constexpr bool OFFSET = false;
};

struct row_f32 : floats_16 {
    struct block { float v[16]; };
    SPARSE_T_INLINE void   prepare(const block &, float *) {}
    SPARSE_T_INLINE f32x16 quants(const block & b, int) { return load(b.v); }
};

struct row_f16 : floats_16 {
    struct block { uint16_t v[16]; };
    SPARSE_T_INLINE void   prepare(const block &, float *) {}
    SPARSE_T_INLINE f32x16 quants(const block & b, int) { return load_f16(b.v); }
};

struct row_bf16 : floats_16 {
    struct block { uint16_t v[16]; };
    SPARSE_T_INLINE void   prepare(const block &, float *) {}
    SPARSE_T_INLINE f32x16 quants(const block & b, int) { return load_bf16(b.v); }
};

// --- blocks of 32 with one scale -----------------------------------------------------------------

struct block_of_32 {
    static constexpr int  N = 32, GROUPS = 1;
    static constexpr bool OFFSET = true;
};

struct row_q8_0 {
    using block = block_q8_0;
    static constexpr int  N = 32, GROUPS = 1;
    static constexpr bool OFFSET = false;
    SPARSE_T_INLINE void   prepare(const block & b, float * s) { s[0] = f16(b.d); }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) { return floats(load_bytes(b.qs + 16 * j)); }
};

// low nibbles are the first 16 columns, high nibbles the others
SPARSE_T_INLINE i8x16 nibbles(const uint8_t * qs, int j) { return bits(load_bytes(qs), 4 * j, 4); }

// and a fifth bit of each column
SPARSE_T_INLINE i8x16 nibbles_5(const uint8_t * qs, const uint8_t * qh, int j) {
    return nibbles(qs, j) | spread_bits((uint16_t) (word(qh) >> (16 * j)), 16);
}

struct row_q4_0 : block_of_32 {
    using block = block_q4_0;
    SPARSE_T_INLINE void   prepare(const block & b, float * s) { s[0] = f16(b.d); s[1] = -8 * s[0]; }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) { return floats(nibbles(b.qs, j)); }
};

struct row_q4_1 : block_of_32 {
    using block = block_q4_1;
    SPARSE_T_INLINE void   prepare(const block & b, float * s) { s[0] = f16(b.d); s[1] = f16(b.m); }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) { return floats(nibbles(b.qs, j)); }
};

struct row_q5_0 : block_of_32 {
    using block = block_q5_0;
    SPARSE_T_INLINE void   prepare(const block & b, float * s) { s[0] = f16(b.d); s[1] = -16 * s[0]; }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) { return floats(nibbles_5(b.qs, b.qh, j)); }
};

struct row_q5_1 : block_of_32 {
    using block = block_q5_1;
    SPARSE_T_INLINE void   prepare(const block & b, float * s) { s[0] = f16(b.d); s[1] = f16(b.m); }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) { return floats(nibbles_5(b.qs, b.qh, j)); }
};

// the 16 values that iq4_nl and iq4_xs choose from: part of the format
alignas(16) static const int8_t IQ4_VALUES[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

struct row_iq4_nl {
    using block = block_iq4_nl;
    static constexpr int  N = 32, GROUPS = 1;
    static constexpr bool OFFSET = false;
    SPARSE_T_INLINE void   prepare(const block & b, float * s) { s[0] = f16(b.d); }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) { return floats(lookup(load_bytes(IQ4_VALUES), nibbles(b.qs, j))); }
};

// --- blocks of 256 with scales of their own for each 16 or 32 columns ----------------------------

struct groups_of_16 {
    static constexpr int  N = QK_K, GROUPS = 16;
    static constexpr bool OFFSET = true;
};

struct groups_of_32 {
    static constexpr int  N = QK_K, GROUPS = 8;
    static constexpr bool OFFSET = true;
};

struct row_q2_k : groups_of_16 {
    using block = block_q2_K;
    SPARSE_T_INLINE void prepare(const block & b, float * s) {
        const i8x16 both = load_bytes(b.scales);
        store(s,      floats(bits(both, 0, 4)) * splat( f16(b.d)));
        store(s + 16, floats(bits(both, 4, 4)) * splat(-f16(b.dmin)));
    }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) {
        // 128 columns share 32 bytes, two bits for each 32 columns
        return floats(bits(load_bytes(b.qs + 32 * (j / 8) + 16 * (j % 2)), 2 * (j % 8 / 2), 2));
    }
};

struct row_q3_k : groups_of_16 {
    using block = block_q3_K;
    SPARSE_T_INLINE void prepare(const block & b, float * s) {
        const uint32_t lo = 0x0f0f0f0f, hi = 0x30303030;
        const uint32_t a = word(b.scales), c = word(b.scales + 4), h = word(b.scales + 8);
        const i8x16 six = bytes_of((a & lo) | (h << 4 & hi), (c & lo) | (h << 2 & hi),
                                   (a >> 4 & lo) | (h & hi), (c >> 4 & lo) | (h >> 2 & hi));
        const f32x16 d = fma(floats(six), splat(1.0f), splat(-32.0f)) * splat(f16(b.d));
        store(s, d);
        store(s + 16, d * splat(-4.0f));
    }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) {
        const i8x16 low  = bits(load_bytes(b.qs + 32 * (j / 8) + 16 * (j % 2)), 2 * (j % 8 / 2), 2);
        const i8x16 high = shl(bits(load_bytes(b.hmask + 16 * (j % 2)), j / 2, 1), 2);
        return floats(low | high);
    }
};

// d * scale and -dmin * min of each 32 columns, from the six-bit numbers of q4_K and q5_K
SPARSE_T_INLINE void prepare_32(const uint8_t * packed, float d, float dmin, float * s) {
    const uint32_t six = 0x3f3f3f3f, lo = 0x0f0f0f0f, hi = 0x30303030;
    const uint32_t a = word(packed), b = word(packed + 4), c = word(packed + 8);
    const f32x16 sm = floats(bytes_of(a & six, (c & lo) | (a >> 2 & hi), b & six, (c >> 4 & lo) | (b >> 2 & hi)));
    const float n = -dmin;
    const float factors[16] = { d, d, d, d, d, d, d, d, n, n, n, n, n, n, n, n };
    store(s, sm * load(factors));
}

// 64 columns share 32 bytes: low nibbles are the first 32 columns, high nibbles the others
SPARSE_T_INLINE i8x16 nibbles_64(const uint8_t * qs, int j) {
    return bits(load_bytes(qs + 32 * (j / 4) + 16 * (j % 2)), 4 * (j % 4 / 2), 4);
}

struct row_q4_k : groups_of_32 {
    using block = block_q4_K;
    SPARSE_T_INLINE void   prepare(const block & b, float * s) { prepare_32(b.scales, f16(b.d), f16(b.dmin), s); }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) { return floats(nibbles_64(b.qs, j)); }
};

struct row_q5_k : groups_of_32 {
    using block = block_q5_K;
    SPARSE_T_INLINE void   prepare(const block & b, float * s) { prepare_32(b.scales, f16(b.d), f16(b.dmin), s); }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) {
        const i8x16 high = shl(bits(load_bytes(b.qh + 16 * (j % 2)), j / 2, 1), 4);
        return floats(nibbles_64(b.qs, j) | high);
    }
};

struct row_q6_k : groups_of_16 {
    using block = block_q6_K;
    SPARSE_T_INLINE void prepare(const block & b, float * s) {
        const f32x16 d = floats(load_bytes(b.scales)) * splat(f16(b.d));
        store(s, d);
        store(s + 16, d * splat(-32.0f));
    }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) {
        // 128 columns share 64 bytes of low nibbles and 32 bytes of high bit pairs
        const int half = j / 8, quarter = j % 8 / 2, part = j % 2;
        const i8x16 low  = bits(load_bytes(b.ql + 64 * half + 32 * (quarter % 2) + 16 * part), 4 * (quarter / 2), 4);
        const i8x16 high = shl(bits(load_bytes(b.qh + 32 * half + 16 * part), 2 * quarter, 2), 4);
        return floats(low | high);
    }
};

struct row_iq4_xs {
    using block = block_iq4_xs;
    static constexpr int  N = QK_K, GROUPS = 8;
    static constexpr bool OFFSET = false;
    SPARSE_T_INLINE void prepare(const block & b, float * s) {
        const float d = f16(b.d);
        for (int i = 0; i < 8; i++) {
            const int six = (b.scales_l[i / 2] >> (4 * (i % 2)) & 15) | (b.scales_h >> (2 * i) & 3) << 4;
            s[i] = d * (six - 32);
            s[i + 8] = 0.0f;
        }
    }
    SPARSE_T_INLINE f32x16 quants(const block & b, int j) {
        return floats(lookup(load_bytes(IQ4_VALUES), nibbles(b.qs + 16 * (j / 2), j % 2)));
    }
};

} // namespace
} // namespace sparse_t
