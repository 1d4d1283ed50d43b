// A flow's network at work on its share of a stretch of time.
//
// All layers' activations stay in the buffers that hold their past (nn/causal.py), each layer
// writing where the next one reads; so nothing is copied, and the state is Python's.
#pragma once

#include <memory>

#include "flow.hpp"
#include "functions.hpp"

namespace wavestill::WAVESTILL_SET {

// Steps that pass a layer together: few enough for their activations and a panel of weights to
// share the first-level cache.
constexpr int block_rows = 8 * tile_rows;

template <class Element>
class FlowPart {
public:
    FlowPart(const PackedFlow<Element>& flow, const FlowJob& job, long long first, long long last)
        : flow_(flow),
          job_(job),
          gate_stride_(flow.gate_panels * PackedFlow<Element>::panel_channels),
          top_stride_(round_up(flow.channels, tile_columns)),
          row_width_(flow.gate_panels * tile_columns),
          gated_(sizeof(Element) * block_rows * gate_stride_),
          top_(sizeof(Element) * block_rows * top_stride_),
          num_spans_(static_cast<int>((last - 1) / job.steps - first / job.steps) + 1),
          spans_(new Span[num_spans_]),
          places_(new int[last - first]()) {
        long long at = first;  // of each sequence, the steps in the share
        for (int i = 0; i < num_spans_; ++i) {
            const int sequence = static_cast<int>(at / job.steps);
            const long long begin = static_cast<long long>(sequence) * job.steps;
            const long long end = begin + job.steps < last ? begin + job.steps : last;
            spans_[i] = {sequence, static_cast<int>(at - begin), static_cast<int>(end - begin),
                         &places_[at - first]};
            at = end;
        }
        if (flow.condition_channels) take_rows();
    }

    // The input layer.
    void enter() {
        const int channels = flow_.channels, sources = flow_.num_sources;
        for (int i = 0; i < num_spans_; ++i) {
            const Span& span = spans_[i];
            Element* h = past(0, span.sequence) + flow_.layers[0].reach * channels;
            for (int t = span.first; t < span.last; ++t) {
                const std::ptrdiff_t at =
                    static_cast<std::ptrdiff_t>(span.sequence) * job_.steps + t;
                for (int c = 0; c < channels; c += lanes) {
                    Vector sum[1] = {load(flow_.inputs[sources + 1].data() + c)};
                    sum[0] = multiply_add(broadcast(job_.previous[at]),
                                          load(flow_.inputs[0].data() + c), sum[0]);
                    for (int k = 0; k < sources; ++k)
                        sum[0] = multiply_add(broadcast(job_.source[at * sources + k]),
                                              load(flow_.inputs[1 + k].data() + c), sum[0]);
                    store_some(h + static_cast<std::ptrdiff_t>(t) * channels + c, channels - c,
                               sum);
                }
            }
        }
    }

    void pass(int l) {
        project(l);
        for (int i = 0; i < num_spans_; ++i) {
            const Span& span = spans_[i];
            for (int t = span.first; t < span.last; t += block_rows)
                block(l, span, t, span.last - t < block_rows ? span.last - t : block_rows);
        }
    }

private:
    struct Span {
        int sequence, first, last;
        int* places;  // of its steps among the projected rows
    };

    Element* past(int l, int sequence) const {
        return static_cast<Element*>(job_.pasts[l].data) + sequence * job_.pasts[l].stride;
    }

    // The number of a step's conditioning row.
    int row_of(const Span& span, int t) const {
        return job_.subframe_steps ? (job_.leads[span.sequence] + t) / job_.subframe_steps : 0;
    }

    // The conditioning rows under the share, as elements, and each step's place among them.
    void take_rows() {
        const int channels = flow_.condition_channels;
        for (int i = 0; i < num_spans_; ++i)
            num_rows_ += 1 + row_of(spans_[i], spans_[i].last - 1) -
                         row_of(spans_[i], spans_[i].first);
        features_stride_ = round_up(channels, Factor<Element>::inputs);
        features_ = Memory(sizeof(Element) * num_rows_ * features_stride_);
        projected_ = Memory(sizeof(float) * num_rows_ * row_width_);
        auto* out = static_cast<Element*>(features_.data());
        int taken = 0;
        for (int i = 0; i < num_spans_; ++i) {
            const Span& span = spans_[i];
            const int first = row_of(span, span.first), last = row_of(span, span.last - 1);
            for (int t = span.first; t < span.last; ++t)
                span.places[t - span.first] = (taken + row_of(span, t) - first) * row_width_;
            const float* rows =
                job_.rows + static_cast<std::ptrdiff_t>(span.sequence) * job_.num_rows * channels;
            for (int row = first; row <= last; ++row, out += features_stride_)
                for (int c = 0; c < channels; ++c)
                    out[c] = to_element(rows[row * std::ptrdiff_t{channels} + c], out);
            taken += last - first + 1;
        }
    }

    // What a layer's sums begin with: its bias, and its projection of the rows.
    void project(int l) {
        const FlowLayer<Element>& layer = flow_.layers[l];
        begins_ = layer.taps_bias.data();
        if (!num_rows_) return;
        auto* out = static_cast<float*>(projected_.data());
        begins_ = out;
        const auto* features = static_cast<const Element*>(features_.data());
        for (int p = 0; p < layer.projection.panels(); ++p)
            in_tiles(num_rows_, [&](auto tile, int first) {
                constexpr int M = decltype(tile)::value;
                const float* begins[M];
                for (const float*& each : begins)
                    each = layer.taps_bias.data() + p * tile_columns;
                tile_sums<M>(begins, layer.projection.panel(p), layer.projection.words(),
                             TileInputs<Element>{features + first * features_stride_,
                                                 features_stride_},
                             out + first * row_width_ + p * tile_columns, row_width_);
            });
    }

