#!/usr/bin/env bash
# Everything that only a GPU can show: builds, tests, looks for bad memory accesses and races, measures. Writes one JSON
# record and prints a short table last. Run again, it goes on after the steps that passed.
#
# usage: scripts/gpu-check.sh [options]
#   --work FOLDER     where it builds and keeps what steps found          (default: build/gpu-check)
#   --build FOLDER    a build folder with the programs, or gpu-pack.sh's: nothing is built (default: WORK/build)
#   --deps PREFIX     where CMake looks for Highway, fmt, CLI11, nlohmann-json and GoogleTest
#   --cutlass FOLDER  CUTLASS headers, for kernels that use them
#   --extension FILE  the Python extension, where Python's headers to build it are missing
#   --commit NAME     what is checked, where git cannot tell
#   --record FILE     the record                                          (default: WORK/record.json)
#   --cases N         random problems for `vicinal check`                 (default: 400)
#   --steps "A B"     these steps only, of: build unit kernels hopper-1 to hopper-7 far-apart sweep sweep-hopper python
#                     memcheck racecheck synccheck initcheck first-plans benchmark benchmark-bf16 overhead peers;
#                     and, where they are named only: sweep-long tilings-forward tilings-backward ragged small-problems
#                     profiles-headline profiles-dense training
#   --forward         measure forward passes alone
#   --fresh           forget what passed before
#
# Needs a GPU, a CUDA toolkit, Python with PyTorch, NumPy, matplotlib, pytest, nanobind and nanobind-backend, but no
# network.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

work=build/gpu-check
build='' deps='' cutlass='' extension='' commit='' record='' steps='' cases=400 fresh=no
passes=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --work) work=$2; shift 2 ;;
    --build) build=$2; shift 2 ;;
    --deps) deps=$(realpath "$2"); shift 2 ;;
    --cutlass) cutlass=$2; shift 2 ;;
    --extension) extension=$(realpath "$2"); shift 2 ;;
    --commit) commit=$2; shift 2 ;;
    --record) record=$2; shift 2 ;;
    --cases) cases=$2; shift 2 ;;
    --steps) steps=" $2 "; shift 2 ;;
    --forward) passes=(--forward); shift ;;
    --fresh) fresh=yes; shift ;;
    *) sed -n '2,22p' "$0" >&2; exit 2 ;;
  esac
done
mkdir -p "$work"
work=$(realpath "$work")
prebuilt=$build
build=${build:-$work/build}
record=${record:-$work/record.json}
export OMP_WAIT_POLICY=passive
PATH=$PATH:/usr/local/cuda/bin
[[ -d $build/lib ]] && export LD_LIBRARY_PATH=$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}  # of gpu-pack.sh

# What the programs and reports built and run here say of themselves.
export VICINAL_COMMIT=${commit:-$(git describe --always --dirty '--exclude=*' 2>/dev/null || echo unknown)}

