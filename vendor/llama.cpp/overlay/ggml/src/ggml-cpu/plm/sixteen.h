#pragma once

// Sixteen lanes, whatever the CPU: what the kernels in sparse/ and planes/ are written in.
//
//   f32x16   16 floats:  1 AVX-512 register, 2 of AVX, 4 of NEON, or an array
//   i8x16    16 bytes:   1 SSE or NEON register, or an array

// The bodies are written out for each CPU: loops over simd.h's registers gave other, not always shorter, code with AVX2.

#include "simd.h"

namespace sixteen {

using simd::f16;

namespace {

// --- bytes -------------------------------------------------------------------------------------

#if defined(PLM_AVX512) || defined(PLM_AVX2)

struct i8x16 {
    __m128i v;
};

PLM_INLINE i8x16 load_bytes(const void * p) { return { _mm_loadu_si128((const __m128i *) p) }; }
PLM_INLINE void store_bytes(void * p, i8x16 a) { _mm_storeu_si128((__m128i *) p, a.v); }
PLM_INLINE i8x16 splat_bytes(int b) { return { _mm_set1_epi8((char) b) }; }
PLM_INLINE i8x16 operator&(i8x16 a, i8x16 b) { return { _mm_and_si128(a.v, b.v) }; }
PLM_INLINE i8x16 operator|(i8x16 a, i8x16 b) { return { _mm_or_si128(a.v, b.v) }; }

// bits [first, first + n) of each byte
PLM_INLINE i8x16 bits(i8x16 a, int first, int n) {
    return { _mm_and_si128(_mm_srli_epi16(a.v, first), _mm_set1_epi8((char) ((1 << n) - 1))) };
}
// each byte, whose upper bits must be free, times 2^n
PLM_INLINE i8x16 shl(i8x16 a, int n) { return { _mm_slli_epi16(a.v, n) }; }
// table[index], indices below 16
PLM_INLINE i8x16 lookup(i8x16 table, i8x16 index) { return { _mm_shuffle_epi8(table.v, index.v) }; }
// byte i is `value` where bit i is set, else 0
PLM_INLINE i8x16 spread_bits(uint16_t b, int value) {
    const __m128i byte = _mm_shuffle_epi8(_mm_set1_epi16((short) b), _mm_set_epi64x(0x0101010101010101, 0));
    const __m128i bit = _mm_set1_epi64x((long long) 0x8040201008040201);
    return { _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(byte, bit), bit), _mm_set1_epi8((char) value)) };
}

#elif defined(PLM_NEON)

struct i8x16 {
    uint8x16_t v;
};

PLM_INLINE i8x16 load_bytes(const void * p) { return { vld1q_u8((const uint8_t *) p) }; }
PLM_INLINE void store_bytes(void * p, i8x16 a) { vst1q_u8((uint8_t *) p, a.v); }
PLM_INLINE i8x16 splat_bytes(int b) { return { vdupq_n_u8((uint8_t) b) }; }
PLM_INLINE i8x16 operator&(i8x16 a, i8x16 b) { return { vandq_u8(a.v, b.v) }; }
PLM_INLINE i8x16 operator|(i8x16 a, i8x16 b) { return { vorrq_u8(a.v, b.v) }; }

PLM_INLINE i8x16 bits(i8x16 a, int first, int n) {
    return { vandq_u8(vshlq_u8(a.v, vdupq_n_s8((int8_t) -first)), vdupq_n_u8((uint8_t) ((1 << n) - 1))) };
}
PLM_INLINE i8x16 shl(i8x16 a, int n) { return { vshlq_u8(a.v, vdupq_n_s8((int8_t) n)) }; }
PLM_INLINE i8x16 lookup(i8x16 table, i8x16 index) { return { vqtbl1q_u8(table.v, index.v) }; }
PLM_INLINE i8x16 spread_bits(uint16_t b, int value) {
    const uint8x16_t byte = vcombine_u8(vdup_n_u8((uint8_t) b), vdup_n_u8((uint8_t) (b >> 8)));
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201ull));
    return { vandq_u8(vtstq_u8(byte, bit), vdupq_n_u8((uint8_t) value)) };
}

#else

