#pragma once

// A plan that nobody needs. The first of a process meets code, memory and branches for the first time, which takes as
// long as the plan itself.

#include <array>

#include "vicinal/problem.h"

namespace vicinal {

/// Makes small plans for a device and forgets them, so that the first that is wanted is like a later one. Takes about
/// as long as five of those. Whether it could: if not, whoever wants a plan hears why.
bool rehearse_plans(const Device& device) noexcept;

/// What is planned in both directions. Along one long axis a search takes as much memory as usual; heads come in pairs
/// and items are few, so that nothing that a plan may look at is left out.
Problem rehearsed_problem(const Device& device);

/// What is then planned forward, for which users wait: three axes have many tilings, whose branches are learnt.
std::array<Problem, 2> rehearsed_volumes(const Device& device);

}  // namespace vicinal
