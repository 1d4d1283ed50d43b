// Biases and activations beside the panels, and the plain linear layer.
#pragma once

#include "panels.hpp"

namespace wavestill::WAVESTILL_SET {

// A bias in the order of its panels, zeros where it has none.
class Bias {
public:
    Bias() = default;
    template <class Order>
    Bias(const float* bias, int vectors, Order order)
        : memory_(static_cast<std::size_t>(vectors) * lanes * sizeof(float)) {
        float* out = static_cast<float*>(memory_.data());
        for (int i = 0; i < vectors * lanes; ++i)
            out[i] = order(i) < 0 || !bias ? 0.0f : bias[order(i)];
    }
    const float* data() const { return static_cast<const float*>(memory_.data()); }

private:
    Memory memory_;
};

// Floats of several streams, a row of whole vectors for each.
class Rows {
public:
    Rows() = default;
    Rows(int streams, int width)
        : memory_(static_cast<std::size_t>(streams) * round_up(width, lanes) * sizeof(float)),
          stride_(round_up(width, lanes)) {}
    float* data() const { return static_cast<float*>(memory_.data()); }
    float* row(int stream) const { return data() + stream * stride_; }
    std::ptrdiff_t stride() const { return stride_; }

private:
    Memory memory_;
    std::ptrdiff_t stride_ = 0;
};

// A linear layer: panels and bias.
template <class Weight>
struct Linear {
    Panels panels;
    Bias bias;

    Linear() = default;
    Linear(Arena<Weight>& arena, const LinearArrays& arrays)
        : panels(arena.pack(arrays)),
          bias(arrays.bias, panels.vectors, [&](int i) { return i < arrays.outputs ? i : -1; }) {}
};

// y = x W + b for each stream, relu where asked for.
template <class Weight>
void apply(const Linear<Weight>& linear, const Weight* arena, const Rows& x, const Rows& y,
           int streams, bool relu) {
    const float* in = x.data();
    const Vector floor = broadcast(relu ? 0.0f : -3.0e38f);
    multiply(linear.panels, arena, {&in, 1, x.stride()}, streams,
             [&](int vector, int stream, auto& sums) {
                 int i = vector * lanes;
                 for (auto& sum : sums) {
                     store(y.row(stream) + i, maximum(sum + load(linear.bias.data() + i), floor));
                     i += lanes;
                 }
             });
}

}  // namespace wavestill::WAVESTILL_SET
