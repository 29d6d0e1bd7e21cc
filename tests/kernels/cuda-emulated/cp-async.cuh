#pragma once

// Stands in for ggml-cuda/cp-async.cuh: a copy that a GPU does meanwhile is done at once.

#include "common.cuh"

inline unsigned ggml_cuda_cvta_generic_to_shared(void * at) { return unsigned((char *) at - emulator::dynamic_shared); }
template <int> void cp_async_cg_16(unsigned to, const void * from) { ggml_cuda_memcpy_1<16>(emulator::dynamic_shared + to, from); }
inline void cp_async_wait_all() {}
