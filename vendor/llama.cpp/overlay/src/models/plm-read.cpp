#include "plm-read.h"

#include "../llama-mmap.h"
#include "plm-map.h"
#include "plm-pieces.h"

#include "ggml-backend.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#define PLM_PREAD
#endif

namespace {

constexpr size_t PIECE = 8u << 20;
constexpr int64_t INTERLEAVED_MOST = 16;  // no more are interleaved, on any CPU
constexpr size_t MOST_AT_ONCE = 1u << 30; // macOS refuses to read 2 GiB or more by one call

bool is_of_the_cpu(const ggml_tensor * tensor) {
    const ggml_backend_dev_t device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(tensor->buffer));
    return !device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

// Whether some rows of a tensor can be stored without the others: upstream's buffer of interleaved rows takes a tensor of
// these rows alone, at the place that they have in the whole one.
bool goes_by_rows(const ggml_tensor * tensor) {
    const char * name = ggml_backend_buft_name(ggml_backend_buffer_get_type(tensor->buffer));
    return strcmp(name, "CPU_REPACK") == 0 && tensor->ne[2] == 1 && tensor->ne[3] == 1;
}

ggml_tensor rows_of(const ggml_tensor * tensor, int64_t first, int64_t count) {
    ggml_tensor rows = *tensor;
    rows.ne[1] = count;
    rows.nb[2] = rows.nb[3] = rows.nb[1] * count;
    rows.data = (char *) tensor->data + first * tensor->nb[1];
    return rows;
}

void read_all(int file, size_t at, char * to, size_t n) {
#if defined(PLM_PREAD)
    while (n > 0) {
        const ssize_t got = pread(file, to, std::min(n, MOST_AT_ONCE), (off_t) at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            throw std::runtime_error(got < 0 ? std::string("read error: ") + strerror(errno) : "unexpectedly reached end of file");
        }
        at += got;
        to += got;
        n -= got;
    }
#else
    (void) file, (void) at, (void) to, (void) n;
#endif
}

} // namespace

bool plm_reads::add(const llama_file & file, size_t at, ggml_tensor * tensor, const void * mapped) {
#if defined(PLM_PREAD)
    if (file.has_direct_io() || !tensor->buffer || !is_of_the_cpu(tensor)) {
        return false;
    }
    const size_t n = ggml_nbytes(tensor);
    if (ggml_backend_buffer_is_host(tensor->buffer)) {
        for (size_t done = 0; done < n; done += PIECE) {
            pieces.push_back({ file.file_id(), at + done, std::min(PIECE, n - done), (char *) tensor->data + done, {}, nullptr });
        }
    } else {
        const int64_t fit = PIECE / tensor->nb[1] / INTERLEAVED_MOST * INTERLEAVED_MOST, n_rows = ggml_nrows(tensor);
        const int64_t count = goes_by_rows(tensor) ? std::max(INTERLEAVED_MOST, fit) : n_rows;
        for (int64_t first = 0; first < n_rows; first += count) {
            const ggml_tensor rows = count < n_rows ? rows_of(tensor, first, std::min(count, n_rows - first)) : *tensor;
            const size_t skipped = first * tensor->nb[1];
            const char * there = mapped ? (const char *) mapped + skipped : nullptr;
            pieces.push_back({ file.file_id(), at + skipped, ggml_nbytes(&rows), nullptr, rows, there });
        }
    }
    n_bytes += n;
    return true;
#else
    (void) file, (void) at, (void) tensor, (void) mapped;
    return false;
#endif
}

void plm_reads::read(piece & p, std::vector<char> & staging) {
    if (p.to) {
        read_all(p.file, p.at, p.to, p.n);
        return;
    }
    if (p.mapped) {
        ggml_backend_tensor_set(&p.rows, p.mapped, 0, p.n);
        plm_forget_mapped(p.mapped, p.n);
        return;
    }
    const plm_mapping mapped(p.file, p.at, p.n);
    if (mapped.read(0, p.n)) {
        ggml_backend_tensor_set(&p.rows, mapped.data(), 0, p.n);
        return;
    }
    staging.resize(std::max(staging.size(), p.n));
    read_all(p.file, p.at, staging.data(), p.n);
    ggml_backend_tensor_set(&p.rows, staging.data(), 0, p.n);
}

bool plm_reads::run(const std::function<bool(size_t)> & progress) {
    const auto one = [this](size_t i, std::vector<char> & staging) {
        read(pieces[i], staging);
        return pieces[i].n;
    };
    return plm_in_pieces(pieces.size(), one, progress);
}
