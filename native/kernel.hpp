// What the compiled instruction sets have in common: a model's arrays, and the runs made of them.
//
// Matrices are those of torch.nn.Linear: (outputs, inputs), row by row, float32.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace wavestill {

struct LinearArrays {
    int inputs = 0;
    int outputs = 0;
    const float* weight = nullptr;
    const float* bias = nullptr;  // null: none
};

struct LayerArrays {
    int dilation = 1;
    LinearArrays taps;  // (2 G, K R), the oldest tap first; filter above gate
    LinearArrays out;   // (R + S, G), residual above skip
};

struct StackArrays {
    int residual_channels = 0;  // R
    int gate_channels = 0;      // G
    int skip_channels = 0;      // S; 0: the stack ends in its residual path
    int filter_width = 0;       // K
    int num_layers = 0;
    const LayerArrays* layers = nullptr;
    LinearArrays input;       // (R, 1 + sources)
    LinearArrays projection;  // (layers x 2 G, C); no inputs: unconditional
};

enum class Head { logistics, gaussian, mulaw };

// What makes a law of a network's outputs.
struct LawShape {
    Head head = Head::gaussian;
    int num_mixtures = 0;
    int bits = 0;       // of the grid; 0: continuous
    double gain = 1.0;  // of the inner signal over the waveform
    double residual_std = 1.0;
};

struct TeacherArrays {
    StackArrays stack;
    LinearArrays hidden;
    LinearArrays output;
    LawShape law;
    int predictor_order = 0;
    const float* predictor = nullptr;  // oldest sample first
};

struct StudentArrays {
    int num_flows = 0;
    const StackArrays* stacks = nullptr;
    const LinearArrays* outputs = nullptr;  // (2, R): location and log-scale
    float log_scale_min = 0.0f;
    float log_scale_max = 0.0f;
};

// The conditioning under the next steps of a group of streams.
struct Condition {
    const float* rows = nullptr;  // (streams, num_rows, C); null: none
    std::ptrdiff_t rows_stride = 0;
    int subframe_steps = 0;         // steps per row; 0: one row holds for ever
    int lead = 0;                   // steps of the first row that are over
    const float* source = nullptr;  // (streams, steps, sources); null: none
    std::ptrdiff_t source_stride = 0;
};

// Shared with the thread that watches over the work.
struct Watch {
    std::atomic<bool> stop{false};
    std::atomic<long long> done{0};  // steps
};

// Steps of a teacher. `given` replaces draws by the samples of a sequence that is known.
struct TeacherJob {
    int steps = 0;
    Condition condition;
    const double* noise = nullptr;  // (streams, steps); null: draws from the seed
    std::uint64_t seed = 0;
    std::uint64_t first_stream = 0;
    std::uint64_t first_word = 0;
    const float* given = nullptr;  // (streams, steps); null: none
    float* x = nullptr;            // (streams, steps); null: not asked for
    float* laws = nullptr;         // (streams, steps, parameters); null: not asked for
};

// Steps of a student's inversion, all (streams, steps).
struct StudentJob {
    int steps = 0;
    Condition condition;
    const double* values = nullptr;  // what the last flow made
    double* noise = nullptr;
    double* loc = nullptr;
    double* log_scale = nullptr;
    double noise_max = 0.0;  // the noise is held within this; 0 for no limit
};

// A group of streams that advance together, one step at a time; weights are read once for all.
template <class Job>
class Run {
public:
    virtual ~Run() = default;
    virtual void advance(const Job& job, Watch& watch) = 0;
};

// Packed weights, which any number of runs may share.
template <class Job>
class Packed {
public:
    virtual ~Packed() = default;
    virtual std::unique_ptr<Run<Job>> begin(int streams) const = 0;
    virtual std::size_t weight_bytes() const = 0;
    // What a step of so many streams reads of them on average: taps of a block once for all of it.
    virtual double step_bytes(int streams) const = 0;
};

using Teacher = Packed<TeacherJob>;
using Student = Packed<StudentJob>;

enum class WeightKind { float32, bfloat16 };

// What one instruction set offers.
struct Kernel {
    const char* name;
    int lanes;
    std::unique_ptr<Teacher> (*pack_teacher)(const TeacherArrays&, WeightKind);
    std::unique_ptr<Student> (*pack_student)(const StudentArrays&, WeightKind);
    double (*sum)(const float* values, std::size_t count);
};

extern const Kernel kernel_portable;
extern const Kernel kernel_avx2;
extern const Kernel kernel_avx512;
extern const Kernel kernel_neon;

}  // namespace wavestill