struct i8x16 {
    uint8_t v[16];
};

PLM_INLINE i8x16 load_bytes(const void * p) {
    i8x16 r;
    memcpy(r.v, p, 16);
    return r;
}
PLM_INLINE void store_bytes(void * p, i8x16 a) { memcpy(p, a.v, 16); }
PLM_INLINE i8x16 splat_bytes(int b) {
    i8x16 r;
    memset(r.v, b, 16);
    return r;
}
PLM_INLINE i8x16 operator&(i8x16 a, i8x16 b) {
    for (int i = 0; i < 16; i++) { a.v[i] &= b.v[i]; }
    return a;
}
PLM_INLINE i8x16 operator|(i8x16 a, i8x16 b) {
    for (int i = 0; i < 16; i++) { a.v[i] |= b.v[i]; }
    return a;
}

PLM_INLINE i8x16 bits(i8x16 a, int first, int n) {
    for (int i = 0; i < 16; i++) { a.v[i] = (a.v[i] >> first) & ((1 << n) - 1); }
    return a;
}
PLM_INLINE i8x16 shl(i8x16 a, int n) {
    for (int i = 0; i < 16; i++) { a.v[i] = (uint8_t) (a.v[i] << n); }
    return a;
}
PLM_INLINE i8x16 lookup(i8x16 t, i8x16 index) {
    i8x16 r;
    for (int i = 0; i < 16; i++) { r.v[i] = t.v[index.v[i]]; }
    return r;
}
PLM_INLINE i8x16 spread_bits(uint16_t b, int value) {
    i8x16 r;
    for (int i = 0; i < 16; i++) { r.v[i] = (b >> i & 1) ? (uint8_t) value : 0; }
    return r;
}

#endif

// the 16 bytes of four words, the first word lowest
PLM_INLINE i8x16 bytes_of(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    const uint32_t words[4] = { a, b, c, d };
    return load_bytes(words);
}

// Sixteen numbers of six bits from the words a, b, c at p + 4: as q4_K and q5_K pack 8 scales, then 8 minima.
// The bytes are a, c's low nibbles with two bits of a above them, b, c's high nibbles with two bits of b.
PLM_INLINE i8x16 six_bits(const void * p) {
    const uint32_t six = 0x3f3f3f3f, lo = 0x0f0f0f0f, hi = 0x30303030;
#if defined(PLM_AVX512) || defined(PLM_AVX2)
    const __m128i x = _mm_loadu_si128((const __m128i *) p);
    const __m128i low = _mm_srlv_epi32(_mm_shuffle_epi32(x, _MM_SHUFFLE(3, 2, 3, 1)), _mm_setr_epi32(0, 0, 0, 4));
    const __m128i high = _mm_srli_epi32(_mm_shuffle_epi32(x, _MM_SHUFFLE(2, 2, 1, 1)), 2);
    return { _mm_or_si128(_mm_and_si128(low, _mm_setr_epi32((int) six, (int) lo, (int) six, (int) lo)), _mm_and_si128(high, _mm_setr_epi32(0, (int) hi, 0, (int) hi))) };
#elif defined(PLM_NEON)
    const uint32x4_t x = vld1q_u32((const uint32_t *) p), c = vdupq_laneq_u32(x, 3);
    const uint32x4_t aabb = vzip1q_u32(vextq_u32(x, x, 1), vextq_u32(x, x, 1));
    const uint32x4_t acbc = vtrn1q_u32(aabb, c);
    const uint32x4_t low = vandq_u32(vshlq_u32(acbc, int32x4_t{ 0, 0, 0, -4 }), uint32x4_t{ six, lo, six, lo });
    const uint32x4_t high = vandq_u32(vshrq_n_u32(aabb, 2), uint32x4_t{ 0, hi, 0, hi });
    return { vreinterpretq_u8_u32(vorrq_u32(low, high)) };
#else
    uint32_t w[4];
    memcpy(w, p, sizeof(w));
    const uint32_t a = w[1], b = w[2], c = w[3];
    return bytes_of(a & six, (c & lo) | (a >> 2 & hi), b & six, (c >> 4 & lo) | (b >> 2 & hi));
#endif
}

// --- floats ------------------------------------------------------------------------------------

