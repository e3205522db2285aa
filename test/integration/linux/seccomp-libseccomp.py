"""Compiles seccomp profiles with libseccomp (by ctypes: no headers needed), in runc's way of calling it.

Standard input: a JSON list of {"default": u32, "arches": [u32], "native": bool, "optimize": bool,
"rules": [{"name", "action": u32, "args": [[index, op, a, b], ...]}]}.
Standard output: a JSON list of {"program": base64, "unknown": [names]} or {"error": text}.
"""

import base64
import ctypes
import json
import os
import sys
import tempfile


class Arg(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_init.argtypes = [ctypes.c_uint32]
lib.seccomp_release.argtypes = [ctypes.c_void_p]
lib.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
lib.seccomp_arch_remove.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
lib.seccomp_arch_native.restype = ctypes.c_uint32
lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
lib.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.POINTER(Arg),
]
lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]

ACT_BADARCH, CTL_OPTIMIZE = 2, 8
KILL_PROCESS = 0x80000000
EEXIST = -17


def add(ctx, action, number, args):
    array = (Arg * max(1, len(args)))(*[Arg(*one) for one in args])
    rc = lib.seccomp_rule_add_array(ctx, action, number, len(args), array)
    if rc != 0:
        raise ValueError(f"rule: {rc}")


def compile_one(profile):
    ctx = lib.seccomp_init(profile["default"])
    unknown = []
    try:
        lib.seccomp_attr_set(ctx, ACT_BADARCH, KILL_PROCESS)
        for arch in profile["arches"]:
            rc = lib.seccomp_arch_add(ctx, arch)
            if rc not in (0, EEXIST):
                raise ValueError(f"arch {arch:#x}: {rc}")
        if not profile["native"] and lib.seccomp_arch_remove(ctx, lib.seccomp_arch_native()) != 0:
            raise ValueError("remove native")
        if profile["optimize"] and lib.seccomp_attr_set(ctx, CTL_OPTIMIZE, 2) != 0:
            raise ValueError("optimize")
        for rule in profile["rules"]:
            number = lib.seccomp_syscall_resolve_name(rule["name"].encode())
            if number == -1:
                unknown.append(rule["name"])
                continue
            if rule["action"] == profile["default"]:
                continue
            args = rule["args"]
            if len({one[0] for one in args}) < len(args):
                for one in args:
                    add(ctx, rule["action"], number, [one])
            else:
                add(ctx, rule["action"], number, args)
        with tempfile.TemporaryFile() as out:
            rc = lib.seccomp_export_bpf(ctx, out.fileno())
            if rc != 0:
                raise ValueError(f"export: {rc}")
            out.seek(0)
            return {"program": base64.b64encode(out.read()).decode(), "unknown": unknown}
    except ValueError as error:
        return {"error": str(error), "unknown": unknown}
    finally:
        lib.seccomp_release(ctx)


json.dump([compile_one(profile) for profile in json.load(sys.stdin)], sys.stdout)
