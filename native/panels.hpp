// Matrices in panels, and the one product that all layers are made of.
//
// A panel is a few vectors of columns (outputs); in memory it holds one row of them for each
// input, one row after the other, so that a product reads its weights once, in order. Every output
// is one chain of fused multiply-adds over the inputs in their order. So neither the panel it lies
// in nor the number of streams computed beside it changes a bit of it.
//
// bfloat16 panels hold two vectors interleaved: the low halves of 32-bit words are the first, the
// high halves the second, and a shift or a mask makes float32 of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "kernel.hpp"
#include "memory.hpp"
#include "vector.hpp"

namespace wavestill::WAVESTILL_SET {

constexpr int panel_vectors = 4;

WAVESTILL_INLINE int round_up(int count, int unit) {
    return (count + unit - 1) / unit * unit;
}

struct Panels {
    std::size_t offset = 0;  // of the first weight in the arena
    int inputs = 0;
    int vectors = 0;  // of columns, padding included
};

// All weights of a model, one panel after the other in their order of use.
template <class Weight>
class Arena {
public:
    // Vectors that hold so many columns: bfloat16 comes in pairs.
    static int vectors(int columns) {
        const int count = round_up(columns, lanes) / lanes;
        return sizeof(Weight) == 2 ? round_up(count, 2) : count;
    }

    // Packs the rows `order` of a matrix as columns, `inputs` of its `row` columns as inputs; -1
    // stands for zeros.
    template <class Order>
    Panels pack(const float* weight, int row, int inputs, int num_vectors, Order order) {
        const std::size_t count = static_cast<std::size_t>(inputs) * num_vectors * lanes;
        const Panels panels{reserve(count), inputs, num_vectors};
        Weight* out = data() + panels.offset;
        for (int first = 0; first < num_vectors; first += panel_vectors) {
            const int width =
                num_vectors - first < panel_vectors ? num_vectors - first : panel_vectors;
            for (int i = 0; i < inputs; ++i, out += width * lanes)
                for (int v = 0; v < width; ++v)
                    for (int lane = 0; lane < lanes; ++lane) {
                        const int column = order((first + v) * lanes + lane);
                        const float value =
                            column < 0 ? 0.0f : weight[static_cast<std::size_t>(column) * row + i];
                        put(out, v, lane, value);
                    }
        }
        return panels;
    }

    // Packs a matrix as it is.
    Panels pack(const LinearArrays& linear) {
        return pack(linear.weight, linear.inputs, linear.inputs, vectors(linear.outputs),
                    [&](int column) { return column < linear.outputs ? column : -1; });
    }

    const Weight* data() const { return static_cast<const Weight*>(memory_.data()); }
    std::size_t num_bytes() const { return used_ * sizeof(Weight); }

private:
    Weight* data() { return static_cast<Weight*>(memory_.data()); }

    std::size_t reserve(std::size_t count) {
        const std::size_t offset = used_;
        constexpr std::size_t line = 64 / sizeof(Weight);
        used_ += (count + line - 1) / line * line;
        if (num_bytes() > memory_.num_bytes()) {
            Memory larger(2 * num_bytes());
            if (offset) std::memcpy(larger.data(), memory_.data(), offset * sizeof(Weight));
            memory_ = std::move(larger);
        }
        return offset;
    }

    static void put(float* row, int vector, int lane, float value) {
        row[vector * lanes + lane] = value;
    }
    static void put(std::uint16_t* row, int vector, int lane, float value) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        bits += 0x7fff + ((bits >> 16) & 1);  // to nearest, ties to even
        row[(vector / 2 * lanes + lane) * 2 + vector % 2] = static_cast<std::uint16_t>(bits >> 16);
    }

    Memory memory_;
    std::size_t used_ = 0;
};

template <int V>
WAVESTILL_INLINE void load_row(const float* p, Vector (&row)[V]) {
    WAVESTILL_UNROLL
    for (int v = 0; v < V; ++v) row[v] = load(p + v * lanes);
}
template <int V>
WAVESTILL_INLINE void load_row(const std::uint16_t* p, Vector (&row)[V]) {
    static_assert(V % 2 == 0, "bfloat16 comes in pairs of vectors");
    WAVESTILL_UNROLL
    for (int v = 0; v < V; v += 2) load_pair(p + v * lanes, row[v], row[v + 1]);
}

// What a product multiplies: a few parts of equal length laid end to end, for each stream.
struct Inputs {
    const float* const* parts;
    int num_parts;
    std::ptrdiff_t stride;  // from stream to stream

    // Where its chains begin: at zero, or where another product left them.
    const float* start = nullptr;
    std::ptrdiff_t start_stride = 0;

    // What the next product multiplies. With many rows it is asked for line by line while this one
    // is at work: all at once would hold up the weights.
    const float* const* soon = nullptr;
};

// Asks for the vectors of a later row, beyond the ends of panels and layers too: what is read next
// lies behind what is read now, so that a layer's weights are on their way while it waits for its
// inputs. 3 KiB ahead is best where it was measured (2 to 4.5 alike, 6 slower; Zen 5).
template <int V, class Weight>
WAVESTILL_INLINE void prefetch_row(const Weight* p) {
    constexpr int ahead = 3072;
    WAVESTILL_UNROLL
    for (int byte = 0; byte < V * lanes * static_cast<int>(sizeof(Weight)); byte += 64)
        prefetch(reinterpret_cast<const char*>(p) + ahead + byte);
}

