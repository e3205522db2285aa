// Starting a process without forking Node's address space, and watching it by pidfd.
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "args.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace nodelet {
namespace {

struct SpawnPlan {
  int exec_fd;                 // what to execute (execveat with AT_EMPTY_PATH)
  char* const* argv;
  char* const* envp;
  const int* fds;              // fds[i] becomes descriptor i in the child, -1 leaves it closed
  size_t fd_count;
  const int* namespaces;       // descriptors for setns(fd, 0)
  size_t namespace_count;
  bool new_session;
  // out: where it failed
  int error;
  const char* step;
};

constexpr int kHighFd = 32;  // above every descriptor that a child is given

// Runs in Node's address space, on the calling thread's own stack below its frame, while that thread sleeps (CLONE_VM |
// CLONE_VFORK): only async-signal-safe system calls, no allocation, no locks, straight to exec. Never returns.
[[noreturn]] void SpawnChild(SpawnPlan* plan) {
  auto fail = [&](const char* step) {
    plan->error = errno;
    plan->step = step;
    _exit(127);
  };
  // Node ignores SIGPIPE and handles others; exec keeps "ignored", so every disposition is reset.
  struct sigaction reset;
  memset(&reset, 0, sizeof reset);
  reset.sa_handler = SIG_DFL;
  for (int s = 1; s < NSIG; s++) {
    if (s != SIGKILL && s != SIGSTOP) sigaction(s, &reset, nullptr);
  }
  for (size_t i = 0; i < plan->namespace_count; i++) {
    if (setns(plan->namespaces[i], 0) < 0) fail("setns");
  }
  if (plan->new_session && setsid() < 0) fail("setsid");
  // First out of the way of the low numbers, then into place: no order of dup2 can overwrite a source.
  int moved[16];
  for (size_t i = 0; i < plan->fd_count; i++) {
    moved[i] = -1;
    if (plan->fds[i] < 0) continue;
    moved[i] = fcntl(plan->fds[i], F_DUPFD_CLOEXEC, kHighFd);
    if (moved[i] < 0) fail("dup");
  }
  int exec_fd = fcntl(plan->exec_fd, F_DUPFD_CLOEXEC, kHighFd);
  if (exec_fd < 0) fail("dup");
  for (size_t i = 0; i < plan->fd_count; i++) {
    if (moved[i] >= 0 && dup2(moved[i], static_cast<int>(i)) < 0) fail("dup2");
  }
  // Whatever Node or a library opened without O_CLOEXEC does not leak (close_range: Linux 5.9, CLOEXEC flag 5.11).
  syscall(SYS_close_range, static_cast<unsigned>(plan->fd_count), ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  syscall(SYS_execveat, exec_fd, "", plan->argv, plan->envp, AT_EMPTY_PATH);
  fail("execveat");
  __builtin_unreachable();
}

// clone3(2) with vfork's semantics. The C library has no wrapper for it, and syscall() would return twice through a frame
// that the child has overwritten: the instruction stands here, and the child goes on from it without returning.
[[gnu::noinline]] long CloneVfork(struct clone_args* args, SpawnPlan* plan) {
#if defined(__x86_64__)
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(SYS_clone3), "D"(args), "S"(sizeof *args)
               : "rcx", "r11", "memory");
#elif defined(__aarch64__)
  register long x8 asm("x8") = SYS_clone3;
  register long x0 asm("x0") = reinterpret_cast<long>(args);
  register long x1 asm("x1") = sizeof *args;
  asm volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
  long result = x0;
#else
#error "nodelet runs on x86-64 and arm64"
#endif
  if (result == 0) SpawnChild(plan);
  return result;
}

// (execFd, argv, env, fds, cgroupFd or -1, namespaceFds, newSession) -> {pid, pidfd} or {errno, step}
Napi::Value Spawn(Info info) {
  Napi::Env env = info.Env();
  std::vector<std::string> arguments = StrList(info, 1), environment = StrList(info, 2);
  std::vector<int> fds = IntList(info, 3), namespaces = IntList(info, 5);
  Napi::Object out = Napi::Object::New(env);
  auto failed = [&](int error, const char* step) {
    out.Set("errno", Napi::Number::New(env, error));
    out.Set("step", Napi::String::New(env, step));
    return out;
  };
  if (fds.size() > 16) return failed(E2BIG, "arguments");

  std::vector<char*> argv, envp;
  for (auto& s : arguments) argv.push_back(s.data());
  for (auto& s : environment) envp.push_back(s.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);

  SpawnPlan plan = {};
  plan.exec_fd = Int(info, 0);
  plan.argv = argv.data();
  plan.envp = envp.data();
  plan.fds = fds.data();
  plan.fd_count = fds.size();
  plan.namespaces = namespaces.data();
  plan.namespace_count = namespaces.size();
  plan.new_session = info[6].ToBoolean();

  int pidfd = -1, cgroup = Int(info, 4);
  struct clone_args args = {};
  args.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0);
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  args.cgroup = cgroup >= 0 ? static_cast<uint64_t>(cgroup) : 0;

