// Attention of PLM's prompts: keys of 192 and values of 128 columns, of each query head its own.

#include "../fattn-mma-f16.cuh"

DECL_FATTN_MMA_F16_CASE(192, 128, 8, 1);
DECL_FATTN_MMA_F16_CASE(192, 128, 16, 1);
DECL_FATTN_MMA_F16_CASE(192, 128, 32, 1);
DECL_FATTN_MMA_F16_CASE(192, 128, 64, 1);
