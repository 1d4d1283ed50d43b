// The gated residual stack, one step of several streams at a time.
//
//     a = tanh(W_f * h + V_f c) sigmoid(W_g * h + V_g c),   h <- h + W_r a,   o = sum W_s a
//
// The skip sums of all layers are one product over all their activations at the end of the step:
// no layer waits for them.
#pragma once

#include <memory>

#include "functions.hpp"
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
        for (int i = 0; i < vectors * lanes; ++i) out[i] = order(i) < 0 || !bias ? 0.0f : bias[order(i)];
    }
    const float* data() const { return static_cast<const float*>(memory_.data()); }

private:
    Memory memory_;
};

// A linear layer: panels and bias.
template <class Weight>
struct Linear {
    Panels panels;
    Bias bias;

    Linear() = default;
    Linear(Arena<Weight>& arena, const LinearArrays& arrays)
        : panels(arena.pack(arrays)),
          bias(arrays.bias, panels.vectors,
               [&](int i) { return i < arrays.outputs ? i : -1; }) {}
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

template <class Weight>
struct Layer {
    int dilation = 1;
    Panels taps;
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
            layers[l].taps = arena.pack(layer.taps.weight, layer.taps.inputs, gate_vectors,
                                        [&](int i) { return gate_column(i); });
            if (l + 1 == num_layers && skip_channels) continue;  // nothing reads its residual
            layers[l].residual = arena.pack(layer.out.weight, layer.out.inputs, residual_vectors,
                                            residual_order);
            layers[l].residual_bias = Bias(layer.out.bias, residual_vectors, residual_order);
        }
        pack_skips(arena, arrays);
        pack_gate_biases(arrays);
        pack_input(arrays.input);
    }

    // Weights for a product at every sub-frame only: they follow those of every step.
    void pack_projection(Arena<Weight>& arena, const LinearArrays& linear) {
        if (linear.inputs == 0) return;
        projection = arena.pack(linear.weight, linear.inputs, num_layers * gate_vectors, [&](int i) {
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
    // The row of the taps' matrix that packed column i computes: in each panel filters come
    // before their gates, so that one block of sums holds both.
    int gate_column(int i) const {
        const int vector = i / lanes;
        const int first = vector / panel_vectors * panel_vectors;
        const int width = gate_vectors - first < panel_vectors ? gate_vectors - first : panel_vectors;
        const int within = vector - first;
        const bool is_gate = within >= width / 2;
        const int channel = (first / 2 + within % (width / 2)) * lanes + i % lanes;
        if (channel >= gate_channels) return -1;
        return is_gate ? gate_channels + channel : channel;
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
        skip_bias = Bias(bias.get(), skip.vectors, [&](int i) { return i < skip_channels ? i : -1; });
    }

    void pack_gate_biases(const StackArrays& arrays) {
        const int width = gate_vectors * lanes;
        std::unique_ptr<float[]> all(new float[static_cast<std::size_t>(num_layers) * width]());
        for (int l = 0; l < num_layers; ++l)
            for (int i = 0; i < width; ++i)
                if (gate_column(i) >= 0) all[l * width + i] = arrays.layers[l].taps.bias[gate_column(i)];
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

// What the streams of a stack carry from step to step.
template <class Weight>
class StackRun {
public:
    StackRun() = default;
    StackRun(const Stack<Weight>& stack, int streams)
        : stack_(&stack),
          streams_(streams),
          histories_(new History[stack.num_layers]),
          activations_(streams, stack.num_layers * stack.gate_channels + lanes),
          end_(streams, stack.residual_channels),
          skips_(streams, stack.skip_channels + lanes) {
        for (int l = 0; l < stack.num_layers; ++l)
            histories_[l] = History(stack, stack.layers[l].dilation, streams);
        if (stack.projection.inputs) projected_ = Rows(streams, stack.num_layers * stack.gate_vectors * lanes);
    }

    // Takes the conditioning of the steps that follow: rows (streams, C).
    void project(const Weight* arena, const float* rows, std::ptrdiff_t stride) {
        const Inputs in{&rows, 1, stride};
        const float* bias = stack_->gate_bias.data();
        multiply(stack_->projection, arena, in, streams_, [&](int vector, int stream, auto& sums) {
            float* out = projected_.row(stream) + vector * lanes;
            for (auto& sum : sums) {
                store(out, sum + load(bias + (out - projected_.row(stream))));
                out += lanes;
            }
        });
    }

    // One step: signals (streams,) and sources (streams, num_sources) to what `end` returns.
    void step(const Weight* arena, const float* signals, const float* sources,
              std::ptrdiff_t sources_stride) {
        begin(signals, sources, sources_stride);
        for (int l = 0; l < stack_->num_layers; ++l) {
            gate(arena, l);
            if (l + 1 < stack_->num_layers || !stack_->skip_channels) add_residual(arena, l);
            histories_[l].advance();
        }
        if (stack_->skip_channels) sum_skips(arena);
    }

    // Where the stack ends: relu of the skip sums, or of the residual path.
    const Rows& end() const { return stack_->skip_channels ? skips_ : end_; }

private:
    // The inputs of one layer, a ring of as many steps as its taps reach back over.
    class History {
    public:
        History() = default;
        History(const Stack<Weight>& stack, int dilation, int streams)
            : slots_((stack.filter_width - 1) * dilation + 1),
              dilation_(dilation),
              rows_(slots_ * streams, stack.residual_channels),
              slot_stride_(streams * rows_.stride()) {}
        float* now() const { return rows_.data() + now_ * slot_stride_; }
        const float* before(int taps) const {
            const int slot = now_ - taps * dilation_;
            return rows_.data() + (slot < 0 ? slot + slots_ : slot) * slot_stride_;
        }
        void advance() { now_ = now_ + 1 == slots_ ? 0 : now_ + 1; }
        std::ptrdiff_t stride() const { return rows_.stride(); }

    private:
        int slots_ = 1, dilation_ = 1, now_ = 0;
        Rows rows_;
        std::ptrdiff_t slot_stride_ = 0;
    };

    void begin(const float* signals, const float* sources, std::ptrdiff_t sources_stride) {
        const History& first = histories_[0];
        for (int s = 0; s < streams_; ++s)
            for (int i = 0; i < first.stride(); i += lanes) {
                Vector h = load(stack_->input_bias.data() + i);
                h = multiply_add(broadcast(signals[s]), load(stack_->input_columns[0].data() + i), h);
                for (int k = 0; k < stack_->num_sources; ++k)
                    h = multiply_add(broadcast(sources[s * sources_stride + k]),
                                     load(stack_->input_columns[k + 1].data() + i), h);
                store(first.now() + s * first.stride() + i, h);
            }
    }

    void gate(const Weight* arena, int l) {
        const History& history = histories_[l];
        const int taps = stack_->filter_width;
        const float* parts[max_taps];
        for (int k = 0; k < taps; ++k) parts[k] = history.before(taps - 1 - k);
        if (l + 1 < stack_->num_layers) prefetch_past(l + 1);
        const std::ptrdiff_t layer = static_cast<std::ptrdiff_t>(l) * stack_->gate_vectors * lanes;
        const bool is_conditional = stack_->projection.inputs != 0;
        const float* added = (is_conditional ? projected_.data() : stack_->gate_bias.data()) + layer;
        const std::ptrdiff_t added_stride = is_conditional ? projected_.stride() : 0;
        float* out = activations_.data() + l * stack_->gate_channels;
        const Inputs in{parts, taps, history.stride()};
        multiply(stack_->layers[l].taps, arena, in, streams_, [&](int vector, int stream, auto& sums) {
            constexpr int width = sizeof(sums) / sizeof(Vector);
            if constexpr (width % 2 == 0) {
                const float* add = added + stream * added_stride + vector * lanes;
                float* to = out + stream * activations_.stride() + vector / 2 * lanes;
                WAVESTILL_UNROLL
                for (int v = 0; v < width / 2; ++v)
                    store(to + v * lanes, gated(sums[v] + load(add + v * lanes),
                                                sums[v + width / 2] + load(add + (v + width / 2) * lanes)));
            }
        });
    }

    void add_residual(const Weight* arena, int l) {
        const History& history = histories_[l];
        const bool is_last = l + 1 == stack_->num_layers;
        float* out = is_last ? end_.data() : histories_[l + 1].now();
        const float* in = activations_.data() + l * stack_->gate_channels;
        const Layer<Weight>& layer = stack_->layers[l];
        const float* bias = layer.residual_bias.data();
        const Inputs inputs{&in, 1, activations_.stride()};
        multiply(layer.residual, arena, inputs, streams_, [&](int vector, int stream, auto& sums) {
            const std::ptrdiff_t row = stream * history.stride();
            int i = vector * lanes;
            for (auto& sum : sums) {
                if (i >= history.stride()) return;  // the second of a pair that is but padding
                Vector h = load(history.now() + row + i) + (load(bias + i) + sum);
                if (is_last) h = maximum(h, broadcast(0.0f));
                store(out + row + i, h);
                i += lanes;
            }
        });
    }

    void sum_skips(const Weight* arena) {
        const float* in = activations_.data();
        const float* bias = stack_->skip_bias.data();
        multiply(stack_->skip, arena, {&in, 1, activations_.stride()}, streams_,
                 [&](int vector, int stream, auto& sums) {
                     int i = vector * lanes;
                     for (auto& sum : sums) {
                         store(skips_.row(stream) + i, maximum(sum + load(bias + i), broadcast(0.0f)));
                         i += lanes;
                     }
                 });
    }

    // Rows of the past lie far apart: no prefetcher guesses where.
    void prefetch_past(int l) const {
        const History& history = histories_[l];
        const std::ptrdiff_t count = streams_ * history.stride();
        for (int k = 1; k < stack_->filter_width; ++k)
            for (std::ptrdiff_t i = 0; i < count; i += 16) prefetch(history.before(k) + i);
        for (std::ptrdiff_t i = 0; i < count; i += 16) prefetch(history.now() + i);
    }

    static constexpr int max_taps = 16;
    const Stack<Weight>* stack_ = nullptr;
    int streams_ = 0;
    std::unique_ptr<History[]> histories_;
    Rows activations_, end_, skips_, projected_;
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
