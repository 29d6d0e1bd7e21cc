// Our quantisers against ggml's reference ones, bit for bit, in every width that this CPU has. Prints a sum over all
// bits, which is the same on every machine.

#include "ggml.h"
#include "plm-quants/plm-quants.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "ggml-quants.h"

namespace {

constexpr int64_t BLOCKS = 512, VALUES = BLOCKS * QK_K;

uint32_t random_bits(uint64_t & state) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t) (state >> 33);
}

// Near to normally distributed, without a mathematical library, which differs between machines.
float random_normal(uint64_t & state) {
    int32_t sum = 0;
    for (int i = 0; i < 8; i++) {
        sum += (int32_t) (random_bits(state) >> 10) - (1 << 20);
    }
    return (float) sum * 0x1p-23f;
}

// Runs of `run` values, each odd in another way; `scale` for the others.
std::vector<float> values(int run, float scale) {
    std::vector<float> x(VALUES);
    uint64_t state = 1 + run;
    for (int64_t at = 0; at < VALUES; at += run) {
        const uint32_t kind = random_bits(state) % 16;
        for (int i = 0; i < run; i++) {
            float v = random_normal(state) * scale;
            switch (kind) {
                case 0: v = 0; break;
                case 1: v = scale; break;
                case 2: v = v < 0 ? -v : v; break;
                case 3: v = v > 0 ? -v : v; break;
                case 4: v *= 0x1p-130f; break;
                case 5: v *= 0x1p100f; break;
                case 6: v = i == run / 2 ? 100.f : v; break;
                case 7: v = -0.f; break;
                case 8: v = 1.f + (float) i * 0x1p-23f; break;
                case 9: v *= 0x1p-49f; break;
            }
            x[at + i] = v;
        }
    }
    return x;
}

struct Type {
    ggml_type type;
    size_t size;
    void (*reference)(const float * x, void * y, int64_t n);
};

const Type TYPES[] = {
    { GGML_TYPE_Q2_K, sizeof(block_q2_K), [](const float * x, void * y, int64_t n) { quantize_row_q2_K_ref(x, (block_q2_K *) y, n); } },
    { GGML_TYPE_Q4_K, sizeof(block_q4_K), [](const float * x, void * y, int64_t n) { quantize_row_q4_K_ref(x, (block_q4_K *) y, n); } },
    { GGML_TYPE_Q5_K, sizeof(block_q5_K), [](const float * x, void * y, int64_t n) { quantize_row_q5_K_ref(x, (block_q5_K *) y, n); } },
    { GGML_TYPE_Q6_K, sizeof(block_q6_K), [](const float * x, void * y, int64_t n) { quantize_row_q6_K_ref(x, (block_q6_K *) y, n); } },
};

} // namespace

int main() {
    uint64_t sum = 14695981039346656037ull;
    int versions = 0, wrong = 0;
    for (const int run : { 8, 16, 32, 256 }) {
        for (const float scale : { 0.02f, 1e6f, 1e-20f }) {
            const std::vector<float> x = values(run, scale);
            for (const Type & type : TYPES) {
                const size_t bytes = type.size * BLOCKS;
                std::vector<uint8_t> expected(bytes), found(bytes);
                type.reference(x.data(), expected.data(), VALUES);
                for (const uint8_t byte : expected) {
                    sum = (sum ^ byte) * 1099511628211ull;
                }
                for (const int lanes : { 0, 4, 8, 16 }) {
                    memset(found.data(), 0xA5, bytes);
                    if (!plm_edge_quantize(type.type, x.data(), found.data(), VALUES, lanes)) {
                        continue;
                    }
                    versions++;
                    if (memcmp(expected.data(), found.data(), bytes) != 0) {
                        printf("%s, %d lanes, runs of %d values, %g: other bits\n", ggml_type_name(type.type), lanes, run, scale);
                        wrong++;
                    }
                }
            }
        }
    }
    printf("%d versions, %d wrong, sum %016llx\n", versions, wrong, (unsigned long long) sum);
    return versions == 0 || wrong != 0;
}
