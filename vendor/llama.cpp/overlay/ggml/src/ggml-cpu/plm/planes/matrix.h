#pragma once

#include "plm-planes/plm-planes.h"

#include <cstdint>

namespace planes {

// a matrix in planes, n_rows rows of 256 n_blocks values
struct matrix {
    const char * data;
    int64_t n_blocks, n_rows;

    const plm_planes_block * blocks(int64_t group) const { return (const plm_planes_block *) data + group * n_blocks; }
    const uint8_t * low(int64_t row) const {
        return (const uint8_t *) ((const plm_planes_block *) data + n_rows / PLM_PLANES_ROWS * n_blocks) + row * n_blocks * PLM_PLANES_LOW;
    }
};

} // namespace planes
