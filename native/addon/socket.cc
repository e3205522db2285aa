// Sockets that Node cannot make: SEQPACKET with descriptors, netlink, and any socket inside another network
// namespace. All calls are synchronous and, where they could wait, the descriptor is non-blocking.
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "args.h"

namespace nodelet {
namespace {

// Runs `work` with this thread inside the namespace behind `fd` (-1: where it already is). The thread is
// Node's own: staying in a foreign namespace would be a silent catastrophe, so failing to return aborts.
template <typename F>
int InNetns(int fd, F work) {
  if (fd < 0) return work();
  int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home < 0) return -1;
  if (setns(fd, CLONE_NEWNET) < 0) {
    int error = errno;
    close(home);
    errno = error;
    return -1;
  }
  int r = work();
  int error = errno;
  if (setns(home, CLONE_NEWNET) < 0) abort();
  close(home);
  errno = error;
  return r;
}

// (netnsFd or -1, domain, type, protocol) -> fd
Napi::Value Socket(Info info) {
  int domain = Int(info, 1), type = Int(info, 2) | SOCK_CLOEXEC, protocol = Int(info, 3);
  return Result(info, InNetns(Int(info, 0), [&] { return socket(domain, type, protocol); }));
}

// (netnsFd or -1, protocol, groups, receiveBuffer) -> fd, bound, blocking with a receive time-out of 10 s
// (the kernel answers requests before sendmsg returns; the time-out only guards against a lost answer).
Napi::Value NetlinkSocket(Info info) {
  int protocol = Int(info, 1);
  int fd = InNetns(Int(info, 0), [&] { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol); });
  if (fd < 0) return Fail(info, errno);
  struct sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = U32(info, 2);
  int one = 1, size = Int(info, 3);
  struct timeval timeout = {10, 0};
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
  setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  if (size > 0) {
    // FORCE needs CAP_NET_ADMIN and ignores rmem_max/wmem_max; large transactions need both directions.
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  }
  if (bind(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof address) < 0) {
    int error = errno;
    close(fd);
    return Fail(info, error);
  }
  return Napi::Number::New(info.Env(), fd);
}

// (path) -> non-blocking connected SEQPACKET socket
Napi::Value ConnectSeqpacket(Info info) {
  Str path(info, 0);
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.value().size() >= sizeof address.sun_path) return Fail(info, ENAMETOOLONG);
  memcpy(address.sun_path, path.value().c_str(), path.value().size());
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Fail(info, errno);
  if (connect(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof address) < 0) {
    int error = errno;
    close(fd);
    return Fail(info, error);
  }
  return Napi::Number::New(info.Env(), fd);
}

// (domain, type) -> [fd, fd]
Napi::Value Socketpair(Info info) {
  int fds[2];
  if (socketpair(Int(info, 0), Int(info, 1) | SOCK_CLOEXEC, 0, fds) < 0) return Fail(info, errno);
  Napi::Array out = Napi::Array::New(info.Env(), 2);
  out.Set(0u, Napi::Number::New(info.Env(), fds[0]));
  out.Set(1u, Napi::Number::New(info.Env(), fds[1]));
  return out;
}

// (flags) -> [read, write]
Napi::Value Pipe(Info info) {
  int fds[2];
  if (pipe2(fds, Int(info, 0) | O_CLOEXEC) < 0) return Fail(info, errno);
  Napi::Array out = Napi::Array::New(info.Env(), 2);
  out.Set(0u, Napi::Number::New(info.Env(), fds[0]));
  out.Set(1u, Napi::Number::New(info.Env(), fds[1]));
  return out;
}

Napi::Value Eventfd(Info info) { return Result(info, eventfd(U32(info, 0), EFD_CLOEXEC | EFD_NONBLOCK)); }

constexpr size_t kMaxFds = 64;

// (fd, bytes, fds) -> bytes sent
Napi::Value Sendmsg(Info info) {
  Bytes data(info, 1);
  std::vector<int> fds = IntList(info, 2);
  if (fds.size() > kMaxFds) return Fail(info, E2BIG);
  struct iovec iov = {data.data, data.size};
  struct msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)];
  if (!fds.empty()) {
    memset(control, 0, sizeof control);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t n;
  do n = sendmsg(Int(info, 0), &message, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return Result(info, n);
}

// (fd, buffer) -> {size, fds, truncated}, or negative errno. size 0 is the end of the stream.
Napi::Value Recvmsg(Info info) {
  Bytes buffer(info, 1);
  struct iovec iov = {buffer.data, buffer.size};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)];
  struct msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n;
  do n = recvmsg(Int(info, 0), &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0) return Fail(info, errno);
  Napi::Env env = info.Env();
  Napi::Array fds = Napi::Array::New(env);
  uint32_t count = 0;
  for (struct cmsghdr* h = CMSG_FIRSTHDR(&message); h != nullptr; h = CMSG_NXTHDR(&message, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    size_t total = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < total; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof fd);
      fds.Set(count++, Napi::Number::New(env, fd));
    }
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("size", Napi::Number::New(env, static_cast<double>(n)));
  out.Set("fds", fds);
  out.Set("truncated", Napi::Boolean::New(env, (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0));
  return out;
}

// (fd, level, option, int or bytes)
Napi::Value Setsockopt(Info info) {
  if (info[3].IsTypedArray()) {
    Bytes value(info, 3);
    return Result(info, setsockopt(Int(info, 0), Int(info, 1), Int(info, 2), value.data,
                                   static_cast<socklen_t>(value.size)));
  }
  int value = Int(info, 3);
  return Result(info, setsockopt(Int(info, 0), Int(info, 1), Int(info, 2), &value, sizeof value));
}

}  // namespace

void InitSocket(Napi::Env, Napi::Object exports) {
  Export(exports, "socket", Socket);
  Export(exports, "netlinkSocket", NetlinkSocket);
  Export(exports, "connectSeqpacket", ConnectSeqpacket);
  Export(exports, "socketpair", Socketpair);
  Export(exports, "pipe", Pipe);
  Export(exports, "eventfd", Eventfd);
  Export(exports, "sendmsg", Sendmsg);
  Export(exports, "recvmsg", Recvmsg);
  Export(exports, "setsockopt", Setsockopt);
}

}  // namespace nodelet
