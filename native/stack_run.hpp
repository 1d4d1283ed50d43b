// The gated residual stack, one step of several streams at a time.
//
//     a = tanh(W_f * h + V_f c) sigmoid(W_g * h + V_g c),   h <- h + W_r a,   o = sum W_s a
//
// The skip sums of all layers are one product over all their activations at the end of the step:
// no layer waits for them. And a tap that reaches back over a whole block of steps does not wait
// for the steps within it: such early taps are multiplied for all of them at once, so that their
// weights are read once a block. Blocks are 8 rows, of steps and streams together: with 8 streams
// nothing is left to gain. Both only change the order in which whole chains of sums are made.
#pragma once

#include <memory>

#include "functions.hpp"
#include "stack.hpp"

namespace wavestill::WAVESTILL_SET {

// What the streams of a stack carry from step to step.
template <class Weight>
class StackRun {
public:
    StackRun() = default;
    StackRun(const Stack<Weight>& stack, int streams)
        : stack_(&stack),
          streams_(streams),
          block_(block_steps(streams)),
          stride_(round_up(stack.residual_channels, lanes)),
          histories_(new History[stack.num_layers]),
          activations_(streams, stack.num_layers * stack.gate_channels + lanes),
          early_(block_ * stack.num_layers * streams, stack.gate_vectors * lanes),
          end_(streams, stack.residual_channels),
          skips_(streams, stack.skip_channels + lanes) {
        lay_out_histories();
        if (stack.projection.inputs)
            projected_ = Rows(streams, stack.num_layers * stack.gate_vectors * lanes);
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
        if (step_ == 0) begin_block(arena);
        begin(signals, sources, sources_stride);
        for (int l = 0; l < stack_->num_layers; ++l) {
            gate(arena, l);
            if (l + 1 < stack_->num_layers || !stack_->skip_channels) add_residual(arena, l);
            histories_[l].advance();
        }
        if (stack_->skip_channels) sum_skips(arena);
        step_ = (step_ + 1) % block_;
    }

    // Where the stack ends: relu of the skip sums, or of the residual path.
    const Rows& end() const { return stack_->skip_channels ? skips_ : end_; }

private:
    // The inputs of one layer, a ring of as many blocks as its taps reach back over.
    class History {
    public:
        History() = default;
        History(float* memory, int slots, int dilation, std::ptrdiff_t slot_stride)
            : memory_(memory), slots_(slots), dilation_(dilation), slot_stride_(slot_stride) {}
        float* now() const { return memory_ + now_ * slot_stride_; }
        const float* before(int taps) const {
            const int slot = now_ - taps * dilation_;
            return memory_ + (slot < 0 ? slot + slots_ : slot) * slot_stride_;
        }
        void advance() { now_ = now_ + 1 == slots_ ? 0 : now_ + 1; }

    private:
        float* memory_ = nullptr;
        int slots_ = 1, dilation_ = 1, now_ = 0;
        std::ptrdiff_t slot_stride_ = 0;
    };

    // All layers' in one piece of memory: on its own each would be too small for huge pages.
    void lay_out_histories() {
        const auto slots = [&](int l) {
            return round_up((stack_->filter_width - 1) * stack_->layers[l].dilation + 1,
                            longest_block);
        };
        std::size_t rows = 0;
        for (int l = 0; l < stack_->num_layers; ++l)
            rows += static_cast<std::size_t>(slots(l)) * streams_;
        past_ = Memory(rows * stride_ * sizeof(float));
        float* next = static_cast<float*>(past_.data());
        for (int l = 0; l < stack_->num_layers; ++l) {
            histories_[l] =
                History(next, slots(l), stack_->layers[l].dilation, streams_ * stride_);
            next += slots(l) * streams_ * stride_;
        }
    }

    void begin(const float* signals, const float* sources, std::ptrdiff_t sources_stride) {
        const History& first = histories_[0];
        for (int s = 0; s < streams_; ++s)
            for (int i = 0; i < stride_; i += lanes) {
                Vector h = load(stack_->input_bias.data() + i);
                h = multiply_add(broadcast(signals[s]), load(stack_->input_columns[0].data() + i),
                                 h);
                for (int k = 0; k < stack_->num_sources; ++k)
                    h = multiply_add(broadcast(sources[s * sources_stride + k]),
                                     load(stack_->input_columns[k + 1].data() + i), h);
                store(first.now() + s * stride_ + i, h);
            }
    }

