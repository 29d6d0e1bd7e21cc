// Vectors of PLM_LANES floats, as GCC and Clang have them for any CPU. For one translation unit each: another one has
// other compiler flags, so nothing here may be shared by the linker.

#pragma once

#include <cstdint>
#include <cstring>

namespace PLM_PARTS {
namespace {

constexpr int LANES = PLM_LANES;

typedef float F __attribute__((vector_size(4 * PLM_LANES)));
typedef int32_t I __attribute__((vector_size(4 * PLM_LANES)));

inline F splat(float value) {
    return value - F{}; // not F{} + value, which would lose the sign of -0
}

inline F abs(F x) {
    return (F) ((I) x & 0x7fffffff);
}

inline F either(I mask, F yes, F no) {
    return mask ? yes : no;
}

inline F larger(F a, F b) {
    return a > b ? a : b;
}

inline F smaller(F a, F b) {
    return a < b ? a : b;
}

inline F load(const float * x) {
    F v;
    memcpy(&v, x, sizeof(v));
    return v;
}

// what ggml's nearest_int adds, so that the sum's last bits are the nearest whole number
constexpr float MAGIC = 12582912.f;
// ... for values up to this size
constexpr float NEAREST_MAX = 4194303.f;

// nearest_int of values within NEAREST_MAX, as floats
inline F nearest(F x) {
    return (x + MAGIC) - MAGIC;
}

// nearest_int of any values, bit for bit
inline I nearest_int(F x) {
    return ((I) (x + MAGIC) & 0x007fffff) - 0x00400000;
}

inline int nearest_int(float x) {
    x += MAGIC;
    int32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return (bits & 0x007fffff) - 0x00400000;
}

inline I clamp(I x, int low, int high) {
    x = x < low ? I{} + low : x;
    return x > high ? I{} + high : x;
}

// Value i of LANES sub-blocks of N values side by side.
template <int N> inline void turn(const float * x, F (&out)[N]) {
    for (int i = 0; i < N; i++) {
        float values[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            values[lane] = x[lane * N + i];
        }
        out[i] = load(values);
    }
}

} // namespace
} // namespace PLM_PARTS
