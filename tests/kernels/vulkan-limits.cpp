// Query heads that share cached rows, by a device's block of rows; and devices that are not listed.

#include "plm-devices.h"
#include "plm-flash-attn.h"

#include <cstdio>

namespace {

int failures = 0;

void expect(bool good, const char * what) {
    if (!good) {
        printf("WRONG: %s\n", what);
        failures++;
    }
}

// upstream's block for 576/512, where a device has no matrices of its own: as many rows as there are, up to `most`; half as
// many where shared memory does not hold more than `fits`
struct device {
    uint32_t most, fits;
    uint32_t operator()(uint32_t n) const {
        const uint32_t rows = n <= 4 ? 4 : n <= 8 ? 8
                                                  : most;
        return rows > fits ? rows / 2 : rows;
    }
};

uint32_t together(uint32_t n_heads, uint32_t most, uint32_t fits = 32) { return ggml_vk_plm_heads_together(n_heads, device{ most, fits }); }

} // namespace

int main() {
    expect(together(16, 16) == 16, "all sixteen heads of PLM");
    expect(together(16, 8) == 8, "half of them where a block has 8 rows, as on Intel");
    expect(together(16, 16, 8) == 8, "half of them where shared memory holds 8 rows");
    expect(together(16, 16, 4) == 4, "a quarter where it holds 4");
    expect(together(20, 16) == 10, "twenty heads as ten");
    expect(together(71, 16) == 1, "each for itself where no half is whole");
    expect(together(8, 8) == 8, "eight as upstream");
    expect(together(1, 16) == 1, "one head");

    expect(ggml_vk_plm_tokens(16, 100) == 1024, "the block of many tokens for sixteen heads");
    expect(ggml_vk_plm_tokens(16, 4096) == 4096, "as many tokens as there are");
    expect(ggml_vk_plm_tokens(8, 100) == 100, "eight heads as upstream");

    expect(!ggml_vk_plm_runs_on(16384, 256), "Raspberry Pi's V3D");
    expect(ggml_vk_plm_runs_on(32768, 1024), "lavapipe, Adreno");
    expect(ggml_vk_plm_runs_on(16384, 1024), "little shared memory alone, which f16 may fit");

    printf(failures ? "%d wrong\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
