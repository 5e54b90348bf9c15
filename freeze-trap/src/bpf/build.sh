#!/usr/bin/env bash
# Compiles the BPF programs. The object is kept beside them, so that a machine without clang builds the trap; a test
# compares the checksum of the sources that is kept with it.
set -euo pipefail
cd "$(dirname "$0")"
clang=${CLANG:-clang}
# No path of the machine it is compiled on goes into the object.
"$clang" -O2 -g "-ffile-prefix-map=$PWD=." -target bpf -mcpu=v3 -Wall -Werror -c freeze_trap.bpf.c -o freeze_trap.bpf.o
strip=${LLVM_STRIP:-llvm-strip}
"$strip" -g freeze_trap.bpf.o
cat freeze_trap.bpf.c mini.h | sha256sum | cut -d ' ' -f 1 >freeze_trap.bpf.o.sources
