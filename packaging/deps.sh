# What the build and the tests need, and how to get it. Sourced by packaging/run, packaging/test and .ci/run.
#
# Invariant: when everything is there this asks the package database once, writes nothing and takes well under a second.
# Nothing is installed system-wide without asking, unless we already are root.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$@" >&2; }
die() { say "$@"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Which packages, by family. build: what `cargo build` and the window need. test: what the test suite runs besides.
packages() { # family, build|test
    case $1-$2 in
    debian-build)
        echo build-essential pkg-config libclang-dev curl ca-certificates \
            libavcodec-dev libavformat-dev libavutil-dev libswscale-dev libswresample-dev libasound2-dev \
            libgl1 libegl1 libgl1-mesa-dri libxkbcommon-x11-0 libxcursor1 libxi6 libxrandr2
        ;;
    debian-test)
        echo xvfb openbox xdotool xclip imagemagick ffmpeg pulseaudio pulseaudio-utils libasound2-plugins \
            python3 python3-xlib python3-venv transmission-daemon transmission-cli nginx-light iproute2 aria2 rtorrent
        ;;
    fedora-build)
        # RPM Fusion's ffmpeg-devel serves as well, and better; see fedora_notes.
        echo gcc gcc-c++ make pkgconf-pkg-config clang-devel curl ca-certificates alsa-lib-devel \
            mesa-dri-drivers libglvnd-egl libglvnd-glx libxkbcommon-x11 libXcursor libXi libXrandr
        ;;
    fedora-test)
        echo xorg-x11-server-Xvfb openbox xdotool xclip ImageMagick pulseaudio pulseaudio-utils alsa-plugins-pulseaudio \
            python3 python3-xlib transmission-daemon transmission-cli nginx aria2 rtorrent
        ;;
    arch-build)
        echo base-devel pkgconf clang curl ca-certificates ffmpeg alsa-lib mesa libglvnd libxkbcommon-x11 libxcursor libxi libxrandr
        ;;
    arch-test)
        echo xorg-server-xvfb openbox xdotool xclip imagemagick pulseaudio alsa-plugins python python-xlib transmission-cli nginx aria2 rtorrent
        ;;
    macos-build) echo pkg-config ffmpeg llvm ;;
    macos-test) echo transmission-cli nginx aria2 rtorrent python3 ;;
    esac
}

family() {
    if [ "$(uname -s)" = Darwin ]; then echo macos
    elif has apt-get && has dpkg-query; then echo debian
    elif has dnf && has rpm; then echo fedora
    elif has pacman; then echo arch
    else echo unknown; fi
}

# Prints those of the given packages that are not installed.
missing() { # family, packages…
    local family=$1
    shift
    case $family in
    debian)
        local have
        # It fails when one is unknown and still lists the others.
        have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p') || true
        printf '%s\n' "$@" | grep -Fxv -f <(printf '%s\n' "$have") || true
        ;;
    fedora) for p in "$@"; do rpm -q --quiet --whatprovides "$p" || echo "$p"; done ;;
    arch) pacman -T "$@" || true ;;
    macos)
        local have
        have=$(brew list --formula -1 2>/dev/null || true)
        # Homebrew renamed pkg-config to pkgconf.
        has pkg-config && have+=$'\npkg-config'
        printf '%s\n' "$@" | grep -Fxv -f <(printf '%s\n' "$have") || true
        ;;
    esac
}

# Runs the given shell line as root: directly, or through sudo after asking. Without a terminal to ask on it says what to run.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        sh -c "$1"
        return
    fi
    has sudo || die "This needs to be run as root, and there is no sudo here:" "  $1"
    if [ ! -t 0 ] || [ ! -t 2 ]; then
        die "Some packages are missing, and there is nobody to ask for a password. Please run:" "  sudo sh -c '$1'"
    fi
    say "Some packages are missing. To install them this will run:" "  sudo sh -c '$1'"
    local answer
    read -r -p "Go ahead? [Y/n] " answer
    case $answer in [nN]*) die "Nothing was installed. Install the packages above by hand, then start again." ;; esac
    sudo sh -c "$1"
}

