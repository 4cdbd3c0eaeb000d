#!/usr/bin/env bash
# Everything that must hold before a change goes in: format, vet, lint, static builds and every test.
#
#   ./test.sh                          everything
#   ./test.sh ./worker/... -run Lease  only these tests (arguments of go test), with all set-up
#   ./test.sh --lint                   only the linter
#   ./test.sh -- COMMAND ...           one command that finds the test database in TEST_DATABASE_URL
#
# Needs Go and, on Debian as root, nothing else: what is missing is installed. Elsewhere it says what to install and
# exits with 2. The database is a private PostgreSQL cluster in a temporary directory, gone when the script ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

LINT_VERSION=2.15.0
POSTGRES_MIN=15

main() {
  require_tools
  tmp=$(mktemp -d)
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  results=$tmp/results # one line a test: pass|fail|skip, its name, why it was skipped
  : >"$results"

  case ${1:-all} in
  --lint) lint; return ;;
  --) shift; start_postgres; "$@"; return ;;
  all)
    step 'gofmt' check_format
    step 'go vet' go vet ./...
    step 'go vet of the benchmarks' go -C test/bench vet ./... # a module of its own
    step "golangci-lint $LINT_VERSION" lint
    step 'static binaries' build_for_release
    step 'Windows: vet and link' check_windows
    start_postgres
    step 'unit and integration tests' unit_test
    # The scenarios run the product with the race detector: only there do signals, reconnects and several processes meet.
    # What it costs, some factor of processor time, leaves every scenario within its deadlines.
    export TEST_BINARY=$tmp/omflow-booster
    step 'binary under test' go build -race -o "$TEST_BINARY" .
    # Scenarios mostly wait, each in processes, ports and network namespaces of its own.
    step 'scenarios over real processes' go_test -parallel 2 ./test/...
    step 'Python tests' python_test
    if (($(count fail))); then step 'what failed, again and alone' second_look; fi
    ;;
  *)
    start_postgres
    step "go test $*" go_test "$@" # scenarios among them build their binary themselves
    ;;
  esac
  summary
}

# --- steps ---------------------------------------------------------------------------------------------------------

# step HEADLINE COMMAND... runs a command and goes on when it fails, so that one run shows all there is to mend.
step() {
  local headline=$1 start=$SECONDS known status
  shift
  known=$(count fail)
  printf '\n== %s\n' "$headline"
  set +e # with "if (…)" the shell would ignore set -e within the command
  (set -e; "$@")
  status=$?
  set -e
  if ((status && $(count fail) == known)); then # it failed, and not by a test
    printf 'fail\t%s\t\n' "$headline" >>"$results"
  fi
  printf '== %s: %s, %d s\n' "$headline" "$( ((status)) && echo FAILED || echo ok)" $((SECONDS - start))
}

check_format() {
  local wrong
  wrong=$(gofmt -l .)
  if [ -n "$wrong" ]; then
    printf 'gofmt -w these files:\n%s\n' "$wrong"
    return 1
  fi
}

