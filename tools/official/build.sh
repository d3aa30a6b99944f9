#!/usr/bin/env bash
# Builds what judges deploy/ and is in no Debian package: the loader of Docker Compose (its own command),
# kustomize, the official OpenTelemetry Collector (by its own builder), and a Prometheus 3. From the Go module
# proxy, pinned, kept outside the tree in ~/.cache/taximeter; each is built again when its version changes.
#   build.sh [compose-spec] [kustomize] [otelcol] [prometheus3]      all of them without an argument
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
compose=v2.16.2
kustomize=v5.8.1
collector=0.161.0
prometheus=3.13.5
kept="${XDG_CACHE_HOME:-$HOME/.cache}/taximeter"
mkdir -p "$kept"
work="$(mktemp -d)"
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false

# tool NAME KEY COMMAND...: runs the command, which leaves $work/NAME, unless one with this key is kept.
tool() {
  local name="$1" key="$2" began="$SECONDS"
  if [ -x "$kept/$name" ] && [ "$(cat "$kept/$name.key" 2>/dev/null)" = "$key" ]; then
    echo "==> $name $key is in $kept"
    return
  fi
  command -v go >/dev/null || { echo "no \`go\` on PATH, which building $name needs: install Go (https://go.dev/dl)" >&2; exit 1; }
  echo "==> building $name $key"
  "${@:3}" >"$work/log" 2>&1 || { tail -30 "$work/log" >&2; exit 1; }
  mv "$work/$name" "$kept/$name"
  echo "$key" >"$kept/$name.key"
  echo "    $((SECONDS - began)) s"
}

build_compose() {
  GOBIN="$work" go install "github.com/compose-spec/compose-go/v2/cmd@$compose"
  mv "$work/cmd" "$work/compose-spec"
}

build_kustomize() { GOBIN="$work" go install "sigs.k8s.io/kustomize/kustomize/v5@$kustomize"; }

build_collector() {
  sed "s|vVERSION|v$collector|; s|OUTPUT|$work/out|" "$here/collector.yaml" >"$work/builder.yaml"
  (cd "$work" && go run "go.opentelemetry.io/collector/cmd/builder@v$collector" --config builder.yaml)
  mv "$work/out/otelcol" "$work/otelcol"
}

# Without service discovery of any cloud, which nothing here needs and which doubles the build. Its module
# version is v0.3MM.P for 3.MM.P.
build_prometheus() {
  local source version="v0.3$(printf '%02d' "$(cut -d. -f2 <<<"$prometheus")").${prometheus##*.}"
  source="$(cd "$work" && go mod download -json "github.com/prometheus/prometheus@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')"
  cp -r "$source" "$work/source"
  chmod -R u+w "$work/source"
  (cd "$work/source" && go build -tags remove_all_sd -o "$work/prometheus3" \
    -ldflags "-X github.com/prometheus/common/version.Version=$prometheus" ./cmd/prometheus)
}

for one in "${@:-compose-spec kustomize otelcol prometheus3}"; do
  for name in $one; do
    case "$name" in
      compose-spec) tool "$name" "$compose" build_compose ;;
      kustomize) tool "$name" "$kustomize" build_kustomize ;;
      otelcol) tool "$name" "$collector-$(sha256sum <"$here/collector.yaml" | cut -c1-12)" build_collector ;;
      prometheus3) tool "$name" "$prometheus" build_prometheus ;;
      *) echo "build.sh: no tool \`$name\`" >&2; exit 2 ;;
    esac
  done
done
