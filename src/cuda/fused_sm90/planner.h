#pragma once

// Which problems the Hopper kernels take, and with which tiles.
//
// The backward kernels make two passes with the same tiling, or the second alone: over boxes of queries past which
// tiles of keys go, and over boxes of keys, of the shape of `query_tile`, past which tiles of queries go, of the shape
// of `key_tile`.

#include <cstddef>
#include <string>
#include <vector>

#include "vicinal/plan.h"

namespace vicinal::cuda::sm90 {

/// Why the fused kernel cannot do a problem; success where it can.
Status forward_supports(const Problem& grid);
Status forward_pairs_supports(const Problem& grid);
Status backward_supports(const Problem& grid);
Status backward_one_pass_supports(const Problem& grid);

/// Whether tiles that a caller forces fit the kernel.
Status forward_accepts(const Problem& grid, const Tiling& tiling);
Status forward_pairs_accepts(const Problem& grid, const Tiling& tiling);
Status backward_accepts(const Problem& grid, const Tiling& tiling);
Status backward_one_pass_accepts(const Problem& grid, const Tiling& tiling);

/// The tiles of the least estimated time.
Tiling forward_tiling(const Problem& grid);
Tiling forward_pairs_tiling(const Problem& grid);
Tiling backward_tiling(const Problem& grid);
Tiling backward_one_pass_tiling(const Problem& grid);

/// The `count` tilings of the least estimated times, or all where there are fewer; the least first.
std::vector<Tiling> forward_tilings(const Problem& grid, std::size_t count);
std::vector<Tiling> forward_pairs_tilings(const Problem& grid, std::size_t count);
std::vector<Tiling> backward_tilings(const Problem& grid, std::size_t count);
std::vector<Tiling> backward_one_pass_tilings(const Problem& grid, std::size_t count);

/// How tiles would be copied, in words: "by the copy engine, each key tile for two blocks", and why by no other way.
std::string forward_copies(const Problem& grid, const Tiling& tiling);

/// How warpgroups share a work item and in which order items come to which blocks, in words: "2 warpgroups side by side
/// along axis 2; tiles along axis 1, then tiles along axis 2, then heads; in turns to 132 blocks". Axes are those of
/// `grid`.
std::string forward_order(const Problem& grid, const Tiling& tiling);
std::string forward_pairs_order(const Problem& grid, const Tiling& tiling);
std::string backward_order(const Problem& grid, const Tiling& tiling);
std::string backward_one_pass_order(const Problem& grid, const Tiling& tiling);

Cost forward_cost(const Problem& grid, const Tiling& tiling);
Cost forward_pairs_cost(const Problem& grid, const Tiling& tiling);
Cost backward_cost(const Problem& grid, const Tiling& tiling);
Cost backward_one_pass_cost(const Problem& grid, const Tiling& tiling);

}  // namespace vicinal::cuda::sm90
