#pragma once

// The few f32 vector operations that the attention kernels need, by what the compiler may use.
// A variant of the library is compiled for one CPU, and ggml chooses the variant when it is loaded.

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define PLM_LANES_AVX512
#include "x86-intrinsics.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define PLM_LANES_AVX2
#include "x86-intrinsics.h"
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define PLM_LANES_NEON
#include <arm_neon.h>
#endif

namespace mla {

#if defined(PLM_LANES_AVX512)

using vf = __m512;
static constexpr int LANES = 16;

static inline vf   load(const float * p) { return _mm512_loadu_ps(p); }
static inline void store(float * p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf   all(float x) { return _mm512_set1_ps(x); }
static inline vf   add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf   sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf   mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf   fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); } // a * b + c
static inline vf   max(vf a, vf b) { return _mm512_max_ps(a, b); } // b where either is NaN
static inline vf   min(vf a, vf b) { return _mm512_min_ps(a, b); } // b where either is NaN
static inline vf   div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf   round(vf a) { return _mm512_roundscale_ps(a, 0); }
static inline vf   zero_where_less(vf x, vf limit, vf y) { // y, or 0 where x < limit
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y);
}
static inline vf   pow2(vf n) { // for whole n from -126 to 127
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}

#elif defined(PLM_LANES_AVX2)

using vf = __m256;
static constexpr int LANES = 8;

static inline vf   load(const float * p) { return _mm256_loadu_ps(p); }
static inline void store(float * p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf   all(float x) { return _mm256_set1_ps(x); }
static inline vf   add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf   sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf   mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf   fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf   max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf   min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf   div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf   round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf   zero_where_less(vf x, vf limit, vf y) {
    return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_NLT_UQ), y);
}
static inline vf   pow2(vf n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}

#elif defined(PLM_LANES_NEON)

using vf = float32x4_t;
static constexpr int LANES = 4;

static inline vf   load(const float * p) { return vld1q_f32(p); }
static inline void store(float * p, vf x) { vst1q_f32(p, x); }
static inline vf   all(float x) { return vdupq_n_f32(x); }
static inline vf   add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf   sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf   mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf   fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf   max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); } // as on x86 for NaN
static inline vf   min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vf   div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf   round(vf a) { return vrndnq_f32(a); }
static inline vf   zero_where_less(vf x, vf limit, vf y) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(x, limit)));
}
static inline vf   pow2(vf n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
}

#else // no vectors that we know: the same code, a lane at a time

using vf = float;
static constexpr int LANES = 1;

static inline vf   load(const float * p) { return *p; }
static inline void store(float * p, vf x) { *p = x; }
static inline vf   all(float x) { return x; }
static inline vf   add(vf a, vf b) { return a + b; }
static inline vf   sub(vf a, vf b) { return a - b; }
static inline vf   mul(vf a, vf b) { return a * b; }
static inline vf   fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf   max(vf a, vf b) { return a > b ? a : b; }
static inline vf   min(vf a, vf b) { return a < b ? a : b; }
static inline vf   div(vf a, vf b) { return a / b; }
static inline vf   round(vf a) { return nearbyintf(a); }
static inline vf   zero_where_less(vf x, vf limit, vf y) { return x < limit ? 0.0f : y; }
static inline vf   pow2(vf n) { return ldexpf(1.0f, n == n ? int(n) : 0); }

#endif

// e^x for x <= 0, to 2 units in the last place; 0 below -87, and NaN for NaN
static inline vf exp_negative(vf x) {
    const vf limit = all(-87.0f);
    const vf y = max(limit, x);
    const vf n = round(mul(y, all(1.44269504f)));
    vf r = fma(n, all(-0.693359375f), y);     // ln 2 in two parts, the first exact in few bits
    r    = fma(n, all(2.12194440e-4f), r);
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

} // namespace mla
