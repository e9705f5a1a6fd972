// Rasterisation on the CPU. Conventions and the reference are in ../rasterize.py; every floating-point operation that decides or is
// returned is done here in the same order and in double precision, so that both give the same bits (no fused multiply-add: see the flags).

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <tuple>
#include <vector>

namespace {

constexpr double kNear = 1e-6;       // as NEAR in rasterize.py
constexpr double kBoxMargin = 1e-6;  // as BOX_MARGIN in rasterize.py
constexpr int64_t kPixelsPerBand = 1 << 16;  // larger images are split into bands of rows, so that threads share one view

struct Task {
    int64_t vertices, triangles, height, width;
    bool perspective, keep_front, keep_back;
    const int64_t* faces;                    // [triangles, 3]
    std::vector<double> column_x, row_y;     // pixel centres
};

// A vertex in the image, with the range of pixel centres that a triangle could reach from it: centres >= its place and <= its place.
struct Vertex {
    double x, y, z;
    int32_t column_ceil, column_floor, row_ceil, row_floor;
    bool usable;
};

double place(double coordinate, int64_t pixels) {
    return std::clamp(((coordinate + 1) * static_cast<double>(pixels) - 1) / 2, -1.0, static_cast<double>(pixels));
}

template <typename scalar_t>
Vertex load_vertex(const scalar_t* p, const Task& task) {
    Vertex v{};
    v.x = p[0], v.y = p[1], v.z = p[2];
    v.usable = std::isfinite(v.x) && std::isfinite(v.y) && std::isfinite(v.z) && !(task.perspective && v.z <= kNear);
    if (!v.usable) return v;
    const double column = place(v.x, task.width), row = place(v.y, task.height);
    v.column_ceil = static_cast<int32_t>(std::ceil(column - kBoxMargin));
    v.column_floor = static_cast<int32_t>(std::floor(column + kBoxMargin));
    v.row_ceil = static_cast<int32_t>(std::ceil(row - kBoxMargin));
    v.row_floor = static_cast<int32_t>(std::floor(row + kBoxMargin));
    return v;
}

// Draws one triangle into rows [first_row, last_row] of one image. Nearest wins; triangles come in order, so ties keep the earlier one.
template <typename scalar_t>
void draw(const Task& task, const Vertex& a, const Vertex& b, const Vertex& c, int64_t index, int32_t first_row, int32_t last_row,
          int64_t* face, scalar_t* weights, scalar_t* depth) {
    const int32_t left = std::max(std::min({a.column_ceil, b.column_ceil, c.column_ceil}), 0);
    const int32_t right = std::min(std::max({a.column_floor, b.column_floor, c.column_floor}), static_cast<int32_t>(task.width) - 1);
    const int32_t top = std::max(std::min({a.row_ceil, b.row_ceil, c.row_ceil}), first_row);
    const int32_t bottom = std::min(std::max({a.row_floor, b.row_floor, c.row_floor}), last_row);
    for (int32_t row = top; row <= bottom; row++) {
        const double cy = task.row_y[row], y0 = a.y - cy, y1 = b.y - cy, y2 = c.y - cy;
        for (int32_t column = left; column <= right; column++) {
            const double cx = task.column_x[column], x0 = a.x - cx, x1 = b.x - cx, x2 = c.x - cx;
            const double e0 = x1 * y2 - y1 * x2, e1 = x2 * y0 - y2 * x0, e2 = x0 * y1 - y0 * x1;
            const double area = (e0 + e1) + e2;
            const bool front = task.keep_front && e0 <= 0 && e1 <= 0 && e2 <= 0 && area < 0;
            const bool back = task.keep_back && e0 >= 0 && e1 >= 0 && e2 >= 0 && area > 0;
            if (!front && !back) continue;
            double w0 = e0 / area, w1 = e1 / area, w2 = e2 / area, z;
            if (task.perspective) {
                w0 = w0 / a.z, w1 = w1 / b.z, w2 = w2 / c.z;
                z = 1 / ((w0 + w1) + w2);
                w0 *= z, w1 *= z, w2 *= z;
            } else {
                z = (w0 * a.z + w1 * b.z) + w2 * c.z;
            }
            const int64_t pixel = row * task.width + column;
            if (static_cast<scalar_t>(z) < depth[pixel]) {
                depth[pixel] = static_cast<scalar_t>(z);
                face[pixel] = index;
                weights[3 * pixel] = static_cast<scalar_t>(w0);
                weights[3 * pixel + 1] = static_cast<scalar_t>(w1);
                weights[3 * pixel + 2] = static_cast<scalar_t>(w2);
            }
        }
    }
}

template <typename scalar_t>
void draw_mesh(const Task& task, const std::vector<Vertex>& vertices, int64_t first_row, int64_t last_row, int64_t* face,
               scalar_t* weights, scalar_t* depth) {
    const int64_t begin = first_row * task.width, end = (last_row + 1) * task.width;
    std::fill(face + begin, face + end, int64_t(-1));
    std::fill(weights + 3 * begin, weights + 3 * end, scalar_t(0));
    std::fill(depth + begin, depth + end, std::numeric_limits<scalar_t>::infinity());
    for (int64_t t = 0; t < task.triangles; t++) {
        const Vertex &a = vertices[task.faces[3 * t]], &b = vertices[task.faces[3 * t + 1]], &c = vertices[task.faces[3 * t + 2]];
        if (a.usable && b.usable && c.usable) {
            draw(task, a, b, c, t, static_cast<int32_t>(first_row), static_cast<int32_t>(last_row), face, weights, depth);
        }
    }
}

std::vector<double> pixel_centers(int64_t count) {
    std::vector<double> centers(count);
    for (int64_t i = 0; i < count; i++) centers[i] = static_cast<double>(2 * i + 1) / static_cast<double>(count) - 1;
    return centers;
}

void check(const at::Tensor& points, const at::Tensor& faces, int64_t height, int64_t width, std::string_view cull) {
    TORCH_CHECK(points.dim() == 3 && points.size(2) == 3, "points: expected [B, V, 3], got ", points.sizes());
    TORCH_CHECK(faces.dim() == 2 && faces.size(1) == 3, "faces: expected [F, 3], got ", faces.sizes());
    TORCH_CHECK(faces.scalar_type() == at::kLong, "faces: expected int64, got ", faces.scalar_type());
    TORCH_CHECK(height > 0 && width > 0 && height < (1 << 20) && width < (1 << 20), "size: expected 1 to 2^20, got ", height, " x ", width);
    TORCH_CHECK(cull == "none" || cull == "back" || cull == "front", "cull: expected 'none', 'back' or 'front', got '", cull, "'");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> rasterize(const at::Tensor& points, const at::Tensor& faces, int64_t height,
                                                         int64_t width, bool perspective, c10::string_view cull) {
    check(points, faces, height, width, std::string_view(cull.data(), cull.size()));
    const at::Tensor positions = points.contiguous(), triangles = faces.contiguous();
    const int64_t batch = points.size(0), area = height * width;
    Task task{points.size(1), faces.size(0), height, width, perspective, cull != "front", cull != "back",
              triangles.const_data_ptr<int64_t>(), pixel_centers(width), pixel_centers(height)};
    for (int64_t i = 0; i < 3 * task.triangles; i++) {
        TORCH_CHECK_VALUE(task.faces[i] >= 0 && task.faces[i] < task.vertices, "faces: corner ", task.faces[i], ", expected [0, ", task.vertices, ")");
    }

    at::Tensor face = at::empty({batch, height, width}, faces.options());
    at::Tensor weights = at::empty({batch, height, width, 3}, points.options());
    at::Tensor depth = at::empty({batch, height, width}, points.options());
    const int64_t bands = std::clamp<int64_t>(area / kPixelsPerBand, 1, height);
    AT_DISPATCH_FLOATING_TYPES(points.scalar_type(), "rasterize", [&] {
        const scalar_t* from = positions.const_data_ptr<scalar_t>();
        int64_t* to_face = face.mutable_data_ptr<int64_t>();
        scalar_t* to_weights = weights.mutable_data_ptr<scalar_t>();
        scalar_t* to_depth = depth.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, batch * bands, 1, [&](int64_t begin, int64_t end) {
            std::vector<Vertex> vertices(task.vertices);
            int64_t loaded = -1;
            for (int64_t job = begin; job < end; job++) {
                const int64_t b = job / bands, band = job % bands;
                if (b != loaded) {
                    for (int64_t v = 0; v < task.vertices; v++) vertices[v] = load_vertex(from + 3 * (b * task.vertices + v), task);
                    loaded = b;
                }
                draw_mesh(task, vertices, band * height / bands, (band + 1) * height / bands - 1, to_face + b * area,
                          to_weights + 3 * b * area, to_depth + b * area);
            }
        });
    });
    return {face, weights, depth};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(next3d, m) {
    m.def("rasterize(Tensor points, Tensor faces, SymInt height, SymInt width, bool perspective, str cull) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(next3d, CPU, m) {
    m.impl("rasterize", rasterize);
}
