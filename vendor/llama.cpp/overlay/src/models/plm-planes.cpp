#include "plm-planes.h"

#include "ggml-backend.h"
#include "../../ggml/src/plm-planes/plm-planes.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

bool plm_is_stored_in_planes(const gguf_context * file, const ggml_tensor * tensor) {
    const int64_t id = file ? gguf_find_key(file, PLM_PLANES_KEY) : -1;
    if (id < 0) {
        return false;
    }
    if (gguf_get_kv_type(file, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(file, id) != GGUF_TYPE_STRING) {
        throw std::runtime_error(PLM_PLANES_KEY " is no list of names");
    }
    for (size_t i = 0; i < gguf_get_arr_n(file, id); i++) {
        if (strcmp(gguf_get_arr_str(file, id, i), tensor->name) == 0) {
            if (!plm_planes_fits(tensor->type, tensor->ne[0], ggml_nrows(tensor)) || !ggml_is_matrix(tensor)) {
                throw std::runtime_error(std::string(tensor->name) + " cannot be in planes");
            }
            return true;
        }
    }
    return false;
}

bool plm_joins_planes(const gguf_context * file, ggml_context * ctx) {
    for (ggml_tensor * t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
        if (!(t->flags & GGML_TENSOR_FLAG_PLANES) && plm_is_stored_in_planes(file, t)) {
            return true;
        }
    }
    return false;
}

void plm_join_planes(ggml_tensor * to, const void * planes) {
    const int64_t n = to->ne[0], total = to->ne[1], n_blocks = n / ggml_blck_size(to->type);
    const plm_planes_block * blocks = (const plm_planes_block *) planes;
    const char * low = (const char *) (blocks + total / PLM_PLANES_ROWS * n_blocks);
    const int64_t step = 64 * PLM_PLANES_ROWS; // so that no second copy of the whole is held
    std::vector<char> rows(std::min(step, total) * to->nb[1]);
    for (int64_t first = 0; first < total; first += step) {
        const int64_t n_rows = std::min(step, total - first);
        plm_planes_unpack(blocks + first / PLM_PLANES_ROWS * n_blocks, low + first * n_blocks * PLM_PLANES_LOW, rows.data(), n, n_rows);
        ggml_backend_tensor_set(to, rows.data(), first * to->nb[1], n_rows * to->nb[1]);
    }
}
