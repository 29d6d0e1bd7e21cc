#include "sha256.h"

#include <algorithm>
#include <cstring>

namespace plm_prompt_cache_impl {

static const uint32_t K[64] = {
    0x428a2f98,
    0x71374491,
    0xb5c0fbcf,
    0xe9b5dba5,
    0x3956c25b,
    0x59f111f1,
    0x923f82a4,
    0xab1c5ed5,
    0xd807aa98,
    0x12835b01,
    0x243185be,
    0x550c7dc3,
    0x72be5d74,
    0x80deb1fe,
    0x9bdc06a7,
    0xc19bf174,
    0xe49b69c1,
    0xefbe4786,
    0x0fc19dc6,
    0x240ca1cc,
    0x2de92c6f,
    0x4a7484aa,
    0x5cb0a9dc,
    0x76f988da,
    0x983e5152,
    0xa831c66d,
    0xb00327c8,
    0xbf597fc7,
    0xc6e00bf3,
    0xd5a79147,
    0x06ca6351,
    0x14292967,
    0x27b70a85,
    0x2e1b2138,
    0x4d2c6dfc,
    0x53380d13,
    0x650a7354,
    0x766a0abb,
    0x81c2c92e,
    0x92722c85,
    0xa2bfe8a1,
    0xa81a664b,
    0xc24b8b70,
    0xc76c51a3,
    0xd192e819,
    0xd6990624,
    0xf40e3585,
    0x106aa070,
    0x19a4c116,
    0x1e376c08,
    0x2748774c,
    0x34b0bcb5,
    0x391c0cb3,
    0x4ed8aa4a,
    0x5b9cca4f,
    0x682e6ff3,
    0x748f82ee,
    0x78a5636f,
    0x84c87814,
    0x8cc70208,
    0x90befffa,
    0xa4506ceb,
    0xbef9a3f7,
    0xc67178f2,
};

static inline uint32_t rotated(uint32_t x, int n) { return x >> n | x << (32 - n); }

void sha256::block(const uint8_t * p) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t) p[4 * i] << 24 | (uint32_t) p[4 * i + 1] << 16 | (uint32_t) p[4 * i + 2] << 8 | p[4 * i + 3];
    }
    for (int i = 16; i < 64; i++) {
        const uint32_t s0 = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3;
        const uint32_t s1 = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], o = h[7];
    for (int i = 0; i < 64; i++) {
        const uint32_t t1 = o + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
        const uint32_t t2 = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        o = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += o;
}

sha256 & sha256::add(const void * data, size_t n) {
    const uint8_t * p = (const uint8_t *) data;
    size_t held = total % 64;
    total += n;
    if (held) {
        const size_t take = std::min(n, 64 - held);
        memcpy(rest + held, p, take);
        p += take, n -= take, held += take;
        if (held < 64) {
            return *this;
        }
        block(rest);
    }
    for (; n >= 64; p += 64, n -= 64) {
        block(p);
    }
    if (n) {
        memcpy(rest, p, n);
    }
    return *this;
}

digest sha256::finish() {
    const uint64_t bits = total * 8;
    uint8_t end[72] = { 0x80 };
    const size_t n = (total % 64 < 56 ? 56 : 120) - total % 64;
    for (int i = 0; i < 8; i++) {
        end[n + i] = (uint8_t) (bits >> (56 - 8 * i));
    }
    add(end, n + 8);
    digest d;
    for (int i = 0; i < 32; i++) {
        d[i] = (uint8_t) (h[i / 4] >> (24 - i % 4 * 8));
    }
    return d;
}

std::string hex(const digest & d, size_t n) {
    std::string s;
    for (uint8_t byte : d) {
        s += "0123456789abcdef"[byte >> 4];
        s += "0123456789abcdef"[byte & 15];
    }
    return s.substr(0, n);
}

} // namespace plm_prompt_cache_impl
