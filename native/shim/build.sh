#!/bin/sh
# Builds the shim: build.sh OUTPUT. Linked against musl where musl-gcc is there: glibc's static start-up asks the CPU for
# its caches, which traps in a virtual machine and costs a quarter of a millisecond for every pod, and its code is seven
# times as large (docs/decisions/0003-shim-libc.md). Warnings are errors.
set -eu
output=$1
folder=$(dirname "$0")
cc=${SHIM_CC:-}
headers=
if [ -z "$cc" ]; then
  if command -v musl-gcc >/dev/null 2>&1; then
    cc=musl-gcc
    # The kernel's own headers, behind musl's.
    headers="-idirafter /usr/include -idirafter /usr/include/$(gcc -dumpmachine)"
  else
    cc=cc
  fi
fi
# shellcheck disable=SC2086
exec $cc -D_GNU_SOURCE -std=c11 -Wall -Wextra -Wshadow -Werror -Os -ffunction-sections -fdata-sections \
  -fstack-protector-strong -static -s -Wl,--gc-sections -Wl,-z,relro,-z,now -Wl,-z,noexecstack \
  $headers -o "$output" "$folder"/*.c
