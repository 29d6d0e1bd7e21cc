#pragma once

#include "ggml-backend.h"

#include <cstddef>
#include <map>

struct llama_model;
struct llama_model_params;

// A PLM, which knows what its devices compute (plm-devices.h).
llama_model * plm_new_model(const llama_model_params & params);

// Adds the bytes of weights that a PLM holds transposed beside the file's, by where they lie; nothing for another model.
void plm_add_copies(const llama_model & model, std::map<ggml_backend_buffer_type_t, size_t> & sizes);
