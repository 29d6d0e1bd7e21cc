#include "plm-read.h"

#include "../llama-mmap.h"

#include "ggml-backend.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#define PLM_PREAD
#endif

namespace {

constexpr size_t PIECE = 8u << 20;
constexpr unsigned MOST_THREADS = 8;
constexpr size_t MOST_AT_ONCE = 1u << 30; // macOS refuses to read 2 GiB or more by one call

bool is_of_the_cpu(const ggml_tensor * tensor) {
    const ggml_backend_dev_t device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(tensor->buffer));
    return !device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
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

bool plm_reads::add(const llama_file & file, size_t at, ggml_tensor * tensor) {
#if defined(PLM_PREAD)
    if (file.has_direct_io() || !tensor->buffer || !is_of_the_cpu(tensor)) {
        return false;
    }
    const size_t n = ggml_nbytes(tensor);
    if (ggml_backend_buffer_is_host(tensor->buffer)) {
        for (size_t done = 0; done < n; done += PIECE) {
            pieces.push_back({ file.file_id(), at + done, std::min(PIECE, n - done), (char *) tensor->data + done, nullptr });
        }
    } else {
        pieces.push_back({ file.file_id(), at, n, nullptr, tensor });
    }
    n_bytes += n;
    return true;
#else
    (void) file, (void) at, (void) tensor;
    return false;
#endif
}

void plm_reads::read(const piece & p, std::vector<char> & staging) const {
    if (p.to) {
        read_all(p.file, p.at, p.to, p.n);
        return;
    }
    staging.resize(std::max(staging.size(), p.n));
    read_all(p.file, p.at, staging.data(), p.n);
    ggml_backend_tensor_set(p.tensor, staging.data(), 0, p.n);
}

bool plm_reads::run(const std::function<bool(size_t)> & progress) {
    std::atomic<size_t> next{ 0 }, there{ 0 };
    std::atomic<bool> ended{ false };
    std::mutex mutex;
    std::string error;
    bool wanted = true;
    const auto work = [&](bool shows) {
        std::vector<char> staging;
        for (size_t i = next++; i < pieces.size() && !ended; i = next++) {
            try {
                read(pieces[i], staging);
            } catch (const std::exception & e) {
                const std::lock_guard<std::mutex> lock(mutex);
                error = e.what();
                ended = true;
                return;
            }
            there += pieces[i].n;
            if (shows && !progress(there)) {
                wanted = false;
                ended = true;
            }
        }
    };
    const size_t n_threads = std::min<size_t>({ std::max(1u, std::thread::hardware_concurrency()), MOST_THREADS, pieces.size() });
    std::vector<std::thread> others;
    try {
        for (size_t i = 1; i < n_threads; i++) {
            others.emplace_back(work, false);
        }
    } catch (const std::system_error &) {
        // the system gives no more threads: those that are there read all
    }
    work(true);
    for (std::thread & one : others) {
        one.join();
    }
    if (!error.empty()) {
        throw std::runtime_error(error);
    }
    return wanted;
}
