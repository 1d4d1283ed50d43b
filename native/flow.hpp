// A flow's network over a stretch of time: weights packed for it.
#pragma once

#include <memory>

#include "linear.hpp"
#include "tiles.hpp"

namespace wavestill::WAVESTILL_SET {

template <class Element>
struct FlowLayer {
    int reach = 0, dilation = 1;
    TilePanels<Element> taps, projection, out;
    Bias taps_bias, out_bias;
};

template <class Element>
class PackedFlow final : public FlowNetwork {
public:
    explicit PackedFlow(const FlowArrays& arrays)
        : channels(arrays.stack.residual_channels),
          gate_channels(arrays.stack.gate_channels),
          filter_width(arrays.stack.filter_width),
          num_layers(arrays.stack.num_layers),
          num_sources(arrays.stack.input.inputs - 1),
          condition_channels(arrays.stack.projection.inputs),
          gate_panels((gate_channels + panel_channels - 1) / panel_channels),
          layers(new FlowLayer<Element>[arrays.stack.num_layers]) {
        const LinearArrays& projection = arrays.stack.projection;
        const int gate_columns = gate_panels * tile_columns;
        for (int l = 0; l < num_layers; ++l) {
            const LayerArrays& from = arrays.stack.layers[l];
            FlowLayer<Element>& to = layers[l];
            to.dilation = from.dilation;
            to.reach = (filter_width - 1) * from.dilation;
            const auto gates = [&](int c) { return gate_column(c); };
            const auto outs = [&](int c) { return c < channels ? c : -1; };
            to.taps = TilePanels<Element>(from.taps, gate_columns, gates);
            to.taps_bias = Bias(from.taps.bias, gate_columns / lanes, gates);
            to.out = TilePanels<Element>(from.out, channels, outs);
            to.out_bias = Bias(from.out.bias, to.out.panels() * tile_vectors, outs);
            if (projection.inputs)
                to.projection = TilePanels<Element>(projection, gate_columns, [&](int c) {
                    const int column = gate_column(c);
                    return column < 0 ? -1 : l * 2 * gate_channels + column;
                });
        }
        const int vectors = round_up(channels, tile_columns) / lanes;
        const LinearArrays& input = arrays.stack.input;
        inputs.reset(new Bias[input.inputs + 1]);
        for (int k = 0; k <= input.inputs; ++k) {  // a column for each input, and then the bias
            const bool is_bias = k == input.inputs;
            inputs[k] = Bias(is_bias ? input.bias : input.weight, vectors, [&](int i) {
                return i >= channels ? -1 : is_bias ? i : i * input.inputs + k;
            });
        }
        for (int k = 0; k < 2; ++k) {
            outputs[k] = Bias(arrays.output.weight, vectors,
                              [&](int i) { return i < channels ? k * channels + i : -1; });
            output_bias[k] = arrays.output.bias ? arrays.output.bias[k] : 0.0f;
        }
    }

    void run(const FlowJob& job, int part, int num_parts, Stages& stages) const override;

    static constexpr int panel_channels = tile_columns / 2;
    int channels, gate_channels, filter_width, num_layers, num_sources, condition_channels;
    int gate_panels;
    std::unique_ptr<FlowLayer<Element>[]> layers;
    std::unique_ptr<Bias[]> inputs;
    Bias outputs[2];
    float output_bias[2];

private:
    // The row of the taps' matrix that column c is: a panel holds the filters of a few channels,
    // then their gates.
    int gate_column(int c) const {
        const int channel = c / tile_columns * panel_channels + c % panel_channels;
        if (channel >= gate_channels) return -1;
        return c % tile_columns < panel_channels ? channel : gate_channels + channel;
    }
};

}  // namespace wavestill::WAVESTILL_SET
