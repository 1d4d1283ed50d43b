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

// One flow: the network that says location and log-scale of its steps.
struct FlowArrays {
    StackArrays stack;
    LinearArrays output;  // (2, R)
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

// A layer's past and, behind it, room for the steps at hand: (sequences, reach + steps, R), rows
// without gaps, in float32 or bfloat16 as the weights are.
struct Past {
    void* data = nullptr;
    std::ptrdiff_t stride = 0;  // from sequence to sequence
};

// A stretch of time of several sequences.
struct FlowJob {
    int sequences = 0, steps = 0;
    const float* previous = nullptr;  // (sequences, steps): the flow's input, one step late
    const float* source = nullptr;    // (sequences, steps, sources); null: none
    const float* rows = nullptr;      // (sequences, num_rows, C); null: none
    int num_rows = 0;
    int subframe_steps = 0;      // steps per row; 0: one row holds for ever
    const int* leads = nullptr;  // (sequences): steps of the first row that are over
    const Past* pasts = nullptr;  // of each layer; the steps at hand are written into them
    float* shapes = nullptr;      // (2, sequences, steps): location and log-scale
};

// How many stages the parts of a job have finished.
class Stages {
public:
    explicit Stages(int num_parts) : done_(new std::atomic<int>[num_parts]()) {}
    void finish(int part) { done_[part].fetch_add(1, std::memory_order_release); }
    // Until all parts before this one have finished so many.
    void wait(int part, int stages) const;

private:
    std::unique_ptr<std::atomic<int>[]> done_;
};

// A flow's network, packed.
class FlowNetwork {
public:
    virtual ~FlowNetwork() = default;
    // One of several parts that run at the same time, each on a thread of its own.
    virtual void run(const FlowJob& job, int part, int num_parts, Stages& stages) const = 0;
};

// What one instruction set offers.
struct Kernel {
    const char* name;
    int lanes;
    std::unique_ptr<Teacher> (*pack_teacher)(const TeacherArrays&, WeightKind);
    std::unique_ptr<Student> (*pack_student)(const StudentArrays&, WeightKind);
    std::unique_ptr<FlowNetwork> (*pack_flow)(const FlowArrays&, WeightKind);
    double (*sum)(const float* values, std::size_t count);
};

extern const Kernel kernel_portable;
extern const Kernel kernel_avx2;
extern const Kernel kernel_avx512;
extern const Kernel kernel_avx512bf16;
extern const Kernel kernel_neon;

}  // namespace wavestill
