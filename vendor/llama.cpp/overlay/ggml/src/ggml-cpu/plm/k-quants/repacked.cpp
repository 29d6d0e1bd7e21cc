#include "repacked.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "repack.h"

#include "../x86-features.h"

#if defined(PLM_AVX512_VNNI)
#include "repacked-512.h"
#define PLM_REPACKED
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "repacked-256.h"
#define PLM_REPACKED
#endif
#include "../simd.h"

#if defined(PLM_REPACKED)

namespace {

// Eight rows on. In 512 bits it was not measured, and what the hardware foresees was as fast as the memory.
inline void ask_for_later(const block_q4_Kx8 * x, int blocks) {
#if defined(PLM_AVX2)
    const char * later = (const char *) (x + blocks);
    for (size_t i = 0; i < sizeof(*x); i += 64) {
        simd::prefetch_near(later + i);
    }
#else
    (void) x;
    (void) blocks;
#endif
}

} // namespace

void plm_gemv_q4_K_8x8_q8_K(int n, float * s, size_t, const void * vx, const void * vy, int, int nc) {
    const int blocks = n / QK_K;
    const block_q8_K * y = (const block_q8_K *) vy;
    for (int j = 0; j < nc; j += 8) {
        const block_q4_Kx8 * x = (const block_q4_Kx8 *) vx + (size_t) (j / 8) * blocks;
        products<1> rows;
        for (int b = 0; b < blocks; b++) {
            const __m128i * bsums = (const __m128i *) y[b].bsums; // of 16 values
            int16_t sums[4][2];
            _mm_storeu_si128((__m128i *) sums, _mm_hadd_epi16(_mm_loadu_si128(bsums), _mm_loadu_si128(bsums + 1)));
            ask_for_later(x + b, blocks);
            rows.add(x[b], y[b].qs, sums, &y[b].d);
        }
        rows.store(0, s + j);
    }
}

namespace {

// four vectors' sums of 32 values, of block y
struct sums_of_four {
    int16_t of[4][8];

    explicit sums_of_four(const block_q8_Kx4 & y) {
        for (int p = 0; p < 4; p++) { // of 16 values: four of each token
            const __m128i * bsums = (const __m128i *) (y.bsums + 16 * p);
            _mm_storeu_si128((__m128i *) of[p], _mm_hadd_epi16(_mm_loadu_si128(bsums), _mm_loadu_si128(bsums + 1)));
        }
    }
};

} // namespace

void plm_gemm_q4_K_8x8_q8_K(int n, float * s, size_t bs, const void * vx, const void * vy, int nr, int nc) {
    const int blocks = n / QK_K;
    int j = 0;
#if defined(PLM_AVX512_VNNI)
    for (; j + 16 <= nc; j += 16) { // these rows stay in the first cache for all tokens
        const block_q4_Kx8 *x = (const block_q4_Kx8 *) vx + (size_t) (j / 8) * blocks, *x2 = x + blocks;
        for (int t = 0; t < nr; t += 4) {
            const block_q8_Kx4 * y = (const block_q8_Kx4 *) vy + (size_t) (t / 4) * blocks;
            products_of_two<4> rows;
            for (int b = 0; b < blocks; b++) {
                rows.add(x[b], x2[b], y[b].qs, sums_of_four(y[b]).of, y[b].d);
            }
            for (int i = 0; i < 4; i++) {
                rows.store(i, s + (t + i) * bs + j);
            }
        }
    }
#endif
    for (; j < nc; j += 8) { // and these
        const block_q4_Kx8 * x = (const block_q4_Kx8 *) vx + (size_t) (j / 8) * blocks;
        for (int t = 0; t < nr; t += 4) {
            const block_q8_Kx4 * y = (const block_q8_Kx4 *) vy + (size_t) (t / 4) * blocks;
            products<4> rows;
            for (int b = 0; b < blocks; b++) {
                rows.add(x[b], y[b].qs, sums_of_four(y[b]).of, y[b].d);
            }
            for (int i = 0; i < 4; i++) {
                rows.store(i, s + (t + i) * bs + j);
            }
        }
    }
}

#else

void plm_gemv_q4_K_8x8_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc) {
    ggml_gemv_q4_K_8x8_q8_K(n, s, bs, x, y, nr, nc);
}

void plm_gemm_q4_K_8x8_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc) {
    ggml_gemm_q4_K_8x8_q8_K(n, s, bs, x, y, nr, nc);
}

#endif
