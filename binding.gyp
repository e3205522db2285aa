{
  "variables": { "openssl_fips": "" },
  "targets": [
    {
      "target_name": "nodelet",
      "sources": [
        "native/addon/addon.cc",
        "native/addon/bpf.cc",
        "native/addon/fs.cc",
        "native/addon/mount.cc",
        "native/addon/poll.cc",
        "native/addon/process.cc",
        "native/addon/socket.cc"
      ],
      "include_dirs": ["node_modules/node-addon-api"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "_GNU_SOURCE"],
      "cflags": ["-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-O2"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
      "ldflags": ["-Wl,-z,relro,-z,now"]
    },
    {
      "target_name": "nodelet-shim",
      "type": "executable",
      "sources": [
        "native/shim/log.c",
        "native/shim/main.c",
        "native/shim/ops_file.c",
        "native/shim/ops_identity.c",
        "native/shim/ops_mount.c",
        "native/shim/ops_namespace.c",
        "native/shim/paths.c",
        "native/shim/plan.c",
        "native/shim/process.c",
        "native/shim/server.c"
      ],
      "defines": ["_GNU_SOURCE"],
      "cflags!": ["-pthread", "-fno-omit-frame-pointer"],
      "cflags": ["-std=c11", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-Os", "-ffunction-sections", "-fdata-sections", "-fstack-protector-strong"],
      "ldflags!": ["-pthread", "-rdynamic"],
      "ldflags": ["-static", "-Wl,--gc-sections", "-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack"],
      "libraries!": ["-lnode"]
    }
  ]
}
