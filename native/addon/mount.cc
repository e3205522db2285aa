// mount(2), umount2(2) and the mount API of Linux 5.2 (5.12 for mount_setattr). Constants come from TypeScript.
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "args.h"

// <sys/mount.h> and <linux/mount.h> define the same enums in glibc 2.36: only the prototypes are needed.
extern "C" int mount(const char*, const char*, const char*, unsigned long, const void*);
extern "C" int umount2(const char*, int);

namespace nodelet {
namespace {

Napi::Value Mount(Info info) {
  Str source(info, 0), target(info, 1), type(info, 2), data(info, 4);
  return Result(info, mount(source.get(), target.get(), type.get(), U64(info, 3), data.get()));
}

Napi::Value Umount2(Info info) {
  Str target(info, 0);
  return Result(info, umount2(target.get(), Int(info, 1)));
}

Napi::Value OpenTree(Info info) {
  Str path(info, 1);
  return Result(info, syscall(SYS_open_tree, Int(info, 0), path.get(), U32(info, 2) | O_CLOEXEC));
}

Napi::Value MoveMount(Info info) {
  Str from(info, 1), to(info, 3);
  return Result(info, syscall(SYS_move_mount, Int(info, 0), from.get(), Int(info, 2), to.get(), U32(info, 4)));
}

Napi::Value Fsopen(Info info) {
  Str type(info, 0);
  return Result(info, syscall(SYS_fsopen, type.get(), 1 /* FSOPEN_CLOEXEC */));
}

// (fd, command, key, value, aux): value is a string or null.
Napi::Value Fsconfig(Info info) {
  Str key(info, 2), value(info, 3);
  return Result(info, syscall(SYS_fsconfig, Int(info, 0), U32(info, 1), key.get(), value.get(), Int(info, 4)));
}

// What the file system had to say about the last failure (read from the context descriptor), or "".
Napi::Value FsContextMessage(Info info) {
  char text[1024];
  ssize_t n = read(Int(info, 0), text, sizeof text);
  return Napi::String::New(info.Env(), text, n > 0 ? static_cast<size_t>(n) : 0);
}

Napi::Value Fsmount(Info info) {
  return Result(info, syscall(SYS_fsmount, Int(info, 0), 1 /* FSMOUNT_CLOEXEC */, U32(info, 1)));
}

// (dirfd, path, flags, set, clear, propagation, usernsFd)
Napi::Value MountSetattr(Info info) {
  Str path(info, 1);
  struct mount_attr attr = {};
  attr.attr_set = U64(info, 3);
  attr.attr_clr = U64(info, 4);
  attr.propagation = U64(info, 5);
  attr.userns_fd = U64(info, 6);
  return Result(info, syscall(SYS_mount_setattr, Int(info, 0), path.get(), U32(info, 2), &attr, sizeof attr));
}

}  // namespace

void InitMount(Napi::Env, Napi::Object exports) {
  Export(exports, "mount", Mount);
  Export(exports, "umount2", Umount2);
  Export(exports, "openTree", OpenTree);
  Export(exports, "moveMount", MoveMount);
  Export(exports, "fsopen", Fsopen);
  Export(exports, "fsconfig", Fsconfig);
  Export(exports, "fsContextMessage", FsContextMessage);
  Export(exports, "fsmount", Fsmount);
  Export(exports, "mountSetattr", MountSetattr);
}

}  // namespace nodelet
