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

# Libraries do not depend on Python's version, only the wheel's name does: where none is made for the Python
# at hand, one that has a wheel is named.
fetch_for_any_python() { # fetch_for_any_python REQUIREMENT GLOB: sets `wheel`
    local platform
    fetch "$1" "$2" && return
    case $(uname -s)-$(uname -m) in
    Linux-*) platform=manylinux_2_28_$(uname -m) ;;
    Darwin-arm64) platform=macosx_14_0_arm64 ;;
    *) return 1 ;;
    esac
    say "not for this Python; asking for the wheel made for Python 3.12"
    fetch "$1" "$2" --python-version 3.12 --implementation cp --platform "$platform"
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
