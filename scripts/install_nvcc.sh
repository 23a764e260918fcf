#!/usr/bin/env bash
# Prints the path of a CUDA compiler: the one on PATH, or one installed from PyPI into build/nvcc.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v nvcc; then exit 0; fi

python3 -m venv build/nvcc
build/nvcc/bin/python -m pip install --quiet --requirement requirements/cuda.txt
toolkit=$(build/nvcc/bin/python -c 'import nvidia, os; print(os.path.join(nvidia.__path__[0], "cu13"))')
ln -sfn lib "$toolkit/lib64"  # where nvcc looks for the runtime library
echo "$toolkit/bin/nvcc"
