#!/usr/bin/env python3
"""Runs a compiler, and writes how much memory its largest process had: OBJECT.memory, in bytes, beside the object.

usage: CCACHE_PREFIX=$PWD/scripts/record_memory.py cmake --build build/cuda

What ccache has is not compiled, so the figure of the last compilation stays, if there is one.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

command = sys.argv[1:]
status = subprocess.run(command).returncode
if status == 0 and "-o" in command:
    kibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of the children's children, too
    Path(command[command.index("-o") + 1] + ".memory").write_text(f"{kibibytes * 1024}\n")
sys.exit(status)
