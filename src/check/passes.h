#pragma once

// What the tensors of each operation are to a check: names, shapes, where their values come from.

#include <array>
#include <string_view>
#include <vector>

#include "check/expected.h"
#include "vicinal/attention.h"
#include "vicinal/unfused.h"

namespace vicinal::check {

/// An input of a pass: where its tensor goes, its shape, which arrangement of the case it has.
template <class Tensors>
struct InputSpec {
  Tensor Tensors::* tensor;
  Shape Shapes::* shape;
  std::vector<double> Inputs::* values;  // null: a result of the forward pass
  std::size_t arrangement;
};

/// A result of a pass.
template <class Tensors>
struct ResultSpec {
  std::string_view name;
  Tensor Tensors::* tensor;
  Shape Shapes::* shape;
  std::vector<double> Results::* values;
  std::size_t arrangement;
};

template <class Tensors>
struct Pass;

template <>
struct Pass<ForwardTensors> {
  using T = ForwardTensors;
  static constexpr Operation kOperation = Operation::forward;
  static constexpr std::array kInputs{
      InputSpec<T>{&T::query, &Shapes::query, &Inputs::query, 0},
      InputSpec<T>{&T::key, &Shapes::key, &Inputs::key, 1},
      InputSpec<T>{&T::value, &Shapes::value, &Inputs::value, 2},
      InputSpec<T>{&T::extra_key, &Shapes::extra_key, &Inputs::extra_key, 1},
      InputSpec<T>{&T::extra_value, &Shapes::extra_value, &Inputs::extra_value, 2},
  };
  static constexpr std::array kResults{
      ResultSpec<T>{"output", &T::output, &Shapes::output, &Results::output, 0},
      ResultSpec<T>{"logsumexp", &T::logsumexp, &Shapes::logsumexp, &Results::logsumexp, 0},
  };
};

template <>
struct Pass<BackwardTensors> {
  using T = BackwardTensors;
  static constexpr Operation kOperation = Operation::backward;
  static constexpr std::array kInputs{
      InputSpec<T>{&T::query, &Shapes::query, &Inputs::query, 0},
      InputSpec<T>{&T::key, &Shapes::key, &Inputs::key, 1},
      InputSpec<T>{&T::value, &Shapes::value, &Inputs::value, 2},
      InputSpec<T>{&T::extra_key, &Shapes::extra_key, &Inputs::extra_key, 1},
      InputSpec<T>{&T::extra_value, &Shapes::extra_value, &Inputs::extra_value, 2},
      InputSpec<T>{&T::grad_output, &Shapes::output, &Inputs::grad_output, 3},
      InputSpec<T>{&T::grad_logsumexp, &Shapes::logsumexp, &Inputs::grad_logsumexp, 3},
      InputSpec<T>{&T::output, &Shapes::output, nullptr, 3},
      InputSpec<T>{&T::logsumexp, &Shapes::logsumexp, nullptr, 3},
  };
  static constexpr std::array kResults{
      ResultSpec<T>{"grad_query", &T::grad_query, &Shapes::query, &Results::grad_query, 1},
      ResultSpec<T>{"grad_key", &T::grad_key, &Shapes::key, &Results::grad_key, 2},
      ResultSpec<T>{"grad_value", &T::grad_value, &Shapes::value, &Results::grad_value, 3},
      ResultSpec<T>{"grad_extra_key", &T::grad_extra_key, &Shapes::extra_key, &Results::grad_extra_key, 2},
      ResultSpec<T>{"grad_extra_value", &T::grad_extra_value, &Shapes::extra_value, &Results::grad_extra_value, 3},
  };
};

template <>
struct Pass<PointwiseNeighborhoodTensors> {
  using T = PointwiseNeighborhoodTensors;
  static constexpr Operation kOperation = Operation::pointwise_neighborhood;
  static constexpr std::array kInputs{
      InputSpec<T>{&T::query, &Shapes::query, &Inputs::query, 0},
      InputSpec<T>{&T::key, &Shapes::key, &Inputs::key, 1},
      InputSpec<T>{&T::extra_key, &Shapes::extra_key, &Inputs::extra_key, 1},
      InputSpec<T>{&T::bias, &Shapes::bias, &Inputs::bias, 2},
  };
  static constexpr std::array kResults{
      ResultSpec<T>{"weights", &T::weights, &Shapes::weights, &Results::weights, 0},
  };
};

template <>
struct Pass<NeighborhoodNeighborhoodTensors> {
  using T = NeighborhoodNeighborhoodTensors;
  static constexpr Operation kOperation = Operation::neighborhood_neighborhood;
  static constexpr std::array kInputs{
      InputSpec<T>{&T::weights, &Shapes::weights, &Inputs::weights, 0},
      InputSpec<T>{&T::value, &Shapes::value, &Inputs::value, 2},
      InputSpec<T>{&T::extra_value, &Shapes::extra_value, &Inputs::extra_value, 2},
  };
  static constexpr std::array kResults{
      ResultSpec<T>{"output", &T::output, &Shapes::output, &Results::output, 0},
  };
};

template <>
struct Pass<InverseNeighborhoodTensors> {
  using T = InverseNeighborhoodTensors;
  static constexpr Operation kOperation = Operation::inverse_neighborhood;
  static constexpr std::array kInputs{
      InputSpec<T>{&T::weights, &Shapes::weights, &Inputs::weights, 0},
      InputSpec<T>{&T::grad_output, &Shapes::output, &Inputs::grad_output, 3},
  };
  static constexpr std::array kResults{
      ResultSpec<T>{"grad_value", &T::grad_value, &Shapes::value, &Results::grad_value, 3},
      ResultSpec<T>{"grad_extra_value", &T::grad_extra_value, &Shapes::extra_value, &Results::grad_extra_value, 3},
  };
};

template <>
struct Pass<BiasGradientTensors> {
  using T = BiasGradientTensors;
  static constexpr Operation kOperation = Operation::bias_gradient;
  static constexpr std::array kInputs{
      InputSpec<T>{&T::grad_weights, &Shapes::weights, &Inputs::weights, 0},
  };
  static constexpr std::array kResults{
      ResultSpec<T>{"grad_bias", &T::grad_bias, &Shapes::bias, &Results::grad_bias, 1},
  };
};

}  // namespace vicinal::check
