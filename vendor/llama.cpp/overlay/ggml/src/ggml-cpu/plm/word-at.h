#pragma once

#include "simd.h"

// What lies at `p`, also where that is not aligned.
template <class T> PLM_INLINE T word_at(const void * p) {
    T word;
    memcpy(&word, p, sizeof(word));
    return word;
}
