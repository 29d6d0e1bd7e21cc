// Absorbed MLA attention (ggml/src/plm-ops/mla-attention.h) against the scalar reference.
//
//   test-plm-mla [--quick]     --quick: fewer and smaller cases, for emulated CPUs
//
// Compiled together with the kernels, for whichever CPU the compiler is told, and linked with ggml-base alone:
// the thread pool is this file's, so that a cross-compiled test is quick to build.
//
// Asserted for each case: the distance to the reference (below), and that 1, 2, 3 and 4 threads give the same bits.
// Printed: a hash of all results, so that two builds can be compared bit for bit.

#include "ggml-cpu/plm/attention/mla-attention.h"
#include "ggml-cpu/plm/attention/engine.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <thread>
#include <vector>

// --- a thread pool of the test's own ----------------------------------------------------------

struct ggml_threadpool {
    int n_threads;
    std::atomic<int> chunk{ 0 }, waiting{ 0 }, round{ 0 };
};

extern "C" void ggml_barrier(ggml_threadpool * tp) {
    const int round = tp->round.load();
    if (tp->waiting.fetch_add(1) + 1 == tp->n_threads) {
        tp->waiting = 0;
        tp->round++;
        return;
    }
    while (tp->round.load() == round) {
        std::this_thread::yield();
    }
}
extern "C" void ggml_threadpool_chunk_set(ggml_threadpool * tp, int value) { tp->chunk = value; }
extern "C" int ggml_threadpool_chunk_add(ggml_threadpool * tp, int value) { return tp->chunk.fetch_add(value); }

static void compute(ggml_tensor * dst, int n_threads) {
    ggml_threadpool pool;
    pool.n_threads = n_threads;
    std::vector<char> work(ggml_mla_attention_work_size(dst, n_threads), char(0xff)); // NaN if read before it is written
    std::vector<std::thread> threads;
    for (int i = 0; i < n_threads; i++) {
        threads.emplace_back([&, i] {
            const ggml_compute_params params = { i, n_threads, work.size(), work.data(), &pool, false, nullptr, 0 };
            ggml_compute_forward_mla_attention(&params, dst);
        });
    }
    for (auto & t : threads) {
        t.join();
    }
}

// --- cases ------------------------------------------------------------------------------------

enum mask_kind { NONE,
                 CAUSAL,
                 HOLES,
                 SEQUENCES,
                 CLOSED_ROWS };
enum data_kind { PLAIN,
                 SINK,
                 OUTLIERS,
                 TINY,
                 NAN_OPEN,
                 NAN_CLOSED,
                 INF_KEY,
                 NAN_QUERY };

struct test_case {
    ggml_type type;
    int64_t n_k, n_v, n_kv, n_q, n_head, n_stream;
    mask_kind mask;
    data_kind data;
    bool expanded = false; // a KV head for each query head, values of their own
};

static const char * const MASKS[] = { "none", "causal", "holes", "sequences", "closed rows" };
static const char * const DATA[] = { "plain", "sink", "outliers", "tiny", "NaN open", "NaN closed", "infinite key", "NaN query" };

static std::string name_of(const test_case & c) {
    char text[256];
    snprintf(text, sizeof(text), "%s%s n_k %d n_v %d n_kv %d n_q %d heads %d streams %d, mask %s, data %s", ggml_type_name(c.type), c.expanded ? " expanded" : "", int(c.n_k),
             int(c.n_v), int(c.n_kv), int(c.n_q), int(c.n_head), int(c.n_stream), MASKS[c.mask], DATA[c.data]);
    return text;
}

// NMSE against the reference on the same (rounded) cache. The 16-bit engines round keys, queries and
// probabilities about as f16 does; the f32 engine sums in f32. The 8-bit engine of x86 rounds queries as q8_0
// does, and what rows are multiplied by to 8 bits, each of which adds about as much as K and V in q8_0 have.
static double bound_of(const test_case & c) {
#if defined(PLM_MLA_U8)
    if (ggml_is_quantized(c.type)) {
        return 3e-4;
    }
#endif
    return c.type == GGML_TYPE_F32 ? 1e-10 : 2e-6;
}

// the cached row that holds the NaN or the infinity; the masks below leave it open or closed as the case says
static int64_t special_row(const test_case & c) { return c.n_kv / 2; }

