#pragma once

// The floats of one register, and few operations on them: what the kernels are written in, whatever the CPU.
//
//   vf   LANES floats: 16 with AVX-512, 8 with AVX2, 4 with NEON, else one
//
// Sixteen lanes at a time, on every CPU, are in sixteen.h.
//
// Chosen by what the compiler may use for this translation unit: ggml compiles its CPU library once for
// each kind of CPU and loads the best one that runs. Everything has internal linkage for that reason.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "x86-features.h"

#if defined(PLM_AVX512)
#include "x86-intrinsics.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define PLM_AVX2
#include "x86-intrinsics.h"
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define PLM_NEON
#include <arm_neon.h>
#else
#include "ggml.h"
#endif

// a kernel is hundreds of these in a row: past the size at which compilers stop inlining by themselves
#if defined(_MSC_VER)
#define PLM_INLINE static __forceinline
#define PLM_INLINE_METHOD __forceinline
#define PLM_LAMBDA
#else
#define PLM_INLINE static inline __attribute__((always_inline, unused))
#define PLM_INLINE_METHOD inline __attribute__((always_inline))
#define PLM_LAMBDA __attribute__((always_inline))
#endif

namespace simd {

// to the second cache
PLM_INLINE void prefetch(const void * p) {
#if defined(__GNUC__)
    __builtin_prefetch(p, 0, 2);
#else
    (void) p;
#endif
}

// and on to the first
PLM_INLINE void prefetch_near(const void * p) {
#if defined(__GNUC__)
    __builtin_prefetch(p, 0, 3);
#else
    (void) p;
#endif
}

#if defined(PLM_AVX512)

using vf = __m512;
constexpr int LANES = 16;

static inline vf load(const float * p) { return _mm512_loadu_ps(p); }
static inline void store(float * p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf all(float x) { return _mm512_set1_ps(x); }
static inline vf add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); } // a * b + c
static inline vf max(vf a, vf b) { return _mm512_max_ps(a, b); }            // b where either is NaN
static inline vf min(vf a, vf b) { return _mm512_min_ps(a, b); }            // b where either is NaN
static inline vf div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf round(vf a) { return _mm512_roundscale_ps(a, 0); }
static inline vf zero_where_less(vf x, vf limit, vf y) { // y, or 0 where x < limit
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y);
}
static inline vf pow2(vf n) { // for whole n from -126 to 127
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
static inline vf from_f16(const uint16_t * p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p)); }
static inline vf from_bf16(const uint16_t * p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) p)), 16));
}
PLM_INLINE float f16(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); } // one of them

#elif defined(PLM_AVX2)

using vf = __m256;
constexpr int LANES = 8;

static inline vf load(const float * p) { return _mm256_loadu_ps(p); }
static inline void store(float * p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf all(float x) { return _mm256_set1_ps(x); }
static inline vf add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf zero_where_less(vf x, vf limit, vf y) {
    return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_NLT_UQ), y);
}
static inline vf pow2(vf n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline vf from_f16(const uint16_t * p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)); }
static inline vf from_bf16(const uint16_t * p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) p)), 16));
}
PLM_INLINE float f16(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }

#elif defined(PLM_NEON)

using vf = float32x4_t;
constexpr int LANES = 4;

static inline vf load(const float * p) { return vld1q_f32(p); }
static inline void store(float * p, vf x) { vst1q_f32(p, x); }
static inline vf all(float x) { return vdupq_n_f32(x); }
static inline vf add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); } // as on x86 for NaN
static inline vf min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vf div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf round(vf a) { return vrndnq_f32(a); }
static inline vf zero_where_less(vf x, vf limit, vf y) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(x, limit)));
}
static inline vf pow2(vf n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
}
// conversion from f16 is in every armv8-a; only f16 arithmetic is not
static inline vf from_f16(const uint16_t * p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline vf from_bf16(const uint16_t * p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
PLM_INLINE float f16(uint16_t h) {
    __fp16 f;
    memcpy(&f, &h, sizeof(f));
    return (float) f;
}

#else // no vectors that we know: the same code, a lane at a time

using vf = float;
constexpr int LANES = 1;

static inline vf load(const float * p) { return *p; }
static inline void store(float * p, vf x) { *p = x; }
static inline vf all(float x) { return x; }
static inline vf add(vf a, vf b) { return a + b; }
static inline vf sub(vf a, vf b) { return a - b; }
static inline vf mul(vf a, vf b) { return a * b; }
static inline vf fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf max(vf a, vf b) { return a > b ? a : b; }
static inline vf min(vf a, vf b) { return a < b ? a : b; }
static inline vf div(vf a, vf b) { return a / b; }
static inline vf round(vf a) { return nearbyintf(a); }
static inline vf zero_where_less(vf x, vf limit, vf y) { return x < limit ? 0.0f : y; }
static inline vf pow2(vf n) { return ldexpf(1.0f, n == n ? int(n) : 0); }
PLM_INLINE float f16(uint16_t h) { return ggml_fp16_to_fp32(h); }
PLM_INLINE vf from_f16(const uint16_t * p) { return f16(*p); }
static inline vf from_bf16(const uint16_t * p) {
    const uint32_t word = (uint32_t) *p << 16;
    vf x;
    memcpy(&x, &word, sizeof(x));
    return x;
}

#endif

// e^x for x <= 0, to 2 units in the last place; 0 below -87, and NaN for NaN
static inline vf exp_negative(vf x) {
    const vf limit = all(-87.0f);
    const vf y = max(limit, x);
    const vf n = round(mul(y, all(1.44269504f)));
    vf r = fma(n, all(-0.693359375f), y); // ln 2 in two parts, the first exact in few bits
    r = fma(n, all(2.12194440e-4f), r);
    vf p = all(1.0f / 5040);
    p = fma(p, r, all(1.0f / 720));
    p = fma(p, r, all(1.0f / 120));
    p = fma(p, r, all(1.0f / 24));
    p = fma(p, r, all(1.0f / 6));
    p = fma(p, r, all(0.5f));
    p = fma(p, r, all(1.0f));
    p = fma(p, r, all(1.0f));
    return zero_where_less(x, limit, mul(p, pow2(n)));
}

} // namespace simd
