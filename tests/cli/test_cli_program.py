"""What holds for every subcommand, `info` and `plan`."""

from __future__ import annotations

import json
import re

import pytest
from outcome import Program, refused, succeeded

PROBLEM = "--layout 16x16 --window 5 --heads 2 --dim 16"
COMMANDS = ("info", "plan", "run", "check", "bench", "tilings")


def test_version(vicinal: Program) -> None:
    assert re.fullmatch(r"vicinal \d+\.\d+\.\d+\n", succeeded(vicinal("--version")))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(vicinal: Program, command: str) -> None:
    assert f"vicinal {command} " in succeeded(vicinal(command, "--help")).split("Example")[1]
    assert command in succeeded(vicinal("--help"))


def test_info_lists_the_kernels(vicinal: Program) -> None:
    info = json.loads(succeeded(vicinal("info --json")))
    text = succeeded(vicinal("info"))
    assert {"reference_forward", "reference_backward"} <= {kernel["name"] for kernel in info["kernels"]}
    assert info["cpu_target"] in info["cpu_targets"]
    assert info["threads"] >= 1
    for kernel in info["kernels"]:
        assert kernel["name"] in text
    for fact in ("version", "commit", "compiler", "cpu"):
        assert info[fact] in text


def test_plan_explains_both_passes(vicinal: Program) -> None:
    text = succeeded(vicinal("plan", PROBLEM))
    assert "forward pass of --layout 16x16 --window 5x5" in text
    assert "backward pass of" in text
    assert "backward" not in succeeded(vicinal("plan --forward", PROBLEM)).splitlines()[0]


def test_plan_of_one_operation(vicinal: Program) -> None:
    plans = json.loads(succeeded(vicinal("plan --json --operation bias_gradient", PROBLEM)))
    assert [(plan["operation"], plan["kernel"]) for plan in plans] == [("bias_gradient", "naive_cpu_bias_gradient")]
    assert 0 < plans[0]["planning_seconds"] < 1
    assert "--forward excludes --operation" in refused(vicinal("plan --forward --operation backward", PROBLEM))
    assert "--operation: sideways not in {forward," in refused(vicinal("plan --operation sideways", PROBLEM))
    assert "dim_v = 8 with dim = 16; allowed for bias_gradient: dim_v = dim" in refused(
        vicinal("plan --operation bias_gradient --dim-v 8", PROBLEM)
    )


def test_plan_as_json(vicinal: Program) -> None:
    every_option = (
        "--layout 12x10x8 --window 3x4x5 --stride 1x2x3 --dilation 2x1x1 --causal 1,0,0 --batch 2 --heads 4"
        " --heads-kv 2 --dim 24 --dim-v 40 --extra-kv 3 --scale 0.5 --dtype fp64"
    )
    forward, backward = json.loads(succeeded(vicinal("plan --json", every_option)))
    assert (forward["operation"], backward["operation"]) == ("forward", "backward")
    expected = {
        "layout": [12, 10, 8], "window": [3, 4, 5], "stride": [1, 2, 3], "dilation": [2, 1, 1], "causal": [1, 0, 0],
        "batch": 2, "heads": 4, "heads_kv": 2, "dim": 24, "dim_v": 40, "extra_kv": 3, "scale": 0.5, "dtype": "fp64",
        "device": "cpu",
    }  # fmt: skip
    assert forward["problem"] == expected
    # The library writes problems in the words of the command line.
    again = json.loads(succeeded(vicinal("plan --json", forward["command"])))
    assert again[0]["problem"] == expected


def test_alignment_is_written_where_it_is_given(vicinal: Program) -> None:
    (plan,) = json.loads(succeeded(vicinal("plan --json --forward --alignment 8", PROBLEM)))
    assert plan["problem"]["alignment"] == 8
    assert plan["command"].endswith("--dtype fp32 --alignment 8")
    (usual,) = json.loads(succeeded(vicinal("plan --json --forward --alignment 16", PROBLEM)))
    assert "alignment" not in usual["problem"]
    assert "alignment" not in usual["command"]
    assert "alignment = 3; allowed: 1, 2, 4, 8, 16" in refused(vicinal("plan --alignment 3", PROBLEM))


