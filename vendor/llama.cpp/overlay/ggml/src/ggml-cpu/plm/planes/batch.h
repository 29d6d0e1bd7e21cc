#pragma once

// Larger batches: eight rows at a time become what ggml's products of this CPU take, and are multiplied with all tokens.

#include "matrix.h"
#include "scales.h"
#include "../word-at.h"

#include "repack.h"

#include "ggml-cpu.h"
#include "ggml-cpu/quants.h"
#include "../k-quants/quantize-row.h"
#include "../k-quants/repacked.h"

namespace planes {
namespace {

// How this CPU multiplies q4_K in batches: by eight interleaved rows and four tokens, or row by row.
enum class batches { by_8x8,
                     by_8x4,
                     by_rows };

inline batches batches_here() {
    if (ggml_cpu_has_avx2() || (ggml_cpu_has_neon() && ggml_cpu_has_matmul_int8())) {
        return batches::by_8x8;
    }
    return ggml_cpu_has_neon() && ggml_cpu_has_dotprod() ? batches::by_8x4 : batches::by_rows;
}

#if defined(PLM_AVX512) || defined(PLM_AVX2)

// a lane a row: its four bytes at `low` and at each `stride` on
inline __m256i four_bytes_of_rows(const uint8_t * low, int stride) {
    const __m256i rows = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(stride));
    return _mm256_i32gather_epi32((const int *) low, rows, 1);
}

template <int F> inline __m256i codes_of_rows(__m256i high, __m256i low) {
    const __m256i two = _mm256_set1_epi8(3);
    return _mm256_or_si256(_mm256_slli_epi16(_mm256_and_si256(_mm256_srli_epi16(high, 2 * F), two), 2), _mm256_and_si256(_mm256_srli_epi16(low, 2 * F), two));
}

// values 8 F to 8 F + 7 of both sub-blocks, of eight rows: 64 bytes
template <int F> inline void put_eight(uint8_t * to, __m256i even, __m256i even_low, __m256i odd, __m256i odd_low) {
    const __m256i a = _mm256_or_si256(codes_of_rows<2 * F>(even, even_low), _mm256_slli_epi16(codes_of_rows<2 * F>(odd, odd_low), 4));
    const __m256i b = _mm256_or_si256(codes_of_rows<2 * F + 1>(even, even_low), _mm256_slli_epi16(codes_of_rows<2 * F + 1>(odd, odd_low), 4));
    const __m256i c = _mm256_unpacklo_epi32(a, b), d = _mm256_unpackhi_epi32(a, b); // rows 0 1 4 5, 2 3 6 7
    _mm256_storeu_si256((__m256i *) to, _mm256_permute2x128_si256(c, d, 0x20));
    _mm256_storeu_si256((__m256i *) (to + 32), _mm256_permute2x128_si256(c, d, 0x31));
}

// Sub-blocks 2p and 2p + 1 of eight rows, whose bytes of `low` are `stride` apart, STEP bytes of each row in turn: a byte
// holds a value of both.
template <int STEP> void interleave_codes(const plm_planes_block & from, int half, int p, const uint8_t * low, int64_t stride, uint8_t * to) {
    static_assert(STEP == 8, "what AVX2's products take");
    for (int h = 0; h < 2; h++, to += 128) {
        const __m256i even = _mm256_loadu_si256((const __m256i *) (from.high[2 * p][h] + 32 * half));
        const __m256i odd = _mm256_loadu_si256((const __m256i *) (from.high[2 * p + 1][h] + 32 * half));
        const __m256i even_low = four_bytes_of_rows(low + 4 * h, int(stride)), odd_low = four_bytes_of_rows(low + 8 + 4 * h, int(stride));
        put_eight<0>(to, even, even_low, odd, odd_low);
        put_eight<1>(to + 64, even, even_low, odd, odd_low);
    }
}

#else

// Four bytes of four bits each, a byte a value: of the sub-block of eight bytes `low` and the row's four bytes of both
// halves of `high`, values 16 h + 4 f on.
inline uint32_t four_codes(const uint8_t * high, const uint8_t * low, int f) {
    const auto u = word_at<uint32_t>(high), l = word_at<uint32_t>(low);
    return (u >> (2 * f) & 0x03030303) << 2 | (l >> (2 * f) & 0x03030303);
}

template <int STEP> void interleave_codes(const plm_planes_block & from, int half, int p, const uint8_t * low, int64_t stride, uint8_t * to) {
    for (int r = 0; r < 8; r++, low += stride) {
        for (int h = 0; h < 2; h++) {
            const uint8_t *even = from.high[2 * p][h] + 4 * (8 * half + r), *odd = from.high[2 * p + 1][h] + 4 * (8 * half + r);
            for (int f = 0; f < 4; f++) {
                const uint32_t both = four_codes(even, low + 4 * h, f) | four_codes(odd, low + 8 + 4 * h, f) << 4;
                const int at = 16 * h + 4 * f; // of a row's 32 bytes
                memcpy(to + at / STEP * 8 * STEP + r * STEP + at % STEP, &both, 4);
            }
        }
    }
}

#endif

// rows 8 half on of a group as ggml's eight interleaved rows, STEP bytes of each in turn
template <int STEP> void interleave(const matrix & w, int64_t group, int half, block_q4_Kx8 * to) {
    const plm_planes_block * from = w.blocks(group);
    for (int64_t b = 0; b < w.n_blocks; b++, from++, to++) {
        memcpy(to->d, from->d + 8 * half, sizeof(to->d));
        memcpy(to->dmin, from->dmin + 8 * half, sizeof(to->dmin));
        uint8_t scale[8][16], min[8][16];
        unpack_six_bits(from->scale_low, from->scale_high, scale);
        unpack_six_bits(from->min_low, from->min_high, min);
        for (int j = 0; j < 8; j++) {
            const uint8_t *s = scale[j] + 8 * half, *m = min[j] + 8 * half;
            uint8_t * q = to->scales + 12 * j;
            for (int i = 0; i < 4; i++) {
                q[i] = s[i] | (s[i + 4] & 48) << 2;
                q[i + 4] = m[i] | (m[i + 4] & 48) << 2;
                q[i + 8] = (s[i + 4] & 15) | (m[i + 4] & 15) << 4;
            }
        }
        const uint8_t * low = w.low(group * PLM_PLANES_ROWS + 8 * half) + b * PLM_PLANES_LOW;
        for (int p = 0; p < 4; p++) {
            interleave_codes<STEP>(*from, half, p, low + 16 * p, w.n_blocks * PLM_PLANES_LOW, to->qs + 256 * p);
        }
    }
}

// The tokens as the products above take them; thread ith of nth does its share. Four together where there are four.
inline void quantize(batches how, const char * x, size_t stride, int64_t n, int64_t n_tokens, char * to, int ith, int nth) {
    const size_t size = n / QK_K * sizeof(block_q8_K);
    const int64_t n_fours = how == batches::by_rows ? 0 : n_tokens / 4 * 4;
    for (int64_t t = 4 * ith; t < n_fours; t += 4 * nth) { // four rows follow each other: x is contiguous
        (how == batches::by_8x8 ? ggml_quantize_mat_q8_K_4x8 : ggml_quantize_mat_q8_K_4x4)((const float *) (x + t * stride), to + t * size, n);
    }
    for (int64_t t = n_fours + ith; t < n_tokens; t += nth) {
        plm_quantize_row_q8_K((const float *) (x + t * stride), to + t * size, n);
    }
}

// y[t * stride + r] of sixteen rows and all tokens; `scratch` holds sixteen rows
inline void batch_of_group(batches how, const matrix & w, int64_t group, const char * tokens, int64_t n_tokens, float * y, int64_t stride, char * scratch) {
    const int n = int(w.n_blocks * QK_K);
    const size_t size = w.n_blocks * sizeof(block_q8_K);
    if (how == batches::by_rows) {
        plm_planes_unpack(w.blocks(group), w.low(group * PLM_PLANES_ROWS), scratch, n, PLM_PLANES_ROWS);
        for (int64_t t = 0; t < n_tokens; t++) {
            for (int r = 0; r < PLM_PLANES_ROWS; r++) {
                ggml_vec_dot_q4_K_q8_K(n, y + t * stride + r, 0, scratch + r * w.n_blocks * sizeof(block_q4_K), 0, tokens + t * size, 0, 1);
            }
        }
        return;
    }
    const int64_t n_fours = n_tokens / 4 * 4;
    block_q4_Kx8 * rows = (block_q4_Kx8 *) scratch; // of the group's first half, then of the second
    for (int half = 0; half < 2; half++) {
        if (how == batches::by_8x8) {
            interleave<8>(w, group, half, rows + half * w.n_blocks);
#if !defined(PLM_AVX512) && !defined(PLM_AVX2)
        } else {
            interleave<4>(w, group, half, rows + half * w.n_blocks);
#endif
        }
    }
    if (how == batches::by_8x8) {
        plm_gemm_q4_K_8x8_q8_K(n, y, stride, rows, tokens, int(n_fours), PLM_PLANES_ROWS);
#if !defined(PLM_AVX512) && !defined(PLM_AVX2)
    } else {
        ggml_gemm_q4_K_8x4_q8_K(n, y, stride, rows, tokens, int(n_fours), PLM_PLANES_ROWS);
#endif
    }
    for (int64_t t = n_fours; t < n_tokens; t++) {
        (how == batches::by_8x8 ? plm_gemv_q4_K_8x8_q8_K : ggml_gemv_q4_K_8x4_q8_K)(n, y + t * stride, stride, rows, tokens + t * size, 1, PLM_PLANES_ROWS);
    }
}

} // namespace
} // namespace planes
