// The functions of the network and of its heads, without branches, so that they run in vectors.
#pragma once

#include "vector.hpp"

namespace wavestill::WAVESTILL_SET {

// 2^(factor x), |factor x| < 126, to 2e-7 where it is not large (4e-7 at 2^26): 2^n 2^r with
// |r| <= 1/2, and for 2^r the polynomial of least relative error (9e-8) that is 1 at 0.
WAVESTILL_INLINE Vector power_of_two(Vector x, float factor) {
    const Vector rounder = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const Vector shifted = multiply_add(x, broadcast(factor), rounder);
    const Vector r = multiply_add(x, broadcast(factor), rounder - shifted);
    Vector p = broadcast(0.00132647269f);
    p = multiply_add(p, r, broadcast(0.00967151266f));
    p = multiply_add(p, r, broadcast(0.0555073374f));
    p = multiply_add(p, r, broadcast(0.240222421f));
    p = multiply_add(p, r, broadcast(0.693146978f));
    p = multiply_add(p, r, broadcast(1.0f));
    return times_power_of_two(p, shifted);
}

// tanh(filter) * sigmoid(gate) with one division. Beyond the clamps tanh is 1 to rounding, and a
// gate shut (e^-60).
WAVESTILL_INLINE Vector gated(Vector filter, Vector gate) {
    constexpr float log2_e = 1.44269504f;
    const Vector one = broadcast(1.0f);
    filter = maximum(broadcast(-9.0f), minimum(broadcast(9.0f), filter));
    gate = maximum(broadcast(-60.0f), minimum(broadcast(60.0f), gate));
    const Vector grown = power_of_two(filter, 2.0f * log2_e);
    const Vector closed = power_of_two(gate, -log2_e);
    return (grown - one) / ((grown + one) * (one + closed));
}

// exp(x) in float64, to 2 units in the last place: 2^n e^r, e^r by its Taylor polynomial.
WAVESTILL_INLINE double exponential(double x) {
    constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52
    x = x < -700.0 ? -700.0 : x;
    x = x > 700.0 ? 700.0 : x;
    const double shifted = x * 1.4426950408889634 + rounder;
    const double n = shifted - rounder;
    const double r = (x - n * 0.69314718036912382) - n * 1.9082149292705877e-10;
    double p = 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    std::uint64_t bits, exponent;
    std::memcpy(&bits, &p, sizeof bits);
    std::memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 52;
    std::memcpy(&p, &bits, sizeof p);
    return p;
}

}  // namespace wavestill::WAVESTILL_SET
