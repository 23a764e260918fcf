#!/usr/bin/env bash
# Makes sure that the Debian packages of the named groups are there: installs them as root, else names what is missing.
# usage: scripts/install_packages.sh GROUP...   (groups: build, ci)
set -euo pipefail

build=(g++ make cmake ninja-build ccache python3 python3-dev python3-venv
  libhwy-dev libfmt-dev libcli11-dev nlohmann-json3-dev libgtest-dev)
ci=(git clang libomp-dev libclang-rt-dev)

packages=()
for group in "$@"; do
  case $group in
    build) packages+=("${build[@]}") ;;
    ci) packages+=("${ci[@]}") ;;
    *) echo "unknown group '$group'; allowed: build, ci" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  echo "Not a Debian system: make sure that these packages' counterparts are installed: ${packages[*]}"
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $(id -u) -ne 0 ]]; then
  echo "Missing packages. Install them with:" >&2
  echo "  sudo apt-get install ${missing[*]}" >&2
  exit 1
fi

echo "Installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
