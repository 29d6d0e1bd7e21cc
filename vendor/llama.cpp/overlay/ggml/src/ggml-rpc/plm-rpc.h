// What an RPC server of this tree says of itself: the tree that it was built from, and which of its devices have the
// op MUL_MAT_SPARSE_T. Whether it answers at all is told by one byte of its HELLO, so that a stock server is never
// asked. plm_edge/engine/rpc.py speaks the same.

#pragma once

#include "ggml-backend.h"

#include <cstdint>
#include <cstring>
#include <vector>

#ifndef PLM_EDGE_TREE
#define PLM_EDGE_TREE "unknown"
#endif

static constexpr uint8_t PLM_RPC_HELLO = 'P'; // in the padding of HELLO's answer

struct plm_rpc_about {
    char tree[64];        // sha256 of the patched tree, in hex
    uint8_t sparse_t[64]; // by device, 1 if it has the op
};

inline plm_rpc_about plm_rpc_describe(const std::vector<ggml_backend_t> & backends) {
    plm_rpc_about about = {};
    memcpy(about.tree, PLM_EDGE_TREE, sizeof(PLM_EDGE_TREE) < sizeof(about.tree) ? sizeof(PLM_EDGE_TREE) : sizeof(about.tree));
    for (size_t i = 0; i < backends.size() && i < sizeof(about.sparse_t); ++i) {
        about.sparse_t[i] = ggml_backend_dev_type(ggml_backend_get_device(backends[i])) == GGML_BACKEND_DEVICE_TYPE_CPU;
    }
    return about;
}
