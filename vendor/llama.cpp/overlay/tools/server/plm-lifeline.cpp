#include "plm-lifeline.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#ifdef _WIN32
#include <io.h>
#define read _read
#else
#include <unistd.h>
#endif

void plm_lifeline_watch() {
    const char * said = getenv("PLM_EDGE_LIFELINE");
    if (said == nullptr || strcmp(said, "stdin") != 0) {
        return;
    }
    std::thread([] {
        char nothing[64];
        while (read(0, nothing, sizeof(nothing)) > 0) {
        }
        // While the model loads, nothing handles the signal yet and it ends the process at once; later it is the
        // orderly end, for which a long prefill leaves no time.
        raise(SIGTERM);
        std::this_thread::sleep_for(std::chrono::seconds(5));
        _Exit(1);
    }).detach();
}