static bool is_open(const test_case & c, int64_t stream, int64_t t, int64_t j, std::mt19937 & rng) {
    if (c.data == NAN_CLOSED && j == special_row(c)) {
        return false;
    }
    switch (c.mask) {
        case NONE:        return true;
        case CAUSAL:      return j <= c.n_kv - c.n_q + t;
        case HOLES:       return rng() % 3 == 0 && j / 64 % 3 != 1; // and whole tiles
        case SEQUENCES:   return (j + stream) % 4 == t % 4;         // tokens of four sequences, interleaved
        case CLOSED_ROWS: return t % 2 == 0 && j % 5 != 3;
    }
    return true;
}

static uint64_t hash_of_results = 0xcbf29ce484222325; // FNV-1a

static bool run(const test_case & c, bool quick) {
    ggml_context * ctx = ggml_init({ size_t(64) << 20, nullptr, false });
    std::mt19937 rng(7);
    std::normal_distribution<float> normal;

    ggml_tensor * q = ggml_permute(ctx, ggml_new_tensor_4d(ctx, GGML_TYPE_F32, c.n_k, c.n_head, c.n_q, c.n_stream), 0, 2, 1, 3);
    // a stream's cache is longer than what is attended to, as in llama.cpp
    const int64_t n_kv_head = c.expanded ? c.n_head : 1;
    ggml_tensor * cache = ggml_new_tensor_4d(ctx, c.type, c.n_k, c.n_kv + 3, n_kv_head, c.n_stream);
    ggml_tensor * k = ggml_view_4d(ctx, cache, c.n_k, c.n_kv, n_kv_head, c.n_stream, cache->nb[1], cache->nb[2], cache->nb[3], 0);
    // values of their own: here the same rows, a token later
    ggml_tensor * v = ggml_view_4d(ctx, cache, c.n_v, c.n_kv, n_kv_head, c.n_stream, cache->nb[1], cache->nb[2], cache->nb[3], c.expanded ? cache->nb[1] : 0);

    std::vector<float> key_row(c.n_k);
    for (float & x : key_row) { x = normal(rng); }
    for (int64_t i = 0; i < ggml_nelements(q); i++) {
        ((float *) q->data)[i] = 1.5f * normal(rng) + (c.data == SINK ? 0.5f * key_row[i % c.n_k] : 0.0f);
        if (c.data == OUTLIERS && i % c.n_k == 5) {
            ((float *) q->data)[i] *= 20;
        }
        if (c.data == TINY) {
            ((float *) q->data)[i] *= 1e-3f;
        }
    }
    for (int64_t r = 0; r < (c.n_kv + 3) * c.n_stream * n_kv_head; r++) {
        std::vector<float> row(c.n_k);
        const int64_t j = r % (c.n_kv + 3);
        for (int64_t i = 0; i < c.n_k; i++) {
            row[i] = normal(rng);
            if (c.data == SINK && j == 0) {
                row[i] = 2 * key_row[i];
            } // takes most of the weight
            if (c.data == OUTLIERS && i % 100 == 5) {
                row[i] = 30 + row[i];
            } // in every row, as models have
            if (c.data == TINY) {
                row[i] *= 1e-3f;
            }
        }
        void * out = (char *) cache->data + r * cache->nb[1];
        if (c.type == GGML_TYPE_F32) {
            memcpy(out, row.data(), c.n_k * sizeof(float));
        } else {
            ggml_quantize_chunk(c.type, row.data(), out, 0, 1, c.n_k, nullptr);
        }
    }
    const bool special = c.data == NAN_OPEN || c.data == NAN_CLOSED || c.data == INF_KEY;
    for (int64_t b = 0; special && b < c.n_stream; b++) {
        char * at = (char *) cache->data + b * cache->nb[3] + special_row(c) * cache->nb[1];
        const float x = c.data == INF_KEY ? INFINITY : NAN;
        const ggml_fp16_t half = ggml_fp32_to_fp16(x);
        const ggml_bf16_t brain = ggml_fp32_to_bf16(x);
        switch (c.type) {
            case GGML_TYPE_F32:  memcpy(at + 4 * 7, &x, 4); break;
            case GGML_TYPE_BF16: memcpy(at + 2 * 7, &brain, 2); break;
            case GGML_TYPE_F16:  memcpy(at + 2 * 7, &half, 2); break;
            default:             memcpy(at, &half, 2); break; // the scale of the first block
        }
    }
    if (c.data == NAN_QUERY) {
        ((float *) q->data)[3] = NAN; // of the first stream's first token and head
    }

    ggml_tensor * mask = nullptr;
    if (c.mask != NONE || c.data == NAN_CLOSED) {
        mask = ggml_new_tensor_4d(ctx, GGML_TYPE_F16, c.n_kv, c.n_q + 2, 1, c.n_stream);
        for (int64_t b = 0; b < c.n_stream; b++) {
            for (int64_t t = 0; t < c.n_q; t++) {
                ggml_fp16_t * m = (ggml_fp16_t *) ((char *) mask->data + b * mask->nb[3] + t * mask->nb[1]);
                for (int64_t j = 0; j < c.n_kv; j++) {
                    m[j] = ggml_fp32_to_fp16(is_open(c, b, t, j, rng) ? (c.mask == HOLES ? -0.25f * (j % 3) : 0.0f) : -INFINITY);
                }
            }
        }
    }

    ggml_tensor * dst = ggml_flash_attn_ext(ctx, q, k, v, mask, 1.0f / sqrtf(float(c.n_k)), 0.0f, 0.0f);
    bool good = ggml_mla_attention_supported(dst);
    if (!good) {
        printf("FAIL %s: not supported\n", name_of(c).c_str());
    }

    std::vector<float> expected(ggml_nelements(dst)), first;
    ggml_mla_attention_reference(dst, expected.data());

    for (int n_threads = 1; good && n_threads <= (quick ? 2 : 4); n_threads++) {
        std::fill_n((float *) dst->data, ggml_nelements(dst), -123.0f);
        compute(dst, n_threads);
        const float * y = (const float *) dst->data;
        if (n_threads == 1) {
            first.assign(y, y + expected.size());
            for (size_t i = 0; i < first.size() * sizeof(float); i++) {
                hash_of_results = (hash_of_results ^ ((const uint8_t *) y)[i]) * 0x100000001b3;
            }
            double error = 0, power = 1e-30;
            size_t wrong = 0;
            for (size_t i = 0; i < expected.size(); i++) {
                if (!std::isfinite(expected[i]) || !std::isfinite(y[i])) {
                    wrong += std::isfinite(expected[i]) != std::isfinite(y[i]);
                    continue;
                }
                error += double(y[i] - expected[i]) * (y[i] - expected[i]);
                power += double(expected[i]) * expected[i];
            }
            if (wrong || !(error / power <= bound_of(c))) {
                printf("FAIL %s: NMSE %.2e, %zu values finite in one only\n", name_of(c).c_str(), error / power, wrong);
                good = false;
            } else if (getenv("PLM_TEST_VERBOSE")) {
                printf("ok   %s: NMSE %.2e\n", name_of(c).c_str(), error / power);
            }
        } else if (memcmp(first.data(), y, first.size() * sizeof(float)) != 0) {
            printf("FAIL %s: %d threads differ from one\n", name_of(c).c_str(), n_threads);
            good = false;
        }
    }
    ggml_free(ctx);
    return good;
}