    // What the early taps of all layers add to the steps of the block that begins.
    void begin_block(const Weight* arena) {
        const int rows = block_ * streams_;
        for (int l = 0; l < stack_->num_layers; ++l) {
            const Layer<Weight>& layer = stack_->layers[l];
            const int next = l + 1 < stack_->num_layers ? l + 1 : l;
            if (!layer.num_early) {
                prefetch_early(next);
                continue;
            }
            const float *parts[max_taps], *soon[max_taps];
            for (int k = 0; k < layer.num_early; ++k) {
                parts[k] = early_tap(l, k);
                soon[k] = early_tap(next, k);
            }
            const Inputs in{parts, layer.num_early, stride_, nullptr, 0, soon};
            multiply(layer.early, arena, in, rows, [&](int vector, int row, auto& sums) {
                float* out = early_.row(l * rows + row) + vector * lanes;
                for (auto& sum : sums) {
                    store(out, sum);
                    out += lanes;
                }
            });
        }
    }

    // The early sums of a layer at this step.
    const float* early(int l) const { return early_.row((l * block_ + step_) * streams_); }

    // Where the rows of an early tap begin: one for each step and stream of the block.
    const float* early_tap(int l, int k) const {
        return histories_[l].before(stack_->filter_width - 1 - k);
    }

    void gate(const Weight* arena, int l) {
        const History& history = histories_[l];
        const Layer<Weight>& layer = stack_->layers[l];
        const int num_late = stack_->filter_width - layer.num_early;
        const float* parts[max_taps];
        for (int k = 0; k < num_late; ++k) parts[k] = history.before(num_late - 1 - k);
        if (l + 1 < stack_->num_layers) prefetch_late(l + 1);
        Inputs in{parts, num_late, stride_};
        if (layer.num_early) {
            in.start = early(l);
            in.start_stride = early_.stride();
        }
        const std::ptrdiff_t offset =
            static_cast<std::ptrdiff_t>(l) * stack_->gate_vectors * lanes;
        const bool is_conditional = stack_->projection.inputs != 0;
        const float* added =
            (is_conditional ? projected_.data() : stack_->gate_bias.data()) + offset;
        const std::ptrdiff_t added_stride = is_conditional ? projected_.stride() : 0;
        float* out = activations_.data() + l * stack_->gate_channels;
        multiply(layer.late, arena, in, streams_, [&](int vector, int stream, auto& sums) {
            constexpr int width = sizeof(sums) / sizeof(Vector);
            if constexpr (width % 2 == 0) {
                const float* add = added + stream * added_stride + vector * lanes;
                float* to = out + stream * activations_.stride() + vector / 2 * lanes;
                WAVESTILL_UNROLL
                for (int v = 0; v < width; v += 2)
                    store(to + v / 2 * lanes, gated(sums[v] + load(add + v * lanes),
                                                    sums[v + 1] + load(add + (v + 1) * lanes)));
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
            const std::ptrdiff_t row = stream * stride_;
            int i = vector * lanes;
            for (auto& sum : sums) {
                if (i >= stride_) return;  // the second of a pair that is but padding
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
                         store(skips_.row(stream) + i,
                               maximum(sum + load(bias + i), broadcast(0.0f)));
                         i += lanes;
                     }
                 });
    }

    // What a layer reads of the past lies far apart: no processor guesses where.
    void prefetch_early(int l) const {
        for (int k = 0; k < stack_->layers[l].num_early; ++k)
            prefetch_rows(early_tap(l, k), block_ * streams_ * stride_);
    }
    void prefetch_late(int l) const {
        const int num_early = stack_->layers[l].num_early;
        for (int k = 0; k < stack_->filter_width - num_early; ++k)
            prefetch_rows(histories_[l].before(k), streams_ * stride_);
        if (num_early) prefetch_rows(early(l), streams_ * early_.stride());
    }
    static void prefetch_rows(const float* first, std::ptrdiff_t count) {
        for (std::ptrdiff_t i = 0; i < count; i += 16) prefetch(first + i);
    }

    static constexpr int max_taps = 16;
    const Stack<Weight>* stack_ = nullptr;
    int streams_ = 0;
    int block_ = 1;              // steps of a block: a divisor of block_steps
    std::ptrdiff_t stride_ = 0;  // of the residual path, from stream to stream
    Memory past_;
    std::unique_ptr<History[]> histories_;
    int step_ = 0;  // of the block
    Rows activations_, early_, end_, skips_, projected_;
};

}  // namespace wavestill::WAVESTILL_SET
