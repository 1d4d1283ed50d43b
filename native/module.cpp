// wavestill._native: what Python sees of the kernel. Signatures are described in _native.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>

#include "arrays.hpp"
#include "dispatch.hpp"
#include "flows.hpp"
#include "memory.hpp"
#include "runs.hpp"
#include "synthesis.hpp"

namespace wavestill {

namespace {

// A packed model with what is needed to check what it is given.
template <class Job>
struct Model {
    std::shared_ptr<Packed<Job>> packed;
    std::string instruction_set;
    int condition_channels = 0, num_sources = 0, num_parameters = 0;
    std::size_t weight_bytes() const { return packed->weight_bytes(); }
    double step_bytes(int streams) const { return packed->step_bytes(streams); }
};
using TeacherModel = Model<TeacherJob>;
using StudentModel = Model<StudentJob>;

TeacherModel pack_teacher(nb::handle arrays, const std::string& weights, const std::string& set) {
    Taken taken;
    const TeacherArrays teacher = taken.teacher(arrays);
    const Kernel& chosen = kernel(set);
    return {std::shared_ptr<Teacher>(chosen.pack_teacher(teacher, weight_kind(weights))),
            chosen.name, teacher.stack.projection.inputs, teacher.stack.input.inputs - 1,
            teacher.output.outputs};
}

StudentModel pack_student(nb::handle arrays, const std::string& weights, const std::string& set) {
    Taken taken;
    const StudentArrays student = taken.student(arrays);
    const Kernel& chosen = kernel(set);
    return {std::shared_ptr<Student>(chosen.pack_student(student, weight_kind(weights))),
            chosen.name, student.stacks[0].projection.inputs, student.stacks[0].input.inputs - 1,
            2};
}

class Sampler {
public:
    Sampler(const TeacherModel& model, int streams, int threads)
        : streams_(model.packed, model.condition_channels, model.num_sources, streams, threads),
          num_parameters_(model.num_parameters) {}

    Array<float, 2> draw(const Array<const double, 2>& noise, const GivenCondition& condition,
                         nb::handle progress) {
        const std::size_t steps = noise.shape(1);
        streams_.check_shape(noise.shape(0), steps, "the noise");
        Array<float, 2> x = new_array<float, 2>({noise.shape(0), steps});
        streams_.advance(steps, condition, progress, [&](std::size_t first) {
            TeacherJob job;
            job.noise = noise.data() + first * steps;
            job.x = x.data() + first * steps;
            return job;
        });
        return x;
    }

    Array<float, 2> draw_seeded(std::size_t steps, std::uint64_t seed, std::uint64_t first_stream,
                                std::uint64_t first_word, const GivenCondition& condition,
                                nb::handle progress) {
        const auto streams = static_cast<std::size_t>(streams_.num_streams());
        streams_.check_shape(streams, steps, "the sound");
        Array<float, 2> x = new_array<float, 2>({streams, steps});
        streams_.advance(steps, condition, progress, [&](std::size_t first) {
            TeacherJob job;
            job.seed = seed;
            job.first_stream = first_stream + first;
            job.first_word = first_word;
            job.x = x.data() + first * steps;
            return job;
        });
        return x;
    }

    Array<float, 3> follow(const Array<const float, 2>& x, const GivenCondition& condition,
                           nb::handle progress) {
        const std::size_t steps = x.shape(1), parameters = num_parameters_;
        streams_.check_shape(x.shape(0), steps, "the waveform");
        Array<float, 3> laws = new_array<float, 3>({x.shape(0), steps, parameters});
        streams_.advance(steps, condition, progress, [&](std::size_t first) {
            TeacherJob job;
            job.given = x.data() + first * steps;
            job.laws = laws.data() + first * steps * parameters;
            return job;
        });
        return laws;
    }

    long long position() const { return streams_.position(); }

private:
    Streams<TeacherJob> streams_;
    std::size_t num_parameters_;
};

class Inverter {
public:
    Inverter(const StudentModel& model, int streams, int threads)
        : streams_(model.packed, model.condition_channels, model.num_sources, streams, threads) {}

    nb::tuple invert(const Array<const double, 2>& values, const GivenCondition& condition,
                     nb::handle progress, double noise_max) {
        const std::size_t steps = values.shape(1);
        streams_.check_shape(values.shape(0), steps, "the waveform");
        Array<double, 2> out[3];
        for (auto& array : out) array = new_array<double, 2>({values.shape(0), steps});
        streams_.advance(steps, condition, progress, [&](std::size_t first) {
            StudentJob job;
            job.values = values.data() + first * steps;
            job.noise = out[0].data() + first * steps;
            job.loc = out[1].data() + first * steps;
            job.log_scale = out[2].data() + first * steps;
            job.noise_max = noise_max;
            return job;
        });
        return nb::make_tuple(out[0], out[1], out[2]);
    }