#if defined(PLM_AVX512)

struct f32x16 {
    __m512 v;
};

PLM_INLINE f32x16 load(const float * p) { return { _mm512_loadu_ps(p) }; }
PLM_INLINE void store(float * p, f32x16 a) { _mm512_storeu_ps(p, a.v); }
PLM_INLINE f32x16 splat(float a) { return { _mm512_set1_ps(a) }; }
// 8 times the f16 at p, 8 times that at p + 1
PLM_INLINE f32x16 halves_f16(const uint16_t * p) {
    const __m128i both = _mm_loadu_si64(p); // there are more bytes behind
    return { _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1), _mm512_castps128_ps512(_mm_cvtph_ps(both))) };
}
PLM_INLINE f32x16 operator*(f32x16 a, f32x16 b) { return { _mm512_mul_ps(a.v, b.v) }; }
PLM_INLINE f32x16 operator+(f32x16 a, f32x16 b) { return { _mm512_add_ps(a.v, b.v) }; }
// a * b + c, rounded once
PLM_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { return { _mm512_fmadd_ps(a.v, b.v, c.v) }; }
// 16 signed bytes
PLM_INLINE f32x16 floats(i8x16 a) { return { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(a.v)) }; }
PLM_INLINE f32x16 load_f16(const uint16_t * p) { return { _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p)) }; }
PLM_INLINE f32x16 load_bf16(const uint16_t * p) {
    return { _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) p)), 16)) };
}

#elif defined(PLM_AVX2)

struct f32x16 {
    __m256 v[2];
};

PLM_INLINE f32x16 load(const float * p) { return { { _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) } }; }
PLM_INLINE void store(float * p, f32x16 a) {
    _mm256_storeu_ps(p, a.v[0]);
    _mm256_storeu_ps(p + 8, a.v[1]);
}
PLM_INLINE f32x16 splat(float a) { return { { _mm256_set1_ps(a), _mm256_set1_ps(a) } }; }
PLM_INLINE f32x16 halves_f16(const uint16_t * p) {
    const __m256 both = _mm256_castps128_ps256(_mm_cvtph_ps(_mm_loadu_si64(p)));
    return { { _mm256_permutevar8x32_ps(both, _mm256_setzero_si256()), _mm256_permutevar8x32_ps(both, _mm256_set1_epi32(1)) } };
}
PLM_INLINE f32x16 operator*(f32x16 a, f32x16 b) {
    return { { _mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1]) } };
}
PLM_INLINE f32x16 operator+(f32x16 a, f32x16 b) {
    return { { _mm256_add_ps(a.v[0], b.v[0]), _mm256_add_ps(a.v[1], b.v[1]) } };
}
PLM_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    return { { _mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1]) } };
}
PLM_INLINE f32x16 floats(i8x16 a) {
    return { { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(a.v)),
               _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(a.v, 8))) } };
}
PLM_INLINE f32x16 load_f16(const uint16_t * p) {
    return { { _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)),
               _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p + 1)) } };
}
PLM_INLINE __m256 widen_bf16(const uint16_t * p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) p)), 16));
}
PLM_INLINE f32x16 load_bf16(const uint16_t * p) { return { { widen_bf16(p), widen_bf16(p + 8) } }; }

#elif defined(PLM_NEON)

struct f32x16 {
    float32x4_t v[4];
};