def test_one_value_stands_for_all_axes(vicinal: Program) -> None:
    (plan,) = json.loads(succeeded(vicinal("plan --json --forward --layout 9,8,7 --window 3 --causal 1")))
    assert plan["problem"]["window"] == [3, 3, 3]
    assert plan["problem"]["causal"] == [1, 1, 1]


def test_defaults_follow_from_the_rest(vicinal: Program) -> None:
    (plan,) = json.loads(succeeded(vicinal("plan --json --forward --layout 9 --window 3 --heads 6 --dim 16")))
    assert plan["problem"]["heads_kv"] == 6
    assert plan["problem"]["dim_v"] == 16
    assert plan["problem"]["scale"] == 0.25


def test_tiles_can_be_forced(vicinal: Program) -> None:
    (plan,) = json.loads(
        succeeded(vicinal("plan --json --forward --backend reference --tile-query 1 --tile-key 1", PROBLEM))
    )
    assert plan["tiling"]["query_tile"] == [1, 1, 1]
    assert "no kernel can do" in refused(vicinal("plan --backend reference --tile-query 2x3", PROBLEM))
    assert "tiling.query_tile" in refused(vicinal("plan --backend reference --tile-query 2x3 --tile-rows 5", PROBLEM))
    assert "tile-key has 3 values" in refused(vicinal("plan --tile-key 1x2x3", PROBLEM))


def test_deterministic_kernels_can_be_asked_for(vicinal: Program) -> None:
    assert succeeded(vicinal("plan --deterministic", PROBLEM)) == succeeded(vicinal("plan", PROBLEM))
    for command in ("bench", "plan", "run"):
        assert "--deterministic" in succeeded(vicinal(command, "--help"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no command; allowed: info, plan, run, check, bench, tilings"),
        ("plan", "layout is missing"),
        ("plan --layout 8", "window is missing"),
        ("plan --layout 16x16 --window 17", "window[0] = 17, but layout[0] = 16; allowed: window * dilation <= extent"),
        ("plan --layout 16x16 --window 0", "window[0] = 0; allowed: at least 1"),
        ("plan --layout 16x16 --window -3", "window[0] = -3; allowed: at least 1"),
        ("plan --layout 16x16 --window 5 --stride 6", "stride[0] = 6; allowed: 1 to window[0] = 5"),
        ("plan --layout 16x16 --window 5x5x5", "window has 3 values; allowed: 1, or one for each of the 2 axes"),
        ("plan --layout 2x2x2x2 --window 1", "layout has 4 axes; allowed: 1 to 3"),
        ("plan --layout 16y16 --window 1", "layout = '16y16'; allowed: integers such as 7, 30x48x80 or 1,0,0"),
        ("plan --layout 16x --window 1", "layout = '16x'; allowed: integers such as 7, 30x48x80 or 1,0,0"),
        ("plan --layout 16 --window 5 --causal 2", "causal = 2; allowed: 0 or 1"),
        ("plan --layout 16 --window 5 --dtype int8", "dtype = 'int8'; allowed: fp64, fp32, fp16, bf16"),
        ("plan --layout 16 --window 5 --device tpu", "device = 'tpu'; allowed: cpu, cuda, cuda:N"),
        ("plan --layout 16 --window 5 --device cuda:x", "device = 'cuda:x'; allowed: cpu, cuda, cuda:N"),
        ("plan --layout 16 --window 5 --heads 3 --heads-kv 2", "heads = 3 with heads_kv = 2"),
        ("plan --layout 16 --window 5 --heads many", "--heads"),
        ("plan --layout 16 --window 5 --scale nan", "scale = nan"),
        ("plan --layout 16 --window 5 --backend warp", 'backend = "warp"'),
        ("plan --layout 16 --window 5 --backend reference --device cuda", "no kernel can do the forward pass"),
        ("plan --layout 16 --window 5 --colour red", "--colour"),
        ("fly", "fly"),
    ],
)
def test_bad_arguments_get_one_line_and_exit_code_2(vicinal: Program, arguments: str, message: str) -> None:
    assert message in refused(vicinal(arguments))
