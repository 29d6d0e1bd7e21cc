#include "counts.h"

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int LAYERS = 512; // as many as llama.cpp allows a model

struct counts {
    std::atomic<uint64_t> total{ 0 };
    std::atomic<uint64_t> active{ 0 };
};
counts table[LAYERS];

bool skips = true;

// Nobody can call these functions inside a program of llama.cpp's own. If PLM_EDGE_TELL_ROWS is set, the library prints
// the counts when such a program ends: one line a layer on stderr, "plm-edge rows: LAYER ROWS READ".
struct last_words {
    ~last_words() {
        if (getenv("PLM_EDGE_TELL_ROWS") == nullptr) {
            return;
        }
        for (int layer = 0; layer < LAYERS; layer++) {
            const uint64_t total = table[layer].total, active = table[layer].active;
            if (total > 0) {
                fprintf(stderr, "plm-edge rows: %d %" PRIu64 " %" PRIu64 "\n", layer, total, active);
            }
        }
    }
} at_end;

} // namespace

int plm_edge_sparsity_layers(void) { return LAYERS; }

void plm_edge_sparsity_reset(void) {
    for (counts & layer : table) {
        layer.total = 0;
        layer.active = 0;
    }
}

bool plm_edge_sparsity_get(int layer, uint64_t * rows_total, uint64_t * rows_active) {
    if (layer < 0 || layer >= LAYERS) {
        return false;
    }
    *rows_total = table[layer].total;
    *rows_active = table[layer].active;
    return true;
}

void plm_edge_sparsity_sum(uint64_t * rows_total, uint64_t * rows_active) {
    *rows_total = 0;
    *rows_active = 0;
    for (const counts & layer : table) {
        *rows_total += layer.total;
        *rows_active += layer.active;
    }
}

void plm_edge_sparsity_skip(bool skip) { skips = skip; }

bool plm_edge_sparsity_skips(void) { return skips; }

void plm_edge_sparsity_add(const char * weight, uint64_t rows_total, uint64_t rows_active) {
    if (strncmp(weight, "blk.", 4) != 0) {
        return;
    }
    const long layer = strtol(weight + 4, nullptr, 10);
    if (layer >= 0 && layer < LAYERS) {
        table[layer].total.fetch_add(rows_total, std::memory_order_relaxed);
        table[layer].active.fetch_add(rows_active, std::memory_order_relaxed);
    }
}
