// Products of many rows with one matrix, a tile of sums in registers at a time.
//
// The matrix lies in panels of a few vectors of columns; a panel stays in the first-level cache
// while all rows of a block pass it.
#pragma once

#include <type_traits>

#include "factors.hpp"
#include "memory.hpp"
#include "panels.hpp"

namespace wavestill::WAVESTILL_SET {

// Columns of a tile in vectors, and rows: sums, one row of weights and one word in the registers.
#if defined(WAVESTILL_USE_AVX512) || defined(WAVESTILL_USE_NEON)
constexpr int tile_vectors = 4;
#else
constexpr int tile_vectors = 2;
#endif
constexpr int tile_rows = 6;
constexpr int tile_columns = tile_vectors * lanes;

// A matrix of `inputs` by columns, the inputs padded to whole words, the columns to whole panels.
template <class Element>
class TilePanels {
public:
    TilePanels() = default;

    // Packs rows `order(column)` of a matrix of torch's layout as columns; -1 stands for zeros.
    template <class Order>
    TilePanels(const LinearArrays& linear, int columns, Order order)
        : words_((linear.inputs + word - 1) / word),
          panels_((columns + tile_columns - 1) / tile_columns),
          memory_(static_cast<std::size_t>(panels_) * panel_size() * sizeof(Element)) {
        auto* out = static_cast<Element*>(memory_.data());
        for (int p = 0; p < panels_; ++p)
            for (int w = 0; w < words_; ++w)
                for (int c = 0; c < tile_columns; ++c)
                    for (int k = 0; k < word; ++k, ++out) {
                        const int row = order(p * tile_columns + c), input = w * word + k;
                        const std::ptrdiff_t at = std::ptrdiff_t{row} * linear.inputs + input;
                        const bool is_there = row >= 0 && input < linear.inputs;
                        *out = to_element(is_there ? linear.weight[at] : 0.0f, out);
                    }
    }

    int words() const { return words_; }
    int panels() const { return panels_; }
    const Element* panel(int p) const {
        return static_cast<const Element*>(memory_.data()) + p * panel_size();
    }

private:
    static constexpr int word = Factor<Element>::inputs;
    std::size_t panel_size() const {
        return static_cast<std::size_t>(words_) * tile_columns * word;
    }

    int words_ = 0, panels_ = 0;
    Memory memory_;
};

// Rows of activations: a word's row, and where the parts of what is multiplied lie from it.
template <class Element>
struct TileInputs {
    const Element* first;
    std::ptrdiff_t stride;       // from row to row
    int num_parts = 1;           // of equal length, laid end to end
    std::ptrdiff_t part_stride = 0;
};

// sums[m][v] += rows m of the inputs times the panel.
template <int M, class Element>
WAVESTILL_INLINE void accumulate_tile(Vector (&sums)[M][tile_vectors], const Element* weights,
                                      int words, const TileInputs<Element>& in) {
    constexpr int word = Factor<Element>::inputs;
    const int part_words = words / in.num_parts;
    for (int part = 0; part < in.num_parts; ++part) {
        const Element* x = in.first + part * in.part_stride;
        for (int w = 0; w < part_words; ++w, x += word, weights += tile_columns * word) {
            Factor<Element> row[tile_vectors];
            WAVESTILL_UNROLL
            for (int v = 0; v < tile_vectors; ++v)
                row[v] = load_factor(weights + v * lanes * word);
            WAVESTILL_UNROLL
            for (int m = 0; m < M; ++m) {
                const Factor<Element> input = spread_word(x + m * in.stride);
                WAVESTILL_UNROLL
                for (int v = 0; v < tile_vectors; ++v)
                    sums[m][v] = multiply_add(row[v], input, sums[m][v]);
            }
        }
    }
}

// The same from `begins[m]` on, into rows of memory. On its own: in one function with what is made
// of the sums, compilers keep that one's constants in the registers and the sums out of them.
template <int M, class Element>
WAVESTILL_APART void tile_sums(const float* const (&begins)[M], const Element* weights, int words,
                               const TileInputs<Element>& in, float* out, std::ptrdiff_t stride) {
    Vector sums[M][tile_vectors];
    WAVESTILL_UNROLL
    for (int m = 0; m < M; ++m) load_row(begins[m], sums[m]);
    accumulate_tile(sums, weights, words, in);
    WAVESTILL_UNROLL
    for (int m = 0; m < M; ++m) store_elements(out + m * stride, sums[m]);
}

// Calls work(M, first) for all rows, M (a constant) of them from `first` on.
template <class Work>
WAVESTILL_INLINE void in_tiles(int rows, const Work& work) {
    int first = 0;
    for (; rows - first >= tile_rows; first += tile_rows)
        work(std::integral_constant<int, tile_rows>{}, first);
    for (; rows - first >= 2; first += 2) work(std::integral_constant<int, 2>{}, first);
    if (first < rows) work(std::integral_constant<int, 1>{}, first);
}

}  // namespace wavestill::WAVESTILL_SET
