#!/usr/bin/env bash
# Builds what judges deploy/ and is in no Debian package: the official OpenTelemetry Collector (by its own
# builder) and the loader of Docker Compose (its own command). From the Go module proxy, pinned, kept outside
# the tree in ~/.cache/taximeter; built again when a version or the list of parts changes.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
collector=0.161.0
compose=v2.16.2
kept="${XDG_CACHE_HOME:-$HOME/.cache}/taximeter"
key="$(cat "$here/collector.yaml" "$0" | sha256sum | cut -c1-12)"
if [ -x "$kept/otelcol" ] && [ -x "$kept/compose-spec" ] && [ "$(cat "$kept/official.key" 2>/dev/null)" = "$key" ]; then
  echo "==> the official collector $collector and Compose's loader $compose are in $kept"
  exit 0
fi
command -v go >/dev/null || { echo "no \`go\` on PATH: install Go (https://go.dev/dl), or name a collector in TAXIMETER_OTELCOL" >&2; exit 1; }
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$kept"
export CGO_ENABLED=0 GOWORK=off GOFLAGS=
echo "==> building Compose's loader $compose"
GOBIN="$work" go install "github.com/compose-spec/compose-go/v2/cmd@$compose"
echo "==> building the official collector $collector (some minutes the first time)"
sed "s|vVERSION|v$collector|; s|OUTPUT|$work/out|" "$here/collector.yaml" > "$work/builder.yaml"
(cd "$work" && go run "go.opentelemetry.io/collector/cmd/builder@v$collector" --config builder.yaml)
mv "$work/cmd" "$kept/compose-spec"
mv "$work/out/otelcol" "$kept/otelcol"
echo "$key" > "$kept/official.key"
"$kept/otelcol" --version
