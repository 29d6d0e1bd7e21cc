#pragma once

// The integers that rows are multiplied by: from scales, offsets and x of 64 rows to digits of 7 bits.

#include "dot.h"
#include "rows.h"

#if defined(SPARSE_T_DOT)

namespace sparse_t {
namespace {

constexpr int SPAN = 256;

// groups of a span
template <class T> constexpr int SPAN_GROUPS = T::GROUPS == 16 ? 16 : 8;

// offsets of their own; others are multiples of the scales, and go with the integers
template <class T> constexpr bool HAS_OFFSETS = T::OFFSET && T::ZERO == 0;

// Lanes in which the groups of a span are computed. Where they are 16 and the groups are 8, the upper half is offsets.
#if defined(SPARSE_T_DOT_512)
template <class T> constexpr int LANES = SPAN_GROUPS<T>;
#else
template <class T> constexpr int LANES = 16;
#endif
template <class T> constexpr bool OFFSETS_ABOVE = LANES<T> == 16 && SPAN_GROUPS<T> == 8;

template <int L> struct floats_in;
template <> struct floats_in<16> {
    using type = f32x16;
    static inline type all(float x) { return splat(x); }
};

#if defined(SPARSE_T_DOT_512)
struct f32x8 {
    __m256 v;
};
template <> struct floats_in<8> {
    using type = f32x8;
    static inline type all(float x) { return { _mm256_set1_ps(x) }; }
};

PLM_INLINE f32x8 lower(f32x16 a) { return { _mm512_castps512_ps256(a.v) }; }
PLM_INLINE f32x8 upper(f32x16 a) { return { _mm512_extractf32x8_ps(a.v, 1) }; }
PLM_INLINE void store(float * p, f32x8 a) { _mm256_storeu_ps(p, a.v); }
PLM_INLINE f32x8 operator*(f32x8 a, f32x8 b) { return { _mm256_mul_ps(a.v, b.v) }; }
PLM_INLINE f32x8 operator+(f32x8 a, f32x8 b) { return { _mm256_add_ps(a.v, b.v) }; }
PLM_INLINE f32x8 fma(f32x8 a, f32x8 b, f32x8 c) { return { _mm256_fmadd_ps(a.v, b.v, c.v) }; }
#endif

// Of each group of a span: its scale, and what is added for any quant when quants are counted from MIDDLE, so that
// the rounding of c is not multiplied by more than it must be. Where OFFSETS_ABOVE, the upper half of `scale` is offsets
// from 0, and `offset` is not used.
template <class T> struct groups {
    typename floats_in<LANES<T>>::type scale, offset;
};

template <class T> PLM_INLINE groups<T> groups_of(const typename T::block * span, int n_columns) {
    f32x16 s, o;
    if constexpr (T::N == SPAN) {
        (void) n_columns;
#if defined(SPARSE_T_DOT_512)
        if constexpr (HAS_OFFSETS<T> && T::GROUPS == 8) { // in the halves of registers, without a step between
            const i8x16 six = six_bits(span);
            const __m128 d = _mm_cvtph_ps(_mm_loadu_si32(span)); // d, dmin
            const __m256 scale = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(six.v)), _mm256_broadcastss_ps(d));
            const __m256 least = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(six.v, six.v)));
            const __m256 middle = _mm256_mul_ps(scale, _mm256_set1_ps(T::MIDDLE));
            return { { scale }, { _mm256_fnmadd_ps(least, _mm256_broadcastss_ps(_mm_movehdup_ps(d)), middle) } };
        }
#endif
        float all[32];
        T::prepare(*span, all);
        s = o = load(all);
        if constexpr (HAS_OFFSETS<T> && T::GROUPS == 16) {
            o = fma(s, splat(T::MIDDLE), load(all + 16));
        }
    } else {
        if (!HAS_OFFSETS<T> && n_columns == SPAN) { // d comes first in such blocks
            s = o = gather_f16<sizeof(typename T::block)>(span);
        } else {
            float all[16] = {};
            for (int g = 0; g < n_columns / T::N; g++) {
                float one[2];
                T::prepare(span[g], one);
                all[g] = one[0];
                if constexpr (HAS_OFFSETS<T>) {
                    all[8 + g] = one[1];
                }
            }
            s = o = load(all);
        }
    }
#if defined(SPARSE_T_DOT_512)
    if constexpr (LANES<T> == 8) {
        return { lower(s), fma(lower(s), floats_in<8>::all(T::MIDDLE), upper(o)) };
    } else
#endif
        return { s, o };
}

// The largest magnitudes that were seen, lane by lane, as the bits of a float: they order as integers do,
// infinity and NaN above the others.
template <int L> struct largest;

template <> struct largest<16> {
#if defined(PLM_AVX512)
    __m512i top = _mm512_setzero_si512();
    inline void see(f32x16 a) { top = _mm512_max_epi32(top, _mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x7fffffff))); }
    inline void save(int32_t * to) const { _mm512_storeu_si512(to, top); }
#elif defined(PLM_AVX2)
    __m256i top[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
    inline void see(f32x16 a) {
        for (int i = 0; i < 2; i++) { top[i] = _mm256_max_epi32(top[i], _mm256_and_si256(_mm256_castps_si256(a.v[i]), _mm256_set1_epi32(0x7fffffff))); }
    }
    inline void save(int32_t * to) const {
        for (int i = 0; i < 2; i++) { _mm256_storeu_si256((__m256i *) to + i, top[i]); }
    }
#else
    int32x4_t top[4] = { vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0) };
    inline void see(f32x16 a) {
        for (int i = 0; i < 4; i++) { top[i] = vmaxq_s32(top[i], vreinterpretq_s32_f32(vabsq_f32(a.v[i]))); }
    }
    inline void save(int32_t * to) const {
        for (int i = 0; i < 4; i++) { vst1q_s32(to + 4 * i, top[i]); }
    }
