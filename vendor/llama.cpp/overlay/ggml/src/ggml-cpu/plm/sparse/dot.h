#pragma once

// Products of bytes with 15-bit integers, four rows at a time: what sum-int.h is written in.
//
//   bytes_of_unit   UNIT columns of one row, a byte each: 1 register of AVX, or of NEON
//   four_rows       the same columns of four rows, bytes of a column side by side
//   sums            a 32-bit sum for each column
//
// The CPUs' byte products add four neighbours into 32 bits (vpdpbusd, sdot); here the neighbours are four rows
// of W. A coefficient of 15 bits is two digits, 128 high + low, hence two products.

#include "../sixteen.h"
#include "../vnni.h"

namespace sparse_t {

using namespace sixteen;
using simd::prefetch;
using simd::prefetch_near;

namespace {

// as many as V holds, and of two halves
template <class V> V load_as(const void * p);
template <class V> V join(i8x16 lower, i8x16 upper);
template <> inline i8x16 load_as<i8x16>(const void * p) { return load_bytes(p); }

template <class V> struct load_of {
    using bytes = V;
    inline V operator()(const void * p) const { return load_as<V>(p); }
};

} // namespace
} // namespace sparse_t

#if defined(PLM_AVX512) || defined(PLM_AVX2)
#define SPARSE_T_DOT
#define SPARSE_T_DOT_X86
#if defined(PLM_AVX512_VBMI)
#define SPARSE_T_DOT_512
#endif
#if defined(PLM_VNNI_256)
#define SPARSE_T_DOT_ALL_BITS // else pairs of products saturate at 16 bits: for bytes below 64 alone
#endif
#elif defined(PLM_NEON) && defined(__ARM_FEATURE_DOTPROD)
#define SPARSE_T_DOT
#define SPARSE_T_DOT_ALL_BITS
#endif

#if defined(SPARSE_T_DOT)

namespace sparse_t {
namespace {

#if defined(SPARSE_T_DOT_X86)

constexpr int UNIT = 32;
constexpr bool WITH_128 = true; // bytes of W are taken as unsigned: signed ones get 128 added

// Units of one token, and tokens of one unit, whose sums are in registers at a time; how many rows early a row's bytes
// are brought from the second cache to the first (0: not at all, where it was not measured).
#if defined(SPARSE_T_DOT_512)
constexpr int TOGETHER = 2, MANY = 8, NEAR = 6;
#elif defined(PLM_AVX512)
constexpr int TOGETHER = 2, MANY = 4, NEAR = 0;
#else
constexpr int TOGETHER = 1, MANY = 2, NEAR = 0;
#endif

struct i8x32 {
    __m256i v;
};
using bytes_of_unit = i8x32;

template <> inline i8x32 load_as<i8x32>(const void * p) { return { _mm256_loadu_si256((const __m256i *) p) }; }
template <> inline i8x32 join<i8x32>(i8x16 lo, i8x16 hi) { return { _mm256_set_m128i(hi.v, lo.v) }; }
PLM_INLINE i8x32 operator|(i8x32 a, i8x32 b) { return { _mm256_or_si256(a.v, b.v) }; }
PLM_INLINE i8x32 bits(i8x32 a, int first, int n) {
    return { _mm256_and_si256(_mm256_srli_epi16(a.v, first), _mm256_set1_epi8((char) ((1 << n) - 1))) };
}
PLM_INLINE i8x32 lookup(i8x16 table, i8x32 index) { return { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table.v), index.v) }; }
PLM_INLINE i8x32 shl(i8x32 a, int n) { return { _mm256_slli_epi16(a.v, n) }; }
// as the products take them
template <bool SIGNED> PLM_INLINE i8x32 as_taken(i8x32 a) {
    return SIGNED ? i8x32{ _mm256_xor_si256(a.v, _mm256_set1_epi8((char) 0x80)) } : a;
}

#if defined(SPARSE_T_DOT_512)

// of the unit's lower 16 columns, and of its upper ones
template <class V> struct halves {
    V v[2];
};
using four_rows = halves<__m512i>;
using sums = halves<__m512i>;

PLM_INLINE four_rows interleave(i8x32 a, i8x32 b, i8x32 c, i8x32 d) {
    const __m512i ab = _mm512_inserti64x4(_mm512_castsi256_si512(a.v), b.v, 1);
    const __m512i cd = _mm512_inserti64x4(_mm512_castsi256_si512(c.v), d.v, 1);
    return { { side_by_side<false>(ab, cd), side_by_side<true>(ab, cd) } };
}