static bool declines_other_shapes() {
    ggml_context * ctx = ggml_init({ size_t(16) << 20, nullptr, false });
    ggml_tensor * q = ggml_new_tensor_4d(ctx, GGML_TYPE_F32, 64, 2, 4, 1);
    ggml_tensor * k = ggml_new_tensor_4d(ctx, GGML_TYPE_F16, 64, 64, 1, 1);
    ggml_tensor * v = ggml_view_4d(ctx, k, 32, 64, 1, 1, k->nb[1], k->nb[2], k->nb[3], 0);
    ggml_tensor * far = ggml_view_4d(ctx, k, 32, 64, 1, 1, k->nb[1], k->nb[2], k->nb[3], 64); // not K's first values
    ggml_tensor * two = ggml_new_tensor_4d(ctx, GGML_TYPE_F16, 64, 64, 2, 1);
    ggml_tensor * sinks = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, 4);

    ggml_tensor * with_sinks = ggml_flash_attn_ext(ctx, q, k, v, nullptr, 1.0f, 0.0f, 0.0f);
    ggml_flash_attn_ext_add_sinks(with_sinks, sinks);
    const bool good = ggml_mla_attention_supported(ggml_flash_attn_ext(ctx, q, k, v, nullptr, 1.0f, 0.0f, 0.0f)) &&
                      !ggml_mla_attention_supported(ggml_flash_attn_ext(ctx, q, k, v, nullptr, 1.0f, 0.0f, 10.0f)) &&
                      !ggml_mla_attention_supported(ggml_flash_attn_ext(ctx, q, k, far, nullptr, 1.0f, 0.0f, 0.0f)) &&
                      !ggml_mla_attention_supported(ggml_flash_attn_ext(ctx, q, two, two, nullptr, 1.0f, 0.0f, 0.0f)) &&
                      !ggml_mla_attention_supported(with_sinks);
    printf("%s declines other shapes\n", good ? "ok  " : "FAIL");
    ggml_free(ctx);
    return good;
}

