// A WaveNet that samples itself: network, law and draw, step by step.
#pragma once

#include "heads.hpp"
#include "kernel.hpp"
#include "philox.hpp"
#include "stack_run.hpp"

namespace wavestill::WAVESTILL_SET {

template <class Weight>
class PackedTeacher final : public Teacher {
public:
    explicit PackedTeacher(const TeacherArrays& arrays)
        : law(arrays.law),
          predictor_order(arrays.predictor_order),
          stack(arena, arrays.stack),
          hidden(arena, arrays.hidden),
          output(arena, arrays.output) {
        late_bytes_ = arena.num_bytes();
        stack.pack_early(arena, arrays.stack);
        weight_bytes_ = arena.num_bytes();
        stack.pack_projection(arena, arrays.stack.projection);
        predictor = Bias(arrays.predictor, round_up(arrays.predictor_order, lanes) / lanes,
                         [&](int i) { return i < arrays.predictor_order ? i : -1; });
    }

    std::unique_ptr<Run<TeacherJob>> begin(int streams) const override;
    std::size_t weight_bytes() const override { return weight_bytes_; }
    double step_bytes(int streams) const override {
        return late_bytes_ +
               static_cast<double>(weight_bytes_ - late_bytes_) / block_steps(streams);
    }

    LawShape law;
    int predictor_order;
    Arena<Weight> arena;
    Stack<Weight> stack;
    Linear<Weight> hidden, output;
    Bias predictor;

private:
    std::size_t late_bytes_ = 0, weight_bytes_ = 0;
};

template <class Weight>
class TeacherRun final : public Run<TeacherJob> {
public:
    TeacherRun(const PackedTeacher<Weight>& model, int streams)
        : model_(model),
          streams_(streams),
          law_(model.law),
          run_(model.stack, streams),
          hidden_(streams, model.stack.skip_channels + lanes),
          output_(streams, law_.num_parameters() + lanes),
          signals_(1, streams),
          past_(streams, model.predictor_order),
          philox_(new Philox[streams]) {
        for (int s = 0; s < streams; ++s) signals_.data()[s] = static_cast<float>(law_.inner(0.0));
        const int order = model.predictor_order;
        if (order)
            for (int s = 0; s < streams; ++s) past_.row(s)[order - 1] = signals_.data()[s];
    }

    void advance(const TeacherJob& job, Watch& watch) override {
        for (int s = 0; s < streams_; ++s) philox_[s] = Philox(job.seed, job.first_stream + s);
        const Condition& condition = job.condition;
        int until = 0;  // the step at which another row begins
        std::ptrdiff_t row = -1;
        for (int t = 0; t < job.steps; ++t) {
            if (watch.stop.load(std::memory_order_relaxed)) return;
            if (condition.rows && t == until) {
                ++row;
                run_.project(model_.arena.data(),
                             condition.rows + row * model_.stack.projection.inputs,
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
    void step(int t, const TeacherJob& job) {
        const Condition& condition = job.condition;
        const int sources = model_.stack.num_sources;
        run_.step(model_.arena.data(), signals_.data(),
                  condition.source ? condition.source + static_cast<std::ptrdiff_t>(t) * sources
                                   : nullptr,
                  condition.source_stride);
        apply(model_.hidden, model_.arena.data(), run_.end(), hidden_, streams_, true);
        apply(model_.output, model_.arena.data(), hidden_, output_, streams_, false);
        for (int s = 0; s < streams_; ++s) {
            const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(s) * job.steps + t;
            const float* out = output_.row(s);
            const double predicted = predict(s);
            if (job.laws) law_.parameters(out, predicted, job.laws + at * law_.num_parameters());
            const float x = job.given
                                ? job.given[at]
                                : static_cast<float>(law_.draw(out, predicted, noise(s, t, job)));
            if (job.x) job.x[at] = x;
            remember(s, static_cast<float>(law_.inner(x)));
        }
    }

    double noise(int s, int t, const TeacherJob& job) {
        if (job.noise) return job.noise[static_cast<std::ptrdiff_t>(s) * job.steps + t];
        const double u = philox_[s].uniform(job.first_word + t);
        return model_.law.head == Head::gaussian ? normal_noise(u) : logistic_noise(u);
    }

    double predict(int s) const {
        double predicted = 0.0;
        for (int i = 0; i < model_.predictor_order; ++i)
            predicted += double{model_.predictor.data()[i]} * past_.row(s)[i];
        return predicted;
    }

    void remember(int s, float signal) {
        signals_.data()[s] = signal;
        const int order = model_.predictor_order;
        if (!order) return;
        std::memmove(past_.row(s), past_.row(s) + 1, (order - 1) * sizeof(float));
        past_.row(s)[order - 1] = signal;
    }

    const PackedTeacher<Weight>& model_;
    int streams_;
    Law law_;
    StackRun<Weight> run_;
    Rows hidden_, output_, signals_, past_;
    std::unique_ptr<Philox[]> philox_;
};

template <class Weight>
std::unique_ptr<Run<TeacherJob>> PackedTeacher<Weight>::begin(int streams) const {
    return std::unique_ptr<Run<TeacherJob>>(new TeacherRun<Weight>(*this, streams));
}

}  // namespace wavestill::WAVESTILL_SET
