#pragma once

// How many query heads of one KV head a workgroup of flash attention takes, so that a cached row is read once for all of them.
// Upstream takes all or none, and none where a block of rows is smaller than the group: with fewer than 1024 tokens cached and
// on Intel's GPUs it has 8, for which PLM's 16 heads are too many.

#include <algorithm>
#include <cstdint>

// For blocks of rows that a group is to fit, so many cached tokens count at the least: with fewer the block would be smaller.
inline uint32_t ggml_vk_plm_tokens(uint32_t n_heads, uint32_t n_kv) { return n_heads > 8 ? std::max(n_kv, 1024u) : n_kv; }

// All n_heads, else the largest part by halves that fits; 1: each reads for itself. `block_rows(n)` is a block's size for n rows.
template <typename block_rows_t>
uint32_t ggml_vk_plm_heads_together(uint32_t n_heads, const block_rows_t & block_rows) {
    const uint32_t most = std::min(block_rows(512u), 32u);
    while (n_heads > 1 && (n_heads > most || block_rows(n_heads) < n_heads)) {
        n_heads = n_heads % 2 == 0 ? n_heads / 2 : 1;
    }
    return n_heads;
}
