#include "philox.hpp"

namespace wavestill {

// A start good to 4.5e-4 and three steps of Halley's method on erfc, which triples the digits.
//
// The start is 26.2.23 of the Handbook of Mathematical Functions (Abramowitz and Stegun, 1964).
double normal_noise(double u) {
    const double tail = u < 0.5 ? u : 1.0 - u;
    const double t = std::sqrt(-2.0 * std::log(tail));
    double z = t - (2.515517 + t * (0.802853 + t * 0.010328)) /
                       (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
    constexpr double root_half = 0.70710678118654752440;
    constexpr double root_two_pi = 2.50662827463100050242;
    for (int step = 0; step < 2; ++step) {  // z is where the upper tail weighs `tail`
        const double error = 0.5 * std::erfc(z * root_half) - tail;
        const double newton = error * root_two_pi * std::exp(0.5 * z * z);
        z += newton / (1.0 - 0.5 * z * newton);
    }
    return u < 0.5 ? -z : z;
}

}  // namespace wavestill
