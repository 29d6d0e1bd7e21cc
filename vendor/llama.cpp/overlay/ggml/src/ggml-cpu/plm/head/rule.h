#pragma once

// Which logits are computed exactly.
//
// Let coarse logits c_i be off by errors of variance v, one like the other, and let T be the share of exp(c_i) of those rows
// that stay coarse. To the second order the divergence from exact logits is T v / 2 nats at most. So rows are made exact in
// the order of their coarse logits until T v / 2 is small enough.

#include <cmath>
#include <cstdint>

namespace head {

// Coarse logits counted by their distance from the largest one.
class histogram {
  public:
    static constexpr int BINS = 256, A_NAT = 8; // bins, and how many there are a nat; what lies below counts for nothing

    uint32_t count[BINS];

    static int bin(float distance) { return distance < float(BINS) / A_NAT ? int(distance * A_NAT) : BINS; }

    // The distance from the largest coarse logit up to which rows are to be exact.
    float reach(float variance, float divergence) const {
        double mass[BINS], all = 0, rest = 0;
        for (int i = 0; i < BINS; i++) {
            mass[i] = count[i] * std::exp(-(i + 0.5) / A_NAT);
            all += mass[i];
        }
        int last = BINS;
        for (; last > 1; last--) {
            rest += mass[last - 1];
            if (!(rest * variance / 2 <= divergence * all)) { // also where the variance is no number
                break;
            }
        }
        return float(last) / A_NAT;
    }
};

} // namespace head
