// The cache writes and reads its own state; what stands here picks rows out of that stream, and makes such a stream of
// rows: n_stream; for each stream: the number of cells, and unless that is 0: position, 1, sequence of each cell;
// v_trans; number of layers; of each column its type, the bytes of a row, and the rows (src/llama-kv-cache.cpp).

#include "rows.h"

#include "ggml-backend.h"
#include "llama-io.h"
#include "llama-kv-cache.h"

#include <cstring>
#include <exception>
#include <stdexcept>

namespace plm_prompt_cache_impl {

size_t layout::token_bytes() const {
    size_t n = 0;
    for (const column & c : columns) {
        n += c.row;
    }
    return n;
}

namespace {

// Takes what a cache writes: keeps the rows of some positions.
class picker : public llama_io_write_i {
  public:
    picker(int32_t first, int32_t count, layout & of, std::vector<uint8_t> & rows) : first(first), count(count), of(of), rows(rows) {}

    void write(const void * src, size_t size) override {
        meta.insert(meta.end(), (const uint8_t *) src, (const uint8_t *) src + size);
        done += size;
    }

    void write_tensor(ggml_tensor * tensor, size_t offset, size_t size) override {
        done += size;
        if (places.empty()) {
            begin();
        }
        if (at == places.size()) {
            begin_column();
        }
        const size_t row = of.columns.back().row, n = size / row;
        if (n * row != size || at + n > places.size()) {
            throw std::runtime_error("a cache that is not made of rows");
        }
        for (size_t i = 0; i < n;) {
            const int32_t place = places[at + i];
            size_t run = 1;
            while (i + run < n && place >= 0 && places[at + i + run] == place + (int32_t) run) {
                run++;
            }
            if (place >= 0) {
                ggml_backend_tensor_get(tensor, rows.data() + column_at + place * row, offset + i * row, run * row);
            }
            i += run;
        }
        at += n;
    }

    size_t n_bytes() override { return done; }

    // whether all rows of all columns came
    bool whole() const { return n_found == count && at == places.size() && n_columns_known(); }

  private:
    template <typename T> T read(size_t & from) const {
        T value;
        if (from + sizeof(T) > meta.size()) {
            throw std::runtime_error("a cache's state that is too short");
        }
        memcpy(&value, meta.data() + from, sizeof(T));
        from += sizeof(T);
        return value;
    }

    void begin() {
        size_t from = 0;
        const uint32_t n_stream = read<uint32_t>(from);
        uint32_t n_cells = 0;
        for (uint32_t s = 0; s < n_stream && n_cells == 0; s++) {
            n_cells = read<uint32_t>(from);
        }
        places.resize(n_cells, -1);
        std::vector<bool> seen(count);
        for (uint32_t i = 0; i < n_cells; i++) {
            const int32_t position = read<int32_t>(from);
            read<uint32_t>(from), read<int32_t>(from);
            const int64_t place = (int64_t) position - first;
            if (place >= 0 && place < count && !seen[place]) {
                seen[place] = true;
                places[i] = (int32_t) place;
                n_found++;
            }
        }
        of.v_trans = read<uint32_t>(from);
        of.n_keys = read<uint32_t>(from);
        of.columns.clear();
        at = places.size();
    }

    void begin_column() {
        size_t from = meta.size() - 12;
        const int32_t type = read<int32_t>(from);
        const uint64_t row = read<uint64_t>(from);
        if (row == 0 || row > INT32_MAX) {
            throw std::runtime_error("a cache that is not made of rows");
        }
        of.columns.push_back({ type, (int64_t) row });
        column_at = rows.size();
        rows.resize(rows.size() + (size_t) count * row);
        at = 0;
    }

    bool n_columns_known() const { return of.n_keys > 0 && of.columns.size() >= of.n_keys; }

    const int32_t first, count;
    layout & of;
    std::vector<uint8_t> & rows;
    std::vector<uint8_t> meta;
    std::vector<int32_t> places; // of each cell: its row in `rows`, or -1
    size_t at = 0;               // the cell that the column goes on with
    size_t column_at = 0;
    size_t done = 0;
    int32_t n_found = 0;
};

// Gives a cache what it reads.
class giver : public llama_io_read_i {
  public:
    giver(uint32_t n_stream, llama_seq_id seq, const layout & of, const std::vector<piece> & pieces) : of(of), pieces(pieces) {
        uint32_t n = 0;
        for (const piece & p : pieces) {
            n += p.n_used;
        }
        n_tokens = n;
        add(n_stream), add(n);
        for (uint32_t position = 0; position < n; position++) {
            add(position), add<uint32_t>(1), add(seq);
        }
        add(of.v_trans), add(of.n_keys);
        for (const layout::column & c : of.columns) {
            add((int32_t) c.type), add((uint64_t) c.row);
        }
        for (uint32_t s = 1; s < n_stream; s++) {
            add<uint32_t>(0);
        }
    }

    void read(void * dst, size_t size) override {
        if (meta_at + size > meta.size()) {
            throw std::runtime_error("a cache that wants more than there is");
        }
        memcpy(dst, meta.data() + meta_at, size);
        meta_at += size, done += size;
    }

    void read_tensor(ggml_tensor * tensor, size_t offset, size_t size) override {
        if (at == n_tokens) {
            start_of_column += of.columns[column++].row, at = 0;
        }
        const size_t row = of.columns.at(column).row;
        size_t n = size / row;
        if (n * row != size || at + n > n_tokens) {
            throw std::runtime_error("a cache that is not made of rows");
        }
        done += size;
        size_t first = 0; // of the piece
        for (const piece & p : pieces) {
            if (n > 0 && at < first + p.n_used) {
                const size_t in_piece = at - first, run = std::min(n, p.n_used - in_piece);
                const uint8_t * from = p.rows + start_of_column * p.n_rows + in_piece * row;
                ggml_backend_tensor_set(tensor, from, offset, run * row);
                offset += run * row, at += run, n -= run;
            }
            first += p.n_used;
        }
    }

    size_t n_bytes() override { return done; }

  private:
    template <typename T> void add(T value) { meta.insert(meta.end(), (const uint8_t *) &value, (const uint8_t *) (&value + 1)); }

    const layout & of;
    const std::vector<piece> & pieces;
    std::vector<uint8_t> meta;
    size_t meta_at = 0, done = 0;
    size_t column = 0, start_of_column = 0; // bytes of a token before the column
    size_t n_tokens = 0, at = 0;            // of the column: tokens given
};

} // namespace

bool take_rows(const llama_kv_cache & cache, llama_seq_id seq, int32_t first, int32_t count, layout & of, std::vector<uint8_t> & rows) {
    rows.clear();
    picker io(first, count, of, rows);
    try {
        cache.state_write(io, seq, 0);
        return io.whole();
    } catch (const std::exception &) {
        return false;
    }
}

bool put_rows(llama_kv_cache & cache, llama_seq_id seq, const layout & of, const std::vector<piece> & pieces) {
    giver io(cache.get_n_stream(), seq, of, pieces);
    try {
        cache.state_read(io, seq, 0);
        return true;
    } catch (const std::exception &) {
        cache.seq_rm(seq, -1, -1);
        return false;
    }
}

} // namespace plm_prompt_cache_impl
