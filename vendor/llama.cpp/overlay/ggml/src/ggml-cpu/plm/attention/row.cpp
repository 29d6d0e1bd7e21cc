// Cached rows of each type to f32.

#include "../simd.h"
#include "tile.h"

namespace mla {

static void f16_to_f32(const ggml_fp16_t * row, float * out, int64_t n) {
    int64_t i = 0;
#if defined(PLM_LANES_AVX512)
    for (; i + 16 <= n; i += 16) {
        store(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) (row + i))));
    }
#elif defined(PLM_LANES_AVX2)
    for (; i + 8 <= n; i += 8) {
        store(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) (row + i))));
    }
#elif defined(PLM_LANES_NEON)
    for (; i + 4 <= n; i += 4) {
        store(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *) row + i))));
    }
#endif
    for (; i < n; i++) {
        out[i] = ggml_fp16_to_fp32(row[i]);
    }
}

void row_to_f32(ggml_type type, const void * row, float * out, int64_t n) {
    switch (type) {
        case GGML_TYPE_F32:
            memcpy(out, row, n * sizeof(float));
            break;
        case GGML_TYPE_F16:
            f16_to_f32((const ggml_fp16_t *) row, out, n);
            break;
        case GGML_TYPE_BF16: {
            const uint16_t * bits = (const uint16_t *) row;
            for (int64_t i = 0; i < n; i++) {
                const uint32_t x = uint32_t(bits[i]) << 16;
                memcpy(out + i, &x, sizeof(x));
            }
            break;
        }
        default:
            ggml_get_type_traits(type)->to_float(row, out, n);
    }
}

} // namespace mla
