// bpf(2), only what the device cgroup needs: load BPF_PROG_TYPE_CGROUP_DEVICE, attach it to a cgroup v2
// directory, count what is attached (Linux 4.15).
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "args.h"

namespace nodelet {
namespace {

// (instructions, name) -> fd. On failure: {errno, log}.
Napi::Value BpfLoadDevice(Info info) {
  Bytes code(info, 0);
  Str name(info, 1);
  static const char license[] = "Apache-2.0";
  std::vector<char> log(16384);
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attr.insns = reinterpret_cast<uint64_t>(code.data);
  attr.insn_cnt = static_cast<uint32_t>(code.size / sizeof(struct bpf_insn));
  attr.license = reinterpret_cast<uint64_t>(license);
  strncpy(attr.prog_name, name.get(), sizeof attr.prog_name - 1);
  long fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
  if (fd >= 0) return Napi::Number::New(info.Env(), static_cast<double>(fd));
  int error = errno;
  // Once more with the verifier's log: it costs time, so only a refused program pays for it.
  attr.log_buf = reinterpret_cast<uint64_t>(log.data());
  attr.log_size = static_cast<uint32_t>(log.size());
  attr.log_level = 1;
  fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
  if (fd >= 0) return Napi::Number::New(info.Env(), static_cast<double>(fd));
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("errno", Napi::Number::New(info.Env(), error));
  out.Set("log", Napi::String::New(info.Env(), log.data(), strnlen(log.data(), log.size())));
  return out;
}

// (cgroupFd, programFd, flags)
Napi::Value BpfAttachDevice(Info info) {
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.target_fd = U32(info, 0);
  attr.attach_bpf_fd = U32(info, 1);
  attr.attach_type = BPF_CGROUP_DEVICE;
  attr.attach_flags = U32(info, 2);
  return Result(info, syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr));
}

// (cgroupFd) -> ids of the attached device programs, or negative errno.
Napi::Value BpfQueryDevice(Info info) {
  uint32_t ids[64] = {};
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.query.target_fd = U32(info, 0);
  attr.query.attach_type = BPF_CGROUP_DEVICE;
  attr.query.prog_ids = reinterpret_cast<uint64_t>(ids);
  attr.query.prog_cnt = 64;
  if (syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof attr) < 0) return Fail(info, errno);
  Napi::Array out = Napi::Array::New(info.Env(), attr.query.prog_cnt);
  for (uint32_t i = 0; i < attr.query.prog_cnt; i++) out.Set(i, Napi::Number::New(info.Env(), ids[i]));
  return out;
}

}  // namespace

void InitBpf(Napi::Env, Napi::Object exports) {
  Export(exports, "bpfLoadDevice", BpfLoadDevice);
  Export(exports, "bpfAttachDevice", BpfAttachDevice);
  Export(exports, "bpfQueryDevice", BpfQueryDevice);
}

}  // namespace nodelet
