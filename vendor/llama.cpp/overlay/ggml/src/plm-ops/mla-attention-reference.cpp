// Latent attention by its equation (mla-attention.h), in double precision.

#include "mla-attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

void ggml_mla_attention_reference(const ggml_tensor * dst, float * y) {
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];
    const ggml_tensor * mask = dst->src[3];

    float scale;
    memcpy(&scale, dst->op_params, sizeof(scale));

    const int64_t n_k = k->ne[0], n_kv = k->ne[1], n_v = v->ne[0];
    const int64_t n_q = q->ne[1], n_head = q->ne[2], n_stream = q->ne[3];

    const auto to_float = ggml_get_type_traits(k->type)->to_float;

    std::vector<float> keys(n_k * n_kv), values(n_v * n_kv);
    std::vector<double> s(n_kv), sum(n_v);

    // the cached rows of one KV head
    const auto read = [&](const ggml_tensor * t, int64_t b, int64_t head, std::vector<float> & out) {
        const int64_t n = t->ne[0];
        for (int64_t j = 0; j < n_kv; j++) {
            const char * row = (const char *) t->data + b * t->nb[3] + head * t->nb[2] + j * t->nb[1];
            if (t->type == GGML_TYPE_F32) {
                memcpy(&out[j * n], row, n * sizeof(float));
            } else {
                to_float(row, &out[j * n], n);
            }
        }
    };

    for (int64_t b = 0; b < n_stream; b++) {
        for (int64_t h = 0; h < n_head; h++) {
            const int64_t group = n_head / k->ne[2]; // query heads of one KV head
            if (h % group == 0) {
                read(k, b, h / group, keys);
                read(v, b, h / group, values);
            }
            for (int64_t t = 0; t < n_q; t++) {
                const ggml_fp16_t * m = !mask ? nullptr : (const ggml_fp16_t *) ((const char *) mask->data + t * mask->nb[1] + b % mask->ne[3] * mask->nb[3]);
                const float * x = (const float *) ((const char *) q->data + t * q->nb[1] + h * q->nb[2] + b * q->nb[3]);

                double top = -INFINITY;
                for (int64_t j = 0; j < n_kv; j++) {
                    const float open = m ? ggml_fp16_to_fp32(m[j]) : 0.0f;
                    double dot = 0;
                    for (int64_t i = 0; i < n_k; i++) {
                        dot += double(x[i]) * keys[j * n_k + i];
                    }
                    s[j] = open == -INFINITY ? -INFINITY : scale * dot + open;
                    top = std::fmax(top, s[j]);
                }
                double total = 0;
                std::fill(sum.begin(), sum.end(), 0.0);
                for (int64_t j = 0; j < n_kv; j++) {
                    if (m && ggml_fp16_to_fp32(m[j]) == -INFINITY) {
                        continue;
                    }
                    const double p = std::exp(s[j] - top);
                    total += p;
                    for (int64_t i = 0; i < n_v; i++) {
                        sum[i] += p * values[j * n_v + i];
                    }
                }
                for (int64_t i = 0; i < n_v; i++) {
                    y[((b * n_q + t) * n_head + h) * n_v + i] = total == 0 ? 0.0f : float(sum[i] / total);
                }
            }
        }
    }
}