// Sums over `inputs` rows: P panels at once, of whose rows of W vectors V are taken, for S
// streams. `soon` is read soon after.
template <int P, int W, int V, int S, class Weight>
WAVESTILL_INLINE void accumulate(Vector (&sums)[P][S][V], const Weight* weights, std::size_t panel,
                                 const float* x, std::ptrdiff_t stride, int inputs,
                                 const float* soon) {
    for (int i = 0; i < inputs; ++i, weights += W * lanes) {
        Vector in[S];
        if constexpr (S >= 8) prefetch(soon + i * 16);
        WAVESTILL_UNROLL
        for (int s = 0; s < S; ++s) in[s] = broadcast(x[s * stride + i]);
        WAVESTILL_UNROLL
        for (int p = 0; p < P; ++p) {
            Vector row[V];
            prefetch_row<V>(weights + p * panel);
            load_row(weights + p * panel, row);
            WAVESTILL_UNROLL
            for (int v = 0; v < V; ++v) {
                WAVESTILL_UNROLL
                for (int s = 0; s < S; ++s)
                    sums[p][s][v] = multiply_add(row[v], in[s], sums[p][s][v]);
            }
        }
    }
}

// The vectors from `first` on of all outputs: P panels with rows of W vectors, V of each.
template <int P, int W, int V, int S, class Weight, class Emit>
WAVESTILL_INLINE void block(const Panels& panels, const Weight* weights, int panel_first,
                            int within, const Inputs& in, int stream, const Emit& emit) {
    const int first = panel_first + within;
    Vector sums[P][S][V];
    WAVESTILL_UNROLL
    for (int p = 0; p < P; ++p) {
        WAVESTILL_UNROLL
        for (int s = 0; s < S; ++s) {
            WAVESTILL_UNROLL
            for (int v = 0; v < V; ++v)
                sums[p][s][v] = in.start ? load(in.start + (stream + s) * in.start_stride +
                                                (first + p * W + v) * lanes)
                                         : broadcast(0.0f);
        }
    }
    const std::ptrdiff_t panel = static_cast<std::ptrdiff_t>(panels.inputs) * W * lanes;
    const int part_inputs = panels.inputs / in.num_parts;
    weights += static_cast<std::ptrdiff_t>(panels.inputs) * panel_first * lanes + within * lanes;
    for (int part = 0; part < in.num_parts; ++part) {
        accumulate<P, W, V, S>(sums, weights, panel, in.parts[part] + stream * in.stride,
                               in.stride, part_inputs, in.soon ? in.soon[part] : in.parts[part]);
        weights += static_cast<std::ptrdiff_t>(part_inputs) * W * lanes;
    }
    WAVESTILL_UNROLL
    for (int p = 0; p < P; ++p) {
        WAVESTILL_UNROLL
        for (int s = 0; s < S; ++s) emit(first + p * W, stream + s, sums[p][s]);
    }
}

// One panel. Many streams take half its vectors at a time, so that all their sums are in
// registers.
template <int S, class Weight, class Emit>
WAVESTILL_INLINE void columns(const Panels& panels, const Weight* weights, int first,
                              const Inputs& in, int stream, const Emit& emit) {
    const int width =
        panels.vectors - first < panel_vectors ? panels.vectors - first : panel_vectors;
    constexpr int at_once = S > 4 ? 2 : panel_vectors;
    if (width == panel_vectors)
        for (int v = 0; v < panel_vectors; v += at_once)
            block<1, panel_vectors, at_once, S>(panels, weights, first, v, in, stream, emit);
    else if (width == 2)
        block<1, 2, 2, S>(panels, weights, first, 0, in, stream, emit);
    else if constexpr (sizeof(Weight) == 4) {
        if (width == 3) {
            block<1, 3, 2, S>(panels, weights, first, 0, in, stream, emit);
            block<1, 3, 1, S>(panels, weights, first, 2, in, stream, emit);
        } else {
            block<1, 1, 1, S>(panels, weights, first, 0, in, stream, emit);
        }
    }
}

// Calls emit(vector, stream, sums) with a few vectors of outputs, beginning with number `vector`.
template <class Weight, class Emit>
void multiply(const Panels& panels, const Weight* arena, const Inputs& in, int streams,
              const Emit& emit) {
    const Weight* weights = arena + panels.offset;
    int first = 0;
    if (streams == 1)  // two panels at once: chains enough to hide a multiply-add's latency
        for (; first + 2 * panel_vectors <= panels.vectors; first += 2 * panel_vectors)
            block<2, panel_vectors, panel_vectors, 1>(panels, weights, first, 0, in, 0, emit);
    for (; first < panels.vectors; first += panel_vectors) {
        int stream = 0;
        if constexpr (streams_at_once >= 8)
            for (; streams - stream >= 8; stream += 8)
                columns<8>(panels, weights, first, in, stream, emit);
        if constexpr (streams_at_once >= 4)
            for (; streams - stream >= 4; stream += 4)
                columns<4>(panels, weights, first, in, stream, emit);
        for (; streams - stream >= 2; stream += 2)
            columns<2>(panels, weights, first, in, stream, emit);
        if (stream < streams) columns<1>(panels, weights, first, in, stream, emit);
    }
}

}  // namespace wavestill::WAVESTILL_SET
