#pragma once

#include <cstdint>
#if defined(__unix__)
#include <unistd.h>
#endif

// Bytes of the CPU's third cache; 0 where the system does not tell.
static inline int64_t third_cache_bytes() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
    static const int64_t bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return bytes > 0 ? bytes : 0;
#else
    return 0;
#endif
}
