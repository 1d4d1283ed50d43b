// The stateful objects that Python holds: streams of a teacher, or of a student's inversion.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernel.hpp"
#include "watched.hpp"

namespace wavestill {

namespace nb = nanobind;

template <class T, int N>
using Array = nb::ndarray<T, nb::numpy, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

// A new array for Python to own.
template <class T, int N>
Array<T, N> new_array(const std::size_t (&shape)[N]) {
    std::size_t count = 1;
    for (std::size_t size : shape) count *= size;
    T* data = new T[count]();
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return Array<T, N>(data, N, shape, owner);
}

// The conditioning under a call's steps, as Python hands it over.
struct GivenCondition {
    std::optional<Array<const float, 3>> rows;
    int subframe_steps = 0;
    int lead = 0;
    std::optional<Array<const float, 3>> source;

    // Of the streams from `first` on.
    Condition of(std::size_t first) const {
        Condition condition;
        condition.subframe_steps = subframe_steps;
        condition.lead = lead;
        if (rows) {
            condition.rows_stride = rows->shape(1) * rows->shape(2);
            condition.rows = rows->data() + first * condition.rows_stride;
        }
        if (source) {
            condition.source_stride = source->shape(1) * source->shape(2);
            condition.source = source->data() + first * condition.source_stride;
        }
        return condition;
    }
};

// Streams of one packed model, split into a group for each thread.
template <class Job>
class Streams {
public:
    Streams(std::shared_ptr<Packed<Job>> model, int condition_channels, int num_sources,
            int streams, int threads)
        : model_(std::move(model)),
          condition_channels_(condition_channels),
          num_sources_(num_sources),
          num_streams_(streams) {
        if (streams < 1)
            throw std::invalid_argument("there must be at least one stream, not " +
                                        std::to_string(streams));
        if (threads < 1)
            throw std::invalid_argument("there must be at least one thread, not " +
                                        std::to_string(threads));
        const int groups = threads < streams ? threads : streams;
        for (int g = 0; g < groups; ++g) {
            const int first = static_cast<int>(static_cast<long long>(streams) * g / groups);
            const int next = static_cast<int>(static_cast<long long>(streams) * (g + 1) / groups);
            firsts_.push_back(first);
            runs_.push_back(model_->begin(next - first));
        }
    }

    Streams(const Streams&) = delete;
    Streams& operator=(const Streams&) = delete;

    long long position() const { return position_; }
    int num_streams() const { return num_streams_; }

    // Runs job_of(first stream) on each group.
    template <class JobOf>
    void advance(std::size_t steps, const GivenCondition& condition, nb::handle progress,
                 const JobOf& job_of) {
        check(steps, condition);
        std::vector<Work> works;
        for (std::size_t g = 0; g < runs_.size(); ++g) {
            Job job = job_of(static_cast<std::size_t>(firsts_[g]));
            job.steps = static_cast<int>(steps);
            job.condition = condition.of(firsts_[g]);
            works.push_back([this, g, job](Watch& watch) { runs_[g]->advance(job, watch); });
        }
        is_whole_ = false;
        run_watched(works, static_cast<long long>(steps), progress);
        is_whole_ = true;
        position_ += static_cast<long long>(steps);
    }

    void check_shape(std::size_t streams, std::size_t steps, const char* what) const {
        if (static_cast<int>(streams) != num_streams_)
            throw std::invalid_argument(std::string(what) + " is of " + std::to_string(streams) +
                                        " sequences but there are " +
                                        std::to_string(num_streams_) +
                                        " streams; give one to each");
        if (steps == 0)
            throw std::invalid_argument(std::string(what) + " has no steps; give at least one");
    }

private:
    void check(std::size_t steps, const GivenCondition& condition) const {
        if (!is_whole_)
            throw std::runtime_error("an earlier call was interrupted half-way; begin anew");
        if (steps > most_steps)
            throw std::invalid_argument("a call takes " + std::to_string(most_steps) +
                                        " steps at most, not " + std::to_string(steps) +
                                        "; draw in pieces");
        if (condition.rows.has_value() != (condition_channels_ != 0))
            throw std::invalid_argument(
                condition_channels_ ? "the model needs conditioning rows, but none were given"
                                    : "the model takes no conditioning, but rows were given");
        if (condition.source.has_value() != (num_sources_ != 0))
            throw std::invalid_argument(
                num_sources_ ? "the model needs a harmonic source, but none was given"
                             : "the model takes no harmonic source, but one was given");
        if (condition.rows) {
            check_part(*condition.rows, condition_channels_, "the conditioning");
            const std::size_t rows = condition.rows->shape(1);
            const long long needed = condition.subframe_steps > 0
                                         ? (static_cast<long long>(steps) + condition.lead - 1) /
                                                   condition.subframe_steps +
                                               1
                                         : 1;
            if (static_cast<long long>(rows) < needed)
                throw std::invalid_argument("the steps need " + std::to_string(needed) +
                                            " rows of conditioning but there are " +
                                            std::to_string(rows) + "; give more frames");
            if (condition.lead < 0 ||
                (condition.subframe_steps > 0 && condition.lead >= condition.subframe_steps))
                throw std::invalid_argument("'lead' is " + std::to_string(condition.lead) +
                                            " but a row holds for " +
                                            std::to_string(condition.subframe_steps) + " steps");
        }
        if (condition.source) {
            check_part(*condition.source, num_sources_, "the harmonic source");
            if (condition.source->shape(1) < steps)
                throw std::invalid_argument("the harmonic source ends after " +
                                            std::to_string(condition.source->shape(1)) + " of " +
                                            std::to_string(steps) + " steps; give more frames");
        }
    }

    void check_part(const Array<const float, 3>& part, int columns, const char* what) const {
        if (static_cast<int>(part.shape(0)) != num_streams_ ||
            static_cast<int>(part.shape(2)) != columns)
            throw std::invalid_argument(
                std::string(what) + " is of " + std::to_string(part.shape(0)) + " sequences and " +
                std::to_string(part.shape(2)) + " columns but the streams need " +
                std::to_string(num_streams_) + " and " + std::to_string(columns));
    }

    static constexpr std::size_t most_steps = std::size_t{1} << 30;
    std::shared_ptr<Packed<Job>> model_;
    int condition_channels_, num_sources_, num_streams_;
    std::vector<int> firsts_;
    std::vector<std::unique_ptr<Run<Job>>> runs_;
    long long position_ = 0;
    bool is_whole_ = true;
};

}  // namespace wavestill
