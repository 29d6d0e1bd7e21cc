#pragma once

// Products of bytes with 15-bit integers, four rows at a time: what sparse-t-sum-int.h is written in.
//
//   bytes_of_unit   UNIT columns of one row, a byte each: 1 register of AVX, or of NEON
//   four_rows       the same columns of four rows, bytes of a column side by side
//   sums            a 32-bit sum for each column
//
// The CPUs' byte products add four neighbours into 32 bits (vpdpbusd, sdot); here the neighbours are four rows
// of W. A coefficient of 15 bits is two digits, 128 high + low, hence two products.

#include "sparse-t-simd.h"
#include "vnni.h"

#if defined(SPARSE_T_AVX512) || defined(SPARSE_T_AVX2)
#    define SPARSE_T_DOT
#    define SPARSE_T_DOT_X86
#    if (defined(__AVX512VNNI__) && defined(__AVX512VL__)) || defined(__AVXVNNI__)
#        define SPARSE_T_DOT_ALL_BITS // else pairs of products saturate at 16 bits: for bytes below 64 alone
#    endif
#elif defined(SPARSE_T_NEON) && defined(__ARM_FEATURE_DOTPROD)
#    define SPARSE_T_DOT
#    define SPARSE_T_DOT_ALL_BITS
#endif

#if defined(SPARSE_T_DOT)

namespace sparse_t {
namespace {

#if defined(SPARSE_T_DOT_X86)

constexpr int  UNIT     = 32;
constexpr bool WITH_128 = true; // bytes of W are taken as unsigned: signed ones get 128 added

// units of one token, and tokens of one unit, whose sums are in registers at a time
#if defined(SPARSE_T_AVX512)
constexpr int TOGETHER = 2, MANY = 4;
#else
constexpr int TOGETHER = 1, MANY = 2;
#endif

struct i8x32 { __m256i v; };
using bytes_of_unit = i8x32;

template <> inline i8x32 load_as<i8x32>(const void * p) { return { _mm256_loadu_si256((const __m256i *) p) }; }
template <> inline i8x32 join<i8x32>(i8x16 lo, i8x16 hi) { return { _mm256_set_m128i(hi.v, lo.v) }; }
SPARSE_T_INLINE i8x32 operator|(i8x32 a, i8x32 b) { return { _mm256_or_si256(a.v, b.v) }; }
SPARSE_T_INLINE i8x32 bits(i8x32 a, int first, int n) {
    return { _mm256_and_si256(_mm256_srli_epi16(a.v, first), _mm256_set1_epi8((char) ((1 << n) - 1))) };
}
SPARSE_T_INLINE i8x32 lookup(i8x16 table, i8x32 index) { return { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table.v), index.v) }; }
SPARSE_T_INLINE i8x32 shl(i8x32 a, int n) { return { _mm256_slli_epi16(a.v, n) }; }
// as the products take them
template <bool SIGNED> SPARSE_T_INLINE i8x32 as_taken(i8x32 a) {
    return SIGNED ? i8x32{ _mm256_xor_si256(a.v, _mm256_set1_epi8((char) 0x80)) } : a;
}

// register i has columns 4 i .. 4 i + 3, and in its upper half 16 + 4 i .. 16 + 4 i + 3
struct four_rows { __m256i v[4]; };
struct sums      { __m256i v[4]; };

SPARSE_T_INLINE four_rows interleave(i8x32 a, i8x32 b, i8x32 c, i8x32 d) {
    const __m256i ab0 = _mm256_unpacklo_epi8(a.v, b.v), ab1 = _mm256_unpackhi_epi8(a.v, b.v);
    const __m256i cd0 = _mm256_unpacklo_epi8(c.v, d.v), cd1 = _mm256_unpackhi_epi8(c.v, d.v);
    return { { _mm256_unpacklo_epi16(ab0, cd0), _mm256_unpackhi_epi16(ab0, cd0),
               _mm256_unpacklo_epi16(ab1, cd1), _mm256_unpackhi_epi16(ab1, cd1) } };
}

