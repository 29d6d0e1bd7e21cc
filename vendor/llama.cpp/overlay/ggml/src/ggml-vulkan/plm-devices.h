#pragma once

#include <cstdint>

// Whether ggml's shaders run on a device with so much shared memory (bytes) and so large workgroups. On Raspberry Pi's V3D,
// with 16 KiB and 256, they do not: products of matrices want more memory, without which the process ends, and shaders of 512
// invocations write what is wrong (ggml-org/llama.cpp#26213). Such a device is not listed: the CPU computes.
inline bool ggml_vk_plm_runs_on(uint32_t shared_memory, uint32_t invocations) { return shared_memory > 16384 || invocations > 256; }
