// Path and descriptor calls that Node lacks: the *at family (so that an unpacker never leaves its
// directory), extended attributes, openat2, flock, memfd, statx.
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "args.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

namespace nodelet {
namespace {

// openat2(2), Linux 5.6. O_CLOEXEC always.
Napi::Value Openat2(Info info) {
  Str path(info, 1);
  struct open_how how = {};
  how.flags = U64(info, 2) | O_CLOEXEC;
  how.mode = U64(info, 3);
  how.resolve = U64(info, 4);
  long r;
  // EAGAIN: a rename raced with a ".." in the path; the kernel asks for another try.
  int tries = 0;
  do r = syscall(SYS_openat2, Int(info, 0), path.get(), &how, sizeof how);
  while (r < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < 64)));
  return Result(info, r);
}

Napi::Value Close(Info info) { return Result(info, close(Int(info, 0))); }

Napi::Value Dup(Info info) { return Result(info, fcntl(Int(info, 0), F_DUPFD_CLOEXEC, 3)); }

Napi::Value Mkdirat(Info info) {
  Str path(info, 1);
  return Result(info, mkdirat(Int(info, 0), path.get(), U32(info, 2)));
}

Napi::Value Mknodat(Info info) {
  Str path(info, 1);
  return Result(info, mknodat(Int(info, 0), path.get(), U32(info, 2), makedev(U32(info, 3), U32(info, 4))));
}

Napi::Value Symlinkat(Info info) {
  Str target(info, 0), path(info, 2);
  return Result(info, symlinkat(target.get(), Int(info, 1), path.get()));
}

Napi::Value Linkat(Info info) {
  Str from(info, 1), to(info, 3);
  return Result(info, linkat(Int(info, 0), from.get(), Int(info, 2), to.get(), Int(info, 4)));
}

Napi::Value Unlinkat(Info info) {
  Str path(info, 1);
  return Result(info, unlinkat(Int(info, 0), path.get(), Int(info, 2)));
}

// renameat2(2): flags RENAME_NOREPLACE, RENAME_EXCHANGE.
Napi::Value Renameat2(Info info) {
  Str from(info, 1), to(info, 3);
  return Result(info, syscall(SYS_renameat2, Int(info, 0), from.get(), Int(info, 2), to.get(), U32(info, 4)));
}

Napi::Value Readlinkat(Info info) {
  Str path(info, 1);
  char buffer[4096];
  ssize_t n = readlinkat(Int(info, 0), path.get(), buffer, sizeof buffer);
  if (n < 0) return Fail(info, errno);
  return Napi::String::New(info.Env(), buffer, static_cast<size_t>(n));
}

Napi::Value Fchownat(Info info) {
  Str path(info, 1);
  return Result(info, fchownat(Int(info, 0), path.get(), U32(info, 2), U32(info, 3), Int(info, 4)));
}

// Follows a final symbolic link, as the system call does: callers pass a name that they made themselves.
Napi::Value Fchmodat(Info info) {
  Str path(info, 1);
  return Result(info, fchmodat(Int(info, 0), path.get(), U32(info, 2), 0));
}

// (dirfd, path, seconds, nanoseconds, flags): sets both times to the same instant.
Napi::Value Utimensat(Info info) {
  Str path(info, 1);
  struct timespec times[2];
  times[0].tv_sec = static_cast<time_t>(info[2].ToNumber().Int64Value());
  times[0].tv_nsec = Int(info, 3);
  times[1] = times[0];
  return Result(info, utimensat(Int(info, 0), path.get(), times, Int(info, 4)));
}