// the bytes of four rows at once: what is loaded from the first of them, and as far into the others
struct load_interleaved {
    using bytes = four_rows;
    const char * const * row;
    inline four_rows operator()(const void * p) const {
        const auto at = (const char *) p - row[0];
        const load_of<i8x32> load;
        return interleave(load(row[0] + at), load(row[1] + at), load(row[2] + at), load(row[3] + at));
    }
};
PLM_INLINE four_rows operator|(const four_rows & a, const four_rows & b) { return { { _mm512_or_si512(a.v[0], b.v[0]), _mm512_or_si512(a.v[1], b.v[1]) } }; }
PLM_INLINE __m512i bits(__m512i a, int first, int n) { return _mm512_and_si512(_mm512_srli_epi16(a, first), _mm512_set1_epi8((char) ((1 << n) - 1))); }
PLM_INLINE four_rows bits(const four_rows & a, int first, int n) { return { { bits(a.v[0], first, n), bits(a.v[1], first, n) } }; }
PLM_INLINE four_rows shl(const four_rows & a, int n) { return { { _mm512_slli_epi16(a.v[0], n), _mm512_slli_epi16(a.v[1], n) } }; }
template <bool SIGNED> PLM_INLINE four_rows as_taken(const four_rows & a) {
    const __m512i sign = _mm512_set1_epi8((char) 0x80);
    return SIGNED ? four_rows{ { _mm512_xor_si512(a.v[0], sign), _mm512_xor_si512(a.v[1], sign) } } : a;
}

PLM_INLINE sums no_sums() { return { { _mm512_setzero_si512(), _mm512_setzero_si512() } }; }

template <bool> PLM_INLINE halves<__m512i> spread(int32_t lower, int32_t upper) { return { { _mm512_set1_epi32(lower), _mm512_set1_epi32(upper) } }; }
template <bool> PLM_INLINE halves<__m512> spread(float lower, float upper) { return { { _mm512_set1_ps(lower), _mm512_set1_ps(upper) } }; }

PLM_INLINE void add_products(sums & s, const four_rows & w, const halves<__m512i> & x) {
    for (int i = 0; i < 2; i++) { s.v[i] = add_products_of_bytes(s.v[i], w.v[i], x.v[i]); }
}

PLM_INLINE sums join_digits(const sums & high, const sums & low) {
    sums both;
    for (int i = 0; i < 2; i++) { both.v[i] = _mm512_add_epi32(_mm512_slli_epi32(high.v[i], 7), low.v[i]); }
    return both;
}

// y[c] += (sum - excess) * unit
PLM_INLINE void finish(const sums & s, const halves<__m512i> & excess, const halves<__m512> & unit, float * y) {
    for (int i = 0; i < 2; i++) {
        const __m512 f = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(s.v[i], excess.v[i])), unit.v[i]);
        _mm512_storeu_ps(y + 16 * i, _mm512_add_ps(f, _mm512_loadu_ps(y + 16 * i)));
    }
}

#else

// register i has columns 4 i .. 4 i + 3, and in its upper half 16 + 4 i .. 16 + 4 i + 3
struct four_rows {
    __m256i v[4];
};
struct sums {
    __m256i v[4];
};

PLM_INLINE four_rows interleave(i8x32 a, i8x32 b, i8x32 c, i8x32 d) {
    const __m256i ab0 = _mm256_unpacklo_epi8(a.v, b.v), ab1 = _mm256_unpackhi_epi8(a.v, b.v);
    const __m256i cd0 = _mm256_unpacklo_epi8(c.v, d.v), cd1 = _mm256_unpackhi_epi8(c.v, d.v);
    return { { _mm256_unpacklo_epi16(ab0, cd0), _mm256_unpackhi_epi16(ab0, cd0),
               _mm256_unpacklo_epi16(ab1, cd1), _mm256_unpackhi_epi16(ab1, cd1) } };
}

PLM_INLINE sums no_sums() {
    const __m256i z = _mm256_setzero_si256();
    return { { z, z, z, z } };
}

