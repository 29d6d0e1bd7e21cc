#pragma once

struct llama_model;
struct llama_model_params;

// A PLM, which knows what its devices compute (plm-devices.h).
llama_model * plm_new_model(const llama_model_params & params);
