#pragma once

// How the values of a row of each type are read: 16 columns at a time.
//
// A type has
//   block              what lies in memory, one after the other along a row
//   N                  columns of a block
//   GROUPS             groups of columns of a block with a scale of their own (0: plain floats)
//   prepare(b, s)      scales of a block: s[0 .. GROUPS), and where OFFSET, offsets: s[GROUPS .. 2 GROUPS)
//   bytes(b, c, load)  quants of the columns from c on, as many as load takes, SIGNED or not; of plain floats
//                      there are none, but 16 values(b). load is load_of<V>, or where LOADED_ALONE is not set anything
//                      else that has its type of `bytes` and bits() | shl() of it
//
//   REPEAT, STEP       columns that are read by code of their own: those after them lie as the first ones do, in a block of
//                      more columns STEP bytes on (part)
//   ZERO               where not 0: offset is -ZERO * scale
//   MIDDLE             of the quants, where offsets are numbers of their own
//
// The value of a column is quant * scale + offset, of its group. `bytes` is meant to be unrolled over c.

#define GGML_COMMON_DECL_C
#include "ggml-common.h"

#include "dot.h"
#include "../word-at.h"

namespace sparse_t {
namespace {

// --- plain floats: 16 columns are a block --------------------------------------------------------

struct floats_16 {
    static constexpr int N = 16, GROUPS = 0, REPEAT = 16, STEP = 0;
    static constexpr bool OFFSET = false, SIGNED = true;
    static constexpr int ZERO = 0, MIDDLE = 0;
};

struct row_f32 : floats_16 {
    struct block {
        float v[16];
    };
    PLM_INLINE void prepare(const block &, float *) {}
    PLM_INLINE f32x16 values(const block & b) { return load(b.v); }
};

struct row_f16 : floats_16 {
    struct block {
        uint16_t v[16];
    };
    PLM_INLINE void prepare(const block &, float *) {}
    PLM_INLINE f32x16 values(const block & b) { return load_f16(b.v); }
};

struct row_bf16 : floats_16 {
    struct block {
        uint16_t v[16];
    };
    PLM_INLINE void prepare(const block &, float *) {}
    PLM_INLINE f32x16 values(const block & b) { return load_bf16(b.v); }
};

// --- blocks of 32 with one scale -----------------------------------------------------------------

struct block_of_32 {
    static constexpr int N = 32, GROUPS = 1, REPEAT = 32, STEP = 0;
    static constexpr bool OFFSET = true, SIGNED = false, LOADED_ALONE = true;
    static constexpr int ZERO = 0, MIDDLE = 0;
};

struct row_q8_0 {
    using block = block_q8_0;
    static constexpr int N = 32, GROUPS = 1, REPEAT = 32, STEP = 0;
    static constexpr bool OFFSET = false, SIGNED = true, LOADED_ALONE = false;
    static constexpr int ZERO = 0, MIDDLE = 0;
    PLM_INLINE void prepare(const block & b, float * s) { s[0] = f16(b.d); }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L load) { return load(b.qs + c); }
};

// low nibbles are the first 16 columns, high nibbles the others
template <class V> PLM_INLINE V nibbles(const uint8_t * qs, int c) {
    if constexpr (sizeof(V) == 16) {
        return bits(load_bytes(qs), c / 4, 4);
    } else {
        return join<V>(bits(load_bytes(qs), 0, 4), bits(load_bytes(qs), 4, 4));
    }
}

// and a fifth bit of each column
template <class V> PLM_INLINE V nibbles_5(const uint8_t * qs, const uint8_t * qh, int c) {
    const uint32_t fifth = word_at<uint32_t>(qh);
    if constexpr (sizeof(V) == 16) {
        return nibbles<V>(qs, c) | spread_bits((uint16_t) (fifth >> c), 16);
    } else {
        return nibbles<V>(qs, c) | join<V>(spread_bits((uint16_t) fifth, 16), spread_bits((uint16_t) (fifth >> 16), 16));
    }
}

struct row_q4_0 : block_of_32 {
    using block = block_q4_0;
    static constexpr int ZERO = 8;
    PLM_INLINE void prepare(const block & b, float * s) {
        s[0] = f16(b.d);
        s[1] = -8 * s[0];
    }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L) { return nibbles<typename L::bytes>(b.qs, c); }
};