SPARSE_T_INLINE sums no_sums() { const __m256i z = _mm256_setzero_si256(); return { { z, z, z, z } }; }

// for the unit's lower 16 columns, and its upper ones
template <bool SAME> SPARSE_T_INLINE __m256i spread(int32_t lower, int32_t upper) {
    return SAME ? _mm256_set1_epi32(lower) : _mm256_blend_epi32(_mm256_set1_epi32(lower), _mm256_set1_epi32(upper), 0xf0);
}
template <bool SAME> SPARSE_T_INLINE __m256 spread(float lower, float upper) {
    return SAME ? _mm256_set1_ps(lower) : _mm256_blend_ps(_mm256_set1_ps(lower), _mm256_set1_ps(upper), 0xf0);
}

SPARSE_T_INLINE __m256i dot(__m256i sum, __m256i w, __m256i x) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return add_products_of_bytes(sum, w, x);
#elif defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(sum, w, x);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
#endif
}

SPARSE_T_INLINE void add_products(sums & s, const four_rows & w, __m256i x) {
    for (int i = 0; i < 4; i++) { s.v[i] = dot(s.v[i], w.v[i], x); }
}

SPARSE_T_INLINE sums join_digits(const sums & high, const sums & low) {
    sums both;
    for (int i = 0; i < 4; i++) { both.v[i] = _mm256_add_epi32(_mm256_slli_epi32(high.v[i], 7), low.v[i]); }
    return both;
}

// y[c] += (sum - excess) * unit
SPARSE_T_INLINE void finish(const sums & s, __m256i excess, __m256 unit, float * y) {
    __m256 f[4];
    for (int i = 0; i < 4; i++) {
        f[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(s.v[i], excess)), unit);
    }
    for (int i = 0; i < 4; i++) {
        const __m256 in_order = _mm256_permute2f128_ps(f[i % 2 * 2], f[i % 2 * 2 + 1], i < 2 ? 0x20 : 0x31);
        _mm256_storeu_ps(y + 8 * i, _mm256_add_ps(in_order, _mm256_loadu_ps(y + 8 * i)));
    }
}

#else // NEON

constexpr int  UNIT     = 16;
constexpr bool WITH_128 = false;
constexpr int  TOGETHER = 2, MANY = 4;

using bytes_of_unit = i8x16;

template <bool> SPARSE_T_INLINE i8x16 as_taken(i8x16 a) { return a; }

// register i has columns 4 i .. 4 i + 3
struct four_rows { int8x16_t v[4]; };
struct sums      { int32x4_t v[4]; };

SPARSE_T_INLINE four_rows interleave(i8x16 a, i8x16 b, i8x16 c, i8x16 d) {
    const uint16x8_t ab0 = vreinterpretq_u16_u8(vzip1q_u8(a.v, b.v)), ab1 = vreinterpretq_u16_u8(vzip2q_u8(a.v, b.v));
    const uint16x8_t cd0 = vreinterpretq_u16_u8(vzip1q_u8(c.v, d.v)), cd1 = vreinterpretq_u16_u8(vzip2q_u8(c.v, d.v));
    return { { vreinterpretq_s8_u16(vzip1q_u16(ab0, cd0)), vreinterpretq_s8_u16(vzip2q_u16(ab0, cd0)),
               vreinterpretq_s8_u16(vzip1q_u16(ab1, cd1)), vreinterpretq_s8_u16(vzip2q_u16(ab1, cd1)) } };
}

SPARSE_T_INLINE sums no_sums() { const int32x4_t z = vdupq_n_s32(0); return { { z, z, z, z } }; }
template <bool> SPARSE_T_INLINE int32x4_t   spread(int32_t all, int32_t) { return vdupq_n_s32(all); }
template <bool> SPARSE_T_INLINE float32x4_t spread(float all, float) { return vdupq_n_f32(all); }

