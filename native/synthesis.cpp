#include "synthesis.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "runs.hpp"

namespace wavestill {

// x_t = e_t + sum_i a_i x_{t-i}, sample after sample, in an order that is the same for each: so no
// bit of a sound depends on how it was cut. `sound` holds the past before the sound.
static Array<float, 2> linear_synthesis(const Array<const float, 2>& residual,
                                        const Array<const float, 2>& past,
                                        const Array<const float, 1>& taps) {
    const std::size_t streams = residual.shape(0), steps = residual.shape(1);
    const std::size_t order = taps.shape(0);
    if (past.shape(0) != streams || past.shape(1) != order)
        throw std::invalid_argument(
            "the past has shape (" + std::to_string(past.shape(0)) + ", " +
            std::to_string(past.shape(1)) + "), but " + std::to_string(streams) + " sounds and " +
            std::to_string(order) + " taps are given");
    Array<float, 2> made = new_array<float, 2>({streams, steps});
    std::vector<double> sound(order + steps);
    for (std::size_t stream = 0; stream < streams; ++stream) {
        const float* e = residual.data() + stream * steps;
        float* out = made.data() + stream * steps;
        std::copy_n(past.data() + stream * order, order, sound.begin());
        for (std::size_t t = 0; t < steps; ++t) {
            double x = e[t];
            for (std::size_t i = 0; i < order; ++i) x += taps.data()[i] * sound[t + i];
            // as it is handed out and comes back as the past
            out[t] = static_cast<float>(x);
            sound[order + t] = out[t];
        }
    }
    return made;
}

void bind_synthesis(nb::module_& m) {
    using namespace nb::literals;
    m.def("linear_synthesis", &linear_synthesis, "residual"_a, "past"_a, "taps"_a);
}

}  // namespace wavestill
