"""Tile shapes that callers force: they reach the plan, and change no result."""

from __future__ import annotations

import numpy as np
import pytest
import vicinal

torch = pytest.importorskip("torch")

LAYOUT = (18, 15)
SHAPE = (2, *LAYOUT, 3, 8)  # [batch, X, Y, heads, dim]
CHOSEN = vicinal.plan(LAYOUT, 5, batch=2, heads=3, dim=8)
# Other boxes than the planner's, in as many rows and columns.
FORCED = vicinal.Tiling(query_tile=(1, 3), key_tile=(2, 5))


def inputs(requires_grad=False):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(SHAPE, generator=generator).requires_grad_(requires_grad) for _ in range(3)]


@pytest.mark.parametrize("operation", ["forward", "backward"])
def test_a_plan_has_the_forced_tiles_and_the_planner_s_otherwise(operation):
    chosen = vicinal.plan(LAYOUT, 5, batch=2, heads=3, dim=8, operation=operation)
    plan = vicinal.plan(LAYOUT, 5, batch=2, heads=3, dim=8, operation=operation, tiling=FORCED)
    assert (plan.query_tile, plan.key_tile) == ((1, 3), (2, 5))
    assert (plan.query_tile, plan.key_tile) != (chosen.query_tile, chosen.key_tile)
    assert (plan.block, plan.rows, plan.columns) == (chosen.block, chosen.rows, chosen.columns)
    assert plan.visited_multiply_adds >= plan.needed_multiply_adds


def test_one_value_counts_for_every_axis():
    plan = vicinal.plan(LAYOUT, 5, batch=2, heads=3, dim=8, tiling=vicinal.Tiling(query_tile=2, key_tile=3))
    assert (plan.query_tile, plan.key_tile) == ((2, 2), (3, 3))


def test_a_plan_s_own_tiles_can_be_forced():
    names = vicinal.Tiling._fields
    tiling = vicinal.Tiling(**{name: getattr(CHOSEN, name) for name in names})
    plan = vicinal.plan(LAYOUT, 5, batch=2, heads=3, dim=8, tiling=tiling)
    assert [getattr(plan, name) for name in names] == [getattr(CHOSEN, name) for name in names]


@pytest.mark.parametrize("compiled", [False, True])
def test_forced_tiles_change_no_result(compiled):
    def attend(query, key, value):
        return vicinal.na2d(query, key, value, 5, tiling=FORCED, backward_tiling=vicinal.Tiling(key_tile=(3, 4)))

    run = torch.compile(attend, fullgraph=True, backend="aot_eager") if compiled else attend
    forced, free = inputs(True), inputs(True)
    run(*forced).square().sum().backward()
    vicinal.na2d(*free, 5).square().sum().backward()
    for one, other in zip(forced, free, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_numpy_arrays_too():
    arrays = [x.numpy() for x in inputs()]
    forced = vicinal.na2d(*arrays, 5, tiling=FORCED)
    np.testing.assert_allclose(forced, vicinal.na2d(*arrays, 5), rtol=1e-5, atol=1e-5)


def test_the_backward_pass_alone_can_be_refused():
    query, key, value = inputs(True)
    output = vicinal.na2d(query, key, value, 5, backward_tiling=vicinal.Tiling(query_tile=(9, 9), rows=16))
    with pytest.raises(ValueError, match=r"tiling.query_tile = 1x9x9 with tiling.rows = 16"):
        output.sum().backward()


@pytest.mark.parametrize(
    ("tiling", "error", "message"),
    [
        ((1, 3), TypeError, r"tiling = \(1, 3\); allowed: a vicinal.Tiling or None"),
        (vicinal.Tiling(query_tile=(1, 2, 3)), ValueError, r"tiling.query_tile = \(1, 2, 3\)"),
        (vicinal.Tiling(key_tile=0), ValueError, r"tiling.key_tile = 0; allowed: at least 1"),
        (vicinal.Tiling(rows=-4), ValueError, r"tiling.rows = -4; allowed: at least 1"),
        (vicinal.Tiling(columns=2.5), TypeError, r"tiling.columns = 2.5"),
        (vicinal.Tiling(query_tile=(4, 5), rows=16), ValueError, r"tiling.query_tile = 1x4x5 with tiling.rows = 16"),
    ],
)
def test_what_is_wrong_is_named(tiling, error, message):
    with pytest.raises(error, match=message):
        vicinal.na2d(*inputs(), 5, tiling=tiling)