#endif
};

#if defined(SPARSE_T_DOT_512)
template <> struct largest<8> {
    __m256i top = _mm256_setzero_si256();
    inline void see(f32x8 a) { top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(a.v), _mm256_set1_epi32(0x7fffffff))); }
    inline void save(int32_t * to) const { _mm256_storeu_si256((__m256i *) to, top); }
};
#endif

template <int L> bool finite(const largest<L> & seen) {
    int32_t lane[L], most = 0;
    seen.save(lane);
    for (int i = 0; i < L; i++) { most = lane[i] > most ? lane[i] : most; }
    return most < 0x7f800000;
}

// unit = magnitude / top, and its inverse, of the first n lanes: 0 where that is 0, and of the others. False where
// one is not finite, or so small that the inverse might not be.
template <int L> bool units(const largest<L> & seen, int n, float top, float * unit, float * inverse) {
    int32_t lane[L];
    seen.save(lane);
    bool fit = true;
    for (int i = 0; i < L; i++) {
        float x;
        memcpy(&x, lane + i, sizeof(x));
        const bool used = i < n && lane[i] != 0;
        fit &= lane[i] < 0x7f800000 && (!used || x >= 1e-30f);
        unit[i] = used ? x * (1.0f / top) : 0.0f;
        inverse[i] = used ? top / x : 0.0f;
    }
    return fit;
}

// of one quad
template <int DIGITS> PLM_INLINE void to_digits(const float (*c)[16], const float * inverse, int32_t * high, int32_t * low, int32_t * total) {
    (void) low;
#if defined(PLM_AVX512)
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
        _mm512_storeu_si512(low, _mm512_shuffle_epi8(_mm512_packs_epi16(l01, l23), order));
    }
#elif defined(PLM_AVX2)
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
            _mm256_storeu_si256((__m256i *) (low + g), _mm256_shuffle_epi8(_mm256_packs_epi16(l01, l23), order));
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

// c[row][group] * inverse[group] of n_quads times four rows, rounded to one digit or two. high[quad][group] and
// low[quad][group] are the digits of the four rows, a byte each (of one digit: high); total[group] += the integers.
// A quad behind the last may be written.
template <int DIGITS> PLM_INLINE void to_digits(const float (*c)[16], const float * inverse, int n_quads, int32_t (*high)[16], int32_t (*low)[16], int32_t * total) {
    for (int k = 0; k < n_quads; k++) {
        to_digits<DIGITS>(c + 4 * k, inverse, high[k], low[k], total);
    }
}

#if defined(SPARSE_T_DOT_512)
// the same of 8 groups, two quads at a time
template <int DIGITS> PLM_INLINE void to_digits(const float (*c)[8], const float * inverse, int n_quads, int32_t (*high)[8], int32_t (*low)[8], int32_t * total) {
    (void) low;
    // Rows 0 and 2, 1 and 3, ... come to lie one after the other, four groups of each: byte i is to be quad i / 32's
    // group i % 32 / 4 of row i % 4.
    alignas(64) static constexpr uint8_t PLACE[64] = {
        0, 32, 4, 36, 1, 33, 5, 37, 2, 34, 6, 38, 3, 35, 7, 39, 16, 48, 20, 52, 17, 49, 21, 53, 18, 50, 22, 54, 19, 51, 23, 55,
        8, 40, 12, 44, 9, 41, 13, 45, 10, 42, 14, 46, 11, 43, 15, 47, 24, 56, 28, 60, 25, 57, 29, 61, 26, 58, 30, 62, 27, 59, 31, 63
    };
    const __m512i place = _mm512_load_si512(PLACE);
    const __m512 f = _mm512_broadcast_f32x8(_mm256_loadu_ps(inverse));
    __m512i sum = _mm512_setzero_si512();
    for (int k = 0; k < n_quads; k += 2) {
        __m512i q[4]; // two rows each
        for (int i = 0; i < 4; i++) {
            q[i] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(c[4 * k + 2 * i]), f));
            sum = _mm512_add_epi32(sum, q[i]);
        }
        const __m512i q0 = _mm512_packs_epi32(q[0], q[1]), q1 = _mm512_packs_epi32(q[2], q[3]);
        if constexpr (DIGITS == 1) {
            _mm512_storeu_si512(high[k], _mm512_permutexvar_epi8(place, _mm512_packs_epi16(q0, q1)));
        } else {
            const __m512i half = _mm512_set1_epi16(64);
            const __m512i h0 = _mm512_srai_epi16(_mm512_add_epi16(q0, half), 7), h1 = _mm512_srai_epi16(_mm512_add_epi16(q1, half), 7);
            const __m512i l0 = _mm512_sub_epi16(q0, _mm512_slli_epi16(h0, 7)), l1 = _mm512_sub_epi16(q1, _mm512_slli_epi16(h1, 7));
            _mm512_storeu_si512(high[k], _mm512_permutexvar_epi8(place, _mm512_packs_epi16(h0, h1)));
            _mm512_storeu_si512(low[k], _mm512_permutexvar_epi8(place, _mm512_packs_epi16(l0, l1)));
        }
    }
    const __m256i both = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    _mm256_storeu_si256((__m256i *) total, _mm256_add_epi32(_mm256_loadu_si256((const __m256i *) total), both));
}
#endif

} // namespace
} // namespace sparse_t

#endif
