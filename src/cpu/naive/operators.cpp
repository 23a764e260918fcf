#include "cpu/naive/operators.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "core/neighbors.h"

namespace vicinal::cpu {
namespace {

/// A row of a tensor whose elements are T.
template <class T>
const T* row_at(const View& view, std::int64_t batch, const Token& token, std::int64_t head) {
  return static_cast<const T*>(view.data) + view.offset(batch, token[0], token[1], token[2], head);
}

template <class T>
void read_row(const View& view, std::int64_t batch, const Token& token, std::int64_t head, std::vector<T>& row) {
  read_elements(view.data, view.dtype, view.offset(batch, token[0], token[1], token[2], head), std::span<T>(row));
}

template <class T>
void write_row(const View& view, std::int64_t batch, const Token& token, std::int64_t head, const std::vector<T>& row) {
  write_elements(view.data, view.dtype, view.offset(batch, token[0], token[1], token[2], head),
                 std::span<const T>(row));
}

/// Calls body(batch, token) for every token of every batch entry, in parallel.
template <class Body>
void for_each_token(const Problem& grid, int threads, Body body) {
  const std::int64_t tokens = grid.tokens();
  parallel_for(grid.batch * tokens, threads,
               [&](std::int64_t item, int) { body(item / tokens, token_at(grid, item % tokens)); });
}

std::int64_t bias_offset(const BiasView& bias, std::int64_t head, const SlotRun& run) {
  return head * bias.head_stride + run.bias_entry[0] * bias.axis_stride[0] + run.bias_entry[1] * bias.axis_stride[1] +
         run.bias_entry[2] * bias.axis_stride[2];
}

std::vector<SlotRun> slot_runs(const Problem& grid, const Token& query) {
  std::vector<SlotRun> runs;
  for_each_slot_run(grid, query, [&](const SlotRun& run) { runs.push_back(run); });
  return runs;
}

/// The queries that attend to a key, along one axis.
struct AxisQueries {
  std::vector<std::int64_t> coordinates;
  std::vector<std::int64_t> slots;  // of the key in each query's window
};

AxisQueries queries_of(const Problem& grid, int axis, std::int64_t key) {
  const std::int64_t dilation = grid.dilation[axis];
  const std::int64_t group = key % dilation;
  const std::int64_t position = key / dilation;
  const AxisWindow window = axis_window(grid, axis, group);
  const Interval queries = window.queries_of(position);
  AxisQueries result;
  for (std::int64_t q = queries.begin; q < queries.end; ++q) {
    result.coordinates.push_back(group + dilation * q);
    result.slots.push_back(slot_of_key(window.keys_of(q), position));
  }
  return result;
}

// The sums of the bias gradient are split by tokens into this many parts, whatever the number of threads, and added up
// in order.
constexpr std::int64_t kMostBiasParts = 32;

std::int64_t bias_parts(const Problem& grid) {
  return std::clamp<std::int64_t>(grid.batch * grid.tokens(), 1, kMostBiasParts);
}

}  // namespace

template <class T>
void pointwise_neighborhood(const Problem& grid, const PointwiseNeighborhoodViews& t, int threads) {
  const auto scale = static_cast<T>(grid.effective_scale());
  const T masked = t.masked == MaskedScore::zero ? T{} : -std::numeric_limits<T>::infinity();
  const std::int64_t window = window_slots(grid).size();
  const std::int64_t share = grid.heads / grid.heads_kv;
  const std::int64_t step = grid.dilation[2] * t.key.axis_stride[2];
  for_each_token(grid, threads, [&](std::int64_t batch, const Token& token) {
    const std::vector<SlotRun> runs = slot_runs(grid, token);
    std::vector<T> query(grid.dim), weights(slots_per_query(grid));
    for (std::int64_t head = 0; head < grid.heads; ++head) {
      read_row(t.query, batch, token, head, query);
      std::fill_n(weights.begin(), window, masked);
      for (const SlotRun& run : runs) {
        const T* key = row_at<T>(t.key, batch, run.key, head / share);
        T* weight = weights.data() + run.slot;
        for (std::int64_t k = 0; k < run.count; ++k) weight[k] = scale * dot(query.data(), key + k * step, grid.dim);
        if (!t.bias) continue;
        const std::int64_t bias = bias_offset(t.bias, head, run);
        for (std::int64_t k = 0; k < run.count; ++k) {
          weight[k] += read_number<T>(t.bias.data, t.bias.dtype, bias + k * t.bias.axis_stride[2]);
        }
      }
      for (std::int64_t n = 0; n < grid.extra_kv; ++n) {
        weights[window + n] =
            scale * dot(query.data(), row_at<T>(t.extra_key, batch, {0, 0, n}, head / share), grid.dim);
      }
      write_row(t.weights, batch, token, head, weights);
    }
  });
}

template <class T>
void neighborhood_neighborhood(const Problem& grid, const NeighborhoodNeighborhoodViews& t, int threads) {
  const auto scale = static_cast<T>(grid.effective_scale());
  const std::int64_t window = window_slots(grid).size();
  const std::int64_t share = grid.heads / grid.heads_kv;
  const std::int64_t step = grid.dilation[2] * t.value.axis_stride[2];
  for_each_token(grid, threads, [&](std::int64_t batch, const Token& token) {
    const std::vector<SlotRun> runs = slot_runs(grid, token);
    std::vector<T> weights(slots_per_query(grid)), output(grid.dim);
    for (std::int64_t head = 0; head < grid.heads; ++head) {
      read_row(t.weights, batch, token, head, weights);
      std::fill(output.begin(), output.end(), T{});
      for (const SlotRun& run : runs) {
        const T* value = row_at<T>(t.value, batch, run.key, head / share);
        for (std::int64_t k = 0; k < run.count; ++k) {
          add_scaled(output.data(), weights[run.slot + k], value + k * step, grid.dim);
        }
      }
      for (std::int64_t n = 0; n < grid.extra_kv; ++n) {
        add_scaled(output.data(), weights[window + n], row_at<T>(t.extra_value, batch, {0, 0, n}, head / share),
                   grid.dim);
      }
      for (T& element : output) element *= scale;
      write_row(t.output, batch, token, head, output);
    }
  });
}

template <class T>
void inverse_neighborhood(const Problem& grid, const InverseNeighborhoodViews& t, int threads) {
  const auto scale = static_cast<T>(grid.effective_scale());
  const SlotGrid slots = window_slots(grid);
  const std::int64_t share = grid.heads / grid.heads_kv;
  // Adds what the query at a place gives to the key of its slot `slot`.
  const auto add_query = [&](std::vector<T>& sum, std::int64_t batch, const Token& query, std::int64_t head,
                             std::int64_t slot) {
    const std::int64_t at = t.weights.offset(batch, query[0], query[1], query[2], head) + slot;
    const T weight = read_number<T>(t.weights.data, t.weights.dtype, at);
    add_scaled(sum.data(), weight, row_at<T>(t.grad_output, batch, query, head), grid.dim);
  };
  const auto write_sum = [&](const View& view, std::int64_t batch, const Token& token, std::int64_t head,
                             std::vector<T>& sum) {
    for (T& element : sum) element *= scale;
    write_row(view, batch, token, head, sum);
  };

  for_each_token(grid, threads, [&](std::int64_t batch, const Token& token) {
    const std::array queries{queries_of(grid, 0, token[0]), queries_of(grid, 1, token[1]),
                             queries_of(grid, 2, token[2])};
    const auto& [x, y, z] = queries;
    std::vector<T> sum(grid.dim);
    for (std::int64_t head_kv = 0; head_kv < grid.heads_kv; ++head_kv) {
      std::fill(sum.begin(), sum.end(), T{});
      for (std::int64_t head = head_kv * share; head < (head_kv + 1) * share; ++head) {
        for (std::size_t i = 0; i < x.slots.size(); ++i) {
          for (std::size_t j = 0; j < y.slots.size(); ++j) {
            for (std::size_t k = 0; k < z.slots.size(); ++k) {
              const Token query{x.coordinates[i], y.coordinates[j], z.coordinates[k]};
              add_query(sum, batch, query, head, slots.flat(x.slots[i], y.slots[j], z.slots[k]));
            }
          }
        }
      }
      write_sum(t.grad_value, batch, token, head_kv, sum);
    }
  });

  parallel_for(grid.batch * grid.extra_kv * grid.heads_kv, threads, [&](std::int64_t item, int) {
    const std::int64_t batch = item / (grid.extra_kv * grid.heads_kv);
    const std::int64_t n = item / grid.heads_kv % grid.extra_kv;
    const std::int64_t head_kv = item % grid.heads_kv;
    std::vector<T> sum(grid.dim);
    for (std::int64_t head = head_kv * share; head < (head_kv + 1) * share; ++head) {
      for (std::int64_t i = 0; i < grid.tokens(); ++i) {
        add_query(sum, batch, token_at(grid, i), head, slots.size() + n);
      }
    }
    write_sum(t.grad_extra_value, batch, {0, 0, n}, head_kv, sum);
  });
}

template void pointwise_neighborhood<float>(const Problem&, const PointwiseNeighborhoodViews&, int);
template void pointwise_neighborhood<double>(const Problem&, const PointwiseNeighborhoodViews&, int);
template void neighborhood_neighborhood<float>(const Problem&, const NeighborhoodNeighborhoodViews&, int);
template void neighborhood_neighborhood<double>(const Problem&, const NeighborhoodNeighborhoodViews&, int);
template void inverse_neighborhood<float>(const Problem&, const InverseNeighborhoodViews&, int);
template void inverse_neighborhood<double>(const Problem&, const InverseNeighborhoodViews&, int);

void run_pointwise_neighborhood(const Problem& grid, const Tiling& /*tiling*/,
                                const PointwiseNeighborhoodViews& tensors, const Execution& execution) {
  Parts parts(execution.workspace);
  const Extents keys = key_extents(grid, grid.dim), extras = extra_extents(grid, grid.dim);
  PointwiseNeighborhoodViews t = tensors;
  t.key = in_numbers(t.key, keys, take_copy(parts, grid, keys), execution.threads);
  t.extra_key = in_numbers(t.extra_key, extras, take_copy(parts, grid, extras), execution.threads);
  with_number_type(grid.dtype, [&]<class T>(T) { pointwise_neighborhood<T>(grid, t, execution.threads); });
}

void run_neighborhood_neighborhood(const Problem& grid, const Tiling& /*tiling*/,
                                   const NeighborhoodNeighborhoodViews& tensors, const Execution& execution) {
  Parts parts(execution.workspace);
  const Extents keys = key_extents(grid, grid.dim), extras = extra_extents(grid, grid.dim);
  NeighborhoodNeighborhoodViews t = tensors;
  t.value = in_numbers(t.value, keys, take_copy(parts, grid, keys), execution.threads);
  t.extra_value = in_numbers(t.extra_value, extras, take_copy(parts, grid, extras), execution.threads);
  with_number_type(grid.dtype, [&]<class T>(T) { neighborhood_neighborhood<T>(grid, t, execution.threads); });
}

std::size_t key_rows_workspace(const Problem& grid, const Tiling& /*tiling*/) {
  Parts parts(nullptr);
  take_copy(parts, grid, key_extents(grid, grid.dim));
  take_copy(parts, grid, extra_extents(grid, grid.dim));
  return parts.bytes();
}

void run_inverse_neighborhood(const Problem& grid, const Tiling& /*tiling*/, const InverseNeighborhoodViews& tensors,
                              const Execution& execution) {
  Parts parts(execution.workspace);
  const Extents queries = query_extents(grid, grid.dim);
  InverseNeighborhoodViews t = tensors;
  t.grad_output = in_numbers(t.grad_output, queries, take_copy(parts, grid, queries), execution.threads);
  with_number_type(grid.dtype, [&]<class T>(T) { inverse_neighborhood<T>(grid, t, execution.threads); });
}

std::size_t query_rows_workspace(const Problem& grid, const Tiling& /*tiling*/) {
  Parts parts(nullptr);
  take_copy(parts, grid, query_extents(grid, grid.dim));
  return parts.bytes();
}

// Sums are in float64 for every dtype: they have as many terms as there are tokens.
void run_bias_gradient(const Problem& grid, const Tiling& /*tiling*/, const BiasGradientViews& t,
                       const Execution& execution) {
  const SlotGrid entries = bias_entries(grid);
  const std::int64_t parts = bias_parts(grid);
  const std::int64_t tokens = grid.batch * grid.tokens();
  auto* sums = static_cast<double*>(execution.workspace);  // [heads, parts, entries]
  parallel_for(grid.heads * parts, execution.threads, [&](std::int64_t item, int) {
    const std::int64_t head = item / parts;
    const std::int64_t part = item % parts;
    double* sum = sums + item * entries.size();
    std::fill_n(sum, entries.size(), 0.0);
    std::vector<double> weights(slots_per_query(grid));
    for (std::int64_t i = tokens * part / parts; i < tokens * (part + 1) / parts; ++i) {
      const Token token = token_at(grid, i % grid.tokens());
      read_row(t.grad_weights, i / grid.tokens(), token, head, weights);
      for_each_slot_run(grid, token, [&](const SlotRun& run) {
        double* entry = sum + entries.flat(run.bias_entry[0], run.bias_entry[1], run.bias_entry[2]);
        for (std::int64_t k = 0; k < run.count; ++k) entry[k] += weights[run.slot + k];
      });
    }
  });
  parallel_for(grid.heads, execution.threads, [&](std::int64_t head, int) {
    double* total = sums + head * parts * entries.size();
    for (std::int64_t part = 1; part < parts; ++part) {
      add_scaled(total, 1.0, total + part * entries.size(), entries.size());
    }
    for (std::int64_t i = 0; i < entries.extent[0]; ++i) {
      for (std::int64_t j = 0; j < entries.extent[1]; ++j) {
        for (std::int64_t k = 0; k < entries.extent[2]; ++k) {
          const std::int64_t at = head * t.grad_bias.head_stride + i * t.grad_bias.axis_stride[0] +
                                  j * t.grad_bias.axis_stride[1] + k * t.grad_bias.axis_stride[2];
          write_elements(t.grad_bias.data, t.grad_bias.dtype, at,
                         std::span<const double>(total + entries.flat(i, j, k), 1));
        }
      }
    }
  });
}

std::size_t bias_gradient_workspace(const Problem& grid, const Tiling& /*tiling*/) {
  return sizeof(double) * static_cast<std::size_t>(grid.heads * bias_parts(grid) * bias_entries(grid).size());
}

}  // namespace vicinal::cpu
