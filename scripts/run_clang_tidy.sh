#!/usr/bin/env bash
# clang-tidy on every C++ source of the project; any finding is an error. Needs the packages of `build` and `ci`, and
# .venv with requirements/test.txt and requirements/lint.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

# A configuration with every part in it, for clang; what is compiled is one generated header.
cmake --preset cpu -B build/tidy -DCMAKE_CXX_COMPILER=clang++ -DPython_EXECUTABLE="$PWD/.venv/bin/python" \
  -DVICINAL_PYTHON=ON >/dev/null
cmake --build build/tidy --target vicinal_commit

# The wheel's clang-tidy carries clang's own headers but not OpenMP's: take omp.h, and only it, from the compiler.
omp_include=$(dirname "$(g++ -print-file-name=include/omp.h)")

.venv/bin/run-clang-tidy.py -clang-tidy-binary .venv/bin/clang-tidy -p build/tidy -quiet -j "$(nproc)" \
  -extra-arg="-idirafter$omp_include" "$PWD/(src|cli|bindings|tests|benchmarks)/.*\.cpp$"
