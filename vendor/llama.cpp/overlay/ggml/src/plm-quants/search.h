// ggml's searches for the scale of least error, LANES sub-blocks at once.

#pragma once

#include "lanes.h"

namespace PLM_PARTS {
namespace {

// How make_qkx2_quants is called for a type: N values a sub-block, quants 0..top.
struct MinSearch {
    int top;
    float first;
    int steps;
    bool absolute; // the error is |diff|, not its square
};

struct MinFound {
    F scale;
    F min; // what is subtracted, as make_qkx2_quants hands it out
    I odd; // lanes whose quotients leave the range where nearest() is nearest_int()
};

// make_qkx2_quants without its quants: the final ones are made from the rounded scales anyway.
template <int N, bool ABSOLUTE>
inline MinFound search_min(const F (&x)[N], const F (&w)[N], int top, float first, int steps) {
    F min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    for (int i = 1; i < N; i++) {
        min = either(x[i] < min, x[i], min);
        max = either(x[i] > max, x[i], max);
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    const F lowest = min;
    min = either(min > 0, F{}, min);
    const I flat = max == min;
    const F flat_min = min;
    const F ntop = splat((float) top);

    const auto quant = [&](int i, F iscale) {
        return smaller(larger(nearest(iscale * (x[i] - min)), F{}), ntop);
    };
    const auto error = [&](int i, F scale, F shift, F l) {
        const F diff = scale * l + shift - x[i];
        return w[i] * (ABSOLUTE ? abs(diff) : diff * diff);
    };
    I odd = {};
    const auto check = [&](F iscale) {
        const F reach = abs(iscale) * larger(abs(max - min), abs(lowest - min));
        odd |= ~(reach < NEAREST_MAX);
    };

    F iscale = ntop / (max - min);
    F scale = 1.f / iscale;
    F best = {};
    check(iscale);
    for (int i = 0; i < N; i++) {
        best += error(i, scale, min, quant(i, iscale));
    }
    for (int step = 0; step <= steps; step++) {
        iscale = splat(first + 0.1f * step + top) / (max - min);
        check(iscale);
        F quants[N];
        F sum_l = {}, sum_l2 = {}, sum_xl = {};
        for (int i = 0; i < N; i++) {
            const F l = quant(i, iscale);
            const F wl = w[i] * l;
            quants[i] = l;
            sum_l += wl;
            sum_l2 += wl * l;
            sum_xl += wl * x[i];
        }
        const F det = sum_w * sum_l2 - sum_l * sum_l;
        const F fit_scale = (sum_w * sum_xl - sum_x * sum_l) / det;
        const F fit_min = (sum_l2 * sum_x - sum_l * sum_xl) / det;
        const I above = fit_min > 0;
        const F new_scale = either(above, sum_xl / sum_l2, fit_scale);
        const F new_min = either(above, F{}, fit_min);
        F sum = {};
        for (int i = 0; i < N; i++) {
            sum += error(i, new_scale, new_min, quants[i]);
        }
        const I better = (det > 0) & (sum < best);
        best = either(better, sum, best);
        scale = either(better, new_scale, scale);
        min = either(better, new_min, min);
    }
    return { either(flat, F{}, scale), -either(flat, flat_min, min), odd & ~flat };
}

// make_qx_quants with x^2 as the weights, without its quants; quants -top..top-1.
template <int N> inline F search_scale(const F (&x)[N], int top) {
    F max = {}, amax = {};
    for (int i = 0; i < N; i++) {
        const F ax = abs(x[i]);
        const I more = ax > amax;
        amax = either(more, ax, amax);
        max = either(more, x[i], max);
    }
    const F low = splat((float) -top), high = splat((float) (top - 1));
    F w[N], wx[N];
    for (int i = 0; i < N; i++) {
        w[i] = x[i] * x[i];
        wx[i] = w[i] * x[i];
    }
    F sum_lx, sum_l2;
    const auto sums = [&](F iscale) {
        sum_lx = sum_l2 = F{};
        for (int i = 0; i < N; i++) {
            const F l = smaller(larger(nearest(iscale * x[i]), low), high);
            sum_lx += wx[i] * l;
            sum_l2 += w[i] * l * l;
        }
    };
    sums(splat((float) -top) / max);
    F scale = either(sum_l2 != 0, sum_lx / sum_l2, F{});
    F best = scale * sum_lx;
    for (int step = -9; step <= 9; step++) {
        if (step == 0) {
            continue;
        }
        sums(splat(-(top + 0.1f * step)) / max);
        const I better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2);
        const F found = sum_lx / sum_l2;
        scale = either(better, found, scale);
        best = either(better, found * sum_lx, best);
    }
    return either(amax < 1e-15f, F{}, scale);
}

} // namespace
} // namespace PLM_PARTS
