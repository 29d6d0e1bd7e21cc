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
    std::atomic<uint64_t> read{ 0 };

    void reset() { total = read = 0; }
    void add(uint64_t more_total, uint64_t more_read) {
        total.fetch_add(more_total, std::memory_order_relaxed);
        read.fetch_add(more_read, std::memory_order_relaxed);
    }
};
counts down[LAYERS], low[LAYERS], head;

bool skips = true;

// Nobody can call these functions inside a program of llama.cpp's own. If PLM_EDGE_TELL_ROWS is set, the library prints
// the counts when such a program ends: one line a layer on stderr, "plm-edge rows: LAYER ROWS READ".
struct last_words {
    ~last_words() {
        if (getenv("PLM_EDGE_TELL_ROWS") == nullptr) {
            return;
        }
        for (int layer = 0; layer < LAYERS; layer++) {
            const uint64_t total = down[layer].total, read = down[layer].read;
            if (total > 0) {
                fprintf(stderr, "plm-edge rows: %d %" PRIu64 " %" PRIu64 "\n", layer, total, read);
            }
        }
    }
} at_end;

bool get(const counts * table, int layer, uint64_t * total, uint64_t * read) {
    if (layer < 0 || layer >= LAYERS) {
        return false;
    }
    *total = table[layer].total;
    *read = table[layer].read;
    return true;
}

void add(counts * table, const char * weight, uint64_t total, uint64_t read) {
    if (strncmp(weight, "blk.", 4) != 0) {
        return;
    }
    const long layer = strtol(weight + 4, nullptr, 10);
    if (layer >= 0 && layer < LAYERS) {
        table[layer].add(total, read);
    }
}

} // namespace

int plm_edge_sparsity_layers(void) { return LAYERS; }

void plm_edge_sparsity_reset(void) {
    for (int layer = 0; layer < LAYERS; layer++) {
        down[layer].reset();
        low[layer].reset();
    }
    head.reset();
}

bool plm_edge_sparsity_get(int layer, uint64_t * rows_total, uint64_t * rows_active) { return get(down, layer, rows_total, rows_active); }

bool plm_edge_planes_get(int layer, uint64_t * rows_total, uint64_t * rows_read) { return get(low, layer, rows_total, rows_read); }

void plm_edge_head_get(uint64_t * rows_total, uint64_t * rows_read) {
    *rows_total = head.total;
    *rows_read = head.read;
}

void plm_edge_sparsity_sum(uint64_t * rows_total, uint64_t * rows_active) {
    *rows_total = 0;
    *rows_active = 0;
    for (const counts & layer : down) {
        *rows_total += layer.total;
        *rows_active += layer.read;
    }
}

void plm_edge_sparsity_skip(bool skip) { skips = skip; }

bool plm_edge_sparsity_skips(void) { return skips; }

void plm_edge_sparsity_add(const char * weight, uint64_t rows_total, uint64_t rows_active) { add(down, weight, rows_total, rows_active); }

void plm_edge_planes_add(const char * weight, uint64_t rows_total, uint64_t rows_read) { add(low, weight, rows_total, rows_read); }

void plm_edge_head_add(uint64_t rows_total, uint64_t rows_read) { head.add(rows_total, rows_read); }