struct row_q4_1 : block_of_32 {
    using block = block_q4_1;
    static constexpr int MIDDLE = 8;
    PLM_INLINE void prepare(const block & b, float * s) {
        s[0] = f16(b.d);
        s[1] = f16(b.m);
    }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L) { return nibbles<typename L::bytes>(b.qs, c); }
};

struct row_q5_0 : block_of_32 {
    using block = block_q5_0;
    static constexpr int ZERO = 16;
    PLM_INLINE void prepare(const block & b, float * s) {
        s[0] = f16(b.d);
        s[1] = -16 * s[0];
    }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L) { return nibbles_5<typename L::bytes>(b.qs, b.qh, c); }
};

struct row_q5_1 : block_of_32 {
    using block = block_q5_1;
    static constexpr int MIDDLE = 16;
    PLM_INLINE void prepare(const block & b, float * s) {
        s[0] = f16(b.d);
        s[1] = f16(b.m);
    }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L) { return nibbles_5<typename L::bytes>(b.qs, b.qh, c); }
};

// the 16 values that iq4_nl and iq4_xs choose from: part of the format
alignas(16) static const int8_t IQ4_VALUES[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

struct row_iq4_nl {
    using block = block_iq4_nl;
    static constexpr int N = 32, GROUPS = 1, REPEAT = 32, STEP = 0;
    static constexpr bool OFFSET = false, SIGNED = true, LOADED_ALONE = true;
    static constexpr int ZERO = 0, MIDDLE = 0;
    PLM_INLINE void prepare(const block & b, float * s) { s[0] = f16(b.d); }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L) { return lookup(load_bytes(IQ4_VALUES), nibbles<typename L::bytes>(b.qs, c)); }
};

// --- blocks of 256 with scales of their own for each 16 or 32 columns ----------------------------

struct groups_of_16 {
    static constexpr int N = QK_K, GROUPS = 16, REPEAT = N, STEP = 0;
    static constexpr bool OFFSET = true, SIGNED = false, LOADED_ALONE = false;
    static constexpr int ZERO = 0, MIDDLE = 0;
};

struct groups_of_32 {
    static constexpr int N = QK_K, GROUPS = 8, REPEAT = N, STEP = 0;
    static constexpr bool OFFSET = true, SIGNED = false, LOADED_ALONE = false;
    static constexpr int ZERO = 0, MIDDLE = 0;
};

struct row_q2_k : groups_of_16 {
    using block = block_q2_K;
    static constexpr int REPEAT = 128, STEP = 32;
    static constexpr int MIDDLE = 2;
    PLM_INLINE void prepare(const block & b, float * s) {
        const i8x16 both = load_bytes(b.scales);
        store(s, floats(bits(both, 0, 4)) * splat(f16(b.d)));
        store(s + 16, floats(bits(both, 4, 4)) * splat(-f16(b.dmin)));
    }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L load) {
        // 128 columns share 32 bytes, two bits for each 32 columns
        return bits(load(b.qs + 32 * (c / 128) + c % 32), 2 * (c % 128 / 32), 2);
    }
};

struct row_q3_k : groups_of_16 {
    using block = block_q3_K;
    static constexpr int ZERO = 4;
    PLM_INLINE void prepare(const block & b, float * s) {
        const uint32_t lo = 0x0f0f0f0f, hi = 0x30303030;
        const auto a = word_at<uint32_t>(b.scales), c = word_at<uint32_t>(b.scales + 4), h = word_at<uint32_t>(b.scales + 8);
        const i8x16 six = bytes_of((a & lo) | (h << 4 & hi), (c & lo) | (h << 2 & hi),
                                   (a >> 4 & lo) | (h & hi), (c >> 4 & lo) | (h >> 2 & hi));
        const f32x16 d = fma(floats(six), splat(1.0f), splat(-32.0f)) * splat(f16(b.d));
        store(s, d);
        store(s + 16, d * splat(-4.0f));
    }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L load) {
        const auto low = bits(load(b.qs + 32 * (c / 128) + c % 32), 2 * (c % 128 / 32), 2);
        const auto high = shl(bits(load(b.hmask + c % 32), c / 32, 1), 2);
        return low | high;
    }
};

