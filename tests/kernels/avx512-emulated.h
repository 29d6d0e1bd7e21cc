#pragma once

// AVX-512 by functions in place of instructions, for CPUs without: SIMDe's, and those that its version 0.7.4 lacks.
// Tests alone include it (PLM_AVX512_EMULATED).

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>
#include <simde/x86/avx512.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace plm_emulated {

template <class To, class From> inline To as(const From & from) {
    To to = {};
    memcpy(&to, &from, sizeof(from) < sizeof(to) ? sizeof(from) : sizeof(to));
    return to;
}

template <class T, int N> struct lanes {
    T v[N];
};

// To of each of N lanes of From
template <class Vector, class To, class From, int N, class Value, class Function> inline Vector each(const Value & x, Function f) {
    const auto in = as<lanes<From, N>>(x);
    lanes<To, N> out;
    for (int i = 0; i < N; i++) {
        out.v[i] = f(in.v[i]);
    }
    return as<Vector>(out);
}

template <class To> struct convert {
    template <class From> To operator()(From x) const { return To(x); }
};

} // namespace plm_emulated

#define PLM_EACH(to, from, n, vector) plm_emulated::each<vector, to, from, n>

inline __m512 plm_cvtepi32_ps(__m512i a) { return PLM_EACH(float, int32_t, 16, __m512)(a, plm_emulated::convert<float>()); }
inline __m512i plm_cvtps_epi32(__m512 a) {
    // to the nearest, ties to even; what does not fit becomes the least number
    return PLM_EACH(int32_t, float, 16, __m512i)(a, [](float x) { return std::fabs(x) < 2147483648.0f ? int32_t(std::nearbyint(x)) : INT32_MIN; });
}
inline __m512i plm_maskz_cvtps_epi32(__mmask16 k, __m512 a) { return simde_mm512_maskz_mov_epi32(k, plm_cvtps_epi32(a)); }
inline __m512i plm_cvtepi8_epi32(__m128i a) { return PLM_EACH(int32_t, int8_t, 16, __m512i)(a, plm_emulated::convert<int32_t>()); }
inline __m512i plm_cvtepu8_epi32(__m128i a) { return PLM_EACH(int32_t, uint8_t, 16, __m512i)(a, plm_emulated::convert<int32_t>()); }
inline __m512i plm_cvtepu8_epi16(__m256i a) { return PLM_EACH(int16_t, uint8_t, 32, __m512i)(a, plm_emulated::convert<int16_t>()); }
inline __m512i plm_cvtepu16_epi32(__m256i a) { return PLM_EACH(int32_t, uint16_t, 16, __m512i)(a, plm_emulated::convert<int32_t>()); }
inline __m128i plm_cvtepi32_epi8(__m512i a) { return PLM_EACH(int8_t, int32_t, 16, __m128i)(a, plm_emulated::convert<int8_t>()); }
inline __m512 plm_zextps256_ps512(__m256 a) { return plm_emulated::as<__m512>(a); }
inline __m512 plm_cvtph_ps(__m256i a) {
    __m256 halves[2] = { _mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)) };
    return plm_emulated::as<__m512>(halves);
}
inline __m256 plm_extractf32x8_ps(__m512 a, int i) { return plm_emulated::as<plm_emulated::lanes<__m256, 2>>(a).v[i]; }
inline __m512i plm_srai_epi32(__m512i a, unsigned n) {
    return PLM_EACH(int32_t, int32_t, 16, __m512i)(a, [n](int32_t x) { return x >> n; });
}
inline int32_t plm_reduce_add_epi32(__m512i a) {
    uint32_t sum = 0;
    for (int32_t x : plm_emulated::as<plm_emulated::lanes<int32_t, 16>>(a).v) {
        sum += uint32_t(x);
    }
    return int32_t(sum);
}
inline float plm_reduce_max_ps(__m512 a) {
    const auto all = plm_emulated::as<plm_emulated::lanes<float, 16>>(a);
    float most = all.v[0];
    for (float x : all.v) {
        most = x > most ? x : most;
    }
    return most;
}
inline __mmask16 plm_cmpord_ps_mask(__m512 a, __m512 b) { return simde_mm512_cmp_ps_mask(a, b, SIMDE_CMP_ORD_Q); }
inline __m512 plm_maskz_loadu_ps(__mmask16 k, const float * p) {
    plm_emulated::lanes<float, 16> out = {};
    for (int i = 0; i < 16; i++) {
        if (k >> i & 1) {
            out.v[i] = p[i];
        }
    }
    return plm_emulated::as<__m512>(out);
}
inline void plm_mask_storeu_ps(float * p, __mmask16 k, __m512 a) {
    const auto in = plm_emulated::as<plm_emulated::lanes<float, 16>>(a);
    for (int i = 0; i < 16; i++) {
        if (k >> i & 1) {
            p[i] = in.v[i];
        }
    }
}

inline __mmask16 plm_cmpge_epu16_mask(__m256i a, __m256i b) {
    const auto x = plm_emulated::as<plm_emulated::lanes<uint16_t, 16>>(a), y = plm_emulated::as<plm_emulated::lanes<uint16_t, 16>>(b);
    __mmask16 k = 0;
    for (int i = 0; i < 16; i++) {
        k |= __mmask16((x.v[i] >= y.v[i]) << i);
    }
    return k;
}
inline __m512i plm_madd_epi16(__m512i a, __m512i b) { // SIMDe's takes four arguments
    const auto x = plm_emulated::as<plm_emulated::lanes<int16_t, 32>>(a), y = plm_emulated::as<plm_emulated::lanes<int16_t, 32>>(b);
    plm_emulated::lanes<int32_t, 16> out;
    for (int i = 0; i < 16; i++) {
        out.v[i] = int32_t(uint32_t(x.v[2 * i] * y.v[2 * i]) + uint32_t(x.v[2 * i + 1] * y.v[2 * i + 1]));
    }
    return plm_emulated::as<__m512i>(out);
}

// by the names of the instructions, whatever the compiler's own header declared them to be
#define _mm512_cvtepi32_ps plm_cvtepi32_ps
#define _mm512_cvtps_epi32 plm_cvtps_epi32
#define _mm512_maskz_cvtps_epi32 plm_maskz_cvtps_epi32
#define _mm512_cvtepi8_epi32 plm_cvtepi8_epi32
#define _mm512_cvtepu8_epi32 plm_cvtepu8_epi32
#define _mm512_cvtepu8_epi16 plm_cvtepu8_epi16
#define _mm512_cvtepu16_epi32 plm_cvtepu16_epi32
#define _mm512_cvtepi32_epi8 plm_cvtepi32_epi8
#define _mm512_zextps256_ps512 plm_zextps256_ps512
#define _mm512_cvtph_ps plm_cvtph_ps
#define _mm512_extractf32x8_ps plm_extractf32x8_ps
#define _mm512_srai_epi32 plm_srai_epi32
#define _mm512_reduce_add_epi32 plm_reduce_add_epi32
#define _mm512_reduce_max_ps plm_reduce_max_ps
#define _mm512_cmpord_ps_mask plm_cmpord_ps_mask
#define _mm512_mask_cmp_ps_mask(k, a, b, how) ((k) & simde_mm512_cmp_ps_mask(a, b, how))
#define _mm512_maskz_loadu_ps plm_maskz_loadu_ps
#define _mm512_mask_storeu_ps plm_mask_storeu_ps
#define _mm256_cmpge_epu16_mask plm_cmpge_epu16_mask
#undef _mm512_madd_epi16
#define _mm512_madd_epi16 plm_madd_epi16
