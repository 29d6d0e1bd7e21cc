#include "plm-pieces.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

namespace {

constexpr unsigned MOST_THREADS = 8;

} // namespace

bool plm_in_pieces(size_t n, const std::function<size_t(size_t, std::vector<char> &)> & one,
                   const std::function<bool(size_t)> & progress) {
    std::atomic<size_t> next{ 0 }, there{ 0 };
    std::atomic<bool> ended{ false };
    std::mutex mutex;
    std::string error;
    bool wanted = true;
    const auto work = [&](bool shows) {
        std::vector<char> buffer;
        for (size_t i = next++; i < n && !ended; i = next++) {
            try {
                there += one(i, buffer);
            } catch (const std::exception & e) {
                const std::lock_guard<std::mutex> lock(mutex);
                error = e.what();
                ended = true;
                return;
            }
            if (shows && !progress(there)) {
                wanted = false;
                ended = true;
            }
        }
    };
    const size_t n_threads = std::min<size_t>({ std::max(1u, std::thread::hardware_concurrency()), MOST_THREADS, n });
    std::vector<std::thread> others;
    try {
        for (size_t i = 1; i < n_threads; i++) {
            others.emplace_back(work, false);
        }
    } catch (const std::system_error &) {
        // the system gives no more threads: those that are there do all
    }
    work(true);
    for (std::thread & thread : others) {
        thread.join();
    }
    if (!error.empty()) {
        throw std::runtime_error(error);
    }
    return wanted;
}
