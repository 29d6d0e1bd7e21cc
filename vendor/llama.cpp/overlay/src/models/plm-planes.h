#pragma once

// Which tensors of a file are in planes, and how they are joined for a device that has no product of them.

#include "ggml.h"
#include "gguf.h"

// a list of tensors' names, in files of the edge layout from version 2 on
#define PLM_PLANES_KEY "plm_edge.layout.planes"

// Throws where the list names what cannot be in planes.
bool plm_is_stored_in_planes(const gguf_context * file, const ggml_tensor * tensor);

// Whether one of ctx's tensors is in planes in the file and not in memory: then the file's bytes are not the tensor's, and
// no device may use them where they lie.
bool plm_joins_planes(const gguf_context * file, ggml_context * ctx);

// Gives `to`, of q4_K in any buffer, the rows that `planes` holds.
void plm_join_planes(ggml_tensor * to, const void * planes);
