#include "process.h"

#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

json memory() {
    json found = json::object();
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);) {
        for (const std::string name : { "VmHWM", "VmRSS", "RssAnon", "RssFile" }) {
            if (line.rfind(name + ":", 0) == 0) {
                found[name] = std::atoll(line.c_str() + name.size() + 1) * 1024;
            }
        }
    }
    return found;
}

long long peak_rss() {
    // getrusage's figure starts at the parent's, inherited over exec
    const json told = memory();
    if (told.contains("VmHWM")) {
        return told["VmHWM"];
    }
    rusage used = {};
    getrusage(RUSAGE_SELF, &used);
#if defined(__APPLE__)
    return used.ru_maxrss;
#else
    return used.ru_maxrss * 1024LL;
#endif
}

bool drop(const std::string & path) {
#if defined(__APPLE__)
    (void) path;
    return false;
#else
    const int file = open(path.c_str(), O_RDONLY);
    struct stat about;
    if (file < 0 || fstat(file, &about) != 0 || about.st_size == 0) {
        return false;
    }
    fsync(file); // only clean pages are dropped
    bool gone = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0;
    void * view = mmap(nullptr, about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (gone && view != MAP_FAILED) {
        const size_t page = sysconf(_SC_PAGESIZE), pages = (about.st_size + page - 1) / page;
        std::vector<unsigned char> states(pages);
        gone = mincore(view, about.st_size, states.data()) == 0;
        size_t left = 0;
        for (const unsigned char state : states) {
            left += state & 1;
        }
        // some may stay: readahead of others, a page that is written back
        gone = gone && left <= pages / 100;
        munmap(view, about.st_size);
    } else {
        gone = false;
    }
    close(file);
    return gone;
#endif
}
