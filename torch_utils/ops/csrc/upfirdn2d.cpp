// Resampling with a separable filter on the CPU: rows first, then columns, one output row at a time. The reference is in ../upfirdn2d.py.
//
// Along each axis out[i] = sum over j of x[j] * filter[j * up + pad - i * down], with zeros outside of x and of the filter. The gradient
// is of the same form: up and down change places, the filter is flipped, pad becomes taps - 1 - pad.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <type_traits>
#include <vector>

namespace {

struct Axis {
    int64_t in, out, up, down, pad;
};

// The smallest integer >= a / b for b > 0.
int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -((-a) / b); }

// Range [begin, end) of inputs that reach output i through `taps` taps; may exceed the image.
struct Reach {
    int64_t begin, end;
    Reach(const Axis& axis, int64_t taps, int64_t i)
        : begin(ceil_div(i * axis.down - axis.pad, axis.up)), end(ceil_div(i * axis.down - axis.pad + taps, axis.up)) {}
};

constexpr int64_t kTogether = 4;  // taps whose sum is taken in one pass

// out[m] = (out[m] if kAdd) + sum over k of factors[k] * in[k][m * stride], for m < count.
template <int kTaps, bool kAdd, typename scalar_t>
void combine(const scalar_t* const* in, const scalar_t* factors, int64_t stride, int64_t count, scalar_t* out) {
    const auto loop = [&](auto step) {
        const scalar_t *a = in[0], *b = in[kTaps > 1], *c = in[kTaps > 2 ? 2 : 0], *d = in[kTaps > 3 ? 3 : 0];
        const scalar_t fa = factors[0], fb = factors[kTaps > 1], fc = factors[kTaps > 2 ? 2 : 0], fd = factors[kTaps > 3 ? 3 : 0];
#pragma omp simd
        for (int64_t m = 0; m < count; m++) {
            const int64_t i = m * step;
            scalar_t sum = fa * a[i];
            if constexpr (kTaps > 1) sum += fb * b[i];
            if constexpr (kTaps > 2) sum += fc * c[i];
            if constexpr (kTaps > 3) sum += fd * d[i];
            out[m] = kAdd ? out[m] + sum : sum;
        }
    };
    if (stride == 1) return loop(std::integral_constant<int64_t, 1>());
    if (stride == 2) return loop(std::integral_constant<int64_t, 2>());
    loop(stride);
}

// Collects taps and their inputs, and sums them up a few at a time.
template <typename scalar_t>
class Sum {
public:
    Sum(int64_t stride, int64_t count, scalar_t* out) : stride_(stride), count_(count), out_(out) {}

    void add(const scalar_t* in, scalar_t factor) {
        if (held_ == kTogether) flush();
        in_[held_] = in;
        factors_[held_++] = factor;
    }

    void finish() {
        if (held_ > 0) flush();
        if (!written_) std::fill(out_, out_ + count_, scalar_t(0));
    }

private:
    void flush() {
        switch (held_) {
            case 1: apply<1>(); break;
            case 2: apply<2>(); break;
            case 3: apply<3>(); break;
            default: apply<4>();
        }
        held_ = 0;
        written_ = true;
    }

    template <int kTaps>
    void apply() {
        if (written_) return combine<kTaps, true>(in_, factors_, stride_, count_, out_);
        combine<kTaps, false>(in_, factors_, stride_, count_, out_);
    }

    int64_t stride_, count_;
    scalar_t* out_;
    const scalar_t* in_[kTogether];
    scalar_t factors_[kTogether];
    int held_ = 0;
    bool written_ = false;
};

template <typename scalar_t>
struct Filter {
    const std::vector<scalar_t> taps;
    const Axis rows, columns;
    const int64_t count = static_cast<int64_t>(taps.size());
    // A row is kept with `margin` zeros before it and as many as needed after it, so that no tap reads outside of it.
    const int64_t margin = std::max<int64_t>(0, -Reach(columns, count, 0).begin);
    const int64_t length = margin + std::max(columns.in, Reach(columns, count, columns.out + columns.up - 1).end) + columns.down;
    const int64_t outputs = ceil_div(columns.out, columns.up);  // of the first phase, which has the most

    // One image: in [rows.in, columns.in], out [rows.out, columns.out]. Work space: row [length], zeros; phases [up * outputs].
    void run(const scalar_t* in, scalar_t* out, scalar_t* row, scalar_t* phases) const {
        for (int64_t i = 0; i < rows.out; i++) {
            Sum<scalar_t> sum(1, columns.in, row + margin);
            const Reach reach(rows, count, i);
            for (int64_t j = std::max<int64_t>(reach.begin, 0); j < std::min(reach.end, rows.in); j++) {
                sum.add(in + j * columns.in, taps[j * rows.up + rows.pad - i * rows.down]);
            }
            sum.finish();
            along(row + margin, out + i * columns.out, phases);
        }
    }

    // Every `up`-th output uses the same taps, so these are computed together, a phase at a time, and interleaved.
    void along(const scalar_t* row, scalar_t* out, scalar_t* phases) const {
        for (int64_t phase = 0; phase < columns.up; phase++) {
            scalar_t* to = columns.up == 1 ? out : phases + phase * outputs;
            Sum<scalar_t> sum(columns.down, columns.up == 1 ? columns.out : outputs, to);
            const Reach reach(columns, count, phase);
            for (int64_t j = reach.begin; j < reach.end; j++) {
                sum.add(row + j, taps[j * columns.up + columns.pad - phase * columns.down]);
            }
            sum.finish();
        }
        if (columns.up == 2) {
            for (int64_t m = 0; m < columns.out / 2; m++) {
                out[2 * m] = phases[m];
                out[2 * m + 1] = phases[outputs + m];
            }
            if (columns.out % 2) out[columns.out - 1] = phases[outputs - 1];
        } else if (columns.up > 2) {
            for (int64_t i = 0; i < columns.out; i++) out[i] = phases[i % columns.up * outputs + i / columns.up];
        }
    }
};

at::Tensor upfirdn2d(const at::Tensor& x, at::ArrayRef<double> taps, int64_t up, int64_t down, int64_t pad, int64_t height, int64_t width) {
    TORCH_CHECK(x.dim() == 4, "x: expected [N, C, H, W], got ", x.sizes());
    TORCH_CHECK(!taps.empty() && up > 0 && down > 0 && height >= 0 && width >= 0, "upfirdn2d: taps, up, down and size must be positive");
    const at::Tensor source = x.contiguous();
    at::Tensor out = at::empty({x.size(0), x.size(1), height, width}, source.options());
    const int64_t images = x.size(0) * x.size(1), area = x.size(2) * x.size(3);
    if (out.numel() == 0) return out;
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "upfirdn2d", [&] {
        const Filter<scalar_t> filter{{taps.begin(), taps.end()}, {x.size(2), height, up, down, pad}, {x.size(3), width, up, down, pad}};
        const scalar_t* from = source.const_data_ptr<scalar_t>();
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, images, std::max<int64_t>(1, 16384 / (height * width)), [&](int64_t begin, int64_t end) {
            std::vector<scalar_t> row(filter.length, scalar_t(0)), phases(up * filter.outputs);
            for (int64_t i = begin; i < end; i++) filter.run(from + i * area, to + i * height * width, row.data(), phases.data());
        });
    });
    return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(next3d, m) {
    m.def("upfirdn2d(Tensor x, float[] taps, int up, int down, int pad, SymInt height, SymInt width) -> Tensor");
}

TORCH_LIBRARY_IMPL(next3d, CPU, m) {
    m.impl("upfirdn2d", upfirdn2d);
}
