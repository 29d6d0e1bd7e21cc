// Cached rows of each type to f32.

#include "tile.h"

namespace mla {

static void f16_to_f32(const ggml_fp16_t * row, float * out, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        store(out + i, from_f16((const uint16_t *) row + i));
    }
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
