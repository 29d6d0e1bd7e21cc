#pragma once

// The inner loops of MUL_MAT_SPARSE_T, by type of W.

#include "ggml.h"

#include <cstddef>
#include <cstdint>

namespace sparse_t {

// columns of a panel: the sums of one token over a panel stay in registers
constexpr int PANEL = 64;

// entries behind the last of an index list that must be readable and valid rows (they are prefetched)
constexpr int AHEAD = 16;

struct kernels {
    int n_block;  // columns that must be computed together
    bool rounded; // sum_rows rounds what it multiplies quants by to 15 bits (sum-int.h)

    // y[c] += sum over k in ascending order of x[k] * W[index[k]][c], c in [0, n_columns), n_columns a whole
    // number of blocks (but for plain floats: any). w points to the first column of row 0; row_size in bytes.
    // Null for types that are read by way of ggml's to_float.
    void (*sum_rows)(const char * w, size_t row_size, const int32_t * index, const float * x, int n, float * y, int n_columns);

    // The same for up to 8 tokens, each of which uses most of the rows: y[t][c] += sum of x[t][index[k]] W[index[k]][c],
    // with max(0, x)^2 for x where relu_sqr. What quants are multiplied by is rounded to 8 bits, as a dense product
    // rounds x. A row whose x is 0 adds nothing, whatever it holds. `following` is where w of the next call will point, or
    // null: its first rows are asked for before this call ends. Null where there is no such kernel.
    void (*sum_shared)(const char * w, size_t row_size, const int32_t * index, int n, const float * const * x, bool relu_sqr, int n_tokens, float * const * y,
                       int n_columns, const char * following);

    // The values of a row as floats, in panels: column c goes to out[c / PANEL * panel_stride + c % PANEL].
    // Writes whole panels; what follows n_columns (at most 256) in the last one is any finite number.
    void (*unpack)(ggml_type type, const char * row, int n_columns, float * out, size_t panel_stride);
};

// Never fails for a type that the op supports.
kernels find_kernels(ggml_type type);

// y[c] += sum over k in ascending order of x[k] * panel[index[k] - first][c], c in [0, n_columns)
void sum_panel(const float * panel, int32_t first, const int32_t * index, const float * x, int n, float * y, int n_columns);

// Which rows of W the values of x select, and by what each is multiplied.
// relu_sqr: values are max(0, x)^2, else x itself. A value that is not 0 selects its row; so does NaN.
// index, value: room for n + 16 entries. Returns how many were selected.
// starts[i]: how many of them lie before row 32 i, and mask[i]: those of the rows 32 i .. 32 i + 31, a bit each;
// both may be null.
int32_t select(const float * x, int32_t n, bool relu_sqr, int32_t * index, float * value, int32_t * starts, uint32_t * mask);

// The same for a squared ReLU that selects every row: zeros are values like others. starts and mask are not null.
int32_t select_all(const float * x, int32_t n, int32_t * index, float * value, int32_t * starts, uint32_t * mask);

} // namespace sparse_t
