{
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
      "type": "none",
      "actions": [
        {
          "action_name": "static shim",
          "inputs": [
            "native/shim/build.sh",
            "<!@(ls native/shim/*.c native/shim/*.h)"
          ],
          "outputs": ["<(PRODUCT_DIR)/nodelet-shim"],
          "action": ["sh", "native/shim/build.sh", "<(PRODUCT_DIR)/nodelet-shim"]
        }
      ]
    }
  ]
}
