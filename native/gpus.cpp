// The GPUs of this machine: plm_edge/model/offload.py reckons how many layers go there.

#include "commands.h"
#include "engine.h"

#include <cstring>

// As llama.cpp takes them: a chip's own GPU only where there is no other. What RPC servers have is elsewhere.
void gpus(const json &) {
    start_engine();
    json of_cards = json::array(), of_chips = json::array();
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        const enum ggml_backend_dev_type type = ggml_backend_dev_type(device);
        const char * name = ggml_backend_dev_name(device);
        if ((type != GGML_BACKEND_DEVICE_TYPE_GPU && type != GGML_BACKEND_DEVICE_TYPE_IGPU) || strncmp(name, "RPC", 3) == 0) {
            continue;
        }
        size_t free = 0, total = 0;
        ggml_backend_dev_memory(device, &free, &total);
        (type == GGML_BACKEND_DEVICE_TYPE_GPU ? of_cards : of_chips)
            .push_back({ { "name", name }, { "description", ggml_backend_dev_description(device) }, { "free", free }, { "total", total } });
    }
    say("gpus", { { "gpus", of_cards.empty() ? of_chips : of_cards } });
}
