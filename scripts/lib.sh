# Sourced by the other scripts: one virtual environment, made once, kept up to date.
# Needs Python 3.11+ with pip; uses uv where it is there (faster).
# shellcheck shell=sh

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv="$root/.venv"

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Prints the first Python that is new enough.
find_python() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "taskctl needs Python 3.11 or newer. Install it, or set PYTHON to its path."
}

make_venv() {
    python=$(find_python) || exit 1
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --python "$python" "$venv"
    elif ! "$python" -m venv "$venv" 2>/dev/null; then
        # Debian ships Python without ensurepip; virtualenv brings its own pip.
        rm -rf "$venv"
        "$python" -m pip install --quiet --target "$root/.venv-bootstrap" virtualenv ||
            die "Neither 'python3 -m venv' nor 'pip install virtualenv' works; install python3-venv."
        PYTHONPATH="$root/.venv-bootstrap" "$python" -m virtualenv --quiet "$venv"
        rm -rf "$root/.venv-bootstrap"
    fi
}

pip_install() {
    if command -v uv >/dev/null 2>&1; then
        uv pip install --quiet --python "$venv/bin/python" "$@"
    else
        say "Installing packages with pip:"
        status=$(mktemp)
        {
            code=0
            "$venv/bin/python" -m pip install --progress-bar off --disable-pip-version-check "$@" || code=$?
            echo "$code" >"$status"
        } | show_pip
        code=$(cat "$status")
        rm -f "$status"
        return "$code"
    fi
}

say() {
    printf '%s\n' "$*" >&2
}

# Shows what pip is at: one line that changes on a terminal, a line for each step elsewhere.
show_pip() {
    while IFS= read -r line; do
        case "$line" in
        Collecting*) what="  finding ${line#Collecting }" ;;
        *Downloading*) what="  downloading ${line#*Downloading }" ;;
        *"Installing collected packages"*) what="  installing what was found" ;;
        *"build dependencies"* | *"Building "*) what="  building taskctl" ;;
        *) continue ;;
        esac
        if [ -t 2 ]; then
            printf '\r\033[K%.70s' "$what" >&2
        elif [ "${what#  finding}" = "$what" ] && [ "$what" != "${last:-}" ]; then
            printf '%s\n' "$what" >&2
        fi
        last=$what
    done
    if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

# Everything that the installed package is made of, besides the Python files themselves.
fingerprint() {
    cat "$root/pyproject.toml" "$root/scripts/constraints.txt" "$root/scripts/build_hook.py" \
        "$root/taskctl/__init__.py" "$root"/taskctl/init/*/*.[ch] | cksum
}

# Sees to it that taskctl-init and the shim are there and made from these sources; quick if so.
build_programs() {
    "$venv/bin/python" "$root/scripts/build_hook.py" --check ||
        "$venv/bin/python" "$root/scripts/build_hook.py" >/dev/null
}

# setup_env: taskctl alone.   setup_env dev: with the tools for tests and checks.
setup_env() {
    want="${1:-run} $(fingerprint)"
    stamp="$venv/.taskctl-stamp"
    have=$(cat "$stamp" 2>/dev/null || true)
    # An environment made for development serves for running as well. One for running may have no
    # compiler: installing once more brings one for the time that it takes.
    if { [ "$have" = "$want" ] || [ "$have" = "dev ${want#* }" ]; } && build_programs 2>/dev/null; then
        return
    fi
    say "Setting up $venv (the first time this takes a minute or two) ..."
    if [ ! -x "$venv/bin/python" ]; then
        say "Making the virtual environment"
        make_venv
    fi
    target="$root[local]"
    [ "${1:-run}" = dev ] && target="$root[local,dev]"
    pip_install -c "$root/scripts/constraints.txt" -e "$target"
    say "Building taskctl-init"
    build_programs || die "taskctl-init could not be built."
    printf '%s\n' "$want" >"$stamp"
}
