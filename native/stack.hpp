// The weights of a gated residual stack, packed in the order in which a step reads them.
#pragma once

#include <memory>

#include "linear.hpp"

namespace wavestill::WAVESTILL_SET {

// Steps of the longest block, and of that of so many streams: blocks are about 8 rows, of steps
// and streams together (see stack_run.hpp).
constexpr int longest_block = 8;
WAVESTILL_INLINE int block_steps(int streams) {
    return streams >= 8 ? 1 : streams >= 4 ? 2 : streams >= 2 ? 4 : longest_block;
}

template <class Weight>
struct Layer {
    int dilation = 1;
    int num_early = 0;  // taps whose products are made a block at a time
    Panels early;
    Panels late;
    Panels residual;
    Bias residual_bias;
};

// Weights of a stack.
template <class Weight>
class Stack {
public:
    Stack() = default;
    Stack(Arena<Weight>& arena, const StackArrays& arrays)
        : residual_channels(arrays.residual_channels),
          gate_channels(arrays.gate_channels),
          skip_channels(arrays.skip_channels),
          filter_width(arrays.filter_width),
          num_layers(arrays.num_layers),
          num_sources(arrays.input.inputs - 1),
          gate_vectors(2 * (round_up(gate_channels, lanes) / lanes)),
          layers(new Layer<Weight>[arrays.num_layers]) {
        const int residual_vectors = arena.vectors(residual_channels);
        const auto residual_order = [&](int i) { return i < residual_channels ? i : -1; };
        for (int l = 0; l < num_layers; ++l) {
            const LayerArrays& layer = arrays.layers[l];
            layers[l].dilation = layer.dilation;
            layers[l].num_early = count_early(layer.dilation);
            layers[l].late = pack_taps(arena, layer.taps, layers[l].num_early, filter_width);
            if (l + 1 == num_layers && skip_channels) continue;  // nothing reads its residual
            layers[l].residual = arena.pack(layer.out.weight, gate_channels, gate_channels,
                                            residual_vectors, residual_order);
            layers[l].residual_bias = Bias(layer.out.bias, residual_vectors, residual_order);
        }
        pack_skips(arena, arrays);
        pack_gate_biases(arrays);
        pack_input(arrays.input);
    }

    // The weights that are not read at every step lie behind those that are.
    void pack_early(Arena<Weight>& arena, const StackArrays& arrays) {
        for (int l = 0; l < num_layers; ++l)
            layers[l].early = pack_taps(arena, arrays.layers[l].taps, 0, layers[l].num_early);
    }
    void pack_projection(Arena<Weight>& arena, const LinearArrays& linear) {
        if (linear.inputs == 0) return;
        projection = arena.pack(
            linear.weight, linear.inputs, linear.inputs, num_layers * gate_vectors, [&](int i) {
                const int column = gate_column(i % (gate_vectors * lanes));
                return column < 0 ? -1 : i / (gate_vectors * lanes) * 2 * gate_channels + column;
            });
    }

    int residual_channels = 0, gate_channels = 0, skip_channels = 0, filter_width = 0;
    int num_layers = 0, num_sources = 0;
    int gate_vectors = 0;  // of a layer, filter and gate together
    std::unique_ptr<Layer<Weight>[]> layers;
    Panels skip;
    Bias skip_bias;
    Bias gate_bias;  // of all layers
    Bias input_bias;
    std::unique_ptr<Bias[]> input_columns;  // one for the signal, and for each source
    Panels projection;

private:
    // Taps that reach back over a block of steps, and by whole blocks, so that the rows they read
    // lie together.
    int count_early(int dilation) const {
        int count = 0;
        while (count < filter_width - 1 &&
               (filter_width - 1 - count) * dilation % longest_block == 0)
            ++count;
        return count;
    }

    Panels pack_taps(Arena<Weight>& arena, const LinearArrays& taps, int first, int last) const {
        return arena.pack(taps.weight + first * residual_channels, taps.inputs,
                          (last - first) * residual_channels, gate_vectors,
                          [&](int i) { return gate_column(i); });
    }

    // The row of the taps' matrix that packed column i computes: a vector of filters, then one of
    // their gates, and so on, so that one block of sums holds both.
    int gate_column(int i) const {
        const int vector = i / lanes;
        const int channel = vector / 2 * lanes + i % lanes;
        if (channel >= gate_channels) return -1;
        return vector % 2 ? gate_channels + channel : channel;
    }

    void pack_skips(Arena<Weight>& arena, const StackArrays& arrays) {
        if (!skip_channels) return;
        const int inputs = num_layers * gate_channels;
        std::unique_ptr<float[]> all(new float[static_cast<std::size_t>(skip_channels) * inputs]);
        std::unique_ptr<float[]> bias(new float[skip_channels]());
        for (int l = 0; l < num_layers; ++l)
            for (int s = 0; s < skip_channels; ++s) {
                const LinearArrays& out = arrays.layers[l].out;
                const std::size_t row = residual_channels + s;
                std::memcpy(&all[static_cast<std::size_t>(s) * inputs + l * gate_channels],
                            out.weight + row * gate_channels, gate_channels * sizeof(float));
                bias[s] += out.bias[row];
            }
        const Linear<Weight> packed(arena, {inputs, skip_channels, all.get(), nullptr});
        skip = packed.panels;
        skip_bias =
            Bias(bias.get(), skip.vectors, [&](int i) { return i < skip_channels ? i : -1; });
    }

    void pack_gate_biases(const StackArrays& arrays) {
        const int width = gate_vectors * lanes;
        std::unique_ptr<float[]> all(new float[static_cast<std::size_t>(num_layers) * width]());
        for (int l = 0; l < num_layers; ++l)
            for (int i = 0; i < width; ++i)
                if (gate_column(i) >= 0)
                    all[l * width + i] = arrays.layers[l].taps.bias[gate_column(i)];
        gate_bias = Bias(all.get(), num_layers * gate_vectors, [](int i) { return i; });
    }

    void pack_input(const LinearArrays& input) {
        const int vectors = round_up(residual_channels, lanes) / lanes;
        const auto inside = [&](int i) { return i < residual_channels; };
        input_bias = Bias(input.bias, vectors, [&](int i) { return inside(i) ? i : -1; });
        input_columns.reset(new Bias[input.inputs]);
        for (int k = 0; k < input.inputs; ++k)
            input_columns[k] = Bias(input.weight, vectors,
                                    [&](int i) { return inside(i) ? i * input.inputs + k : -1; });
    }
};

}  // namespace wavestill::WAVESTILL_SET
