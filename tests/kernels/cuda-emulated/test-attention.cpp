// Flash attention's kernel (fattn-mma-f16.cuh), executed by the emulator with the forms that upstream does not have: over a
// quantised cache it has the bits that it has over the same cache in f16, and all are near attention in double.

#include "fattn-common.cuh"

#include "ggml-cuda/fattn-mma-f16.cuh"
#include "ggml-cuda/plm/fattn-plan.h"

#include <random>

namespace {

constexpr double BOUND = 1e-5; // NMSE: queries, probabilities and sums are f16
int failures = 0;

struct shape {
    int n_tokens, n_heads, n_kv_heads, n_kv, n_sequences;
};

struct data {
    std::vector<float> q;   // {n_k, n_tokens, n_heads, n_sequences}
    std::vector<half> mask; // {n_kv, n_tokens, n_sequences}
};

std::vector<float> normal(size_t n, int seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> distribution;
    std::vector<float> values(n);
    for (float & v : values) {
        v = distribution(random);
    }
    return values;
}

// tokens of a sequence see what was before them, but for every seventh; whole tiles of columns are hidden from the first
data make(const shape & s, int n_k) {
    data d{ normal(size_t(n_k) * s.n_tokens * s.n_heads * s.n_sequences, 1), {} };
    for (int sequence = 0; sequence < s.n_sequences; sequence++) {
        for (int t = 0; t < s.n_tokens; t++) {
            for (int i = 0; i < s.n_kv; i++) {
                d.mask.push_back(i % 7 == 3 || i > (t + 1) * s.n_kv / s.n_tokens ? -INFINITY : 0.0f);
            }
        }
    }
    return d;
}

// rows {n, n_kv, n_kv_heads, n_sequences} in `bytes` each
template <typename row_t> struct rows {
    std::vector<row_t> data;
    int bytes;
};

// k and v: their rows; v null: k's first n_v columns. Returns {n_v, n_heads, n_tokens, n_sequences}.
template <int n_k, int n_v, int ncols1, int ncols2, typename row_t>
std::vector<float> execute(const shape & s, const data & d, const rows<row_t> & k, const rows<row_t> * v) {
    constexpr int threads = ggml_cuda_fattn_mma_get_nthreads(n_k, n_v, ncols1 * ncols2);
    const unsigned tiles = (s.n_tokens + ncols1 - 1) / ncols1 * (s.n_heads / s.n_kv_heads / ncols2) * s.n_kv_heads * s.n_sequences;
    std::vector<float> y(1u * n_v * s.n_heads * s.n_tokens * s.n_sequences, NAN);
    const uint3 n_tokens{ 0, 0, uint32_t(s.n_tokens) };
    const int of_token = n_k * sizeof(float), of_head = of_token * s.n_tokens, of_mask = s.n_kv * sizeof(half);
    const auto all_of = [&](const rows<row_t> & r) { return r.bytes * s.n_kv; };
    const rows<row_t> & values = v ? *v : k;
    emulator::launch({ tiles, 1, 1 }, { 32, threads / 32, 1 }, [&] {
        flash_attn_ext_f16<n_k, n_v, ncols1, ncols2, false, n_k == 576, false, row_t>(
            (const char *) d.q.data(), (const char *) k.data.data(), (const char *) values.data.data(), (const char *) d.mask.data(), nullptr, nullptr,
            y.data(), nullptr, 1.0f / std::sqrt(float(n_k)), 0.0f, 1.0f, 1.0f, 1, 0.0f, n_k, n_tokens, s.n_heads, s.n_sequences, of_token, of_head,
            of_head * s.n_heads, n_k, s.n_kv, s.n_kv_heads, s.n_sequences, k.bytes, all_of(k), int64_t(all_of(k)) * s.n_kv_heads, values.bytes,
            all_of(values), int64_t(all_of(values)) * s.n_kv_heads, s.n_tokens, 1, s.n_sequences, of_mask, of_mask * s.n_tokens, int64_t(of_mask) * s.n_tokens);
    });
    return y;
}

std::vector<float> reference(const shape & s, const data & d, int n_k, int n_v, const rows<half2> & k, const rows<half2> * v) {
    std::vector<float> y;
    for (int sequence = 0; sequence < s.n_sequences; sequence++) {
        for (int t = 0; t < s.n_tokens; t++) {
            for (int head = 0; head < s.n_heads; head++) {
                const float * q = &d.q[((size_t(sequence) * s.n_heads + head) * s.n_tokens + t) * n_k];
                const auto row = [&](const rows<half2> & r, int i) {
                    const size_t index = (size_t(sequence) * s.n_kv_heads + head / (s.n_heads / s.n_kv_heads)) * s.n_kv + i;
                    return (const half *) ((const char *) r.data.data() + index * r.bytes);
                };
                std::vector<double> sum(n_v);
                double total = 0;
                for (int i = 0; i < s.n_kv; i++) {
                    double score = 0;
                    for (int j = 0; j < n_k; j++) {
                        score += double(q[j]) * float(row(k, i)[j]);
                    }
                    const double p = std::exp(score / std::sqrt(double(n_k)) + float(d.mask[(size_t(sequence) * s.n_tokens + t) * s.n_kv + i]));
                    total += p;
                    for (int j = 0; j < n_v; j++) {
                        sum[j] += p * float(row(v ? *v : k, i)[j]);
                    }
                }
                for (double one : sum) {
                    y.push_back(float(one / total));
                }
            }
        }
    }
    return y;
}

void compare(const std::vector<float> & y, const std::vector<float> & expected, const char * what) {
    double error = 0, size = 0;
    for (size_t i = 0; i < y.size(); i++) {
        error += std::pow(double(y[i]) - expected[i], 2);
        size += std::pow(double(expected[i]), 2);
    }
    if (!(error <= BOUND * size)) {
        printf("WRONG: %s: NMSE %g\n", what, error / size);
        failures++;
    }
}

rows<half2> in_f16(const std::vector<float> & values, int n) {
    rows<half2> r{ std::vector<half2>(values.size() / 2), n * int(sizeof(half)) };
    for (size_t i = 0; i < values.size(); i++) {
        ((half *) r.data.data())[i] = values[i];
    }
    return r;
}

// a quantised cache of 576 columns, some bytes apart
template <typename block_t, int ncols1> void check_cached(ggml_type type, const shape & s) {
    constexpr int N = 576, BLOCKS = N / 32, APART = 2;
    const int n_rows = s.n_kv * s.n_kv_heads * s.n_sequences;
    std::vector<float> values = normal(size_t(N) * n_rows, 2);
    rows<block_t> quantised{ std::vector<block_t>(size_t(BLOCKS + APART) * n_rows), int((BLOCKS + APART) * sizeof(block_t)) };
    memset((void *) quantised.data.data(), 0xFF, quantised.data.size() * sizeof(block_t));
    for (int i = 0; i < n_rows; i++) {
        block_t * row = &quantised.data[size_t(i) * (BLOCKS + APART)];
        ggml_quantize_chunk(type, &values[size_t(i) * N], row, 0, 1, N, nullptr);
        ggml_get_type_traits(type)->to_float(row, &values[size_t(i) * N], N);
    }
    const rows<half2> converted = in_f16(values, N);
    const data d = make(s, N);
    const std::vector<float> expected = execute<N, 512, ncols1, 16, half2>(s, d, converted, nullptr);
    compare(expected, reference(s, d, N, 512, converted, nullptr), "576/512 of f16");
    for (bool backwards : { false, true }) {
        emulator::backwards = backwards;
        const std::vector<float> y = execute<N, 512, ncols1, 16, block_t>(s, d, quantised, nullptr);
        if (memcmp(y.data(), expected.data(), y.size() * sizeof(float)) != 0) {
            printf("WRONG: 576/512 of %s, %d tokens: other bits than of the cache in f16%s\n", ggml_type_name(type), s.n_tokens, backwards ? ", backwards" : "");
            failures++;
        }
    }
    emulator::backwards = false;
}

template <int ncols1> void check_expanded(const shape & s) {
    const int n_rows = s.n_kv * s.n_kv_heads * s.n_sequences;
    const rows<half2> k = in_f16(normal(size_t(192) * n_rows, 3), 192), v = in_f16(normal(size_t(128) * n_rows, 4), 128);
    const data d = make(s, 192);
    const std::vector<float> y = execute<192, 128, ncols1, 1, half2>(s, d, k, &v);
    compare(y, reference(s, d, 192, 128, k, &v), "192/128 with keys of each head's own");
    emulator::backwards = true;
    const std::vector<float> again = execute<192, 128, ncols1, 1, half2>(s, d, k, &v);
    emulator::backwards = false;
    if (memcmp(y.data(), again.data(), y.size() * sizeof(float)) != 0) {
        printf("WRONG: 192/128: other bits when threads take turns backwards\n");
        failures++;
    }
}

void expect(bool good, const char * what) {
    if (!good) {
        printf("WRONG: %s\n", what);
        failures++;
    }
}

// which attention takes these forms: keys and values of a cache of `type`, `n_row` wide, `n_heads` to a KV head
void check_plans() {
    ggml_context * ctx = ggml_init({ size_t(1) << 20, nullptr, true });
    const auto attention = [&](ggml_type type, int n_k, int n_v, int n_heads, int n_kv_heads, bool is_part, int apart = 0) {
        ggml_tensor * cache = ggml_new_tensor_3d(ctx, type, n_k + apart, 512, n_kv_heads);
        ggml_tensor * k = ggml_view_3d(ctx, cache, n_k, 256, n_kv_heads, cache->nb[1], cache->nb[2], 0);
        ggml_tensor * v = is_part ? ggml_view_3d(ctx, k, n_v, 256, n_kv_heads, k->nb[1], k->nb[2], 0) : ggml_new_tensor_3d(ctx, type, n_v, 256, n_kv_heads);
        ggml_tensor * q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n_k, 2, n_heads);
        return ggml_flash_attn_ext(ctx, q, k, v, ggml_new_tensor_2d(ctx, GGML_TYPE_F16, 256, 2), 1.0f, 0.0f, 0.0f);
    };
    for (ggml_type type : { GGML_TYPE_Q8_0, GGML_TYPE_Q4_0 }) {
        expect(plm_fattn_reads_quantised(true, attention(type, 576, 512, 16, 1, true)), "PLM's cache is read as it lies");
        expect(!plm_fattn_reads_quantised(false, attention(type, 576, 512, 16, 1, true)), "not without mma");
        expect(!plm_fattn_reads_quantised(true, attention(type, 576, 512, 16, 1, false)), "not where the values are elsewhere");
        expect(!plm_fattn_reads_quantised(true, attention(type, 576, 512, 8, 1, true)), "not for eight heads");
        expect(!plm_fattn_reads_quantised(true, attention(type, 576, 512, 16, 1, true, 32)), "not where rows are aligned to 2");
    }
    expect(!plm_fattn_reads_quantised(true, attention(GGML_TYPE_F16, 576, 512, 16, 1, true)), "f16 as upstream");
    expect(plm_fattn_is_expanded(true, attention(GGML_TYPE_F16, 192, 128, 16, 16, false)), "PLM's prompts");
    expect(!plm_fattn_is_expanded(true, attention(GGML_TYPE_F16, 192, 128, 16, 2, false)), "eight heads as upstream");
    expect(!plm_fattn_is_expanded(true, attention(GGML_TYPE_F16, 128, 128, 16, 16, false)), "another size as upstream");
    ggml_free(ctx);
}

} // namespace

int main() {
    check_plans();
    emulator::stack_size = 192 * 1024;
    check_cached<block_q8_0, 1>(GGML_TYPE_Q8_0, { 1, 16, 1, 96, 2 });
    check_cached<block_q4_0, 1>(GGML_TYPE_Q4_0, { 2, 32, 1, 64, 1 });
    check_cached<block_q8_0, 2>(GGML_TYPE_Q8_0, { 2, 16, 1, 64, 2 });
#ifndef EMULATE_TURING
    check_cached<block_q4_0, 4>(GGML_TYPE_Q4_0, { 3, 16, 1, 64, 1 });
    check_expanded<64>({ 70, 2, 2, 50, 1 });
#endif
    check_expanded<8>({ 11, 2, 2, 100, 2 });
    check_expanded<16>({ 11, 2, 2, 64, 1 });
    check_expanded<32>({ 40, 1, 1, 130, 1 });
    printf(failures ? "%d wrong\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