  // No signal handler may run in the child on Node's memory.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  long result = CloneVfork(&args, &plan);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  int pid = static_cast<int>(result), error = static_cast<int>(-result);
  if (pid < 0) return failed(error, "clone3");
  if (plan.error != 0) {
    close(pidfd);
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return failed(plan.error, plan.step);
  }
  out.Set("pid", Napi::Number::New(env, pid));
  out.Set("pidfd", Napi::Number::New(env, pidfd));
  return out;
}

Napi::Value PidfdOpen(Info info) { return Result(info, syscall(SYS_pidfd_open, Int(info, 0), 0)); }

Napi::Value PidfdSendSignal(Info info) {
  return Result(info, syscall(SYS_pidfd_send_signal, Int(info, 0), Int(info, 1), nullptr, 0));
}

// (pidfd) -> null while it runs, else {code: CLD_*, status}; reaps a child of this process.
Napi::Value WaitPidfd(Info info) {
  siginfo_t si;
  memset(&si, 0, sizeof si);
  if (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(Int(info, 0)), &si, WEXITED | WNOHANG) < 0) {
    return Fail(info, errno);
  }
  if (si.si_pid == 0) return info.Env().Null();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("code", Napi::Number::New(info.Env(), si.si_code));
  out.Set("status", Napi::Number::New(info.Env(), si.si_status));
  return out;
}

// TIOCSWINSZ: (fd, rows, columns)
Napi::Value SetWindowSize(Info info) {
  struct winsize size = {};
  size.ws_row = static_cast<unsigned short>(U32(info, 1));
  size.ws_col = static_cast<unsigned short>(U32(info, 2));
  return Result(info, ioctl(Int(info, 0), TIOCSWINSZ, &size));
}

// O_NONBLOCK of an open file description: (fd)
Napi::Value SetNonblocking(Info info) {
  int flags = fcntl(Int(info, 0), F_GETFL);
  return Result(info, flags < 0 ? -1 : fcntl(Int(info, 0), F_SETFL, flags | O_NONBLOCK));
}

// sethostname(2) in another UTS namespace: this thread is there for one system call. A thread that cannot come back must
// not go on.
Napi::Value SetHostname(Info info) {
  Str name(info, 1);
  int home = open("/proc/thread-self/ns/uts", O_RDONLY | O_CLOEXEC);
  if (home < 0) return Result(info, -1);
  int result = setns(Int(info, 0), CLONE_NEWUTS);
  int error = errno;
  if (result == 0) {
    result = sethostname(name.get(), name.value().size());
    error = errno;
    if (setns(home, CLONE_NEWUTS) < 0) abort();
  }
  close(home);
  errno = error;
  return Result(info, result);
}

}  // namespace

void InitProcess(Napi::Env, Napi::Object exports) {
  Export(exports, "spawn", Spawn);
  Export(exports, "pidfdOpen", PidfdOpen);
  Export(exports, "pidfdSendSignal", PidfdSendSignal);
  Export(exports, "waitPidfd", WaitPidfd);
  Export(exports, "setWindowSize", SetWindowSize);
  Export(exports, "setNonblocking", SetNonblocking);
  Export(exports, "setHostname", SetHostname);
}

}  // namespace nodelet
