// The inversion of a stack of affine flows, step by step:
//
//     z_k-1 = (z_k - mu_k) / s_k,   k = K ... 1,   z_K = values,
//
// where the shapes (mu_k, s_k) of a step depend on earlier steps alone.
#pragma once

#include <cmath>

#include "functions.hpp"
#include "kernel.hpp"
#include "stack_run.hpp"

namespace wavestill::WAVESTILL_SET {

template <class Weight>
struct Flow {
    Stack<Weight> stack;
    Linear<Weight> output;
};

template <class Weight>
class PackedStudent final : public Student {
public:
    explicit PackedStudent(const StudentArrays& arrays)
        : num_flows(arrays.num_flows),
          log_scale_min(arrays.log_scale_min),
          log_scale_max(arrays.log_scale_max),
          flows(new Flow<Weight>[arrays.num_flows]) {
        for (int k = 0; k < arrays.num_flows; ++k) {
            flows[k].stack = Stack<Weight>(arena, arrays.stacks[k]);
            flows[k].output = Linear<Weight>(arena, arrays.outputs[k]);
        }
        late_bytes_ = arena.num_bytes();
        for (int k = 0; k < arrays.num_flows; ++k)
            flows[k].stack.pack_early(arena, arrays.stacks[k]);
        weight_bytes_ = arena.num_bytes();
        for (int k = 0; k < arrays.num_flows; ++k)
            flows[k].stack.pack_projection(arena, arrays.stacks[k].projection);
    }

    std::unique_ptr<Run<StudentJob>> begin(int streams) const override;
    std::size_t weight_bytes() const override { return weight_bytes_; }
    double step_bytes(int streams) const override {
        return late_bytes_ +
               static_cast<double>(weight_bytes_ - late_bytes_) / block_steps(streams);
    }

    int num_flows;
    float log_scale_min, log_scale_max;
    Arena<Weight> arena;
    std::unique_ptr<Flow<Weight>[]> flows;

private:
    std::size_t late_bytes_ = 0, weight_bytes_ = 0;
};

template <class Weight>
class StudentRun final : public Run<StudentJob> {
public:
    StudentRun(const PackedStudent<Weight>& model, int streams)
        : model_(model),
          streams_(streams),
          runs_(new StackRun<Weight>[model.num_flows]),
          shapes_(new Rows[model.num_flows]),
          previous_(model.num_flows, streams) {
        for (int k = 0; k < model.num_flows; ++k) {
            runs_[k] = StackRun<Weight>(model.flows[k].stack, streams);
            shapes_[k] = Rows(streams, 2 * lanes);
        }
    }

    void advance(const StudentJob& job, Watch& watch) override {
        const Condition& condition = job.condition;
        int until = 0;
        std::ptrdiff_t row = -1;
        for (int t = 0; t < job.steps; ++t) {
            if (watch.stop.load(std::memory_order_relaxed)) return;
            if (condition.rows && t == until) {
                ++row;
                for (int k = 0; k < model_.num_flows; ++k)
                    runs_[k].project(
                        model_.arena.data(),
                        condition.rows + row * model_.flows[k].stack.projection.inputs,
                        condition.rows_stride);
                until = condition.subframe_steps
                            ? static_cast<int>(row + 1) * condition.subframe_steps - condition.lead
                            : job.steps;
            }
            step(t, job);
            watch.done.store(t + 1, std::memory_order_relaxed);
        }
    }

private:
    void step(int t, const StudentJob& job) {
        const Condition& condition = job.condition;
        const int flows = model_.num_flows;
        for (int k = 0; k < flows; ++k) {
            const Flow<Weight>& flow = model_.flows[k];
            const float* sources =
                condition.source
                    ? condition.source + static_cast<std::ptrdiff_t>(t) * flow.stack.num_sources
                    : nullptr;
            runs_[k].step(model_.arena.data(), previous_.row(k), sources, condition.source_stride);
            apply(flow.output, model_.arena.data(), runs_[k].end(), shapes_[k], streams_, false);
        }
        for (int s = 0; s < streams_; ++s) {
            const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(s) * job.steps + t;
            double value = job.values[at];
            for (int k = flows - 1; k >= 0; --k) {
                value = (value - shapes_[k].row(s)[0]) * exponential(-log_scale(k, s));
                previous_.row(k)[s] = static_cast<float>(value);
            }
            if (job.noise_max > 0.0 && !(std::fabs(value) <= job.noise_max))
                value = hold(s, value > 0.0 ? job.noise_max : -job.noise_max);
            double loc = shapes_[0].row(s)[0], total = log_scale(0, s);
            for (int k = 1; k < flows; ++k) {
                loc = loc * exponential(log_scale(k, s)) + shapes_[k].row(s)[0];
                total += log_scale(k, s);
            }
            job.noise[at] = value;
            job.loc[at] = loc;
            job.log_scale[at] = total;
        }
    }

    // The flows' inputs as this noise makes them, in place of those that the sound asks for.
    double hold(int s, double noise) {
        double value = noise;
        for (int k = 0; k < model_.num_flows; ++k) {
            previous_.row(k)[s] = static_cast<float>(value);
            value = shapes_[k].row(s)[0] + exponential(log_scale(k, s)) * value;
        }
        return noise;
    }

    double log_scale(int k, int s) const {
        const float value = shapes_[k].row(s)[1];
        const float low = model_.log_scale_min, high = model_.log_scale_max;
        return value < low ? low : value > high ? high : value;
    }

    const PackedStudent<Weight>& model_;
    int streams_;
    std::unique_ptr<StackRun<Weight>[]> runs_;
    std::unique_ptr<Rows[]> shapes_;
    Rows previous_;
};

template <class Weight>
std::unique_ptr<Run<StudentJob>> PackedStudent<Weight>::begin(int streams) const {
    return std::unique_ptr<Run<StudentJob>>(new StudentRun<Weight>(*this, streams));
}

}  // namespace wavestill::WAVESTILL_SET
