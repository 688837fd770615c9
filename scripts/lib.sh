# Shared by the scripts beside it; sourced, never run. Sets `root` and moves there.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$root"

# Progress goes to stderr: stdout belongs to the program that a script runs.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# The comment block at the top of the calling script is its manual.
manual() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$1"; }

need_cargo() {
    # rustup's installer edits the shell's start-up files, which this shell may not have read yet.
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    command -v cargo >/dev/null ||
        die "cargo was not found: install Rust with rustup (https://rustup.rs), which then picks the version named in rust-toolchain.toml"
}

# The C++ half of torch-sys is compiled here, against libtorch's headers.
need_cxx() {
    command -v "${CXX:-c++}" >/dev/null ||
        die "no C++ compiler (${CXX:-c++}) was found, and the libtorch backend needs one: install g++ or clang, or pass --without-libtorch"
}

# Takes --without-libtorch and --without-onnxruntime out of the arguments: `features` is what cargo then
# gets, `rest` what is left. Without libtorch nothing is fetched, so ONNX Runtime goes with it. Arguments
# after `--` are somebody else's.
choose_features() {
    features=(--features libtorch,onnxruntime)
    rest=()
    while (($#)); do
        case $1 in
        --without-libtorch) features=() ;;
        --without-onnxruntime) features=(${features[@]+--features libtorch}) ;;
        --) rest+=("$@"); break ;;
        *) rest+=("$1") ;;
        esac
        shift
    done
}

# Everything that `cargo … "${features[@]}"` needs.
set_up() {
    need_cargo
    ((${#features[@]})) || return 0
    need_cxx
    scripts/setup-libtorch ||
        die "libtorch could not be had (see above): mend that, or pass --without-libtorch to go on with the other backends"
    [[ ${features[*]} != *onnxruntime* ]] || scripts/setup-onnxruntime ||
        die "ONNX Runtime could not be had (see above): mend that, or pass --without-onnxruntime to go on with the other backends"
}
