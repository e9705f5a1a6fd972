// Holes of a mask: a flood from the border or from the first pixel, image by image. The reference is in ../fill_holes.py.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

namespace {

// Writes 0 where a 4-connected path of zeros leads to the start, 1 elsewhere. The start is pixel (0, 0) (kCorner) or the whole border.
// `queue` holds the pixels that are still to be spread from.
template <bool kCorner, typename scalar_t>
void flood(const scalar_t* mask, scalar_t* out, int64_t height, int64_t width, std::vector<int64_t>& queue) {
    std::fill(out, out + height * width, scalar_t(1));
    const auto visit = [&](int64_t pixel) {
        if (mask[pixel] == 0 && out[pixel] != 0) {
            out[pixel] = 0;
            queue.push_back(pixel);
        }
    };
    visit(0);
    for (int64_t x = 0; !kCorner && x < width; x++) {
        visit(x);
        visit((height - 1) * width + x);
    }
    for (int64_t y = 0; !kCorner && y < height; y++) {
        visit(y * width);
        visit(y * width + width - 1);
    }
    while (!queue.empty()) {
        const int64_t pixel = queue.back(), x = pixel % width;
        queue.pop_back();
        if (x > 0) visit(pixel - 1);
        if (x < width - 1) visit(pixel + 1);
        if (pixel >= width) visit(pixel - width);
        if (pixel < (height - 1) * width) visit(pixel + width);
    }
}

at::Tensor fill_holes(const at::Tensor& mask, bool corner) {
    TORCH_CHECK(mask.dim() == 4 && mask.size(1) == 1, "mask: expected [B, 1, H, W], got ", mask.sizes());
    const at::Tensor source = mask.contiguous();
    at::Tensor out = at::empty_like(source, at::MemoryFormat::Contiguous);
    const int64_t batch = mask.size(0), height = mask.size(2), width = mask.size(3), area = height * width;
    if (area == 0) return out;
    AT_DISPATCH_FLOATING_TYPES(mask.scalar_type(), "fill_holes", [&] {
        const scalar_t* from = source.const_data_ptr<scalar_t>();
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, batch, 1, [&](int64_t begin, int64_t end) {
            std::vector<int64_t> queue;
            for (int64_t b = begin; b < end; b++) {
                const auto spread = corner ? flood<true, scalar_t> : flood<false, scalar_t>;
                spread(from + b * area, to + b * area, height, width, queue);
            }
        });
    });
    return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(next3d, m) {
    m.def("fill_holes(Tensor mask, bool corner) -> Tensor");
}

TORCH_LIBRARY_IMPL(next3d, CPU, m) {
    m.impl("fill_holes", fill_holes);
}
