// Stands for NVIDIA's libnvidia-ml.so.1 in tests: no driver, and no GPU. It says of itself that it is simulated.
//
// NVML_SIMULATED_GPUS: how many there are (1). NVML_SIMULATED_OLD: they count no energy, as before Volta.
// NVML_SIMULATED_BROKEN: there is no driver.

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9 };

#define WATTS 100
#define GIB (1ull << 30)

struct memory {
    unsigned long long total, free, used;
};

int nvmlInit_v2(void) { return getenv("NVML_SIMULATED_BROKEN") ? DRIVER_NOT_LOADED : SUCCESS; }

const char * nvmlErrorString(int code) { return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Not Supported"; }

int nvmlSystemGetDriverVersion(char * text, unsigned length) {
    snprintf(text, length, "simulated 1.0");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned * count) {
    const char * said = getenv("NVML_SIMULATED_GPUS");
    *count = said ? atoi(said) : 1;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void ** handle) {
    *handle = (void *) (size_t) (index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void * handle, char * text, unsigned length) {
    snprintf(text, length, "Simulated GPU %d", (int) (size_t) handle);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void * handle, struct memory * found) {
    (void) handle;
    found->total = 8 * GIB;
    found->free = 6 * GIB;
    found->used = 2 * GIB;
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void * handle, unsigned long long * millijoules) {
    (void) handle;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *millijoules = WATTS * (1000ull * now.tv_sec + now.tv_nsec / 1000000);
    return getenv("NVML_SIMULATED_OLD") ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetPowerUsage(void * handle, unsigned * milliwatts) {
    (void) handle;
    *milliwatts = 1000 * WATTS;
    return SUCCESS;
}
