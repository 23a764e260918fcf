#include "cuda/fused_sm90/spans.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <type_traits>

namespace vicinal::cuda::sm90 {
namespace {

constexpr int kNever = std::numeric_limits<int>::max();

/// x / y rounded down or up, for whole numbers and a `reciprocal` of y: half of a unit in the numerator is more than
/// all rounding, up to 2^29 in doubles and 2^21 in floats.
template <class Real>
std::int32_t quotient(std::type_identity_t<Real> x, Real reciprocal) {
  return static_cast<std::int32_t>((x + Real{0.5}) * reciprocal);
}
template <class Real>
std::int32_t quotient_up(std::type_identity_t<Real> x, Real reciprocal) {
  return static_cast<std::int32_t>((x - Real{0.5}) * reciprocal + 1);
}

}  // namespace

Work& Work::operator*=(const Work& other) {
  items *= other.items;
  loaded *= other.loaded;
  visited *= other.visited;
  unmasked *= other.unmasked;
  axes += other.axes;
  longest *= other.longest;
  rows *= other.rows;
  copies *= other.copies;
  return *this;
}

Spans::Spans(const Problem& grid, RowKind rows, const PerAxis<int>& most_blocks)
    : rows_(rows), most_blocks_(most_blocks), dilation_(grid.dilation) {
  for (int a = 0; a < 3; ++a) {
    const std::int64_t dilation = grid.dilation[a];
    const std::int64_t larger_groups = grid.layout[a] % dilation;
    axes_[a][0] = groups_of(grid, a, dilation - 1, dilation - larger_groups);
    if (larger_groups > 0) axes_[a][1] = groups_of(grid, a, 0, larger_groups);
  }
}

Spans::Groups Spans::groups_of(const Problem& grid, int axis, std::int64_t group, std::int64_t count) const {
  const auto members = static_cast<int>(group_members(grid.layout[axis], grid.dilation[axis], group));
  const auto window = static_cast<int>(grid.window[axis]);
  const auto stride = static_cast<int>(grid.stride[axis]);
  const bool causal = grid.causal[axis];
  Groups groups{{members, window, Divisor<int>(stride), causal}, static_cast<double>(count), 0, 0, false};
  if (rows_ == RowKind::keys) {
    groups.middle_begin = causal ? 0 : std::min(window, members - window);
    groups.middle_end = causal ? members - window : std::max(window, members - window);
  } else if (causal) {
    groups.middle_begin = window / stride * stride;
    groups.middle_end = members / stride * stride;  // behind it less than a run shares a leader
  } else {
    // Leaders up to window / 2 see the first keys, those from `latest` on the last keys.
    const int half = window / 2;
    const int latest = std::max(members - window + half - stride / 2, 0);
    groups.middle_begin = ((half - stride / 2) / stride + 1) * stride;
    groups.middle_end = std::max(groups.middle_begin, (latest + stride - 1) / stride * stride);
    groups.borders_are_one = true;
  }
  return groups;
}

double Spans::blocks(int axis, std::int64_t block) const {
  const double reciprocal = 1.0 / static_cast<double>(block);
  double sum = 0;
  for (const Groups& groups : axes_[axis]) sum += groups.count * quotient_up(groups.window.members, reciprocal);
  return sum;
}

Spans::Boxes Spans::add(int axis, std::int64_t box, std::int64_t boxes) {
  Boxes sum{.items = blocks(axis, box * boxes),
            .rows = static_cast<float>(box),
            .copies = TileShape::walks(box, dilation_[axis]) ? static_cast<float>(box) : 1,
            .begin = static_cast<std::uint32_t>(spans_.size())};
  for (const Groups& groups : axes_[axis]) {
    if (groups.count > 0) add_groups(groups, static_cast<int>(box), static_cast<int>(boxes), most_blocks_[axis], sum);
  }
  sum.end = static_cast<std::uint32_t>(spans_.size());
  return sum;
}

void Spans::add_groups(const Groups& groups, int box, int boxes, int most_blocks, Boxes& sum) {
  const int block = box * boxes;
  const double reciprocal = 1.0 / block;
  const int members = groups.window.members;
  const int stride = groups.window.stride;
  const int whole = quotient(members, reciprocal);

  /// Blocks one after the other.
  struct Part {
    int end;     ///< the number behind the last
    int period;  ///< how many blocks on the same is seen again
  };
  const int of_border = groups.borders_are_one ? 1 : kNever;
  const int of_middle = stride == 1 ? 1 : stride / std::gcd(block, stride);
  // Blocks that lie across the ends of the middle are parts of their own, and so is the last, which may be shorter.
  const std::array parts{Part{std::min(quotient(groups.middle_begin, reciprocal), whole), of_border},
                         Part{std::min(quotient_up(groups.middle_begin, reciprocal), whole), 1},
                         Part{std::min(quotient(groups.middle_end, reciprocal), whole), of_middle},
                         Part{std::min(quotient_up(groups.middle_end, reciprocal), whole), 1},
                         Part{whole, of_border},
                         Part{quotient_up(members, reciprocal), 1}};
  int done = 0;
  for (const Part& part : parts) {
    const int count = part.end - done;
    if (count <= 0) continue;
    const auto add = [&](int number, double weight) {
      const int begin = number * block;
      add_block(groups.window, {begin, std::min(begin + block, members)}, box, groups.count * weight, sum);
    };
    const int different = std::min(count, part.period);
    if (different == 1) {
      add(done, count);
    } else if (different <= most_blocks) {
      for (int i = 0; i < different; ++i) {
        const int alike = (count - 1 - i) / different + 1;
        add(done + i, alike);
      }
    } else {
      // Apart from each other where what they see changes slowly, one after the other where it comes again and again.
      const int step = part.period == kNever ? count / most_blocks : 1;
      const int first = done + (count - 1 - (most_blocks - 1) * step) / 2;
      const double weight = static_cast<double>(count) / most_blocks;
      for (int i = 0; i < most_blocks; ++i) add(first + i * step, weight);
    }
    done = part.end;
  }
}

/// Both ends are monotone in the token.
Range Spans::seen(const Window& window, int token) const {
  return rows_ == RowKind::queries ? window.keys_of(token) : window.queries_of(token);
}

void Spans::add_block(const Window& window, Range tokens, int box, double weight, Boxes& sum) {
  const std::size_t first_box = spans_.size();
  const Range first_seen = seen(window, tokens.begin);
  const int corner = first_seen.begin;
  for (int begin = tokens.begin; begin < tokens.end; begin += box) {
    const int end = std::min(begin + box, tokens.end);
    const Range first = begin == tokens.begin ? first_seen : seen(window, begin);
    const Range last = seen(window, end - 1);
    const Range some{first.begin, last.end};
    const Range all{last.begin, first.end};
    Span span{static_cast<float>(weight), 0, 0, 0, 0, 0};
    if (some.size() > 0) {  // else, where windows are causal and strided, no query may see a key
      span.begin = some.begin - corner;
      span.end = some.end - corner;
      span.common_begin = all.begin - corner;
      span.common_end = std::max(all.end - corner, 0);
    }
    spans_.push_back(span);
    spans_[first_box].halo = std::max(some.end - corner, 0);  // that of the last box remains
    sum.tokens += span.weight * static_cast<float>(some.size());
    sum.common += span.weight * static_cast<float>(all.size());
  }
  const Span& whole = spans_[first_box];
  sum.longest = std::max(sum.longest, whole.halo);
  sum.halos += whole.weight * static_cast<float>(whole.halo);
}

void Spans::add_tiles(const Boxes& boxes, std::span<const float> reciprocals, float of_visited, float of_loaded,
                      float* sums) const {
  for (const Span& span : std::span(spans_).subspan(boxes.begin, boxes.end - boxes.begin)) {
    const float visited = of_visited * span.weight;
    const float loaded = of_loaded * span.weight;
    const auto begin = static_cast<float>(span.begin);
    const auto end = static_cast<float>(span.end);
    const auto halo = static_cast<float>(span.halo);
    const auto add = [&](std::size_t i, float loads) {
      sums[i] +=
          visited * static_cast<float>(quotient_up(end, reciprocals[i]) - quotient(begin, reciprocals[i])) + loads;
    };
    if (of_loaded == 0) {
      for (std::size_t i = 0; i < reciprocals.size(); ++i) add(i, 0);
    } else {
      for (std::size_t i = 0; i < reciprocals.size(); ++i) {
        add(i, loaded * static_cast<float>(quotient_up(halo, reciprocals[i])));
      }
    }
  }
}

Work Spans::work(const Boxes& boxes, std::int64_t tile) const {
  const double reciprocal = 1.0 / static_cast<double>(tile);
  Work sum{.items = boxes.items,
           .loaded = 0,
           .visited = 0,
           .unmasked = 0,
           .longest = static_cast<double>(quotient_up(boxes.longest, reciprocal)),
           .rows = boxes.rows,
           .copies = boxes.copies};
  for (const Span& span : std::span(spans_).subspan(boxes.begin, boxes.end - boxes.begin)) {
    const double weight = span.weight;
    const int unmasked = quotient(span.common_end, reciprocal) - quotient_up(span.common_begin, reciprocal);
    sum.loaded += weight * quotient_up(span.halo, reciprocal);
    sum.visited += weight * (quotient_up(span.end, reciprocal) - quotient(span.begin, reciprocal));
    sum.unmasked += weight * std::max(unmasked, 0);
  }
  sum.axes = 1 - sum.unmasked / std::max(sum.visited, 1.0);
  return sum;
}

}  // namespace vicinal::cuda::sm90
