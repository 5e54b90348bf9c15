#!/usr/bin/env bash
# Installs the C library of antifreeze, or removes it. `--help` tells of the options.
set -euo pipefail

usage() {
    cat <<'END'
usage: preload/install.sh [--prefix DIR] [--destdir DIR] [--static] [--built DIR]
       preload/install.sh --uninstall [--prefix DIR] [--destdir DIR]

Builds the library and installs it with its header and a file for pkg-config.
  --prefix DIR   where it will be used: absolute; /usr/local unless given
  --destdir DIR  put it below DIR instead, as packages and images are made; nothing in the files names DIR
  --static       libantifreeze.a as well
  --built DIR    build nothing: take the libraries from DIR, as from target/release
  --uninstall    remove what was installed with the same --prefix and --destdir; directories stay
END
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

misuse() {
    echo "install.sh: $*" >&2
    usage >&2
    exit 2
}

prefix=/usr/local destdir='' built='' static=no uninstall=no
while (($#)); do
    case $1 in
    --prefix | --destdir | --built)
        [[ $# -ge 2 && -n $2 ]] || misuse "$1 wants a directory"
        declare "${1#--}=$2"
        shift
        ;;
    --prefix=?* | --destdir=?* | --built=?*)
        option=${1%%=*}
        declare "${option#--}=${1#*=}"
        ;;
    --static) static=yes ;;
    --uninstall) uninstall=yes ;;
    --help | -h)
        usage
        exit 0
        ;;
    *) misuse "\"$1\" is not understood" ;;
    esac
    shift
done
[[ $prefix == /* ]] || misuse "--prefix wants an absolute directory, not \"$prefix\""
# In the file for pkg-config a space would part one flag into two.
[[ $prefix != *[[:space:]]* ]] || misuse "--prefix wants a directory without spaces, not \"$prefix\""
prefix=${prefix%/} destdir=${destdir%/}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$here/../Cargo.toml")
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+ ]] || fail "no version in $here/../Cargo.toml"
soname=libantifreeze.so.${version%%.*}
lib=$destdir$prefix/lib
include=$destdir$prefix/include

if [[ $uninstall == yes ]]; then
    # Also of other versions. A program that runs with the library keeps it until it ends.
    rm -f -- "$lib"/libantifreeze.so "$lib"/libantifreeze.so.[0-9]* "$lib"/libantifreeze.a \
        "$lib"/pkgconfig/antifreeze.pc "$include"/antifreeze.h
    echo "removed from $destdir$prefix"
    exit 0
fi

if [[ -z $built ]]; then
    command -v cargo >/dev/null || fail "cargo is not found (as root, say): build first as yourself, by
    cargo build --release -p antifreeze-preload
and give the directory of the result, as in --built target/release"
    # As cargo tells where it put it: the directory of its results can be chosen in many ways.
    messages=$(cd "$here" && cargo build --release --lib --message-format=json-render-diagnostics)
    built=$(sed -n 's|.*"\([^"]*\)/libantifreeze\.so".*|\1|p' <<<"$messages" | tail -n 1)
    [[ -n $built ]] || fail "cargo has not told where it put libantifreeze.so"
fi
wanted=(libantifreeze.so)
[[ $static == no ]] || wanted+=(libantifreeze.a)
for file in "${wanted[@]}"; do
    [[ -f $built/$file ]] || fail "$built has no $file: want a directory in which cargo has built antifreeze-preload"
done

# Puts a file in its place in one step: a program that starts meanwhile finds the old one or the new one, and one that runs
# keeps what it has.
put() {
    local mode=$1 source=$2 target=$3
    install -m "$mode" -- "$source" "$target.new"
    mv -f -- "$target.new" "$target"
}

install -d -- "$lib/pkgconfig" "$include"
put 755 "$built/libantifreeze.so" "$lib/libantifreeze.so.$version"
ln -sf -- "libantifreeze.so.$version" "$lib/$soname.new"
mv -f -- "$lib/$soname.new" "$lib/$soname"
ln -sf -- "$soname" "$lib/libantifreeze.so.new"
mv -f -- "$lib/libantifreeze.so.new" "$lib/libantifreeze.so"
[[ $static == no ]] || put 644 "$built/libantifreeze.a" "$lib/libantifreeze.a"
put 644 "$here/include/antifreeze.h" "$include/antifreeze.h"
# The libraries are what `rustc --print native-static-libs` tells, without those that each C compiler adds by itself.
cat >"$lib/pkgconfig/antifreeze.pc" <<END
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: antifreeze
Description: malloc that takes mmap_lock for writing at start only, and gives memory back in bounded pieces
Version: $version
Libs: -L\${libdir} -lantifreeze
Libs.private: -lutil -lrt -lpthread -lm -ldl
Cflags: -I\${includedir}
END
chmod 644 "$lib/pkgconfig/antifreeze.pc"

echo "installed in $lib:"
echo "  any program:        LD_PRELOAD=$prefix/lib/$soname PROGRAM"
if [[ -n $destdir ]]; then
    exit 0
fi
case $prefix in
/usr | /usr/local)
    # The loader finds libraries of these directories by a list that has to be made anew.
    if [[ $(id -u) == 0 ]] && command -v ldconfig >/dev/null; then ldconfig; fi
    echo "  one of your own:    cc ... \$(pkg-config --cflags --libs antifreeze)"
    ;;
*)
    echo "  one of your own:    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig"
    echo "                      cc ... \$(pkg-config --cflags --libs antifreeze) -Wl,-rpath,$prefix/lib"
    ;;
esac