    long long position() const { return streams_.position(); }

private:
    Streams<StudentJob> streams_;
};

// Gigabytes per second of reading a buffer over and over, for each repeat.
std::vector<double> read_bandwidth(std::size_t num_bytes, int repeats, const std::string& set) {
    const Kernel& chosen = kernel(set);
    const std::size_t unit = 16 * sizeof(float) * static_cast<std::size_t>(chosen.lanes);
    num_bytes = num_bytes / unit * unit;
    if (num_bytes == 0 || repeats < 1)
        throw std::invalid_argument("reading needs at least " + std::to_string(unit) +
                                    " bytes and one repeat");
    const Memory memory(num_bytes);
    const auto* values = static_cast<const float*>(memory.data());
    constexpr std::size_t enough = std::size_t{1} << 28;  // bytes per repeat: some milliseconds
    const std::size_t rounds = enough / num_bytes + 1;
    std::vector<double> rates;
    volatile double sink = 0.0;
    nb::gil_scoped_release release;
    for (int r = 0; r < repeats + 1; ++r) {  // the first warms up
        const auto begin = std::chrono::steady_clock::now();
        for (std::size_t i = 0; i < rounds; ++i)
            sink = sink + chosen.sum(values, num_bytes / sizeof(float));
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        if (r)
            rates.push_back(1e-9 * static_cast<double>(num_bytes) * static_cast<double>(rounds) /
                            seconds.count());
    }
    return rates;
}

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Kernel* each : kernels()) names.emplace_back(each->name);
    return names;
}

}  // namespace

NB_MODULE(_native, m) {
    using namespace nb::literals;
    m.doc() = "WaveNet generation and inversion without Python between the samples.";
    // What a thread or a cache still holds when the interpreter ends is no leak of ours to report.
    nb::set_leak_warnings(false);
    m.def("instruction_sets", &instruction_sets);
    m.def("read_bandwidth", &read_bandwidth, "num_bytes"_a, "repeats"_a = 5,
          "instruction_set"_a = "");
    m.def("pack_teacher", &pack_teacher, "arrays"_a, "weights"_a = "float32",
          "instruction_set"_a = "");
    m.def("pack_student", &pack_student, "arrays"_a, "weights"_a = "float32",
          "instruction_set"_a = "");

    nb::class_<TeacherModel>(m, "Teacher")
        .def_ro("instruction_set", &TeacherModel::instruction_set)
        .def_prop_ro("weight_bytes", &TeacherModel::weight_bytes)
        .def("step_bytes", &TeacherModel::step_bytes, "streams"_a = 1);
    nb::class_<StudentModel>(m, "Student")
        .def_ro("instruction_set", &StudentModel::instruction_set)
        .def_prop_ro("weight_bytes", &StudentModel::weight_bytes)
        .def("step_bytes", &StudentModel::step_bytes, "streams"_a = 1);
    nb::class_<GivenCondition>(m, "Condition")
        .def(
            "__init__",
            [](GivenCondition* self, std::optional<Array<const float, 3>> rows, int subframe_steps,
               int lead, std::optional<Array<const float, 3>> source) {
                new (self)
                    GivenCondition{std::move(rows), subframe_steps, lead, std::move(source)};
            },
            "rows"_a = nb::none(), "subframe_steps"_a = 0, "lead"_a = 0, "source"_a = nb::none());
    nb::class_<Sampler>(m, "Sampler")
        .def(nb::init<const TeacherModel&, int, int>(), "teacher"_a, "streams"_a, "threads"_a = 1)
        .def("draw", &Sampler::draw, "noise"_a, "condition"_a, "progress"_a = nb::none())
        .def("draw_seeded", &Sampler::draw_seeded, "steps"_a, "seed"_a, "first_stream"_a,
             "first_word"_a, "condition"_a, "progress"_a = nb::none())
        .def("follow", &Sampler::follow, "x"_a, "condition"_a, "progress"_a = nb::none())
        .def_prop_ro("position", &Sampler::position);
    nb::class_<Inverter>(m, "Inverter")
        .def(nb::init<const StudentModel&, int, int>(), "student"_a, "streams"_a, "threads"_a = 1)
        .def("invert", &Inverter::invert, "values"_a, "condition"_a, "progress"_a = nb::none(),
             "noise_max"_a = 0.0)
        .def_prop_ro("position", &Inverter::position);
    bind_flows(m);
    bind_synthesis(m);
}

}  // namespace wavestill
