#include "input.h"

#include "../k-quants/quantize-row.h"

#include <cstring>

namespace planes {

void prepare(const float * x, int64_t n, input * to) {
    block_q8_K y;
    for (int64_t b = 0; b < n / QK_K; b++, to++) {
        plm_quantize_row_q8_K(x + b * QK_K, &y, QK_K);
        to->d = y.d;
        memcpy(to->q, y.qs, QK_K);
        for (int j = 0; j < 8; j++) {
            int32_t squares = 0;
            for (int i = 0; i < 32; i++) {
                squares += y.qs[32 * j + i] * y.qs[32 * j + i];
            }
            to->squares[j] = int16_t((squares + 15) / 16);
            to->sums[j] = int16_t(y.bsums[2 * j] + y.bsums[2 * j + 1]);
        }
        for (int at = 0; at < QK_K; at += 4) { // value 16 h + 4 f of sub-block j
            memcpy(to->fields[at % 16 / 4] + at / 16 * 4, y.qs + at, 4);
        }
    }
}

} // namespace planes
