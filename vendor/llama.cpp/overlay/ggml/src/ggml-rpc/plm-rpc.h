// What an RPC server of this tree says of itself: the tree that it was built from, which of its devices have the op
// MUL_MAT_SPARSE_T, and that it answers for each operation whether a device of its computes it (plm-rpc-supports.h).
// Whether it says anything is told by one byte of its HELLO, so that a stock server is never asked. plm_edge/engine/rpc.py
// speaks the same.

#pragma once

#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <cstdint>
#include <cstring>
#include <vector>

#ifndef PLM_EDGE_TREE
#define PLM_EDGE_TREE "unknown"
#endif

static constexpr uint8_t PLM_RPC_HELLO = 'P'; // in the padding of HELLO's answer

struct plm_rpc_about {
    char tree[64];        // sha256 of the patched tree, in hex
    uint8_t sparse_t[63]; // by device, 1 if it has the op
    uint8_t answers;      // 1: RPC_CMD_PLM_SUPPORTS is answered
};

// whether a device computes the sparse product of K-quants
inline bool plm_rpc_has_sparse_t(ggml_backend_t backend) {
    ggml_context_ptr ctx{ ggml_init({ 4 * ggml_tensor_overhead(), nullptr, true }) };
    ggml_tensor * rows = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_Q4_K, 256, 32);
    ggml_tensor * x = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, 32, 1);
    return ggml_backend_supports_op(backend, ggml_mul_mat_sparse_t_relu_sqr(ctx.get(), rows, x));
}

inline plm_rpc_about plm_rpc_describe(const std::vector<ggml_backend_t> & backends) {
    plm_rpc_about about = {};
    memcpy(about.tree, PLM_EDGE_TREE, sizeof(PLM_EDGE_TREE) < sizeof(about.tree) ? sizeof(PLM_EDGE_TREE) : sizeof(about.tree));
    for (size_t i = 0; i < backends.size() && i < sizeof(about.sparse_t); ++i) {
        about.sparse_t[i] = plm_rpc_has_sparse_t(backends[i]);
    }
    about.answers = 1;
    return about;
}
