#pragma once

// Rows of a KV cache: out of it for some positions of a sequence, and back for a whole sequence.

#include "llama.h"

#include <cstddef>
#include <cstdint>
#include <vector>

class llama_kv_cache;

namespace plm_prompt_cache_impl {

// What a cache holds of a token: a row of each column. A layer's keys are a column, and its values if it has any.
struct layout {
    struct column {
        int64_t type; // ggml_type
        int64_t row;  // bytes
        bool operator==(const column & o) const { return type == o.type && row == o.row; }
    };
    uint32_t v_trans = 0;
    uint32_t n_keys = 0; // columns that are keys; they come first
    std::vector<column> columns;

    bool operator==(const layout & o) const { return v_trans == o.v_trans && n_keys == o.n_keys && columns == o.columns; }
    size_t token_bytes() const;
};

// Copies the rows of positions [first, first + count) of a sequence, column by column.
// Returns false if it lacks one of them.
bool take_rows(const llama_kv_cache & cache, llama_seq_id seq, int32_t first, int32_t count, layout & of, std::vector<uint8_t> & rows);

// the first n_used tokens of rows that were taken for n_rows tokens
struct piece {
    const uint8_t * rows;
    int32_t n_rows, n_used;
};

// Makes a sequence hold these pieces, in order, from position 0. Returns false where they find no room, or are of
// another cache's kind; the sequence is then empty.
bool put_rows(llama_kv_cache & cache, llama_seq_id seq, const layout & of, const std::vector<piece> & pieces);

} // namespace plm_prompt_cache_impl
