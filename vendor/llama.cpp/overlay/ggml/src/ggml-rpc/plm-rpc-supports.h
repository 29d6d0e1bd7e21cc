// Whether a device of an RPC server computes an operation: the server asks it. Included by ggml-rpc.cpp alone, below its types.

#pragma once

struct plm_rpc_supports_rsp {
    uint8_t supported;
};

// the server's side; false: the request is damaged
bool rpc_server::plm_supports(const rpc_msg_get_alloc_size_req & request, plm_rpc_supports_rsp & response) {
    if (request.device >= backends.size()) {
        return false;
    }
    ggml_context_ptr holder{ ggml_init({ ggml_tensor_overhead() * (1 + GGML_MAX_SRC), nullptr, true }) };
    ggml_tensor * op = deserialize_tensor(holder.get(), &request.tensor);
    if (!op) {
        return false;
    }
    for (int i = 0; i < GGML_MAX_SRC; i++) {
        if (request.srcs[i].id != 0 && !(op->src[i] = deserialize_tensor(holder.get(), &request.srcs[i]))) {
            return false;
        }
    }
    response.supported = ggml_backend_supports_op(backends[request.device], op);
    return true;
}

// What an answer depends on. Of what a tensor is a view, nothing is sent: of all backends Hexagon's alone asks, for a table of
// GET_ROWS, and it asks for the table's buffer as well.
static uint64_t plm_rpc_question(const ggml_tensor * op) {
    uint64_t hash = fnv_hash((const uint8_t *) &op->op, sizeof(op->op));
    hash = fnv_hash((const uint8_t *) op->op_params, sizeof(op->op_params), hash);
    const auto add = [&](const ggml_tensor * t) {
        hash = fnv_hash((const uint8_t *) &t->type, sizeof(t->type), hash);
        hash = fnv_hash((const uint8_t *) t->ne, sizeof(t->ne), hash);
        hash = fnv_hash((const uint8_t *) t->nb, sizeof(t->nb), hash);
        hash = fnv_hash((const uint8_t *) &t->flags, sizeof(t->flags), hash);
    };
    add(op);
    for (int i = 0; i < GGML_MAX_SRC; i++) {
        const uint8_t there = op->src[i] != nullptr;
        hash = fnv_hash(&there, 1, hash);
        if (there) {
            add(op->src[i]);
        }
    }
    return hash;
}

// whether the server of a device answers at all
static bool plm_rpc_answers(ggml_backend_dev_t device) {
    return get_dispatcher(((ggml_backend_rpc_device_context *) device->context)->endpoint)->about.answers;
}

// the client's side: asked once for each shape
static bool plm_rpc_supports(const std::string & endpoint, uint32_t device, const ggml_tensor * op) {
    const std::shared_ptr<rpc_dispatcher> server = get_dispatcher(endpoint);
    if (!server->about.answers) {
        return op->op != GGML_OP_MUL_MAT_SPARSE_T; // a stock server: nobody knows
    }
    static std::mutex mutex;
    static std::unordered_map<uint64_t, bool> known;
    uint64_t key = plm_rpc_question(op);
    key = fnv_hash((const uint8_t *) &device, sizeof(device), key);
    key = fnv_hash((const uint8_t *) endpoint.data(), endpoint.size(), key);
    {
        std::lock_guard<std::mutex> lock(mutex);
        const auto found = known.find(key);
        if (found != known.end()) {
            return found->second;
        }
    }
    auto request = std::make_shared<rpc_msg_get_alloc_size_req>();
    request->device = device;
    const auto shape = [](const ggml_tensor * t) {
        rpc_tensor sent = serialize_tensor(t);
        sent.buffer = sent.data = 0; // no device asks where it lies
        return sent;
    };
    request->tensor = shape(op);
    for (int i = 0; i < GGML_MAX_SRC; i++) {
        request->srcs[i] = shape(op->src[i]);
    }
    plm_rpc_supports_rsp response = {};
    server->send(RPC_CMD_PLM_SUPPORTS, request, sizeof(*request), &response, sizeof(response));
    std::lock_guard<std::mutex> lock(mutex);
    return known[key] = response.supported;
}