# A step that passed for the same sources is not run again; what was found for others is forgotten.
sources=$(find CMakeLists.txt benchmarks bindings cli cmake include python scripts src tests -type f \
            -not -path '*/__pycache__/*' -not -path 'benchmarks/results/*' -print0 |
          LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
if [[ $fresh == yes || $(cat "$work/sources" 2>/dev/null) != "$sources" ]]; then
  rm -rf "$work"/steps "$work"/{bench,overhead,peers,tilings,small}-*.json "$work"/{ragged*,first-plans,training}.json \
    "$work"/peers.png "$work"/profiles-*.csv
  echo "$sources" >"$work/sources"
fi

step() {  # step NAME LIMIT COMMAND...: LIMIT in seconds, for all of its `limited` commands together
  local name=$1 limit=$2 folder=$work/steps/$1 start=$SECONDS status=0
  shift 2
  [[ -n $steps && $steps != *" $name "* ]] && return
  mkdir -p "$folder"
  if [[ -e $folder/passed ]]; then
    echo "==== $name: passed before"
    return
  fi
  rm -f "$folder"/*
  echo "$limit" >"$folder/limit"
  "$@" >"$folder/log" 2>&1 || status=$?
  echo $status >"$folder/status"
  echo $((SECONDS - start)) >"$folder/seconds"
  if [[ $status -eq 0 ]]; then
    touch "$folder/passed"
    echo "==== $name passed in $((SECONDS - start)) s"
  else
    tail -n 40 "$folder/log"
    echo "==== $name FAILED with status $status in $((SECONDS - start)) s; all of its output: $folder/log"
  fi
  return $status
}

# A kernel that waits for ever must not keep the steps after it from running.
limited() {  # limited COMMAND...: within what is left of its step's limit
  local left=$((limit - (SECONDS - start)))
  timeout -k 5 $((left > 1 ? left : 1)) "$@"
}

build_everything() {
  local capability options
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1)
  options=(-G Ninja -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_COMPILE_WARNING_AS_ERROR=OFF -DVICINAL_CUDA=ON
           -DCMAKE_CUDA_ARCHITECTURES="${capability/./}-real"  # of no other GPU: a third of the work
           -DVICINAL_PYTHON="$([[ -z $extension ]] && echo ON || echo OFF)"
           -DPython_EXECUTABLE="$(command -v python3)")
  [[ -n $deps ]] && options+=("-DCMAKE_PREFIX_PATH=$deps")
  [[ -n $cutlass ]] && options+=("-DVICINAL_CUTLASS=$cutlass")
  limited cmake "${options[@]}" && limited cmake --build "$build" --parallel "$(nproc)"
}

unit_tests() { limited "$build/tests/unit/vicinal_unit_tests"; }

# The kernels of the backends on CUDA; those of the CPU are tested where there is no GPU. The oracle takes all cores
# that it is given: nice to what runs beside it on one.
kernel_tests() {
  VICINAL_GOLDEN=$build/tests/kernels/golden limited nice "$build/tests/kernels/vicinal_kernel_tests" --gtest_filter="$1"
}

# The tests of the Hopper kernels beside each other, since the oracle is on one core for part of its time. The shapes
# that take it longest come back after twenty tests: a number of parts that shares no divisor with that spreads them.
hopper_parts=7
hopper_tests() {  # hopper_tests PART: from 1 on
  GTEST_TOTAL_SHARDS=$hopper_parts GTEST_SHARD_INDEX=$(($1 - 1)) kernel_tests '*sm90*-*FarApart*'
}

sweep() { limited nice "$build/cli/vicinal" check --device cuda --seed 1 --cases "$cases" "$@"; }

# On a few small problems, and on some that kernels of one shape or dtype do not refuse. Not racecheck on Hopper's
# kernels: their tiles come from the copy engine, which it does not follow.
sanitizer() {  # sanitizer TOOL
  local check=(limited compute-sanitizer --tool "$1" --error-exitcode 9
               "$build/cli/vicinal" check --device cuda --seed 3 --size 0.02)
  "${check[@]}" --cases 8 --backend naive && "${check[@]}" --cases 100 --kernel tiled_cuda_pointwise_neighborhood &&
    { [[ $1 == racecheck ]] || { "${check[@]}" --cases 12 --kernel fused_sm90_forward &&
                                 "${check[@]}" --cases 300 --kernel fused_sm90_forward_pairs &&
                                 "${check[@]}" --cases 8 --kernel fused_sm90_backward &&
                                 "${check[@]}" --cases 8 --kernel fused_sm90_backward_one_pass &&
                                 each_class "$1"; }; }
}

# A problem of each head dim and dtype that kernels are made for, which the copy engine copies, and one of which blocks
# share tiles.
each_class() {  # each_class TOOL
  local dtype dim
  for dtype in fp16 bf16; do
    for dim in 32 64 96 128 192 256; do
      one_problem "$1" --layout 23x18 --window 7x6 --heads 2 --dim "$dim" --dtype "$dtype" || return
    done
    one_problem "$1" --layout 512 --window 512 --heads 1 --dim 128 --dtype "$dtype" || return
  done
}
one_problem() {  # one_problem TOOL OPTION...
  local tool=$1
  shift
  limited compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/cli/vicinal" check --device cuda --backend fused "$@"
}

package=$work/python
with_package() {  # with_package COMMAND...: where Python finds vicinal
  rm -rf "$package"
  cp -r python "$package" && cp "${extension:-$(echo "$build"/bindings/_ext*.so)}" "$package/vicinal/" || return
  if [[ -d $build/site ]]; then export PYTHONPATH=$build/site${PYTHONPATH:+:$PYTHONPATH}; fi
  PYTHONPATH=$package${PYTHONPATH:+:$PYTHONPATH} limited "$@"
}
python_tests() { with_package python3 -m pytest -q -p no:cacheprovider tests/python/test_{cuda,digits,directional}.py; }

bench() {  # bench NAME SUITE OPTION...: in one process, as each measures the roofline first
  local name=$1 suite=$2
  shift 2
  rm -f "$work/bench-$name.json"
  limited "$build/cli/vicinal" bench --device cuda --suite "benchmarks/suites/$suite.json" --cold --seconds 0.1 \
    "${passes[@]}" "$@" --json "$work/bench-$name.json"
}

# Masked tiles beside whole ones, along one axis, along some of three and along all: forced, and as many for each work
# item.
bench_masked_tiles() {  # bench_masked_tiles DTYPE
  local forced=(--dtype "$1" --forward --backend fused --tile-rows 64 --tile-columns 128 --rounds 3)
  bench "forced-$1" partial "${forced[@]}" --tile-query 1x64 --tile-key 1x128 --tile-block 2x1 &&
    bench "forced-3d-$1" partial_3d "${forced[@]}" --tile-query 64x1x1 --tile-key 4x4x8 --tile-block 1x2x1 &&
    bench "forced-cubes-$1" partial_cubes "${forced[@]}" --tile-query 4x4x4 --tile-key 4x4x8 --tile-block 1x1x2
}

# Records are written after each row, and the largest problems have their own, so that one that fails takes few others
# with it. Naive passes take up to half a second, over the largest problems far more: those are left out.
headline_quick=(--only 1d --only 2d_nat --only 2d_dinat --only 2d_128 --only 3d_16)
headline_largest=(--only 2d_flux --only 3d_hunyuan)
benchmark() {
  local dtype failed=0
  for dtype in fp16 fp32; do
    bench "naive-$dtype" headline "${headline_quick[@]}" --dtype "$dtype" --backend naive --repetitions 1 || failed=1
  done
  bench planned-fp16 headline "${headline_quick[@]}" --dtype fp16 || failed=1
  bench planned-fp16-largest headline "${headline_largest[@]}" --dtype fp16 || failed=1
  [[ ${#passes[@]} -gt 0 ]] || bench deterministic-fp16 headline --dtype fp16 --backward --deterministic || failed=1
  bench planned-fp16-small small_windows --forward || failed=1
  bench planned-fp16-dense dense --rounds 3 || failed=1  # rates that are compared with each other
  bench_masked_tiles fp16 || failed=1
  return "$failed"
}

# In bf16 Hopper's kernels are others.
benchmark_bf16() {
  local failed=0
  bench planned-bf16 headline --dtype bf16 || failed=1
  bench planned-bf16-dense dense --dtype bf16 --rounds 3 || failed=1
  bench_masked_tiles bf16 || failed=1
  return "$failed"
}

first_plans() { limited scripts/first_plans.py "$build/cli/vicinal" --json "$work/first-plans.json"; }

# One process, as PyTorch takes longer to start than all of this to measure.
overhead() {
  with_package python3 -m benchmarks.overhead --device cuda --dtype fp32 --seconds 0.5 \
    --json "$work/overhead-fp32.json" \
    --then --device cuda --dtype fp16 --seconds 0.5 --json "$work/overhead-fp16.json"
}

# Beside what the benchmark measured, where the planner's kernels go before the naive ones. The largest problems take
# FlexAttention seconds a pass. One process again.
peers() {
  local records=() file
  for file in "$work"/bench-naive-fp16.json "$work"/bench-planned-*.json; do
    [[ -s $file ]] && records+=(--record "$file")
  done
  rm -f "$work"/peers-*.json
  local each=("${passes[@]}" --seconds 0.1 "${records[@]}")
  with_package python3 -m benchmarks.peers --suite dense --only dense --peers cudnn "${each[@]}" \
    --json "$work/peers-dense.json" \
    --then --suite dense --only dense --dtype bf16 --peers cudnn "${each[@]}" --json "$work/peers-dense-bf16.json" \
    --then "${headline_largest[@]}" --peers cudnn "${each[@]}" --json "$work/peers-largest.json" \
    --then "${headline_quick[@]}" --budget 90 "${each[@]}" --json "$work/peers-headline.json" --plot "$work/peers.png"
}

# What takes minutes and changes with kernels and planner alone; each leaves a file of its own in WORK.
study() {  # study NAME LIMIT COMMAND...: a step that is run where it is named only
  [[ $steps != *" $1 "* ]] || step "$@"
}

# 10,000 random problems, of which kernels of half precision take half, in processes of four threads each.
sweep_long() {
  seq 11 30 | OMP_NUM_THREADS=4 limited xargs -P "$(($(nproc) / 4 + 1))" -I SEED bash -c \
    '"$0" check --device cuda --seed SEED --cases 500 --backend fused >"$1/sweep-SEED.log" 2>&1 ||
     { tail -n 20 "$1/sweep-SEED.log"; exit 255; }' "$build/cli/vicinal" "$work"
}

tilings() {  # tilings OPERATION
  limited "$build/cli/vicinal" tilings --device cuda --suite benchmarks/suites/headline.json --random-problems 100 \
    --best 64 --others 64 --operation "$1" --json "$work/tilings-$1.json"
}

ragged() {
  local suite
  for suite in ragged ragged_alignments; do
    limited "$build/cli/vicinal" bench --device cuda --suite "benchmarks/suites/$suite.json" --cold --seconds 0.02 \
      --repetitions 5 "${passes[@]}" --json "$work/$suite.json" || return
  done
}

small_problems() {
  local backend operation
  for operation in forward backward; do
    [[ ${#passes[@]} -gt 0 && $operation == backward ]] && continue
    for backend in naive fused ''; do
      limited "$build/cli/vicinal" bench --device cuda --suite benchmarks/suites/small_problems.json "--$operation" \
        --seconds 0.01 ${backend:+--backend "$backend"} --json "$work/small-$operation-${backend:-planned}.json" || return
    done
  done
}

# Of each problem the first launches: forward passes, then all kernels of backward passes, whose process begins with a
# forward pass. profile_table.py prints what comes of it.
profiles() {  # profiles SUITE PROBLEM...
  local suite=$1 name pass
  local file=$work/profiles-$suite.csv
  shift
  rm -f "$file"
  for name; do
    for pass in 'forward:fused_kernel.*Pass.[01]' 'backward:fused_kernel.*Pass.[2-6]|delta_kernel|round_kernel'; do
      [[ ${#passes[@]} -gt 0 && ${pass%%:*} == backward ]] && continue
      echo "# $name ${pass%%:*}" >>"$file"
      limited ncu --csv --print-units base --clock-control none --kernel-name-base demangled \
        --kernel-name "regex:${pass#*:}" --launch-count 6 --metrics "$(tr -d ' \n' <<<'
          gpu__time_duration.sum,
          sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_elapsed,
          sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_elapsed,
          sm__inst_issued.avg.pct_of_peak_sustained_elapsed,
          l1tex__throughput.avg.pct_of_peak_sustained_elapsed,
          lts__throughput.avg.pct_of_peak_sustained_elapsed,
          dram__throughput.avg.pct_of_peak_sustained_elapsed,
          dram__bytes.sum,lts__t_bytes.sum,
          smsp__warps_active.avg.per_cycle_active,smsp__warps_eligible.avg.per_cycle_active,
          sm__cycles_elapsed.avg.per_second')" \
        "$build/cli/vicinal" bench --device cuda --suite "benchmarks/suites/$suite.json" --only "$name" \
        "--${pass%:*}" --dtype fp16 --seconds 0.001 --repetitions 1 >>"$file" || return
    done
  done
}

training() { with_package python3 -m benchmarks.training --json "$work/training.json"; }

write_record() { python3 scripts/gpu_record.py --work "$work" --record "$record" --commit "$VICINAL_COMMIT"; }

failed=0
if [[ -z $prebuilt ]]; then
  step build 1800 build_everything || { echo "nothing can be tested"; exit 1; }
fi

# Tests run beside each other: half of their time is the CPU's, for the oracle. Tensors of more than 2^31 elements take
# most of the GPU's memory, so those tests run one after the other.
tests=()
beside() { step "$@" & tests+=($!); }
beside kernels 300 kernel_tests '*cuda*:OnGpu.*:Cuda.*:TensorMap.*-*FarApart*'
for ((part = 1; part <= hopper_parts; ++part)); do
  beside "hopper-$part" 300 hopper_tests "$part"
done
beside far-apart 240 kernel_tests '*FarApart*cuda*:*FarApart*sm90*'
beside sweep 240 sweep --backend naive
beside sweep-hopper 240 sweep --backend fused
beside python 300 python_tests
for tool in memcheck racecheck synccheck initcheck; do
  beside "$tool" 300 sanitizer "$tool"
done
beside unit 60 unit_tests
for process in "${tests[@]}"; do
  wait "$process" || failed=1
done
write_record >/dev/null

# Beside what is measured nothing else runs. The record is written after each step, should the next be cut short.
step first-plans 60 first_plans || failed=1
step benchmark 250 benchmark || failed=1
write_record >/dev/null
step benchmark-bf16 200 benchmark_bf16 || failed=1
write_record >/dev/null
step overhead 60 overhead || failed=1
write_record >/dev/null
step peers 200 peers || failed=1
study sweep-long 580 sweep_long || failed=1
study tilings-forward 300 tilings forward || failed=1
study tilings-backward 500 tilings backward || failed=1
study ragged 200 ragged || failed=1
study small-problems 150 small_problems || failed=1
study profiles-dense 200 profiles dense dense_{32,64,96,128,192,256} || failed=1
study profiles-headline 300 profiles headline 1d_32k 2d_flux 3d_hunyuan 2d_nat 2d_dinat 2d_128 3d_16 || failed=1
study training 250 training || failed=1
write_record || failed=1
exit $failed
