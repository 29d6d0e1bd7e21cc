#pragma once

// The weights of the products that come after an op, for an op that computes for longer than it reads: it asks for them
// meanwhile, and the products find them in the third cache.

#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-impl.h"
#include "third-cache.h"

#include <algorithm>

class weights_ahead {
    // Threads take such pieces in turns. Which rows a thread of the product will read is not known here.
    static constexpr int64_t PIECE = 4096;
    static constexpr int MOST = 4; // ranges

    struct range {
        const char * at;
        const char * end;
    };

    range ranges[MOST];
    int n = 0, current = 0;
    int64_t step;

  public:
    // The first of the weights that the nodes after the current one multiply by, up to an eighth of the third cache: what
    // is read until then passes through it too, and others may share it. None where an op is computed without a graph.
    explicit weights_ahead(const ggml_compute_params * params) : step(params->nth * PIECE) {
        const ggml_cgraph * graph = params->cgraph;
        int64_t left = graph ? third_cache_bytes() / 8 : 0;
        for (int i = params->node_n + 1; left > 0 && n < MOST && i < graph->n_nodes; i++) {
            const ggml_tensor * w = graph->nodes[i]->src[0];
            const ggml_tensor * owner = w && w->view_src ? w->view_src : w;
            if (graph->nodes[i]->op == GGML_OP_MUL_MAT && owner->buffer && owner->buffer->usage == GGML_BACKEND_BUFFER_USAGE_WEIGHTS) {
                const int64_t bytes = std::min<int64_t>(ggml_nbytes(w), left);
                const char * data = (const char *) w->data;
                ranges[n++] = { data + params->ith * PIECE, data + bytes };
                left -= bytes;
            }
        }
    }

    // this thread's next piece; false when there are no more
    bool next(const char *& at, const char *& end) {
        for (; current < n; current++) {
            range & r = ranges[current];
            if (r.at < r.end) {
                at = r.at;
                end = std::min(r.at + PIECE, r.end);
                r.at += step;
                return true;
            }
        }
        return false;
    }
};
