// When a point has been measured often enough.

#pragma once

#include "protocol.h"

#include <functional>
#include <vector>

// One repeat. `seconds` is what a rate is made of; `start` and `end` are now()'s.
struct sample {
    double seconds = 0, start = 0, end = 0;
    double ttft = -1; // of a prefill: seconds to the first new token
    int tokens = 0;
    std::vector<double> steps; // of a decode: seconds of each
    json nodes;                // where they were observed: [[operation, name, seconds], …]
};

// Takes samples until the mean is known well enough or time is up, says each ("sample"), and returns whether it is.
//   interval: half the 95 % confidence interval of the mean, as a share of it, that is narrow enough
//   budget_s, min_repeats, max_repeats: limits
//   enough, least_s: fewer samples, or such that cover less time, may lie close together by chance
//   t95: Student's t, two-sided 95 %, by degrees of freedom from 1 on
bool repeat(const json & request, const std::function<sample()> & take);
