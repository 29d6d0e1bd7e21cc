// Rows in planes (plm-planes/plm-planes.h) against q4_K: the form, and the products of few tokens.
//
//   test-plm-planes
//
// Prints "all good", or what differs, and exits with 1. Sums are compared with the same integers in double precision.

#include "ggml-cpu/plm/planes/few.h"
#include "ggml-cpu/plm/planes/pieces.h"

#include "ggml-impl.h"
#include "ggml-quants.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

// what quantize-row.cpp calls where it has no version of its own
extern "C" void quantize_row_q8_K(const float * x, void * y, int64_t k) { quantize_row_q8_K_ref(x, (block_q8_K *) y, k); }

namespace {

int failures = 0;

void check(bool good, const char * what, const char * where) {
    if (!good) {
        printf("%s: %s\n", where, what);
        failures++;
    }
}

struct shape {
    int64_t n, rows;
    double mean, scale; // of the weights, whose standard deviation is `scale`
    const char * name;
};

struct weights {
    int64_t n, rows;
    std::vector<char> plain, planes;
    std::vector<float> values;

    size_t row_bytes() const { return ggml_row_size(GGML_TYPE_Q4_K, n); }
    char * low() { return planes.data() + rows / PLM_PLANES_ROWS * (n / QK_K) * sizeof(plm_planes_block); }
};

weights make(const shape & s, std::mt19937 & random) {
    weights w = { s.n, s.rows, {}, {}, {} };
    std::normal_distribution<float> normal;
    std::vector<float> x(s.n * s.rows);
    for (float & v : x) {
        v = float(s.scale * (normal(random) + s.mean));
    }
    w.plain.resize(w.row_bytes() * s.rows);
    ggml_quantize_chunk(GGML_TYPE_Q4_K, x.data(), w.plain.data(), 0, s.rows, s.n, nullptr);
    w.planes.assign(w.plain.size(), 0x55);
    plm_planes_pack(w.plain.data(), w.planes.data(), w.low(), s.n, s.rows);
    w.values.resize(x.size());
    ggml_get_type_traits(GGML_TYPE_Q4_K)->to_float(w.plain.data(), w.values.data(), int64_t(x.size()));
    return w;
}

// tokens rounded as the kernels round them
std::vector<float> rounded(const std::vector<float> & x) {
    std::vector<block_q8_K> q(x.size() / QK_K);
    quantize_row_q8_K_ref(x.data(), q.data(), int64_t(x.size()));
    std::vector<float> y(x.size());
    for (size_t i = 0; i < x.size(); i++) {
        y[i] = q[i / QK_K].d * q[i / QK_K].qs[i % QK_K];
    }
    return y;
}

void test(const shape & s) {
    std::mt19937 random(42);
    weights w = make(s, random);

    std::vector<char> back(w.plain.size());
    plm_planes_unpack(w.planes.data(), w.low(), back.data(), s.n, s.rows);
    check(back == w.plain, "planes do not come back as the same rows", s.name);

    constexpr int64_t T = 8;
    std::normal_distribution<float> normal;
    std::vector<float> x(T * s.n);
    for (size_t i = 0; i < x.size(); i++) {
        x[i] = normal(random) * (i % s.n == 7 ? 30 : 1) - 0.1f; // hidden states have outliers
    }
    for (int64_t i = 0; i < QK_K; i++) {
        x[s.n + i] = 0; // a block of zeros
    }
    const std::vector<float> xr = rounded(x);
    std::vector<double> expected(T * s.rows), magnitude(T * s.rows);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t r = 0; r < s.rows; r++) {
            for (int64_t i = 0; i < s.n; i++) {
                const double product = (double) w.values[r * s.n + i] * xr[t * s.n + i];
                expected[t * s.rows + r] += product;
                magnitude[t * s.rows + r] += fabs(product);
            }
        }
    }

    const int64_t stride = s.rows + 3;
    const auto product = [&](int64_t t0, int64_t n_tokens, float margin, int64_t first, int64_t last, int64_t * read) {
        std::vector<float> y(n_tokens * stride, -12345);
        const int64_t n = plm_planes_product(w.planes.data(), s.n, s.rows, first, last, x.data() + t0 * s.n, n_tokens, margin, y.data(), stride);
        if (read) {
            *read = n;
        }
        return y;
    };

    int64_t read = 0;
    const std::vector<float> exact = product(0, T, INFINITY, 0, s.rows, &read);
    check(read == s.rows, "not all rows are read for an exact product", s.name);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t r = 0; r < s.rows; r++) {
            // floats of blocks are summed, of values that may be much larger than the sum
            const double error = fabs(exact[t * stride + r] - expected[t * s.rows + r]);
            check(error <= 4e-6 * (magnitude[t * s.rows + r] + 8 * fabs(s.mean * s.scale) * s.n), "an exact product differs", s.name);
        }
        for (int64_t i = s.rows; i < stride; i++) {
            check(exact[t * stride + i] == -12345, "what lies between tokens was written", s.name);
        }
    }

    // with a margin: rows that are read are exact, the others are below zero, and few of them should not be
    const std::vector<float> some = product(0, T, 1, 0, s.rows, nullptr);
    int64_t n_lost = 0, n_same = 0;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t r = 0; r < s.rows; r++) {
            const float a = some[t * stride + r], e = exact[t * stride + r];
            check(a == e || a < 0, "a value is neither exact nor below zero", s.name);
            n_same += a == e;
            n_lost += a != e && e > 0;
        }
    }
    check(n_lost <= 4 + 0.02 * T * s.rows, "rows above zero are lost", s.name);

    // alone, in a part of the rows, or in a batch: the same bits
    for (const int64_t n_tokens : { 1, 3 }) {
        const std::vector<float> part = product(2, n_tokens, 1, s.rows / 32 * 16, s.rows, nullptr);
        for (int64_t t = 0; t < n_tokens; t++) {
            for (int64_t r = 0; r < s.rows; r++) {
                const float e = r < s.rows / 32 * 16 ? -12345 : some[(2 + t) * stride + r];
                check(part[t * stride + r] == e, "alone and in a batch differ", s.name);
            }
        }
    }

    // with no margin all values below zero keep what the upper bits say: the errors are as large as they should be
    const std::vector<float> coarse = product(0, T, 0, 0, s.rows, nullptr);
    double squares = 0;
    int64_t n = 0;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t r = 0; r < s.rows; r++) {
            const float c = coarse[t * stride + r], e = exact[t * stride + r];
            if (c == e) {
                continue;
            }
            double variance = 0;
            const block_q4_K * row = (const block_q4_K *) (w.plain.data() + r * w.row_bytes());
            for (int64_t i = 0; i < s.n; i++) { // a step of a code: what a sub-block's values are multiples of
                const block_q4_K & b = row[i / QK_K];
                ggml_fp16_t d;
                memcpy(&d, &b, sizeof(d));
                const int j = int(i % QK_K / 32);
                const int scale = j < 4 ? b.scales[j] & 63 : (b.scales[j + 4] & 15) | (b.scales[j - 4] >> 6 << 4);
                variance += pow(ggml_fp16_to_fp32(d) * scale * xr[t * s.n + i], 2) * 1.26;
            }
            squares += pow(c - e, 2) / variance;
            n++;
        }
    }
    if (n > 200) {
        check(squares / n > 0.8 && squares / n < 1.25, "the error of the upper bits is not what it is taken for", s.name);
    }

    printf("%s: the lower bits of %.0f%% are read\n", s.name, 100.0 * n_same / (T * s.rows));
}

