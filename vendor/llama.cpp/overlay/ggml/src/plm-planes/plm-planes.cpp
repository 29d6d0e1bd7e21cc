#include "plm-planes.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include <string.h>

// a block of q4_K begins with d and dmin
static_assert(sizeof(plm_planes_block) + PLM_PLANES_ROWS * PLM_PLANES_LOW == PLM_PLANES_ROWS * sizeof(block_q4_K), "as many bytes");

namespace {

// the scales and minima of one block of q4_K, six bits each
struct sixes {
    uint8_t scale[8], min[8];
};

sixes unpack_sixes(const uint8_t * q) {
    sixes s;
    for (int j = 0; j < 4; j++) {
        s.scale[j] = q[j] & 63;
        s.min[j] = q[j + 4] & 63;
        s.scale[j + 4] = (q[j + 8] & 15) | (q[j] >> 6 << 4);
        s.min[j + 4] = (q[j + 8] >> 4) | (q[j + 4] >> 6 << 4);
    }
    return s;
}

void pack_sixes(const sixes & s, uint8_t * q) {
    for (int j = 0; j < 4; j++) {
        q[j] = s.scale[j] | (s.scale[j + 4] >> 4 << 6);
        q[j + 4] = s.min[j] | (s.min[j + 4] >> 4 << 6);
        q[j + 8] = (s.scale[j + 4] & 15) | (s.min[j + 4] & 15) << 4;
    }
}

// item of a table of 128 numbers of six bits
void put(uint8_t * low, uint8_t * high, int item, uint8_t value) {
    low[item % 64] |= (value & 15) << (item < 64 ? 0 : 4);
    high[item % 32] |= (value >> 4) << (2 * (item / 32));
}

uint8_t get(const uint8_t * low, const uint8_t * high, int item) {
    return (low[item % 64] >> (item < 64 ? 0 : 4) & 15) | (high[item % 32] >> (2 * (item / 32)) & 3) << 4;
}

// where value i of a sub-block lies: byte of a row's eight, and first bit
struct place {
    int half, byte, bit;
};

place place_of(int i) { return { i / 16, i % 4, 2 * (i % 16 / 4) }; }

// the code of value i of sub-block j
uint8_t code_of(const block_q4_K & x, int j, int i) { return x.qs[32 * (j / 2) + i] >> (4 * (j % 2)) & 15; }

} // namespace

bool plm_planes_fits(ggml_type type, int64_t n, int64_t n_rows) {
    return type == GGML_TYPE_Q4_K && n % QK_K == 0 && n_rows % PLM_PLANES_ROWS == 0;
}

void plm_planes_pack(const void * rows, void * blocks, void * lows, int64_t n, int64_t n_rows) {
    const int64_t n_blocks = n / QK_K;
    const block_q4_K * from = (const block_q4_K *) rows;
    for (int64_t row = 0; row < n_rows; row++) {
        const int r = row % PLM_PLANES_ROWS;
        for (int64_t b = 0; b < n_blocks; b++) {
            const block_q4_K & x = from[row * n_blocks + b];
            plm_planes_block & to = ((plm_planes_block *) blocks)[row / PLM_PLANES_ROWS * n_blocks + b];
            uint8_t * low = (uint8_t *) lows + (row * n_blocks + b) * PLM_PLANES_LOW;
            if (r == 0) {
                memset(&to, 0, sizeof(to));
            }
            memset(low, 0, PLM_PLANES_LOW);
            memcpy(&to.d[r], &x, 2);
            memcpy(&to.dmin[r], (const char *) &x + 2, 2);
            const sixes s = unpack_sixes(x.scales);
            for (int j = 0; j < 8; j++) {
                put(to.scale_low, to.scale_high, 16 * j + r, s.scale[j]);
                put(to.min_low, to.min_high, 16 * j + r, s.min[j]);
                for (int i = 0; i < 32; i++) {
                    const place at = place_of(i);
                    const uint8_t code = code_of(x, j, i);
                    to.high[j][at.half][4 * r + at.byte] |= (code >> 2) << at.bit;
                    low[8 * j + 4 * at.half + at.byte] |= (code & 3) << at.bit;
                }
            }
        }
    }
}

void plm_planes_unpack(const void * blocks, const void * lows, void * rows, int64_t n, int64_t n_rows) {
    const int64_t n_blocks = n / QK_K;
    block_q4_K * to = (block_q4_K *) rows;
    for (int64_t row = 0; row < n_rows; row++) {
        const int r = row % PLM_PLANES_ROWS;
        for (int64_t b = 0; b < n_blocks; b++) {
            const plm_planes_block & from = ((const plm_planes_block *) blocks)[row / PLM_PLANES_ROWS * n_blocks + b];
            const uint8_t * low = (const uint8_t *) lows + (row * n_blocks + b) * PLM_PLANES_LOW;
            block_q4_K & x = to[row * n_blocks + b];
            memset(&x, 0, sizeof(x));
            memcpy(&x, &from.d[r], 2);
            memcpy((char *) &x + 2, &from.dmin[r], 2);
            sixes s;
            for (int j = 0; j < 8; j++) {
                s.scale[j] = get(from.scale_low, from.scale_high, 16 * j + r);
                s.min[j] = get(from.min_low, from.min_high, 16 * j + r);
                for (int i = 0; i < 32; i++) {
                    const place at = place_of(i);
                    const uint8_t code = (from.high[j][at.half][4 * r + at.byte] >> at.bit & 3) << 2 | (low[8 * j + 4 * at.half + at.byte] >> at.bit & 3);
                    x.qs[32 * (j / 2) + i] |= code << (4 * (j % 2));
                }
            }
            pack_sixes(s, x.scales);
        }
    }
}
