#pragma once

// Tables of a vocabulary that are made fast: 150,000 names and as many merges are most of the time that a mapped model takes
// to load. Nothing of them is freed singly.

#include "../unicode.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

struct plm_blocks {
    std::vector<std::unique_ptr<char[]>> each;
    char * next = nullptr; // what is free in the last one
    size_t left = 0;
};

// Gives the nodes of a table memory in a row, and all of it back with the last copy of it.
template <typename T> class plm_in_a_row {
  public:
    using value_type = T;

    plm_in_a_row() : blocks(std::make_shared<plm_blocks>()) {}

    template <typename U> plm_in_a_row(const plm_in_a_row<U> & other) : blocks(other.blocks) {}

    T * allocate(size_t n) {
        if (n > 1) {
            return static_cast<T *>(::operator new(n * sizeof(T)));
        }
        constexpr size_t room = (sizeof(T) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (blocks->left < room) {
            blocks->left = BLOCK + room;
            blocks->each.emplace_back(new char[blocks->left]);
            blocks->next = blocks->each.back().get();
        }
        char * found = blocks->next;
        blocks->next += room;
        blocks->left -= room;
        return reinterpret_cast<T *>(found);
    }

    void deallocate(T * there, size_t n) {
        if (n > 1) {
            ::operator delete(there);
        }
    }

    template <typename U> bool operator==(const plm_in_a_row<U> & other) const { return blocks == other.blocks; }

    template <typename U> bool operator!=(const plm_in_a_row<U> & other) const { return blocks != other.blocks; }

  private:
    template <typename U> friend class plm_in_a_row;

    static constexpr size_t ALIGNMENT = alignof(std::max_align_t);
    static constexpr size_t BLOCK = 64 << 10; // below what malloc takes from the system each time

    std::shared_ptr<plm_blocks> blocks;
};

// Names and their tokens. It is walked in the order of std::unordered_map, as upstream's: which of several tokens that end a
// turn is the one depends on it.
using plm_names = std::unordered_map<std::string, int32_t, std::hash<std::string>, std::equal_to<std::string>,
                                     plm_in_a_row<std::pair<const std::string, int32_t>>>;

// The ranks of a vocabulary's merges: open addressing over texts that lie one behind the other.
class plm_ranks {
  public:
    // Room for `n` merges.
    void reserve(size_t n) {
        merges.reserve(n);
        size_t size = slots.size();
        while (size < 2 * n + 2) {
            size = size ? 2 * size : 16;
        }
        if (size != slots.size()) {
            slots.assign(size, NONE);
            for (uint32_t i = 0; i < merges.size(); i++) {
                slots[slot(merges[i].hash, first_of(merges[i]), second_of(merges[i]))] = i;
            }
        }
    }

    // A merge that is there keeps its rank.
    void add(std::string_view first, std::string_view second, int rank) {
        if (2 * merges.size() + 2 >= slots.size()) {
            reserve(2 * merges.size() + 8);
        }
        const uint32_t hash = hash_of(first, second);
        uint32_t & index = slots[slot(hash, first, second)];
        if (index == NONE) {
            index = (uint32_t) merges.size();
            merges.push_back({ text.size(), (uint32_t) first.size(), (uint32_t) second.size(), hash, rank });
            text.append(first).append(second);
        }
    }

    // A merge as a file has it: its two parts with a space between, which does not begin the first.
    void add(std::string_view merge, int rank) {
        const size_t space = merge.find(' ', 1);
        if (space == std::string_view::npos) {
            add({}, {}, rank);
        } else {
            add(merge.substr(0, space), merge.substr(space + 1), rank);
        }
    }

    // -1: there is no such merge.
    int find(std::string_view first, std::string_view second) const {
        if (slots.empty()) {
            return -1;
        }
        const uint32_t index = slots[slot(hash_of(first, second), first, second)];
        return index == NONE ? -1 : merges[index].rank;
    }

    size_t size() const { return merges.size(); }

    // Merges as a file has them, each at its rank.
    std::vector<std::string> listed() const {
        int last = -1;
        for (const merge & one : merges) {
            last = std::max(last, one.rank);
        }
        std::vector<std::string> found(last + 1);
        for (const merge & one : merges) {
            found[one.rank].append(first_of(one)).append(" ").append(second_of(one));
        }
        return found;
    }

  private:
    static constexpr uint32_t NONE = UINT32_MAX;

    struct merge {
        size_t at;
        uint32_t n_first, n_second, hash;
        int rank;
    };

    std::string_view first_of(const merge & one) const { return { text.data() + one.at, one.n_first }; }

    std::string_view second_of(const merge & one) const { return { text.data() + one.at + one.n_first, one.n_second }; }

    // FNV-1a, its upper bits folded into the lower ones.
    static uint32_t hash_of(std::string_view first, std::string_view second) {
        uint64_t hash = 0xcbf29ce484222325u + first.size();
        for (const std::string_view part : { first, second }) {
            for (const char c : part) {
                hash = (hash ^ (uint8_t) c) * 0x100000001b3u;
            }
        }
        return (uint32_t) (hash ^ (hash >> 32));
    }

    // Where a merge lies, or would.
    size_t slot(uint32_t hash, std::string_view first, std::string_view second) const {
        size_t i = hash & (slots.size() - 1);
        while (slots[i] != NONE) {
            const merge & one = merges[slots[i]];
            if (one.hash == hash && first_of(one) == first && second_of(one) == second) {
                break;
            }
            i = (i + 1) & (slots.size() - 1);
        }
        return i;
    }

    std::string text;
    std::vector<merge> merges;
    std::vector<uint32_t> slots; // a power of two; of `merges`, or NONE
};

// The bytes that a name of a byte-level vocabulary stands for. False where it has other characters than the 256 of bytes:
// llama_decode_text says what becomes of these.
inline bool plm_decode_bytes(const std::string & name, std::string & bytes) {
    constexpr uint32_t MOST = 0x800; // code points of up to two bytes in UTF-8
    static const std::array<int16_t, MOST> BYTES = [] {
        std::array<int16_t, MOST> found;
        found.fill(-1);
        for (int byte = 0; byte < 256; byte++) {
            size_t at = 0;
            found.at(unicode_cpt_from_utf8(unicode_byte_to_utf8((uint8_t) byte), at)) = (int16_t) byte;
        }
        return found;
    }();
    bytes.clear();
    for (size_t i = 0; i < name.size(); i++) {
        uint32_t point = (uint8_t) name[i];
        if (point >= 0x80) {
            if ((point & 0xe0) != 0xc0 || i + 1 == name.size() || ((uint8_t) name[i + 1] & 0xc0) != 0x80) {
                return false;
            }
            point = (point & 0x1f) << 6 | ((uint8_t) name[++i] & 0x3f);
        }
        if (BYTES[point] < 0) {
            return false;
        }
        bytes.push_back((char) BYTES[point]);
    }
    return true;
}
