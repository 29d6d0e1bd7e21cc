#include "coarse.h"

#include "../alone.h"
#include "../planes/lanes.h"

#include <algorithm>

namespace head {
namespace {

using namespace planes;

template <int MAX_TOKENS>
void groups(const plm_head_block * codes, int64_t n_blocks, const float * bias, int64_t n_rows, int64_t first, int64_t last, const token * x, int64_t n_tokens, float * y, int64_t stride, float * most) {
    alignas(16) static const uint8_t ones[16] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    const plm_head_block * block = codes + first * n_blocks;
    for (int64_t g = first; g < last; g++) {
        f32x16 total[MAX_TOKENS];
        for (int64_t t = 0; t < n_tokens; t++) {
            total[t] = splat(x[t].base);
        }
        for (int64_t b = 0; b < n_blocks; b++, block++) {
            const f32x16 scale = load_f16(block->scale);
            for (int64_t t = 0; t < n_tokens; t++) {
                const block_q8_K & with = x[t].blocks[b];
                i32x16 sum = no_sums();
                for (int j = 0; j < 8; j++) {
                    if (t == 0) {
                        const char * later = (const char *) (block + 8) + 128 * j;
                        simd::prefetch(later);
                        simd::prefetch(later + 64);
                    }
                    sum = add_upper(sum, block->codes[j], with.qs + 32 * j, ones);
                }
                const f32x16 values = fma(floats(sum), splat(2), splat(x[t].offsets[b]));
                total[t] = fma(values, scale * splat(with.d), total[t]);
            }
        }
        const int64_t row = g * PLM_HEAD_ROWS, n = std::min<int64_t>(PLM_HEAD_ROWS, n_rows - row);
        for (int64_t t = 0; t < n_tokens; t++) {
            float c[PLM_HEAD_ROWS];
            store(c, total[t]);
            float * to = y + t * stride + row;
            float largest = most[t];
            for (int64_t r = 0; r < n; r++) {
                to[r] = c[r] + bias[row + r];
                largest = std::max(largest, to[r]);
            }
            most[t] = largest;
        }
    }
}

} // namespace

void coarse(const plm_head_block * codes, int64_t n_blocks, const float * bias, int64_t n_rows, int64_t first, int64_t last, const token * x, int64_t n_tokens, float * y, int64_t stride, float * most) {
    (n_tokens == 1 ? groups<1> : groups<PLM_ALONE>) (codes, n_blocks, bias, n_rows, first, last, x, n_tokens, y, stride, most);
}

} // namespace head
