#include "exact.h"

#include <cstdlib>
#include <cstring>

namespace {

bool from_environment() {
    const char * value = getenv("PLM_EDGE_EXACT");
    return value && strcmp(value, "1") == 0;
}

bool exact = from_environment();

} // namespace

void plm_edge_exact(bool is_exact) { exact = is_exact; }

bool plm_is_exact(void) { return exact; }
