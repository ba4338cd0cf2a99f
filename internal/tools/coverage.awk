# SPDX-License-Identifier: Apache-2.0
# Reads a Go coverage profile and prints the share of covered statements of each hand-written package.
# Exits 1 if one is below `least` percent. A block may occur once for each test binary; it is covered if any of them covers it.
/^mode:/ { next }
{
	split($1, place, ":")
	file = place[1]
	if (file ~ /\/generated_[a-z_]+\.go$/ || file ~ /\/metadata(test)?\//) next
	statements[$1] = $2
	if ($3 > 0) covered[$1] = 1
}
END {
	for (block in statements) {
		split(block, place, ":")
		package = place[1]
		sub(/\/[^\/]+$/, "", package)
		all[package] += statements[block]
		if (block in covered) hit[package] += statements[block]
	}
	for (package in all) {
		share = 100 * hit[package] / all[package]
		printf "%5.1f %%  %s%s\n", share, package, share < least ? "  BELOW " least " %" : "" | "sort -k3"
		if (share < least) bad = 1
	}
	close("sort -k3")
	exit bad
}
