#!/usr/bin/env bash
# Type-checks docs/evidence.ts with the real compiler and runs it with node against the test vectors.
# Needs node and npm; downloads the compiler into a temporary folder. `make prove-typescript`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
command -v npm >/dev/null || { echo "prove-typescript: node and npm are needed (apt-get install nodejs npm)"; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$root/docs/evidence.ts" "$work/evidence.mts"
cp "$root/tools/prove_typescript.mjs" "$work/prove.mjs"
cd "$work"
npm install --silent --no-audit --no-fund --no-save typescript@5 @types/node@20 >/dev/null
npx tsc --strict --noUncheckedIndexedAccess --target es2022 --module nodenext --types node evidence.mts
node prove.mjs "$root/docs/evidence-vectors.json"
