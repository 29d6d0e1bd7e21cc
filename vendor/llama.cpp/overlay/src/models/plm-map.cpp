#include "plm-map.h"

#include "../llama-mmap.h"
#include "../llama-model-loader.h"
#include "plm-pieces.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>

#if !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22 // from Linux 5.14 on
#endif
#endif

namespace {

constexpr size_t HUGE_PAGE_BYTES = 2u << 20;
constexpr size_t READ_AT_ONCE = 4 * HUGE_PAGE_BYTES;
constexpr size_t LOOKS = 16;

} // namespace

#if defined(__linux__)

plm_mapping::plm_mapping(int file, size_t at, size_t n) {
    skipped = at % (size_t) sysconf(_SC_PAGESIZE);
    size = n + skipped;
    void * found = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, (off_t) (at - skipped));
    begin = found == MAP_FAILED ? nullptr : (char *) found;
}

plm_mapping::~plm_mapping() {
    if (begin) {
        munmap(begin, size);
    }
}

bool plm_mapping::read(size_t from, size_t n) const {
    const size_t page = (size_t) sysconf(_SC_PAGESIZE), first = (skipped + from) / page * page;
    return begin && madvise(begin + first, skipped + from + n - first, MADV_POPULATE_READ) == 0;
}

bool plm_mapping::ask_for_huge_pages() const {
    return begin && madvise(begin, size, MADV_HUGEPAGE) == 0;
}

size_t plm_mapping::in_huge_pages() const {
    FILE * smaps = fopen("/proc/self/smaps", "re");
    if (!smaps) {
        return 0;
    }
    char line[512], address[32];
    snprintf(address, sizeof address, "%" PRIxPTR "-", (uintptr_t) begin);
    bool here = false;
    size_t found = 0, kib = 0;
    while (fgets(line, sizeof line, smaps)) {
        if (!here) {
            here = strncmp(line, address, strlen(address)) == 0;
        } else if (sscanf(line, "FilePmdMapped: %zu", &kib) == 1 || sscanf(line, "ShmemPmdMapped: %zu", &kib) == 1) {
            found += kib << 10;
        } else if (strncmp(line, "VmFlags", 7) == 0) {
            break; // the last line of a mapping
        }
    }
    fclose(smaps);
    return found;
}

void plm_forget_mapped(const void * from, size_t n) {
    const uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t) from + page - 1) / page * page, end = ((uintptr_t) from + n) / page * page;
    if (begin < end) {
        madvise((void *) begin, end - begin, MADV_DONTNEED);
    }
}

static bool fits_memory(size_t size) {
    return size <= (size_t) sysconf(_SC_PHYS_PAGES) * (size_t) sysconf(_SC_PAGESIZE);
}

#else

plm_mapping::plm_mapping(int, size_t, size_t) {}

plm_mapping::~plm_mapping() {}

bool plm_mapping::read(size_t, size_t) const {
    return false;
}

bool plm_mapping::ask_for_huge_pages() const {
    return false;
}

size_t plm_mapping::in_huge_pages() const {
    return 0;
}

void plm_forget_mapped(const void *, size_t) {}

static bool fits_memory(size_t) {
    return true;
}

#endif

plm_pages plm_read_in_huge_pages(int file, size_t size, const std::function<bool(size_t)> & progress) {
    const size_t whole = size / HUGE_PAGE_BYTES; // what remains at the end is never in a huge one
    const plm_mapping all(file, 0, size);
    if (whole < LOOKS || !all.ask_for_huge_pages()) {
        return plm_pages::small;
    }
    for (size_t i = 0; i < LOOKS; i++) {
        if (!all.read(i * whole / LOOKS * HUGE_PAGE_BYTES, 1)) {
            return plm_pages::small; // who reads it instead says why that fails
        }
    }
    if (all.in_huge_pages() < (LOOKS - 1) * HUGE_PAGE_BYTES) {
        return plm_pages::small;
    }
    const auto read = [&](size_t i, std::vector<char> &) {
        const size_t n = std::min(READ_AT_ONCE, size - i * READ_AT_ONCE);
        if (!all.read(i * READ_AT_ONCE, n)) {
            throw std::runtime_error("read error");
        }
        return n;
    };
    try {
        if (!plm_in_pieces((size + READ_AT_ONCE - 1) / READ_AT_ONCE, read, progress)) {
            return plm_pages::unwanted;
        }
    } catch (const std::runtime_error &) {
        return plm_pages::small;
    }
    return all.in_huge_pages() < whole * (LOOKS - 1) / LOOKS * HUGE_PAGE_BYTES ? plm_pages::small : plm_pages::huge;
}

bool plm_choose_mapping(llama_model_loader & loader, llama_progress_callback progress, void * user_data) {
    size_t size = 0, done = 0;
    for (const auto & file : loader.files) {
        size += file->size();
    }
    if (!fits_memory(size)) {
        return true; // mapped, as upstream does
    }
    for (const auto & file : loader.files) {
        const auto shown = [&](size_t n) { return !progress || progress((float) (done + n) / size, user_data); };
        const plm_pages found = plm_read_in_huge_pages(file->file_id(), file->size(), shown);
        if (found != plm_pages::huge) {
            loader.use_mmap = false;
            return found != plm_pages::unwanted;
        }
        done += file->size();
    }
    return true;
}