SPARSE_T_INLINE void add_products(sums & s, const four_rows & w, int32x4_t x) {
    for (int i = 0; i < 4; i++) { s.v[i] = vdotq_s32(s.v[i], w.v[i], vreinterpretq_s8_s32(x)); }
}

SPARSE_T_INLINE sums join_digits(const sums & high, const sums & low) {
    sums both;
    for (int i = 0; i < 4; i++) { both.v[i] = vaddq_s32(vshlq_n_s32(high.v[i], 7), low.v[i]); }
    return both;
}

SPARSE_T_INLINE void finish(const sums & s, int32x4_t excess, float32x4_t unit, float * y) {
    for (int i = 0; i < 4; i++) {
        vst1q_f32(y + 4 * i, vfmaq_f32(vld1q_f32(y + 4 * i), vcvtq_f32_s32(vsubq_s32(s.v[i], excess)), unit));
    }
}

#endif

// --- coefficients --------------------------------------------------------------------------------

// The largest magnitudes that were seen, lane by lane, as the bits of a float: they order as integers do,
// infinity and NaN above the others.
struct largest {
#if defined(SPARSE_T_AVX512)
    __m512i top = _mm512_setzero_si512();
    inline void see(f32x16 a) { top = _mm512_max_epi32(top, _mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x7fffffff))); }
    inline void save(int32_t * to) const { _mm512_storeu_si512(to, top); }
#elif defined(SPARSE_T_AVX2)
    __m256i top[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
    inline void see(f32x16 a) {
        for (int i = 0; i < 2; i++) { top[i] = _mm256_max_epi32(top[i], _mm256_and_si256(_mm256_castps_si256(a.v[i]), _mm256_set1_epi32(0x7fffffff))); }
    }
    inline void save(int32_t * to) const { for (int i = 0; i < 2; i++) { _mm256_storeu_si256((__m256i *) to + i, top[i]); } }
#else
    int32x4_t top[4] = { vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0) };
    inline void see(f32x16 a) {
        for (int i = 0; i < 4; i++) { top[i] = vmaxq_s32(top[i], vreinterpretq_s32_f32(vabsq_f32(a.v[i]))); }
    }
    inline void save(int32_t * to) const { for (int i = 0; i < 4; i++) { vst1q_s32(to + 4 * i, top[i]); } }
#endif

    bool finite() const {
        int32_t lane[16], most = 0;
        save(lane);
        for (int i = 0; i < 16; i++) { most = lane[i] > most ? lane[i] : most; }
        return most < 0x7f800000;
    }

    // unit = magnitude / top, and its inverse, of the first n lanes: 0 where that is 0, and of the others. False where
    // one is not finite, or so small that the inverse might not be.
    bool units(int n, float top, float * unit, float * inverse) const {
        int32_t lane[16];
        save(lane);
        bool fit = true;
        for (int i = 0; i < 16; i++) {
            float x;
            memcpy(&x, lane + i, sizeof(x));
            const bool used = i < n && lane[i] != 0;
            fit &= lane[i] < 0x7f800000 && (!used || x >= 1e-30f);
            unit[i]    = used ? x * (1.0f / top) : 0.0f;
            inverse[i] = used ? top / x : 0.0f;
        }
        return fit;
    }
};

