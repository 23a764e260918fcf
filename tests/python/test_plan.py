"""Plans as Python sees them, and the extension's stub."""

from __future__ import annotations

import ast
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
import vicinal
from vicinal import _ext


@pytest.mark.parametrize("operation", ["forward", "backward"])
def test_a_plan_explains_itself(operation: str) -> None:
    plan = vicinal.plan((56, 48), 7, dilation=(1, 2), heads=4, heads_kv=2, dim=32, operation=operation)
    text = str(plan)
    assert text.startswith(f"{operation} pass of --layout 56x48 --window 7x7 --dilation 1x2 --heads 4 --heads-kv 2")
    assert plan.kernel in text
    for word in ("tiles", "visited", "needed", "moved", "workspace", "not used"):
        assert word in text
    assert all(kernel in text and reason in text for kernel, reason in plan.refusals)
    assert repr(plan).startswith(f"<vicinal.Plan {plan.kernel}: --layout 56x48")


def test_attributes() -> None:
    plan = vicinal.plan(100, 7, dim=16, dim_v=8, backend="reference")
    assert isinstance(plan, vicinal.Plan)
    assert (plan.backend, plan.operation) == ("reference", "forward")
    assert plan.problem == "--layout 100 --window 7 --heads 1 --dim 16 --dim-v 8 --dtype fp32"
    assert len(plan.query_tile) == len(plan.key_tile) == len(plan.block) == 1
    assert plan.needed_multiply_adds == 100 * 7 * (16 + 8)
    assert plan.visited_multiply_adds >= plan.needed_multiply_adds
    assert plan.bytes == 4 * 100 * (16 + 16 + 8 + 8 + 1)
    assert plan.seconds > 0
    assert plan.workspace_bytes >= 0
    assert plan.refusals
    assert all(kernel != plan.kernel for kernel, _ in plan.refusals)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("bf16", "bf16"),
        ("float64", "fp64"),
        (np.float16, "fp16"),
        (np.dtype(np.float32), "fp32"),
        (ml_dtypes.bfloat16, "bf16"),
        (torch.bfloat16, "bf16"),
        (torch.float64, "fp64"),
    ],
)
def test_dtypes(dtype: object, name: str) -> None:
    assert f"--dtype {name}" in vicinal.plan((4, 5, 6), 3, dtype=dtype).problem


def test_unfused_operations() -> None:
    for operation in ("pointwise_neighborhood", "neighborhood_neighborhood", "inverse_neighborhood", "bias_gradient"):
        plan = vicinal.plan((12, 10), 5, heads=2, dim=8, operation=operation)
        assert plan.operation == operation
        work = plan.needed_multiply_adds / (12 * 10 * 5 * 5 * 2)
        assert work == (1 if operation == "bias_gradient" else 8)
    with pytest.raises(ValueError, match="dim_v = 4 with dim = 8; allowed for pointwise_neighborhood: dim_v = dim"):
        vicinal.plan(12, 5, dim=8, dim_v=4, operation="pointwise_neighborhood")


def test_deterministic_kernels_can_be_asked_for() -> None:
    for operation in ("forward", "backward"):
        plans = [vicinal.plan((12, 10), 5, operation=operation, deterministic=asked) for asked in (False, True)]
        assert str(plans[0]) == str(plans[1])


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"kernel_size\[1\] = 7, but layout\[1\] = 6"):
        vicinal.plan((8, 6), 7)
    with pytest.raises(ValueError, match=r"layout = \(1, 2, 3, 4\); allowed: 1 to 3 extents"):
        vicinal.plan((1, 2, 3, 4), 1)
    with pytest.raises(
        ValueError, match=r"dtype = torch.int8; allowed: fp64, fp32, fp16, bf16, or NumPy's or PyTorch's"
    ):
        vicinal.plan(8, 3, dtype=torch.int8)
    with pytest.raises(ValueError, match="operation = sideways; allowed: forward, backward"):
        vicinal.plan(8, 3, operation="sideways")
    with pytest.raises(ValueError, match='backend = "quick" names no kernel for forward'):
        vicinal.plan(8, 3, backend="quick")
    with pytest.raises(ValueError, match="additional_tokens = -1; allowed: at least 0"):
        vicinal.plan(8, 3, additional_tokens=-1)


def test_the_stub_names_what_the_extension_has() -> None:
    tree = ast.parse(Path(vicinal.__file__).with_name("_ext.pyi").read_text())

    def names(body: list[ast.stmt]) -> set[str]:
        return {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}

    assert names(tree.body) == {name for name in vars(_ext) if not name.startswith("_")}
    (plan,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Plan")
    assert names(plan.body) == {name for name in vars(_ext.Plan) if not name.startswith("_")}


def test_version() -> None:
    assert vicinal.__version__ == _ext.__version__
    assert vicinal.__version__.count(".") == 2


def test_every_public_name_is_there_and_documented() -> None:
    for name in vicinal.__all__:
        assert getattr(vicinal, name).__doc__, name
