// Counter-based noise: the word of any step of any stream, without those before it.
//
// Philox4x64 with 10 rounds (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"),
// word for word what numpy.random.Philox(key=[seed, stream]).random_raw() gives: its first block
// has the counter 1.
#pragma once

#include <cmath>
#include <cstdint>

namespace wavestill {

class Philox {
public:
    Philox() = default;
    Philox(std::uint64_t seed, std::uint64_t stream) : key_{seed, stream} {}

    std::uint64_t word(std::uint64_t index) {
        if (index / 4 + 1 != block_) fill(index / 4 + 1);
        return words_[index % 4];
    }

    // Uniform in (0, 1): the word's upper 53 bits; 0 stands for half a step.
    double uniform(std::uint64_t index) {
        const double u = static_cast<double>(word(index) >> 11) * 0x1p-53;
        return u < 0x1p-54 ? 0x1p-54 : u;
    }

private:
    static void multiply(std::uint64_t a, std::uint64_t b, std::uint64_t& high,
                         std::uint64_t& low) {
#if defined(__SIZEOF_INT128__)
        const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
        high = static_cast<std::uint64_t>(product >> 64);
        low = static_cast<std::uint64_t>(product);
#else
        const std::uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
        const std::uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
        const std::uint64_t cross = a0 * b1 + (middle & 0xffffffff);
        high = a1 * b1 + (middle >> 32) + (cross >> 32);
        low = a * b;
#endif
    }

    void fill(std::uint64_t block) {
        std::uint64_t c0 = block, c1 = 0, c2 = 0, c3 = 0, k0 = key_[0], k1 = key_[1];
        for (int round = 0; round < 10; ++round) {
            std::uint64_t high0, low0, high1, low1;
            multiply(0xD2E7470EE14C6C93u, c0, high0, low0);
            multiply(0xCA5A826395121157u, c2, high1, low1);
            c0 = high1 ^ c1 ^ k0;
            c1 = low1;
            c2 = high0 ^ c3 ^ k1;
            c3 = low0;
            k0 += 0x9E3779B97F4A7C15u;
            k1 += 0xBB67AE8584CAA73Bu;
        }
        words_[0] = c0, words_[1] = c1, words_[2] = c2, words_[3] = c3;
        block_ = block;
    }

    std::uint64_t key_[2] = {0, 0};
    std::uint64_t words_[4] = {0, 0, 0, 0};
    std::uint64_t block_ = 0;  // counters begin at 1
};

// F^-1(u) of Logistic(0, 1).
inline double logistic_noise(double u) {
    return std::log(u) - std::log1p(-u);
}

// F^-1(u) of N(0, 1), to 1e-15 (noise.cpp).
double normal_noise(double u);

}  // namespace wavestill