// statx(2): {mode, uid, gid, nlink, size, ino, devMajor, devMinor, rdevMajor, rdevMinor, mtime, mtimeNsec, mountId}.
Napi::Value Statx(Info info) {
  Str path(info, 1);
  struct statx st;
  if (statx(Int(info, 0), path.get(), Int(info, 2), STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0) {
    return Fail(info, errno);
  }
  Napi::Env env = info.Env();
  Napi::Object out = Napi::Object::New(env);
  auto set = [&](const char* key, double value) { out.Set(key, Napi::Number::New(env, value)); };
  set("mode", st.stx_mode);
  set("uid", st.stx_uid);
  set("gid", st.stx_gid);
  set("nlink", st.stx_nlink);
  set("size", static_cast<double>(st.stx_size));
  set("blocks", static_cast<double>(st.stx_blocks));
  set("ino", static_cast<double>(st.stx_ino));
  set("devMajor", st.stx_dev_major);
  set("devMinor", st.stx_dev_minor);
  set("rdevMajor", st.stx_rdev_major);
  set("rdevMinor", st.stx_rdev_minor);
  set("mtime", static_cast<double>(st.stx_mtime.tv_sec));
  set("mtimeNsec", st.stx_mtime.tv_nsec);
  set("mountId", static_cast<double>(st.stx_mnt_id));
  return out;
}

// The f_type of the file system behind a descriptor (PROC_SUPER_MAGIC and so on).
Napi::Value FstatfsType(Info info) {
  struct statfs st;
  if (fstatfs(Int(info, 0), &st) < 0) return Fail(info, errno);
  return Napi::Number::New(info.Env(), static_cast<double>(st.f_type));
}

// (path, name, value, nofollow)
Napi::Value Setxattr(Info info) {
  Str path(info, 0), name(info, 1);
  Bytes value(info, 2);
  int r = info[3].ToBoolean() ? lsetxattr(path.get(), name.get(), value.data, value.size, 0)
                              : setxattr(path.get(), name.get(), value.data, value.size, 0);
  return Result(info, r);
}

Napi::Value Getxattr(Info info) {
  Str path(info, 0), name(info, 1);
  bool nofollow = info[2].ToBoolean();
  std::vector<uint8_t> value(65536);
  ssize_t n = nofollow ? lgetxattr(path.get(), name.get(), value.data(), value.size())
                       : getxattr(path.get(), name.get(), value.data(), value.size());
  if (n < 0) return Fail(info, errno);
  return Napi::Buffer<uint8_t>::Copy(info.Env(), value.data(), static_cast<size_t>(n));
}

Napi::Value Listxattr(Info info) {
  Str path(info, 0);
  bool nofollow = info[1].ToBoolean();
  std::vector<char> names(65536);
  ssize_t n = nofollow ? llistxattr(path.get(), names.data(), names.size())
                       : listxattr(path.get(), names.data(), names.size());
  if (n < 0) return Fail(info, errno);
  Napi::Array out = Napi::Array::New(info.Env());
  uint32_t count = 0;
  for (ssize_t at = 0; at < n;) {
    size_t length = strnlen(&names[at], static_cast<size_t>(n - at));
    out.Set(count++, Napi::String::New(info.Env(), &names[at], length));
    at += static_cast<ssize_t>(length) + 1;
  }
  return out;
}

// The lock belongs to the open file description and goes with its last descriptor.
Napi::Value Flock(Info info) { return Result(info, flock(Int(info, 0), Int(info, 1))); }

Napi::Value Syncfs(Info info) { return Result(info, syncfs(Int(info, 0))); }

// A memory file that holds `data` and can never change again (all seals, Linux 3.17). It may be executed: the
// shim runs from such a file, so that a container that reaches /proc/<pid>/exe finds nothing to overwrite.
Napi::Value MemfdSealed(Info info) {
  Str name(info, 0);
  Bytes data(info, 1);
  // MFD_EXEC (Linux 6.3): said aloud, or vm.memfd_noexec would deny execution.
  int fd = memfd_create(name.get(), MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x10u);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name.get(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Fail(info, errno);
  for (size_t at = 0; at < data.size;) {
    ssize_t n = write(fd, data.data + at, data.size - at);
    if (n < 0) {
      if (errno == EINTR) continue;
      int error = errno;
      close(fd);
      return Fail(info, error);
    }
    at += static_cast<size_t>(n);
  }
  // F_SEAL_EXEC (Linux 6.3): its owner's id is also that of a container's root, who could take away the mode's x.
  const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (fcntl(fd, F_ADD_SEALS, seals | 0x20) < 0 && fcntl(fd, F_ADD_SEALS, seals) < 0) {
    int error = errno;
    close(fd);
    return Fail(info, error);
  }
  return Napi::Number::New(info.Env(), fd);
}

}  // namespace

void InitFs(Napi::Env, Napi::Object exports) {
  Export(exports, "openat2", Openat2);
  Export(exports, "close", Close);
  Export(exports, "dup", Dup);
  Export(exports, "mkdirat", Mkdirat);
  Export(exports, "mknodat", Mknodat);
  Export(exports, "symlinkat", Symlinkat);
  Export(exports, "linkat", Linkat);
  Export(exports, "unlinkat", Unlinkat);
  Export(exports, "renameat2", Renameat2);
  Export(exports, "readlinkat", Readlinkat);
  Export(exports, "fchownat", Fchownat);
  Export(exports, "fchmodat", Fchmodat);
  Export(exports, "utimensat", Utimensat);
  Export(exports, "statx", Statx);
  Export(exports, "fstatfsType", FstatfsType);
  Export(exports, "setxattr", Setxattr);
  Export(exports, "getxattr", Getxattr);
  Export(exports, "listxattr", Listxattr);
  Export(exports, "flock", Flock);
  Export(exports, "syncfs", Syncfs);
  Export(exports, "memfdSealed", MemfdSealed);
}

}  // namespace nodelet