# Makes sure that the packages of each given kind (build, test) are there.
need_packages() {
    local family kind want=() lack=()
    family=$(family)
    for kind in "$@"; do
        # shellcheck disable=SC2207 # package names hold no spaces
        want+=($(packages "$family" "$kind"))
    done
    case $family in
    unknown)
        say "This system is neither Debian, Ubuntu, Fedora, Arch nor macOS, so nothing is installed for you. The build needs:" \
            "  a C compiler, pkg-config, libclang, ALSA's headers and FFmpeg's (libavcodec, libavformat, libavutil, libswscale, libswresample)"
        for lib in libavcodec libavformat libavutil libswscale libswresample alsa; do
            pkg-config --exists "$lib" 2>/dev/null || say "  not found: $lib"
        done
        return
        ;;
    macos) has brew || die "Homebrew is missing. Install it as https://brew.sh says, then start again." ;;
    esac
    # shellcheck disable=SC2207
    lack=($(missing "$family" "${want[@]}"))
    if [ ${#lack[@]} -gt 0 ]; then
        case $family in
        debian) install_debian "${lack[@]}" ;;
        fedora) as_root "dnf install -y ${lack[*]}" ;;
        arch) as_root "pacman -S --needed --noconfirm ${lack[*]}" ;;
        macos) brew install "${lack[@]}" ;;
        esac || die "Installing these packages failed: ${lack[*]}"
    fi
    case $family in
    fedora) fedora_ffmpeg "$@" ;;
    macos) macos_paths ;;
    esac
}

install_debian() {
    local unit off=()
    # The tests start servers of their own: a package that brings a service must not leave it running here.
    for unit in nginx transmission-daemon; do
        case " $* " in *" $unit"*) off+=("$unit") ;; esac
    done
    as_root "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $*${off[*]:+ && if [ -d /run/systemd/system ]; then systemctl disable --now ${off[*]}; fi}"
}

# Fedora's own FFmpeg leaves out H.264 and HEVC; RPM Fusion's has them. Either builds.
fedora_ffmpeg() {
    pkg-config --exists libavcodec libavformat libswscale libswresample 2>/dev/null ||
        as_root "dnf install -y ffmpeg-devel || dnf install -y ffmpeg-free-devel" || die "FFmpeg's headers could not be installed."
    case " $* " in *" test "*) has ffmpeg || as_root "dnf install -y ffmpeg || dnf install -y ffmpeg-free" ;; esac
    if rpm -q --quiet libavcodec-free && ! rpm -q --quiet libavcodec-freeworld; then
        say "Note: Fedora's FFmpeg cannot decode H.264 or HEVC. For those: enable RPM Fusion, then dnf install libavcodec-freeworld."
    fi
}

# bindgen looks for libclang where Apple has none.
macos_paths() {
    local llvm
    llvm=$(brew --prefix llvm 2>/dev/null) && [ -d "$llvm/lib" ] && export LIBCLANG_PATH="$llvm/lib"
    return 0
}

# True when version $1 is at least $2 (1.92 and 1.92.0 are the same).
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

rust_needed() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml"; }

rust_here() { { rustc --version 2>/dev/null || true; } | sed -n 's/^rustc \([0-9.]*\).*/\1/p'; }

# Makes sure that cargo is there and new enough. rustup installs into the home folder only, so no password is asked for.
need_rust() {
    local needed here
    needed=$(rust_needed)
    if ! has cargo && [ -f "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    here=$(rust_here)
    if has cargo && [ -n "$here" ] && at_least "$here" "$needed"; then
        return
    fi
    if has rustup; then
        say "Rust ${here:-(none)} is here and $needed is needed: rustup installs the current stable release."
        rustup toolchain install stable --profile minimal -c rustfmt -c clippy || die "rustup could not install Rust $needed or newer."
        export RUSTUP_TOOLCHAIN=stable
    else
        say "Rust ${here:-is not installed}${here:+ is here}, and $needed or newer is needed: fetching it from https://rustup.rs (into ~/.cargo and ~/.rustup)."
        if [ -t 0 ] && [ -t 2 ]; then
            local answer
            read -r -p "Go ahead? [Y/n] " answer
            case $answer in [nN]*) die "Install Rust $needed or newer, by https://rustup.rs or your distribution's package, then start again." ;; esac
        fi
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --no-modify-path --profile minimal -c rustfmt -c clippy ||
            die "Rust could not be fetched. Install $needed or newer, by https://rustup.rs or your distribution's package, then start again."
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    here=$(rust_here)
    { [ -n "$here" ] && at_least "$here" "$needed"; } || die "Rust is ${here:-missing} even now, and $needed or newer is needed."
}

# libtorrent for the tests, as a wheel in the build folder: most distributions have no current one. Where there is none for this
# system, or no network, those tests say what is missing.
need_libtorrent() {
    local home
    home=${CARGO_TARGET_DIR:-$root/target}/python
    if [ -x "$home/bin/python" ] && "$home/bin/python" -c 'import libtorrent' 2>/dev/null; then return; fi
    say "Fetching libtorrent for the tests, into $home."
    # The system's own, where it has one, is as good when there is no wheel.
    if ! { python3 -m venv --system-site-packages "$home" && "$home/bin/python" -m pip install -q --disable-pip-version-check 'libtorrent>=2.0.9,<3'; }; then
        say "libtorrent could not be fetched: what is tested beside it will fail."
    fi
}
