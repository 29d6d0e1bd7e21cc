// The coarse form of an output matrix, from which a product in two stages takes all logits but the likeliest.
//
// For the hidden state h of a token the logit of row i is E_i h. Let z = P (h - mean), where P is the basis that the
// converter made of E and of hidden states of a text (converters/head/), so that E_i h is about
//
//   bias_i + m h + sum over columns k of w_ik s_k z_j(k)
//
// with w_ik of two bits: a code of 0 to 3 stands for (2 code - 3) times the scale of its row and block of 256 columns. A
// z_j may have several columns, each for what the ones before it left over, or none. Of what is left over, the mean square
// over rows is known for each z_j; so the variance of an error is known before any exact logit is.
//
// Rows lie in groups of sixteen, the last one filled up with zeros:
//
//   plm_head_block [ceil(n_rows / 16)][n_columns / 256]

#pragma once

#include "ggml.h"

#define PLM_HEAD_ROWS 16
#define PLM_HEAD_COLUMNS 256

// 256 columns of sixteen rows
struct plm_head_block {
    ggml_fp16_t scale[PLM_HEAD_ROWS];
    // [sub-block][half][4 r + b]: bits 2f and 2f + 1 belong to column 16 half + 4 f + b of the sub-block, as in plm-planes.h
    uint8_t codes[8][2][64];
};
