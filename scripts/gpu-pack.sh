#!/usr/bin/env bash
# Builds for one GPU architecture and packs what gpu-check.sh needs to run on a machine that has a GPU, but no compiler,
# headers or package registry: programs and tests without symbols, the Python extension, shared libraries that such a
# machine may lack, and nanobind's backend for its Python.
#
# usage: scripts/gpu-pack.sh [--arch 90] [--python 3.12] [--build FOLDER] ARCHIVE.tar.xz
#
# There, in a checkout of the same commit:
#   mkdir packed && tar -C packed -xf ARCHIVE.tar.xz && scripts/gpu-check.sh --build "$PWD/packed" --commit COMMIT
set -euo pipefail
cd "$(dirname "$0")/.."

arch=90 python=3.12 build=build/gpu-pack
while [[ $# -gt 1 ]]; do
  case $1 in
    --arch) arch=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --build) build=$2; shift 2 ;;
    *) break ;;
  esac
done
[[ $# -eq 1 ]] || { sed -n '2,9p' "$0" >&2; exit 2; }
archive=$(realpath -m "$1")

make --silent build/stamps/venv
CUDACXX=$(scripts/install_nvcc.sh | tail -n 1)
export CUDACXX
cmake -G Ninja -B "$build" -DCMAKE_BUILD_TYPE=Release -DVICINAL_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES="$arch-real" \
  -DVICINAL_PYTHON=ON -DPython_EXECUTABLE="$PWD/.venv/bin/python" >/dev/null
cmake --build "$build" --target vicinal_cli vicinal_kernel_tests vicinal_unit_tests vicinal_ext

packed=$build/packed
rm -rf "$packed"
mkdir -p "$packed"/{cli,tests/unit,tests/kernels,bindings,lib}
for file in cli/vicinal tests/unit/vicinal_unit_tests tests/kernels/vicinal_kernel_tests "$build"/bindings/_ext*.so; do
  file=${file#"$build"/}
  strip -o "$packed/$file" "$build/$file"
done
cp -r "$build/tests/kernels/golden" "$packed/tests/kernels/"
ldd "$build/cli/vicinal" | awk '/libhwy|libgomp/ { print $3 }' | xargs -I LIBRARY cp -L LIBRARY "$packed/lib/"
.venv/bin/python -m pip install --quiet --no-deps --no-compile --only-binary=:all: --python-version "$python" \
  --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --target "$packed/site" \
  "$(grep nanobind-backend requirements/test.txt)"
tar -C "$packed" -cJf "$archive" .
ls -l "$archive"