PLM_INLINE f32x16 load(const float * p) {
    return { { vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12) } };
}
PLM_INLINE void store(float * p, f32x16 a) {
    for (int i = 0; i < 4; i++) { vst1q_f32(p + 4 * i, a.v[i]); }
}
PLM_INLINE f32x16 splat(float a) {
    const float32x4_t b = vdupq_n_f32(a);
    return { { b, b, b, b } };
}
PLM_INLINE f32x16 halves_f16(const uint16_t * p) {
    const float32x4_t both = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
    const float32x4_t a = vdupq_laneq_f32(both, 0), b = vdupq_laneq_f32(both, 1);
    return { { a, a, b, b } };
}
PLM_INLINE f32x16 operator*(f32x16 a, f32x16 b) {
    for (int i = 0; i < 4; i++) { a.v[i] = vmulq_f32(a.v[i], b.v[i]); }
    return a;
}
PLM_INLINE f32x16 operator+(f32x16 a, f32x16 b) {
    for (int i = 0; i < 4; i++) { a.v[i] = vaddq_f32(a.v[i], b.v[i]); }
    return a;
}
PLM_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    for (int i = 0; i < 4; i++) { c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]); }
    return c;
}
PLM_INLINE f32x16 floats(i8x16 a) {
    const int16x8_t lo = vmovl_s8(vget_low_s8(vreinterpretq_s8_u8(a.v)));
    const int16x8_t hi = vmovl_s8(vget_high_s8(vreinterpretq_s8_u8(a.v)));
    return { { vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
               vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi))) } };
}
// conversion from f16 is in every armv8-a; only f16 arithmetic is not
PLM_INLINE f32x16 load_f16(const uint16_t * p) {
    f32x16 r;
    for (int i = 0; i < 4; i++) { r.v[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); }
    return r;
}
PLM_INLINE f32x16 load_bf16(const uint16_t * p) {
    f32x16 r;
    for (int i = 0; i < 4; i++) { r.v[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)); }
    return r;
}

#else

struct f32x16 {
    float v[16];
};

PLM_INLINE f32x16 load(const float * p) {
    f32x16 r;
    memcpy(r.v, p, sizeof(r.v));
    return r;
}
PLM_INLINE void store(float * p, f32x16 a) { memcpy(p, a.v, sizeof(a.v)); }
PLM_INLINE f32x16 splat(float a) {
    f32x16 r;
    for (float & v : r.v) { v = a; }
    return r;
}
PLM_INLINE f32x16 halves_f16(const uint16_t * p) {
    f32x16 r;
    for (int i = 0; i < 16; i++) { r.v[i] = f16(p[i / 8]); }
    return r;
}
PLM_INLINE f32x16 operator*(f32x16 a, f32x16 b) {
    for (int i = 0; i < 16; i++) { a.v[i] *= b.v[i]; }
    return a;
}
PLM_INLINE f32x16 operator+(f32x16 a, f32x16 b) {
    for (int i = 0; i < 16; i++) { a.v[i] += b.v[i]; }
    return a;
}
// without the hardware for it, rounded twice
PLM_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    for (int i = 0; i < 16; i++) { c.v[i] += a.v[i] * b.v[i]; }
    return c;
}
PLM_INLINE f32x16 floats(i8x16 a) {
    f32x16 r;
    for (int i = 0; i < 16; i++) { r.v[i] = (int8_t) a.v[i]; }
    return r;
}
PLM_INLINE f32x16 load_f16(const uint16_t * p) {
    f32x16 r;
    for (int i = 0; i < 16; i++) { r.v[i] = f16(p[i]); }
    return r;
}
PLM_INLINE f32x16 load_bf16(const uint16_t * p) {
    f32x16 r;
    for (int i = 0; i < 16; i++) {
        const uint32_t word = (uint32_t) p[i] << 16;
        memcpy(&r.v[i], &word, sizeof(word));
    }
    return r;
}

#endif

// the f16 at p, at p + STRIDE bytes, …: 8 of them, then zeros
template <int STRIDE> PLM_INLINE f32x16 gather_f16(const void * p) {
    const auto at = [p](int i) PLM_LAMBDA { uint16_t h; memcpy(&h, (const char *) p + i * STRIDE, sizeof(h)); return (short) h; };
#if defined(PLM_AVX512) || defined(PLM_AVX2)
    const __m256 f = _mm256_cvtph_ps(_mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)));
#if defined(PLM_AVX512)
    return { _mm512_zextps256_ps512(f) };
#else
    return { { f, _mm256_setzero_ps() } };
#endif
#elif defined(PLM_NEON)
    const int16x8_t h = { at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7) };
    const float16x8_t f = vreinterpretq_f16_s16(h);
    return { { vcvt_f32_f16(vget_low_f16(f)), vcvt_high_f32_f16(f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f) } };
#else
    f32x16 r = {};
    for (int i = 0; i < 8; i++) { r.v[i] = f16((uint16_t) at(i)); }
    return r;
#endif
}

} // namespace
} // namespace sixteen
