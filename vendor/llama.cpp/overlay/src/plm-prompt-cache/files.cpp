#include "files.h"

#include "llama-impl.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>

#if !defined(_WIN32)
#include <fcntl.h>
#include <unistd.h>
#endif

namespace fs = std::filesystem;

namespace plm_prompt_cache_impl {

namespace {

constexpr char MAGIC[8] = { 'P', 'L', 'M', 'K', 'V', '0', '0', '1' };
constexpr size_t NAME = 24;              // characters of a hash in a name
constexpr int64_t MOST_TOKENS = 1 << 16; // of a block, MOST_COLUMNS columns: what a header may claim
constexpr int64_t MOST_COLUMNS = 1 << 14;
constexpr uint64_t DEFAULT_LIMIT = 2ull << 30;
constexpr auto LEFTOVER = std::chrono::hours(1); // after which an unfinished file is nobody's

// begins a file; then n_columns layout::column, n_tokens tokens, rows, SHA-256 of all that
struct header {
    char magic[8];
    uint8_t key[32], parent[32];
    int32_t position, n_tokens;
    uint32_t v_trans, n_keys;
    int64_t n_columns;
};
static_assert(sizeof(header) == 96, "written as it stands");

struct closed {
    void operator()(FILE * f) const { fclose(f); }
};
using file_handle = std::unique_ptr<FILE, closed>;

file_handle open_file(const fs::path & path, const char * mode) {
#if defined(_WIN32)
    return file_handle(fopen(path.string().c_str(), mode));
#else
    const bool writes = mode[0] == 'w';
    const int fd = open(path.c_str(), (writes ? O_WRONLY | O_CREAT | O_EXCL : O_RDONLY) | O_CLOEXEC, 0600);
    return file_handle(fd < 0 ? nullptr : fdopen(fd, mode));
#endif
}

void make_private(const fs::path & folder) {
    fs::create_directories(folder);
    fs::permissions(folder, fs::perms::owner_all, fs::perm_options::replace);
}

bool get(FILE * f, void * to, size_t n) { return fread(to, 1, n, f) == n; }
bool put(FILE * f, sha256 & sum, const void * from, size_t n) {
    sum.add(from, n);
    return fwrite(from, 1, n, f) == n;
}

bool plausible(const header & h) {
    return memcmp(h.magic, MAGIC, sizeof(MAGIC)) == 0 && h.n_tokens > 0 && h.n_tokens <= MOST_TOKENS &&
           h.n_columns > 0 && h.n_columns <= MOST_COLUMNS && h.n_keys > 0 && h.n_keys <= h.n_columns;
}

// what is wrong with a file, or null
const char * read_block(FILE * f, uint64_t size, const digest & key, const digest & parent, block & out) {
    header h;
    sha256 sum;
    if (!get(f, &h, sizeof(h)) || !plausible(h)) {
        return "it is no block of a prompt, or of another version";
    }
    if (memcmp(h.key, key.data(), 32) || memcmp(h.parent, parent.data(), 32)) {
        return "it belongs to another model or prompt";
    }
    out.position = h.position;
    out.of.v_trans = h.v_trans, out.of.n_keys = h.n_keys;
    out.of.columns.resize(h.n_columns);
    out.tokens.resize(h.n_tokens);
    const size_t of_columns = h.n_columns * sizeof(layout::column), of_tokens = h.n_tokens * sizeof(llama_token);
    if (!get(f, out.of.columns.data(), of_columns) || !get(f, out.tokens.data(), of_tokens)) {
        return "it is cut off";
    }
    uint64_t of_rows = 0;
    for (const layout::column & c : out.of.columns) {
        if (c.row <= 0 || c.row > INT32_MAX) {
            return "it is damaged";
        }
        of_rows += (uint64_t) c.row * h.n_tokens;
    }
    digest told;
    if (size != sizeof(h) + of_columns + of_tokens + of_rows + told.size()) {
        return "its size is wrong";
    }
    out.rows.resize(of_rows);
    if (!get(f, out.rows.data(), of_rows) || !get(f, told.data(), told.size())) {
        return "it is cut off";
    }
    sum.add_value(h).add(out.of.columns.data(), of_columns).add(out.tokens.data(), of_tokens).add(out.rows.data(), of_rows);
    return sum.finish() == told ? nullptr : "its checksum is wrong";
}

} // namespace

digest extended(const digest & parent, const llama_token * tokens, size_t n) {
    return sha256().add(parent.data(), parent.size()).add(tokens, n * sizeof(llama_token)).finish();
}

files::files(const path & folder, const digest & key, uint64_t limit, const std::string & about) : folder(folder), own(folder / hex(key, 16)), key(key), wanted(limit) {
    make_private(folder);
    make_private(own);
#if !defined(_WIN32)
    if (access(own.c_str(), R_OK | W_OK | X_OK) != 0) {
        throw std::runtime_error(own.string() + " cannot be written");
    }
#endif
    if (!fs::exists(own / "about.txt")) {
        if (const file_handle f = open_file(own / "about.txt", "wb")) {
            fwrite(about.data(), 1, about.size(), f.get());
        }
    }
}

files::children files::list() const {
    children found;
    std::error_code error;
    for (fs::directory_iterator it(own, error), end; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename().string();
        if (it->path().extension() == ".kv" && name.size() > NAME && name[NAME] == '-') {
            found.emplace(name.substr(0, NAME), it->path());
        }
    }
    return found;
}

files::path files::place(const digest & parent, const llama_token * tokens, size_t n, int32_t position) const {
    const std::string name = hex(parent, NAME) + "-" + hex(extended(parent, tokens, n), NAME);
    return own / (name + "-" + std::to_string(position) + "-" + std::to_string(n) + ".kv");
}

files::path files::find(const children & known, const digest & parent, const llama_token * tokens, size_t n) const {
    const std::string wanted = hex(parent, NAME) + "-" + hex(extended(parent, tokens, n), NAME) + "-";
    const auto [begin, end] = known.equal_range(hex(parent, NAME));
    for (auto it = begin; it != end; ++it) {
        if (it->second.filename().string().compare(0, wanted.size(), wanted) == 0) {
            return it->second;
        }
    }
    return {};
}

bool files::read_tokens(const path & file, std::vector<llama_token> & tokens) {
    header h;
    const file_handle f = open_file(file, "rb");
    if (!f || !get(f.get(), &h, sizeof(h)) || !plausible(h)) {
        return false;
    }
    tokens.resize(h.n_tokens);
    return fseek(f.get(), (long) (h.n_columns * sizeof(layout::column)), SEEK_CUR) == 0 &&
           get(f.get(), tokens.data(), tokens.size() * sizeof(llama_token));
}

bool files::read(const path & file, const digest & parent, block & out) const {
    std::error_code error;
    const uint64_t size = fs::file_size(file, error);
    const file_handle f = open_file(file, "rb");
    if (error || !f) {
        return false; // another process removed it
    }
    const char * wrong = read_block(f.get(), size, key, parent, out);
    if (wrong) {
        LLAMA_LOG_WARN("prompt cache: %s is ignored and removed: %s\n", file.string().c_str(), wrong);
        fs::remove(file, error);
        return false;
    }
    return true;
}

void files::touch(const std::vector<path> & chain) {
    for (auto file = chain.rbegin(); file != chain.rend(); ++file) {
        std::error_code error; // of a disk that may only be read, or where it was removed
        fs::last_write_time(*file, fs::file_time_type::clock::now(), error);
    }
}

files::path files::write(const digest & parent, const block & b) const {
    const path target = place(parent, b.tokens.data(), b.tokens.size(), b.position);
    static std::atomic<uint32_t> count;
    const path beside = own / ("." + std::to_string(std::random_device()()) + "." + std::to_string(count++) + ".partial");

    header h = {};
    memcpy(h.magic, MAGIC, sizeof(MAGIC));
    memcpy(h.key, key.data(), 32);
    memcpy(h.parent, parent.data(), 32);
    h.position = b.position, h.n_tokens = (int32_t) b.tokens.size();
    h.v_trans = b.of.v_trans, h.n_keys = b.of.n_keys, h.n_columns = (int64_t) b.of.columns.size();

    sha256 sum;
    bool good = false;
    if (file_handle f = open_file(beside, "wb")) {
        good = put(f.get(), sum, &h, sizeof(h)) &&
               put(f.get(), sum, b.of.columns.data(), b.of.columns.size() * sizeof(layout::column)) &&
               put(f.get(), sum, b.tokens.data(), b.tokens.size() * sizeof(llama_token)) &&
               put(f.get(), sum, b.rows.data(), b.rows.size());
        const digest told = sum.finish();
        good = good && fwrite(told.data(), 1, told.size(), f.get()) == told.size();
        good = fclose(f.release()) == 0 && good;
    }
    // No fsync: after a loss of power the checksum tells, and a prompt can be computed again.
    std::error_code error;
    if (good) {
        fs::rename(beside, target, error);
    }
    if (!good || error) {
        LLAMA_LOG_WARN("prompt cache: %s cannot be written: %s\n", target.string().c_str(), error ? error.message().c_str() : strerror(errno));
        fs::remove(beside, error);
        return {};
    }
    return target;
}

uint64_t files::limit() const {
    if (wanted) {
        return wanted;
    }
    std::error_code error;
    const fs::space_info space = fs::space(folder, error);
    return error ? DEFAULT_LIMIT : std::min<uint64_t>(DEFAULT_LIMIT, space.available / 20);
}

void files::prune() const {
    struct entry {
        fs::file_time_type used;
        long position;
        uint64_t size;
        path file;
    };
    std::vector<entry> entries;
    uint64_t total = 0;
    std::error_code error;
    const auto now = fs::file_time_type::clock::now();
    for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        std::error_code gone;
        const auto used = fs::last_write_time(it->path(), gone);
        const uint64_t size = gone || !it->is_regular_file(gone) ? 0 : it->file_size(gone);
        if (gone || !size) {
            continue;
        }
        if (it->path().extension() == ".partial" && now - used > LEFTOVER) {
            fs::remove(it->path(), gone);
        } else if (it->path().extension() == ".kv") {
            const std::string name = it->path().stem().string();
            const long position = name.size() > 2 * NAME + 2 ? atol(name.c_str() + 2 * NAME + 2) : 0;
            entries.push_back({ used, position, size, it->path() });
            total += size;
        }
    }
    // a prompt's end goes before its beginning, without which it is of no use
    std::sort(entries.begin(), entries.end(), [](const entry & a, const entry & b) {
        return a.used != b.used ? a.used < b.used : a.position > b.position;
    });
    const uint64_t most = limit();
    for (const entry & e : entries) {
        if (total <= most) {
            break;
        }
        if (fs::remove(e.file, error)) {
            LLAMA_LOG_DEBUG("prompt cache: %s makes room\n", e.file.string().c_str());
        }
        total -= e.size;
    }
}

} // namespace plm_prompt_cache_impl