// Of 16 groups of columns and four rows: c[row][group] * inverse[group] rounded to one digit or two. high[group] and
// low[group] are the digits of the four rows, a byte each (of one digit: high); total[group] += the integers.
template <int DIGITS> SPARSE_T_INLINE void to_digits(const float (*c)[16], const float * inverse, int32_t * high, int32_t * low, int32_t * total) {
    (void) low;
#if defined(SPARSE_T_AVX512)
    __m512i q[4];
    for (int r = 0; r < 4; r++) {
        q[r] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(c[r]), _mm512_loadu_ps(inverse)));
    }
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(q[0], q[1]), _mm512_add_epi32(q[2], q[3]));
    _mm512_storeu_si512(total, _mm512_add_epi32(_mm512_loadu_si512(total), sum));
    const __m512i q01 = _mm512_packs_epi32(q[0], q[1]), q23 = _mm512_packs_epi32(q[2], q[3]);
    // a pack leaves the rows one after the other for each four groups; groups are wanted
    const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    if constexpr (DIGITS == 1) {
        _mm512_storeu_si512(high, _mm512_shuffle_epi8(_mm512_packs_epi16(q01, q23), order));
    } else {
        const __m512i half = _mm512_set1_epi16(64);
        const __m512i h01 = _mm512_srai_epi16(_mm512_add_epi16(q01, half), 7), h23 = _mm512_srai_epi16(_mm512_add_epi16(q23, half), 7);
        const __m512i l01 = _mm512_sub_epi16(q01, _mm512_slli_epi16(h01, 7)), l23 = _mm512_sub_epi16(q23, _mm512_slli_epi16(h23, 7));
        _mm512_storeu_si512(high, _mm512_shuffle_epi8(_mm512_packs_epi16(h01, h23), order));
        _mm512_storeu_si512(low,  _mm512_shuffle_epi8(_mm512_packs_epi16(l01, l23), order));
    }
#elif defined(SPARSE_T_AVX2)
    for (int g = 0; g < 16; g += 8) {
        __m256i q[4];
        for (int r = 0; r < 4; r++) {
            q[r] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(c[r] + g), _mm256_loadu_ps(inverse + g)));
        }
        const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
        _mm256_storeu_si256((__m256i *) (total + g), _mm256_add_epi32(_mm256_loadu_si256((const __m256i *) (total + g)), sum));
        const __m256i q01 = _mm256_packs_epi32(q[0], q[1]), q23 = _mm256_packs_epi32(q[2], q[3]);
        const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        if constexpr (DIGITS == 1) {
            _mm256_storeu_si256((__m256i *) (high + g), _mm256_shuffle_epi8(_mm256_packs_epi16(q01, q23), order));
        } else {
            const __m256i half = _mm256_set1_epi16(64);
            const __m256i h01 = _mm256_srai_epi16(_mm256_add_epi16(q01, half), 7), h23 = _mm256_srai_epi16(_mm256_add_epi16(q23, half), 7);
            const __m256i l01 = _mm256_sub_epi16(q01, _mm256_slli_epi16(h01, 7)), l23 = _mm256_sub_epi16(q23, _mm256_slli_epi16(h23, 7));
            _mm256_storeu_si256((__m256i *) (high + g), _mm256_shuffle_epi8(_mm256_packs_epi16(h01, h23), order));
            _mm256_storeu_si256((__m256i *) (low + g),  _mm256_shuffle_epi8(_mm256_packs_epi16(l01, l23), order));
        }
    }
#else
    for (int g = 0; g < 16; g += 4) {
        int32x4_t q[4], h[4], l[4];
        for (int r = 0; r < 4; r++) {
            q[r] = vcvtnq_s32_f32(vmulq_f32(vld1q_f32(c[r] + g), vld1q_f32(inverse + g)));
            h[r] = DIGITS == 1 ? q[r] : vshrq_n_s32(vaddq_s32(q[r], vdupq_n_s32(64)), 7);
            l[r] = vsubq_s32(q[r], vshlq_n_s32(h[r], 7));
        }
        vst1q_s32(total + g, vaddq_s32(vld1q_s32(total + g), vaddq_s32(vaddq_s32(q[0], q[1]), vaddq_s32(q[2], q[3]))));
        vst1q_s32(high + g, vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(h[0], h[1], 8), h[2], 16), h[3], 24));
        if constexpr (DIGITS == 2) {
            vst1q_s32(low + g, vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(l[0], l[1], 8), l[2], 16), l[3], 24));
        }
    }
#endif
}

} // namespace
} // namespace sparse_t

#endif
