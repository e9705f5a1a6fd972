// Loops over the channels of a pixel: short, so that they are compiled for the usual counts.

#pragma once

#include <cstdint>
#include <type_traits>

namespace next3d {

// Calls function(count) with a constant for the usual counts, so that loops up to it are unrolled, else with the number itself.
template <typename Function>
void with_count(int64_t count, const Function& function) {
    switch (count) {
        case 8: return function(std::integral_constant<int64_t, 8>());
        case 12: return function(std::integral_constant<int64_t, 12>());
        case 16: return function(std::integral_constant<int64_t, 16>());
        case 32: return function(std::integral_constant<int64_t, 32>());
        case 64: return function(std::integral_constant<int64_t, 64>());
        default: return function(count);
    }
}

}  // namespace next3d
