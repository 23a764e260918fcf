#!/usr/bin/env bash
# Everything that only a GPU can show: builds, tests, looks for bad memory accesses and races, measures. Writes one JSON
# record and prints a short table last. Run again, it goes on after the last step that passed.
#
# usage: scripts/gpu-check.sh [options]
#   --work FOLDER     where it builds and keeps what steps found          (default: build/gpu-check)
#   --build FOLDER    a build folder with the programs: nothing is built  (default: WORK/build)
#   --deps PREFIX     where CMake looks for Highway, fmt, CLI11, nlohmann-json and GoogleTest
#   --cutlass FOLDER  CUTLASS headers, for kernels that use them
#   --extension FILE  the Python extension, where Python's headers to build it are missing
#   --record FILE     the record                                          (default: WORK/record.json)
#   --cases N         random problems for `vicinal check`                 (default: 400)
#   --steps "A B"     these steps only, of: build unit kernels sweep python overhead memcheck racecheck synccheck
#                     initcheck benchmark peers
#   --fresh           forget what passed before
#
# Needs a GPU, a CUDA toolkit, Python with PyTorch, NumPy, matplotlib, pytest, nanobind and nanobind-backend; no network.
set -uo pipefail
cd "$(dirname "$0")/.."

work=build/gpu-check
build='' deps='' cutlass='' extension='' record='' steps='' cases=400 fresh=no
while [[ $# -gt 0 ]]; do
  case $1 in
    --work) work=$2; shift 2 ;;
    --build) build=$2; shift 2 ;;
    --deps) deps=$2; shift 2 ;;
    --cutlass) cutlass=$2; shift 2 ;;
    --extension) extension=$(realpath "$2"); shift 2 ;;
    --record) record=$2; shift 2 ;;
    --cases) cases=$2; shift 2 ;;
    --steps) steps=" $2 "; shift 2 ;;
    --fresh) fresh=yes; shift ;;
    *) sed -n '2,19p' "$0" >&2; exit 2 ;;
  esac
done
[[ $fresh == yes ]] && rm -rf "$work/steps"
mkdir -p "$work/steps"
work=$(realpath "$work")
prebuilt=$build
build=${build:-$work/build}
record=${record:-$work/record.json}
export OMP_WAIT_POLICY=passive

# A step that passed for the same sources is not run again.
sources=$( (git rev-parse HEAD && git diff HEAD) 2>/dev/null | sha256sum | cut -c1-16)

step() {  # step NAME COMMAND...
  local name=$1 folder=$work/steps/$1 start=$SECONDS status=0
  shift
  [[ -n $steps && $steps != *" $name "* ]] && return
  mkdir -p "$folder"
  if [[ $(cat "$folder/passed" 2>/dev/null) == "$sources" ]]; then
    echo "==== $name: passed before"
    return
  fi
  rm -f "$folder/passed"
  echo "==== $name"
  "$@" >"$folder/log" 2>&1 || status=$?
  echo $status >"$folder/status"
  echo $((SECONDS - start)) >"$folder/seconds"
  if [[ $status -eq 0 ]]; then
    echo "$sources" >"$folder/passed"
  else
    tail -n 40 "$folder/log"
    echo "==== $name FAILED with status $status; all of its output: $folder/log"
  fi
  return $status
}

build_everything() {
  local options=(-G Ninja -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_COMPILE_WARNING_AS_ERROR=OFF -DVICINAL_CUDA=ON
                 -DVICINAL_PYTHON="$([[ -z $extension ]] && echo ON || echo OFF)"
                 -DPython_EXECUTABLE="$(command -v python3)")
  [[ -n $deps ]] && options+=("-DCMAKE_PREFIX_PATH=$deps")
  [[ -n $cutlass ]] && options+=("-DVICINAL_CUTLASS=$cutlass")
  cmake "${options[@]}" && cmake --build "$build" --parallel "$(nproc)"
}

# Limits of time, because a kernel that waits for ever would keep the steps after it from running.

# The kernels of the backends on CUDA; those of the CPU are tested where there is no GPU.
kernel_tests() { timeout 240 "$build/tests/kernels/vicinal_kernel_tests" --gtest_filter='*cuda*:*sm90*:OnGpu.*:Cuda.*:TensorMap.*'; }
unit_tests() { timeout 60 "$build/tests/unit/vicinal_unit_tests"; }
sweep() { timeout 120 "$build/cli/vicinal" check --device cuda --seed 1 --cases "$cases"; }

# On a few small problems, and on some that kernels of one shape or dtype do not refuse. Not racecheck on Hopper's
# kernels: their tiles come from the copy engine, which it does not follow.
sanitizer() {  # sanitizer TOOL
  local check=(timeout 120 compute-sanitizer --tool "$1" --error-exitcode 9 "$build/cli/vicinal" check --device cuda --seed 3
               --size 0.02)
  "${check[@]}" --cases 8 --backend naive && "${check[@]}" --cases 100 --kernel tiled_cuda_pointwise_neighborhood &&
    { [[ $1 == racecheck ]] || "${check[@]}" --cases 12 --kernel fused_sm90_forward; }
}

package=$work/python
with_package() {  # with_package COMMAND...: where Python finds vicinal
  rm -rf "$package"
  cp -r python "$package" && cp "${extension:-$(echo "$build"/bindings/_ext*.so)}" "$package/vicinal/" || return
  PYTHONPATH=$package${PYTHONPATH:+:$PYTHONPATH} "$@"
}
python_tests() { with_package python3 -m pytest -q -p no:cacheprovider tests/python/test_cuda.py; }
overhead() { with_package python3 -m benchmarks.overhead --device cuda --seconds 0.5 --json "$work/overhead.json"; }

bench() {  # bench PROBLEMS DTYPE OPTION...: those of the headline suite with this in their name
  local problems=$1 dtype=$2
  shift 2
  "$build/cli/vicinal" bench --device cuda --suite benchmarks/suites/headline.json --only "$problems" \
    --dtype "$dtype" "$@" --json "$work/bench-$problems-$dtype.json"
}

# Naive passes over the largest problems take seconds each, and have records of their own.
benchmark() {
  local problems
  bench _ fp16 --forward --cold --seconds 0.3 || return
  for problems in 1d 2d_nat 2d_dinat 2d_128 3d_16; do
    bench "$problems" fp16 --backward --cold --seconds 0.2 || return
    bench "$problems" fp32 --cold --seconds 0.2 || return
  done
}

# Beside what the benchmark measured; the largest problems take PyTorch seconds a pass, and have records of their own.
peers() {
  local records=() file
  for file in "$work"/bench-*-fp16.json; do
    [[ -e $file ]] && records+=(--record "$file")
  done
  with_package python3 -m benchmarks.peers --only 1d --only 2d_nat --only 2d_dinat --only 2d_128 --only 3d_16 \
    --seconds 0.1 --budget 60 "${records[@]}" --json "$work/peers.json" --plot "$work/peers.png"
}

write_record() {
  python3 scripts/gpu_record.py --work "$work" --record "$record"
}

failed=0
if [[ -z $prebuilt ]]; then
  step build build_everything || { echo "nothing can be tested"; exit 1; }
fi
step unit unit_tests || failed=1
step kernels kernel_tests || failed=1
step sweep sweep || failed=1
step python python_tests || failed=1
step overhead overhead || failed=1
for tool in memcheck racecheck synccheck initcheck; do
  step "$tool" sanitizer "$tool" || failed=1
done
step benchmark benchmark || failed=1
step peers peers || failed=1
write_record || failed=1
exit $failed
