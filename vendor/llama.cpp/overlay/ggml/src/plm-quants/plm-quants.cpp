#include "plm-quants.h"

#include "versions.h"

static plm_quantize_fn * version(int lanes) {
#if defined(PLM_QUANTS_X86)
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512 && (lanes == 0 || lanes == 16)) {
        return plm_quantize_16;
    }
    if (__builtin_cpu_supports("avx2") && (lanes == 0 || lanes == 8)) {
        return plm_quantize_8;
    }
    if (lanes == 0 || lanes == 4) {
        return plm_quantize_4;
    }
#elif defined(PLM_QUANTS_ARM)
    if (lanes == 0 || lanes == 4) {
        return plm_quantize_4;
    }
#endif
    (void) lanes;
    return nullptr;
}

bool plm_edge_quantize(enum ggml_type type, const float * x, void * y, int64_t n, int lanes) {
    plm_quantize_fn * quantize = version(lanes);
    return quantize && quantize(type, x, y, n);
}