// for the unit's lower 16 columns, and its upper ones
template <bool SAME> PLM_INLINE __m256i spread(int32_t lower, int32_t upper) {
    return SAME ? _mm256_set1_epi32(lower) : _mm256_blend_epi32(_mm256_set1_epi32(lower), _mm256_set1_epi32(upper), 0xf0);
}
template <bool SAME> PLM_INLINE __m256 spread(float lower, float upper) {
    return SAME ? _mm256_set1_ps(lower) : _mm256_blend_ps(_mm256_set1_ps(lower), _mm256_set1_ps(upper), 0xf0);
}

PLM_INLINE __m256i dot(__m256i sum, __m256i w, __m256i x) {
#if defined(PLM_VNNI_256)
    return add_products_of_bytes(sum, w, x);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
#endif
}

PLM_INLINE void add_products(sums & s, const four_rows & w, __m256i x) {
    for (int i = 0; i < 4; i++) { s.v[i] = dot(s.v[i], w.v[i], x); }
}

PLM_INLINE sums join_digits(const sums & high, const sums & low) {
    sums both;
    for (int i = 0; i < 4; i++) { both.v[i] = _mm256_add_epi32(_mm256_slli_epi32(high.v[i], 7), low.v[i]); }
    return both;
}

// y[c] += (sum - excess) * unit
PLM_INLINE void finish(const sums & s, __m256i excess, __m256 unit, float * y) {
    __m256 f[4];
    for (int i = 0; i < 4; i++) {
        f[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(s.v[i], excess)), unit);
    }
    const __m256 in_order[4] = { _mm256_permute2f128_ps(f[0], f[1], 0x20), _mm256_permute2f128_ps(f[2], f[3], 0x20),
                                 _mm256_permute2f128_ps(f[0], f[1], 0x31), _mm256_permute2f128_ps(f[2], f[3], 0x31) };
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(y + 8 * i, _mm256_add_ps(in_order[i], _mm256_loadu_ps(y + 8 * i)));
    }
}

#endif

#else // NEON

constexpr int UNIT = 16;
constexpr bool WITH_128 = false;
constexpr int TOGETHER = 2, MANY = 4, NEAR = 0;

using bytes_of_unit = i8x16;

template <bool> PLM_INLINE i8x16 as_taken(i8x16 a) { return a; }

// register i has columns 4 i .. 4 i + 3
struct four_rows {
    int8x16_t v[4];
};
struct sums {
    int32x4_t v[4];
};

PLM_INLINE four_rows interleave(i8x16 a, i8x16 b, i8x16 c, i8x16 d) {
    const uint16x8_t ab0 = vreinterpretq_u16_u8(vzip1q_u8(a.v, b.v)), ab1 = vreinterpretq_u16_u8(vzip2q_u8(a.v, b.v));
    const uint16x8_t cd0 = vreinterpretq_u16_u8(vzip1q_u8(c.v, d.v)), cd1 = vreinterpretq_u16_u8(vzip2q_u8(c.v, d.v));
    return { { vreinterpretq_s8_u16(vzip1q_u16(ab0, cd0)), vreinterpretq_s8_u16(vzip2q_u16(ab0, cd0)),
               vreinterpretq_s8_u16(vzip1q_u16(ab1, cd1)), vreinterpretq_s8_u16(vzip2q_u16(ab1, cd1)) } };
}

PLM_INLINE sums no_sums() {
    const int32x4_t z = vdupq_n_s32(0);
    return { { z, z, z, z } };
}
template <bool> PLM_INLINE int32x4_t spread(int32_t all, int32_t) { return vdupq_n_s32(all); }
template <bool> PLM_INLINE float32x4_t spread(float all, float) { return vdupq_n_f32(all); }

PLM_INLINE void add_products(sums & s, const four_rows & w, int32x4_t x) {
    for (int i = 0; i < 4; i++) { s.v[i] = vdotq_s32(s.v[i], w.v[i], vreinterpretq_s8_s32(x)); }
}

PLM_INLINE sums join_digits(const sums & high, const sums & low) {
    sums both;
    for (int i = 0; i < 4; i++) { both.v[i] = vaddq_s32(vshlq_n_s32(high.v[i], 7), low.v[i]); }
    return both;
}

PLM_INLINE void finish(const sums & s, int32x4_t excess, float32x4_t unit, float * y) {
    for (int i = 0; i < 4; i++) {
        vst1q_f32(y + 4 * i, vfmaq_f32(vld1q_f32(y + 4 * i), vcvtq_f32_s32(vsubq_s32(s.v[i], excess)), unit));
    }
}

#endif

} // namespace
} // namespace sparse_t

#endif
