#pragma once

// SHA-256 (FIPS 180-4), of keys and as the checksum of files.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace plm_prompt_cache_impl {

using digest = std::array<uint8_t, 32>;

class sha256 {
  public:
    sha256 & add(const void * data, size_t n);

    // the bytes of a number or of a plain struct without padding
    template <typename T> sha256 & add_value(const T & value) { return add(&value, sizeof(value)); }

    // of all that was added; nothing may be added after it
    digest finish();

  private:
    void block(const uint8_t * p);

    uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    uint8_t rest[64];
    uint64_t total = 0;
};

// the first n characters of a digest in hexadecimal
std::string hex(const digest & d, size_t n = 64);

} // namespace plm_prompt_cache_impl
