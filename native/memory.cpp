#include "memory.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace wavestill {

namespace {

constexpr std::size_t line = 64;
constexpr std::size_t huge_page = std::size_t{1} << 21;

void* allocate(std::size_t num_bytes, std::size_t alignment) {
#if defined(_WIN32)
    return _aligned_malloc(num_bytes, alignment);
#else
    return std::aligned_alloc(alignment, num_bytes);
#endif
}

}  // namespace

Memory::Memory(std::size_t num_bytes) {
    // Half a huge page or more is worth whole ones: weights are read through from end to end for
    // every sample, and with pages of 4 KiB that is a look-up of an address every 64 lines.
    const std::size_t unit = num_bytes >= huge_page / 2 ? huge_page : line;
    num_bytes_ = (num_bytes + unit - 1) / unit * unit;
    if (num_bytes_ == 0) return;
    data_ = allocate(num_bytes_, unit);
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (unit == huge_page) madvise(data_, num_bytes_, MADV_HUGEPAGE);  // a wish, not a need
#endif
    std::memset(data_, 0, num_bytes_);
}

Memory::~Memory() {
#if defined(_WIN32)
    _aligned_free(data_);
#else
    std::free(data_);
#endif
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), num_bytes_(std::exchange(other.num_bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(num_bytes_, other.num_bytes_);
    return *this;
}

}  // namespace wavestill
