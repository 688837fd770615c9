# Python wheels as archives of libraries: nothing is installed. Sourced by the setup scripts, after
# lib.sh; `wheels` is the folder that they are kept in.

need_pip() { # need_pip WHAT-IT-FETCHES [WHAT-TO-SET-INSTEAD]
    local otherwise=${2:+, or set $2}
    command -v python3 >/dev/null ||
        die "python3 was not found, and it fetches $1: install python3 with pip (Debian: apt install python3-pip)$otherwise"
    python3 -m pip --version >/dev/null 2>&1 ||
        die "python3 has no pip, and it fetches $1: install it (Debian: apt install python3-pip; elsewhere: python3 -m ensurepip)$otherwise"
}

# Two runs at once would unpack over each other. macOS has no flock, and there nobody waits.
one_at_a_time() {
    mkdir -p "$wheels"
    exec 9>"$wheels/.lock"
    if command -v flock >/dev/null && ! flock --nonblock 9; then
        say "another run is at work; waiting for it"
        flock 9
    fi
}

# A wheel that an earlier run left is checked by pip against the index's hash, and used again.
fetch() { # fetch REQUIREMENT GLOB [PIP OPTION...]: sets `wheel`
    local requirement=$1 glob=$2
    shift 2
    python3 -m pip download --no-deps --only-binary=:all: --disable-pip-version-check \
        --dest "$wheels" "$@" "$requirement" >&2 || return
    wheel=$(compgen -G "$wheels/$glob" | head -n 1)
}

# Only what is asked for leaves the archive: unpacking all would write three times as much.
unpack() { # unpack WHEEL FOLDER KEEP-REGEX DROP-REGEX
    python3 - "$@" <<'PYTHON'
import re, sys, zipfile
wheel, folder, keep, drop = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder, [name for name in archive.namelist() if re.match(keep, name) and not re.search(drop, name)])
PYTHON
}