// rows along a token and against it: the lower bits of all are read, and of none
void test_activity(int64_t n, int64_t rows) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> x(n), w(n * rows), y(rows), exact(rows);
    for (float & v : x) {
        v = normal(random);
    }
    for (const float sign : { 1.f, -1.f }) {
        for (size_t i = 0; i < w.size(); i++) {
            w[i] = normal(random) + sign * x[i % n];
        }
        std::vector<char> plain(ggml_row_size(GGML_TYPE_Q4_K, n) * rows), planes(plain.size());
        ggml_quantize_chunk(GGML_TYPE_Q4_K, w.data(), plain.data(), 0, rows, n, nullptr);
        plm_planes_pack(plain.data(), planes.data(), planes.data() + rows / PLM_PLANES_ROWS * (n / QK_K) * sizeof(plm_planes_block), n, rows);
        const auto read = [&](float margin, std::vector<float> & to) { return plm_planes_product(planes.data(), n, rows, 0, rows, x.data(), 1, margin, to.data(), rows); };
        check(read(INFINITY, exact) == rows, "not all rows are read for an exact product", "activity");
        check(read(1, y) == (sign > 0 ? rows : 0), "other rows are read than those above zero", "activity");
        for (int64_t r = 0; r < rows; r++) {
            check(sign > 0 ? y[r] == exact[r] && y[r] > 0 : y[r] < 0 && exact[r] < 0, "a row is on the other side of zero", "activity");
        }
    }
}

void test_pieces() {
    for (const int64_t n_groups : { 1, 8, 9, 31, 512, 1000 }) {
        for (const int n_threads : { 1, 2, 3, 8 }) {
            int64_t end = 0;
            for (int64_t i = 0; end < n_groups; i++) {
                const planes::piece p(i, n_groups, n_threads);
                check(p.first == end && p.last > p.first && p.last <= n_groups, "pieces leave out groups, or take some twice", "pieces");
                end = p.last;
                if (p.last <= p.first) {
                    return;
                }
            }
            check(planes::piece(10000, n_groups, n_threads).first == n_groups, "there are pieces after the last", "pieces");
        }
    }
}

} // namespace

int main() {
    ggml_quantize_init(GGML_TYPE_Q4_K);
    test_activity(2048, 48);
    test_activity(768, 16);
    test_pieces();
    const shape shapes[] = {
        { 256, 16, 0, 1, "one group" },
        { 512, 48, 0.3, 1e-4, "small weights off zero" },
        { 768, 32, 0, 300, "large weights" },
        { 2048, 256, 0, 0.02, "rows as long as PLM's" },
        { 2048, 64, 0.15, 0.02, "rows that are below zero" },
        { 512, 640, 0.5, 0.02, "many groups with few rows above zero" },
        { 8192, 32, 0, 0.02, "long rows" },
        { 256, 32, 0, 0, "zeros" },
    };
    for (const shape & s : shapes) {
        test(s);
    }
    if (failures) {
        printf("%d failures\n", failures);
        return 1;
    }
    printf("all good\n");
}
