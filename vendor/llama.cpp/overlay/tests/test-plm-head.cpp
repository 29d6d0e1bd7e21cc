// Logits in two stages (ggml-cpu/plm/head/head.h): coarse logits against their codes in double precision, and which of them
// are made exact.
//
//   test-plm-head
//
// Prints "all good", or what differs, and exits with 1.

#include "ggml-cpu/plm/head/coarse.h"
#include "ggml-cpu/plm/head/rule.h"

#include "ggml-impl.h"
#include "ggml-quants.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

// what quantize-row.cpp calls where it has no version of its own
extern "C" void quantize_row_q8_K(const float * x, void * y, int64_t k) { quantize_row_q8_K_ref(x, (block_q8_K *) y, k); }

using namespace head;

namespace {

int failures = 0;

void check(bool good, const char * what, long where) {
    if (!good) {
        printf("%ld: %s\n", where, what);
        failures++;
    }
}

// rows of random codes, as many groups as it takes
struct matrix {
    int64_t n_rows, n_blocks, n_groups;
    std::vector<plm_head_block> blocks;
    std::vector<float> bias;

    matrix(int64_t n_rows, int64_t n_blocks, std::mt19937 & random)
        : n_rows(n_rows), n_blocks(n_blocks), n_groups((n_rows + PLM_HEAD_ROWS - 1) / PLM_HEAD_ROWS), blocks(n_groups * n_blocks), bias(n_rows) {
        std::normal_distribution<float> normal;
        for (plm_head_block & b : blocks) {
            for (ggml_fp16_t & s : b.scale) {
                s = GGML_FP32_TO_FP16(0.01f + fabsf(normal(random)));
            }
            for (uint8_t * p = &b.codes[0][0][0]; p < (uint8_t *) b.codes + sizeof(b.codes); p++) {
                *p = uint8_t(random());
            }
        }
        for (float & b : bias) {
            b = normal(random);
        }
    }

    // of one row and block, times its scale; also how large the sum could be
    double dot(int64_t row, int64_t b, const block_q8_K & x, double * magnitude) const {
        const plm_head_block & from = blocks[row / PLM_HEAD_ROWS * n_blocks + b];
        const int r = row % PLM_HEAD_ROWS;
        double sum = 0;
        for (int i = 0; i < PLM_HEAD_COLUMNS; i++) {
            const int code = from.codes[i / 32][i % 32 / 16][4 * r + i % 4] >> (2 * (i % 16 / 4)) & 3;
            sum += (2 * code - 3) * x.qs[i];
        }
        const double of_one = double(GGML_FP16_TO_FP32(from.scale[r])) * x.d;
        *magnitude += fabs(of_one) * 256 * 3 * 127;
        return of_one * sum;
    }
};

void test_coarse(int64_t n_rows, int64_t n_blocks) {
    std::mt19937 random(n_rows);
    std::normal_distribution<float> normal;
    const matrix m(n_rows, n_blocks, random);

    constexpr int64_t T = 8;
    std::vector<float> floats(n_blocks * PLM_HEAD_COLUMNS);
    std::vector<block_q8_K> x(T * n_blocks);
    std::vector<float> offsets(T * n_blocks);
    std::vector<token> tokens;
    for (int64_t t = 0; t < T; t++) {
        for (float & f : floats) {
            f = t == 1 ? 127.f : normal(random); // the largest sums that there are
        }
        quantize_row_q8_K_ref(floats.data(), x.data() + t * n_blocks, int64_t(floats.size()));
        for (int64_t b = 0; b < n_blocks; b++) {
            const int16_t * sums = x[t * n_blocks + b].bsums;
            for (int i = 0; i < 16; i++) {
                offsets[t * n_blocks + b] -= 3 * sums[i];
            }
        }
        tokens.push_back({ x.data() + t * n_blocks, offsets.data() + t * n_blocks, normal(random) });
    }

    const int64_t stride = n_rows + 5;
    std::vector<float> y(T * stride, -12345.f), most(T, -1e30f);
    coarse(m.blocks.data(), n_blocks, m.bias.data(), n_rows, 0, m.n_groups, tokens.data(), T, y.data(), stride, most.data());
    for (int64_t t = 0; t < T; t++) {
        for (int64_t r = 0; r < n_rows; r++) {
            double expected = double(tokens[t].base) + m.bias[r], magnitude = 1;
            for (int64_t b = 0; b < n_blocks; b++) {
                expected += m.dot(r, b, x[t * n_blocks + b], &magnitude);
            }
            check(fabs(y[t * stride + r] - expected) <= 1e-6 * magnitude, "a coarse logit differs", r);
        }
        check(y[t * stride + n_rows] == -12345, "what lies behind the rows was written", t);
        check(most[t] == *std::max_element(y.data() + t * stride, y.data() + t * stride + n_rows), "the largest one differs", t);
    }

    // alone, and in parts: the same bits
    for (int64_t t = 0; t < T; t += 3) {
        std::vector<float> alone(n_rows);
        float largest = -1e30f;
        for (int64_t first = 0; first < m.n_groups; first += 3) {
            coarse(m.blocks.data(), n_blocks, m.bias.data(), n_rows, first, std::min(first + 3, m.n_groups), tokens.data() + t, 1, alone.data(), n_rows, &largest);
        }
        check(std::equal(alone.begin(), alone.end(), y.data() + t * stride), "alone and in a batch differ", t);
    }
}

void test_rule() {
    check(histogram::bin(0) == 0 && histogram::bin(31.99f) == histogram::BINS - 1, "a distance is in another bin", 0);
    check(histogram::bin(32) == histogram::BINS && histogram::bin(INFINITY) == histogram::BINS && histogram::bin(NAN) == histogram::BINS, "what is far away is counted", 0);

    // one likely row, and others at each distance: what stays coarse weighs less than it may, and just so
    histogram h = {};
    h.count[0] = 1;
    for (int i = 1; i < histogram::BINS; i++) {
        h.count[i] = 1 + i;
    }
    const auto share = [&](float from) {
        double all = 0, rest = 0;
        for (int i = 0; i < histogram::BINS; i++) {
            const double mass = h.count[i] * exp(-(i + 0.5) / histogram::A_NAT);
            all += mass;
            rest += float(i) / histogram::A_NAT >= from ? mass : 0;
        }
        return rest / all;
    };
    for (const float variance : { 0.01f, 0.3f, 1.f, 4.f }) {
        for (const float divergence : { 0.01f, 0.001f, 1e-5f }) {
            const float reach = h.reach(variance, divergence);
            check(share(reach) * variance / 2 <= divergence, "more stays coarse than may", long(1000 * variance));
            check(reach <= 1.f / histogram::A_NAT || share(reach - 1.f / histogram::A_NAT) * variance / 2 > divergence, "more is exact than need be", long(1000 * variance));
        }
    }
    check(h.reach(0, 0.001f) == 1.f / histogram::A_NAT, "without an error more than the largest is exact", 0);
    check(h.reach(NAN, 0.001f) == 32, "where the error is not known not all is exact", 0);
}

} // namespace

int main() {
    test_coarse(16, 1);
    test_coarse(100, 2);
    test_coarse(77, 5);
    test_rule();
    if (failures) {
        printf("%d failures\n", failures);
        return 1;
    }
    printf("all good\n");
    return 0;
}
