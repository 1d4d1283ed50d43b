// The functions of the network and of its heads, without branches, so that they run in vectors.
#pragma once

#include "vector.hpp"

namespace wavestill::WAVESTILL_SET {

// exp(x) to 2 units in the last place: 2^n e^r with |r| <= ln(2) / 2, e^r by its Taylor polynomial.
// The input is held where result and reciprocal are normal numbers.
WAVESTILL_INLINE Vector exponential(Vector x) {
    const Vector rounder = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    x = maximum(broadcast(-87.0f), minimum(broadcast(87.0f), x));
    const Vector shifted = multiply_add(x, broadcast(1.44269504f), rounder);
    const Vector n = shifted - rounder;
    Vector r = multiply_add(n, broadcast(-0.693145752f), x);  // ln 2 in two parts
    r = multiply_add(n, broadcast(-1.42860677e-6f), r);
    Vector p = broadcast(1.0f / 720.0f);
    p = multiply_add(p, r, broadcast(1.0f / 120.0f));
    p = multiply_add(p, r, broadcast(1.0f / 24.0f));
    p = multiply_add(p, r, broadcast(1.0f / 6.0f));
    p = multiply_add(p, r, broadcast(0.5f));
    p = multiply_add(p, r, broadcast(1.0f));
    p = multiply_add(p, r, broadcast(1.0f));
    return times_power_of_two(p, shifted);
}

// tanh(filter) * sigmoid(gate) with one division. Beyond 9 tanh is 1 to rounding.
WAVESTILL_INLINE Vector gated(Vector filter, Vector gate) {
    const Vector one = broadcast(1.0f);
    filter = maximum(broadcast(-9.0f), minimum(broadcast(9.0f), filter));
    const Vector grown = exponential(filter + filter);
    const Vector closed = exponential(broadcast(0.0f) - gate);
    return (grown - one) / ((grown + one) * (one + closed));
}

// exp(x) in float64, to 2 units in the last place; the same scheme.
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