int main(int argc, char ** argv) {
    const bool quick = argc > 1 && std::string(argv[1]) == "--quick";

    std::vector<test_case> cases;
    const auto add = [&](test_case c) {
        if (c.n_k % ggml_blck_size(c.type) == 0 && c.n_v % ggml_blck_size(c.type) == 0) {
            cases.push_back(c);
        }
    };
    for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0 }) {
        // sizes of latent and rotated key, odd ones with tails too
        const int64_t sizes[][2] = { { 576, 512 }, { 288, 256 }, { 64, 48 }, { 64, 32 }, { 160, 128 }, { 1088, 1024 }, { 1152, 1024 }, { 70, 53 }, { 33, 33 }, { 17, 1 } };
        for (const auto & s : sizes) {
            for (int64_t n_kv : { 1, 64, 67, 129, 300 }) {
                if (n_kv == 67 || !quick) {
                    add({ type, s[0], s[1], n_kv, 1, 16, 1, CAUSAL, PLAIN });
                }
            }
        }
        for (int64_t n_head : { 1, 3, 4, 8, 16, 32, 128 }) {
            for (int64_t n_q : { 1, 2, 5, 16, 31, 32, 33 }) {
                if (!quick || (n_q == 5 && (n_head == 3 || n_head == 16)) || n_head * n_q == 32) {
                    add({ type, 160, 128, 130, n_q, n_head, 1, CAUSAL, PLAIN });
                }
            }
        }
        for (mask_kind mask : { NONE, CAUSAL, HOLES, SEQUENCES, CLOSED_ROWS }) {
            for (int64_t n_stream : { 1, 3 }) {
                for (int64_t n_head : { 3, 16 }) {
                    if (quick && (n_head == 16 || n_stream == 1)) {
                        continue;
                    }
                    add({ type, 96, 64, quick ? 200 : 333, quick ? 3 : 6, n_head, n_stream, mask, PLAIN });
                }
            }
        }
        for (int64_t n_q : { 16, 33, 150 }) {
            for (data_kind data : { PLAIN, SINK, OUTLIERS, NAN_QUERY }) {
                if (!quick || (n_q == 33 && data == PLAIN)) {
                    add({ type, 192, 128, 170, n_q, 3, 2, CAUSAL, data, true });
                    add({ type, 96, 64, 70, n_q, 2, 1, SEQUENCES, data, true });
                }
            }
        }
        for (data_kind data : { PLAIN, SINK, OUTLIERS, TINY, NAN_OPEN, NAN_CLOSED, INF_KEY, NAN_QUERY }) {
            for (mask_kind mask : { NONE, CAUSAL, SEQUENCES }) {
                if (quick && mask != SEQUENCES) {
                    continue;
                }
                add({ type, 96, 64, quick ? 130 : 333, 5, 3, quick ? 1 : 2, mask, data });
                if (!quick) {
                    add({ type, 576, 512, 1000, 2, 16, 1, mask, data });
                }
            }
        }
        if (!quick) {
            add({ type, 576, 512, 4096, 1, 16, 1, CAUSAL, PLAIN });
            add({ type, 576, 512, 2048, 33, 16, 1, CAUSAL, PLAIN });
            add({ type, 576, 512, 256, 70, 16, 2, CAUSAL, PLAIN });
        }
    }
    size_t bad = !declines_other_shapes();
    for (const test_case & c : cases) {
        bad += !run(c, quick);
    }
    printf("%zu cases, %zu failed, results %016llx\n", cases.size() + 1, bad, (unsigned long long) hash_of_results);
    return bad != 0;
}
