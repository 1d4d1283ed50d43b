// Memory for weights and states: zeroed, aligned to cache lines, on huge pages where there are
// any.
#pragma once

#include <cstddef>

namespace wavestill {

class Memory {
public:
    Memory() = default;
    explicit Memory(std::size_t num_bytes);
    ~Memory();
    Memory(Memory&& other) noexcept;
    Memory& operator=(Memory&& other) noexcept;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    void* data() const { return data_; }
    std::size_t num_bytes() const { return num_bytes_; }

private:
    void* data_ = nullptr;
    std::size_t num_bytes_ = 0;
};

}  // namespace wavestill
