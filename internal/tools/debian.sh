#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Usage: debian.sh DIRECTORY PACKAGE...
# Unpacks packages of Debian into a directory, with those that they need and this machine does not have. Nothing is installed, and no
# service starts.
set -euo pipefail
directory=$1
shift
rm -rf "$directory"
mkdir -p "$directory"
if ! command -v apt-get >/dev/null; then
	echo "There is no apt-get here: tests look for the programs of $* in PATH." >&2
	exit
fi
mkdir -p "$directory/apt/lists/partial" "$directory/apt/archives/partial"
apt=$(realpath "$directory/apt")
options=(-q -y -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt" -o Debug::NoLocking=1)
apt-get "${options[@]}" update
apt-get "${options[@]}" install --download-only --no-install-recommends --reinstall "$@"
for package in "$apt"/archives/*.deb; do
	dpkg-deb -x "$package" "$directory"
done
rm -rf "$apt"