    void block(int l, const Span& span, int t, int rows) {
        const FlowLayer<Element>& layer = flow_.layers[l];
        const std::ptrdiff_t channels = flow_.channels;
        const Element* x = past(l, span.sequence) + t * channels;
        gate(layer, x, span.places + (t - span.first), rows);
        const Element* h = x + layer.reach * channels;
        if (l + 1 < flow_.num_layers) {
            Element* next = past(l + 1, span.sequence) +
                            (flow_.layers[l + 1].reach + t) * channels;
            add(layer, h, rows, next, channels);
        } else {
            auto* top = static_cast<Element*>(top_.data());
            add(layer, h, rows, top, top_stride_);
            leave(top, rows, static_cast<std::ptrdiff_t>(span.sequence) * job_.steps + t);
        }
    }

    // tanh(filter) sigmoid(gate) of a block.
    void gate(const FlowLayer<Element>& layer, const Element* x, const int* places, int rows) {
        constexpr int half = tile_vectors / 2;
        auto* out = static_cast<Element*>(gated_.data());
        const std::ptrdiff_t channels = flow_.channels;
        for (int p = 0; p < layer.taps.panels(); ++p)
            in_tiles(rows, [&](auto tile, int first) {
                constexpr int M = decltype(tile)::value;
                const float* begins[M];
                for (int m = 0; m < M; ++m)
                    begins[m] = begins_ + places[first + m] + p * tile_columns;
                float sums[M * tile_columns];
                tile_sums<M>(begins, layer.taps.panel(p), layer.taps.words(),
                             TileInputs<Element>{x + first * channels, channels,
                                                 flow_.filter_width, layer.dilation * channels},
                             sums, tile_columns);
                for (int m = 0; m < M; ++m) {
                    Vector values[half];
                    WAVESTILL_UNROLL
                    for (int v = 0; v < half; ++v)
                        values[v] = gated(load(sums + m * tile_columns + v * lanes),
                                          load(sums + m * tile_columns + (half + v) * lanes));
                    store_elements(out + (first + m) * gate_stride_ + p * half * lanes, values);
                }
            });
    }

    // The residual path behind a block.
    void add(const FlowLayer<Element>& layer, const Element* h, int rows, Element* next,
             std::ptrdiff_t next_stride) {
        const auto* in = static_cast<const Element*>(gated_.data());
        const std::ptrdiff_t channels = flow_.channels;
        for (int p = 0; p < layer.out.panels(); ++p) {
            const int at = p * tile_columns, count = flow_.channels - at;
            in_tiles(rows, [&](auto tile, int first) {
                constexpr int M = decltype(tile)::value;
                Vector sums[M][tile_vectors];
                WAVESTILL_UNROLL
                for (int m = 0; m < M; ++m) {
                    load_some(h + (first + m) * channels + at, count, sums[m]);
                    WAVESTILL_UNROLL
                    for (int v = 0; v < tile_vectors; ++v)
                        sums[m][v] = sums[m][v] + load(layer.out_bias.data() + at + v * lanes);
                }
                accumulate_tile(sums, layer.out.panel(p), layer.out.words(),
                                TileInputs<Element>{in + first * gate_stride_, gate_stride_});
                WAVESTILL_UNROLL
                for (int m = 0; m < M; ++m)
                    store_some(next + (first + m) * next_stride + at, count, sums[m]);
            });
        }
    }

    // The output layer: location and log-scale.
    void leave(const Element* top, int rows, std::ptrdiff_t at) const {
        const std::ptrdiff_t total = static_cast<std::ptrdiff_t>(job_.sequences) * job_.steps;
        const Vector zero = broadcast(0.0f);
        for (int r = 0; r < rows; ++r, top += top_stride_) {
            Vector sums[2] = {zero, zero};
            for (int c = 0; c < flow_.channels; c += lanes) {
                const Vector h = maximum(load_elements(top + c), zero);
                for (int k = 0; k < 2; ++k)
                    sums[k] = multiply_add(h, load(flow_.outputs[k].data() + c), sums[k]);
            }
            for (int k = 0; k < 2; ++k) {
                float parts[lanes], sum = flow_.output_bias[k];
                store(parts, sums[k]);
                for (float part : parts) sum += part;
                job_.shapes[k * total + at + r] = sum;
            }
        }
    }

    const PackedFlow<Element>& flow_;
    const FlowJob& job_;
    std::ptrdiff_t features_stride_ = 0, gate_stride_, top_stride_;
    int row_width_, num_rows_ = 0;
    const float* begins_ = nullptr;
    Memory features_, projected_, gated_, top_;
    int num_spans_;
    std::unique_ptr<Span[]> spans_;
    std::unique_ptr<int[]> places_;
};

// Steps are dealt out in their order, so that a share needs of the others only what came before:
// the layers of a later share follow those of the earlier ones at a layer's distance.
template <class Element>
void PackedFlow<Element>::run(const FlowJob& job, int part, int num_parts,
                              Stages& stages) const {
    const long long total = static_cast<long long>(job.sequences) * job.steps;
    FlowPart<Element> share(*this, job, total * part / num_parts, total * (part + 1) / num_parts);
    share.enter();
    stages.finish(part);
    for (int l = 0; l < num_layers; ++l) {
        stages.wait(part, l + 1);
        share.pass(l);
        stages.finish(part);
    }
}

}  // namespace wavestill::WAVESTILL_SET