lint() {
  local tool
  tool=$(command -v golangci-lint || true)
  if [ -z "$tool" ] || [ "$("$tool" version --short)" != "$LINT_VERSION" ]; then
    tool=$PWD/.cache/tools/golangci-lint-$LINT_VERSION/golangci-lint
    [ -x "$tool" ] ||
      GOBIN=${tool%/*} go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$LINT_VERSION"
  fi
  "$tool" run --allow-parallel-runners ./... # another checkout may be at it
}

# What is shipped: one file that needs no library of the host.
build_for_release() {
  local target file headers
  for target in linux/amd64 linux/arm64 windows/amd64; do
    file=$tmp/release-${target/\//-}
    echo "build $target"
    CGO_ENABLED=0 GOOS=${target%/*} GOARCH=${target#*/} go build -trimpath -ldflags='-s -w' -o "$file" .
    if [[ $target == linux/* ]]; then
      headers=$(readelf --program-headers --wide "$file")
      if [[ $headers == *INTERP* ]]; then # the loader that a dynamic program asks for
        echo "the binary for $target is not statically linked"
        return 1
      fi
    fi
  done
}

# Windows cannot run here: what is particular to it must at least be sound, and its tests must link.
check_windows() {
  GOOS=windows go vet ./...
  mkdir -p "$tmp/windows"
  CGO_ENABLED=0 GOOS=windows go test -c -o "$tmp/windows/" ./agent ./broker ./broker/audit ./worker/runner ./internal/process ./internal/supervise ./internal/patch ./internal/tree
}

go_test() {
  go test -race -count=1 -shuffle=on -timeout=60m -json "$@" | go run ./internal/testsum "$results"
}

# Everything but the scenarios.
unit_test() {
  local packages
  packages=$(go list ./... | grep -Ev '/test(/|$)')
  go_test -timeout=15m $packages # the longest takes four to eight
}

# Scenarios have deadlines, and two cores have other things to do. A few tests that failed are run once more, alone, and so is a package that failed
# outside of its tests: what fails twice is broken, what passes then is named at the end and worth a look.
second_look() {
  local first=$results name package tests
  local results=$tmp/second
  sed -nE "s#^fail\t($(go list -m)[^\t]*)\t.*#\1#p" "$first" | sed -E 's#(\.Test[A-Za-z0-9_]*)/.*#\1#' | sort -u >"$tmp/failed"
  if (($(wc -l <"$tmp/failed") > 5)); then
    echo 'too many to be an accident'
    return
  fi
  for package in $(sed -E 's#\.Test[A-Za-z0-9_]*$##' "$tmp/failed" | sort -u); do
    tests=$(sed -nE "s#^$package\.(Test[A-Za-z0-9_]*)\$#\1#p" "$tmp/failed" | paste -sd'|')
    go_test -p 1 -parallel 1 ${tests:+-run "^($tests)\$"} -timeout=15m "$package" || true
  done
  while read -r name; do
    if grep -qP "^pass\t$name[.\t]" "$results" && ! grep -qP "^fail\t$name[./\t]" "$results"; then
      sed -i -E "s#^fail\t($name(/[^\t]*)?)\t.*#pass\t\1\t#" "$first"
      printf 'again\t%s\t\n' "$name" >>"$first"
    fi
  done <"$tmp/failed"
}

# Python tests lie beside what they test; plugin/ is where its package is imported from.
# Each directory has a process of its own, so that two may have a file of the same name.
python_test() {
  local dir status=0
  for dir in $(find . -name 'test_*.py' -not -path './.*' -exec dirname {} + | sort -u); do
    echo "$dir"
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/plugin "$(django_python)" .ci/unittests.py "$results" "$dir" || status=1
  done
  return "$status"
}

# --- result --------------------------------------------------------------------------------------------------------

count() { grep -c "^$1"$'\t' "$results" || true; }

summary() {
  local passed failed skipped
  passed=$(count pass) failed=$(count fail) skipped=$(count skip)
  if ((skipped)); then
    printf '\n!! SKIPPED, so not tested:\n'
    awk -F'\t' '$1 == "skip" { print "   " $2 ": " $3 }' "$results"
  fi
  if (($(count again))); then
    printf '\n!! FAILED ONCE, passed when run again alone:\n'
    awk -F'\t' '$1 == "again" { print "   " $2 }' "$results"
  fi
  if ((failed)); then
    printf '\n!! FAILED:\n'
    awk -F'\t' '$1 == "fail" { print "   " $2 ($3 ? ": " $3 : "") }' "$results"
  fi
  if ((passed == 0)); then
    printf '\n!! no test ran\n'
  fi
  printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  ((passed > 0 && failed == 0))
}

# --- set-up --------------------------------------------------------------------------------------------------------

require_tools() {
  command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin # where Go's own archive is unpacked
  if ! go list -m >/dev/null; then
    echo "test.sh needs Go $(awk '$1 == "go" { print $2 }' go.mod) or newer: https://go.dev/dl/" >&2
    exit 2
  fi
  # The checkout may belong to somebody else than the one who tests; git then refuses to tell its version.
  GOFLAGS="$(go env GOFLAGS) -buildvcs=false"
  export GOFLAGS

  local missing=()
  [ -n "$(postgres_bin)" ] || missing+=(postgresql)
  [ -n "$(django_python)" ] || missing+=(python3 python3-django python3-psycopg2)
  command -v "$(go env CC)" >/dev/null || missing+=(gcc libc6-dev) # for the race detector
  ((EUID != 0)) || command -v ip >/dev/null || missing+=(iproute2) # for network partitions, which need root
  ((${#missing[@]})) || return 0
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    echo "test.sh needs PostgreSQL $POSTGRES_MIN or newer (the server), Python 3 with Django 2.2 to 3.2 and psycopg2, a C compiler and, as root, iproute2." >&2
    echo "Missing here, as Debian names it: apt-get install ${missing[*]}" >&2
    exit 2
  fi
  echo "== install ${missing[*]}"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  if [ -z "$(postgres_bin)" ]; then
    echo "test.sh needs PostgreSQL $POSTGRES_MIN or newer; this system's package is older" >&2
    exit 2
  fi
  if [ -z "$(django_python)" ]; then
    echo "test.sh needs a Python 3 with Django 2.2 to 3.2 and psycopg2; this system's packages are others" >&2
    exit 2
  fi
}

# django_python prints a Python that has what an OMFLOW Server needs; nothing if there is none. PATH may have another before Debian's.
django_python() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import django, psycopg2, sys; sys.exit(not (2, 2) <= django.VERSION[:2] <= (3, 2))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
}

# postgres_bin prints the directory of the newest PostgreSQL server programs; nothing if there is none new enough.
postgres_bin() {
  local dir
  for dir in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) $(pg_config --bindir 2>/dev/null); do
    if [ -x "$dir/initdb" ] && (($("$dir/postgres" --version | awk '{ print int($3) }') >= POSTGRES_MIN)); then
      echo "$dir"
      return
    fi
  done
}

# as_postgres runs a program of PostgreSQL, which refuses to be root.
as_postgres() (
  cd "$pg_dir"
  local program=$pg_bin/$1
  shift
  if ((EUID == 0)); then runuser -u postgres -- "$program" "$@"; else "$program" "$@"; fi
)

# start_postgres starts an empty cluster that nobody else knows and sets TEST_DATABASE_URL to its superuser.
# It is fast rather than safe, and has room for the pools of many tests.
start_postgres() {
  local port password
  password=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  pg_bin=$(postgres_bin)
  pg_dir=$(mktemp -d /tmp/omflow-booster-pg.XXXXXX) # not in TMPDIR: the postgres user must get there
  echo "$password" >"$pg_dir/password"
  if ((EUID == 0)); then chown -R postgres "$pg_dir"; fi
  as_postgres initdb --pgdata="$pg_dir/data" --username=tester --pwfile="$pg_dir/password" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync >"$tmp/initdb.log" || { cat "$tmp/initdb.log"; return 1; }
  cat >>"$pg_dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$pg_dir'
max_connections = 500
fsync = off
synchronous_commit = off
full_page_writes = off
CONF
  as_postgres pg_ctl start --pgdata="$pg_dir/data" --log="$pg_dir/log" --wait --silent || { cat "$pg_dir/log"; return 1; }
  export TEST_DATABASE_URL="postgres://tester:$password@127.0.0.1:$port/postgres?sslmode=disable"
}

# clean_up stops the cluster by its own process id, which pg_ctl reads from the data directory.
clean_up() {
  if [ -n "${pg_dir:-}" ]; then
    if [ -e "$pg_dir/data/postmaster.pid" ]; then
      as_postgres pg_ctl stop --pgdata="$pg_dir/data" --mode=immediate --silent || true
    fi
    rm -rf "$pg_dir"
  fi
  rm -rf "$tmp"
}

main "$@"