// d * scale and -dmin * min of each 32 columns, from the six-bit numbers of q4_K and q5_K behind d and dmin
template <class B> PLM_INLINE void prepare_32(const B & b, float * s) {
    alignas(64) static const float signs[16] = { 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1 };
    store(s, floats(six_bits(&b)) * halves_f16((const uint16_t *) &b) * load(signs));
}

// 64 columns share 32 bytes: low nibbles are the first 32 columns, high nibbles the others
template <class L> PLM_INLINE typename L::bytes nibbles_64(const uint8_t * qs, int c, L load) {
    return bits(load(qs + c / 64 * 32 + c % 32), c % 64 / 32 * 4, 4);
}

struct row_q4_k : groups_of_32 {
    using block = block_q4_K;
    static constexpr int REPEAT = 64, STEP = 32;
    static constexpr int MIDDLE = 8;
    PLM_INLINE void prepare(const block & b, float * s) { prepare_32(b, s); }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L load) { return nibbles_64(b.qs, c, load); }
};

struct row_q5_k : groups_of_32 {
    using block = block_q5_K;
    static constexpr int MIDDLE = 16;
    PLM_INLINE void prepare(const block & b, float * s) { prepare_32(b, s); }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L load) {
        const auto high = shl(bits(load(b.qh + c % 32), c / 32, 1), 4);
        return nibbles_64(b.qs, c, load) | high;
    }
};

struct row_q6_k : groups_of_16 {
    using block = block_q6_K;
    static constexpr int ZERO = 32;
    PLM_INLINE void prepare(const block & b, float * s) {
        const f32x16 d = floats(load_bytes(b.scales)) * splat(f16(b.d));
        store(s, d);
        store(s + 16, d * splat(-32.0f));
    }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L load) {
        // 128 columns share 64 bytes of low nibbles and 32 bytes of high bit pairs
        const int half = c / 128, quarter = c % 128 / 32, part = c % 32;
        const auto low = bits(load(b.ql + 64 * half + 32 * (quarter % 2) + part), 4 * (quarter / 2), 4);
        const auto high = shl(bits(load(b.qh + 32 * half + part), 2 * quarter, 2), 4);
        return low | high;
    }
};

struct row_iq4_xs {
    using block = block_iq4_xs;
    static constexpr int N = QK_K, GROUPS = 8, REPEAT = 32, STEP = 16;
    static constexpr bool OFFSET = false, SIGNED = true, LOADED_ALONE = true;
    static constexpr int ZERO = 0, MIDDLE = 0;
    PLM_INLINE void prepare(const block & b, float * s) {
        const float d = f16(b.d);
        for (int i = 0; i < 8; i++) {
            const int six = (b.scales_l[i / 2] >> (4 * (i % 2)) & 15) | (b.scales_h >> (2 * i) & 3) << 4;
            s[i] = d * (six - 32);
            s[i + 8] = 0.0f;
        }
    }
    template <class L> PLM_INLINE typename L::bytes bytes(const block & b, int c, L) { return lookup(load_bytes(IQ4_VALUES), nibbles<typename L::bytes>(b.qs + c / 32 * 16, c % 32)); }
};

// A block of T seen from its columns n * REPEAT on; of what it has, `bytes` alone may be read.
template <class T> PLM_INLINE const typename T::block & part(const typename T::block & b, int n) {
    return *(const typename T::block *) ((const char *) &b + n * T::STEP);
}

} // namespace
} // namespace sparse_t
