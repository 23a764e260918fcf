#!/usr/bin/env bash
# A source file has at most 700 lines: longer ones hold more than one idea.
# usage: scripts/check_file_size.sh FILE...
set -euo pipefail

status=0
for file in "$@"; do
  lines=$(wc -l <"$file")
  if ((lines > 700)); then
    echo "$file: $lines lines; allowed: at most 700"
    status=1
  fi
done
exit $status
