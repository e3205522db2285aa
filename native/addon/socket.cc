// Sockets that Node cannot make: SEQPACKET with descriptors, netlink, and any socket inside another network
// namespace. All calls are synchronous and, where they could wait, the descriptor is non-blocking.
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
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

// (netnsFd or -1, protocol, groups, receiveBuffer) -> fd, bound and non-blocking: the kernel queues its answers
// before sendmsg returns, so a read that finds nothing has read everything.
Napi::Value NetlinkSocket(Info info) {
  int protocol = Int(info, 1), type = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
  int fd = InNetns(Int(info, 0), [&] { return socket(AF_NETLINK, type, protocol); });
  if (fd < 0) return Fail(info, errno);
  struct sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = U32(info, 2);
  int one = 1, size = Int(info, 3);
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
  setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one);
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
template <int type>
Napi::Value ConnectUnix(Info info) {
  Str path(info, 0);
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.value().size() >= sizeof address.sun_path) return Fail(info, ENAMETOOLONG);
  memcpy(address.sun_path, path.value().c_str(), path.value().size());
  int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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

// A sendmsg on libuv's thread pool: for a netlink request that the kernel takes long to do (deleting a link waits for
// RCU, some 15 ms). The bytes are copied.
class SendmsgWorker : public Napi::AsyncWorker {
 public:
  SendmsgWorker(Napi::Env env, int fd, Bytes data)
      : Napi::AsyncWorker(env, "nodelet.sendmsg"),
        deferred_(Napi::Promise::Deferred::New(env)),
        fd_(fd),
        data_(data.data, data.data + data.size) {}

  void Execute() override {
    struct iovec iov = {data_.data(), data_.size()};
    struct msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    do result_ = sendmsg(fd_, &message, MSG_NOSIGNAL);
    while (result_ < 0 && errno == EINTR);
    if (result_ < 0) result_ = -errno;
  }

  void OnOK() override { deferred_.Resolve(Napi::Number::New(Env(), static_cast<double>(result_))); }

  Napi::Promise Promise() const { return deferred_.Promise(); }

 private:
  Napi::Promise::Deferred deferred_;
  int fd_;
  std::vector<uint8_t> data_;
  ssize_t result_ = 0;
};

// (fd, bytes) -> Promise of the bytes sent; the descriptor stays open until then
Napi::Value SendmsgAsync(Info info) {
  auto* worker = new SendmsgWorker(info.Env(), Int(info, 0), Bytes(info, 1));
  Napi::Promise promise = worker->Promise();
  worker->Queue();  // owns itself from here on
  return promise;
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

// (fd, level, option) -> the option's value, an int of at least 0 (SO_ERROR, SO_TYPE)
Napi::Value GetsockoptInt(Info info) {
  int value = 0;
  socklen_t size = sizeof value;
  int r = getsockopt(Int(info, 0), Int(info, 1), Int(info, 2), &value, &size);
  return Result(info, r < 0 ? r : value);
}

// An IPv4 or IPv6 socket address from its bytes (4 or 16) and a port; false for another length.
bool InetAddress(Bytes bytes, uint32_t port, struct sockaddr_storage* out, socklen_t* size) {
  memset(out, 0, sizeof *out);
  if (bytes.size == 4) {
    auto* in = reinterpret_cast<struct sockaddr_in*>(out);
    in->sin_family = AF_INET;
    in->sin_port = htons(static_cast<uint16_t>(port));
    memcpy(&in->sin_addr, bytes.data, 4);
    *size = sizeof *in;
    return true;
  }
  if (bytes.size != 16) return false;
  auto* in6 = reinterpret_cast<struct sockaddr_in6*>(out);
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(static_cast<uint16_t>(port));
  memcpy(&in6->sin6_addr, bytes.data, 16);
  *size = sizeof *in6;
  return true;
}

// (fd, address bytes, port). A socket belongs to the namespace that it was made in, wherever the thread is now.
Napi::Value BindInet(Info info) {
  struct sockaddr_storage address;
  socklen_t size;
  if (!InetAddress(Bytes(info, 1), U32(info, 2), &address, &size)) return Fail(info, EINVAL);
  return Result(info, bind(Int(info, 0), reinterpret_cast<struct sockaddr*>(&address), size));
}

// (fd, address bytes, port); -EINPROGRESS from a non-blocking stream socket, whose outcome is SO_ERROR once writable
Napi::Value ConnectInet(Info info) {
  struct sockaddr_storage address;
  socklen_t size;
  if (!InetAddress(Bytes(info, 1), U32(info, 2), &address, &size)) return Fail(info, EINVAL);
  return Result(info, connect(Int(info, 0), reinterpret_cast<struct sockaddr*>(&address), size));
}

// /proc/sys/net shows the namespace of the thread that opens it.
// (netnsFd or -1, absolute path, value) -> bytes written
Napi::Value WriteSysctl(Info info) {
  Str path(info, 1), value(info, 2);
  return Result(info, InNetns(Int(info, 0), [&] {
                  int fd = open(path.get(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
                  if (fd < 0) return -1;
                  ssize_t n = write(fd, value.get(), value.value().size());
                  int error = errno;
                  close(fd);
                  errno = error;
                  return static_cast<int>(n);
                }));
}

// (netnsFd or -1, absolute path) -> text of at most 4095 bytes
Napi::Value ReadSysctl(Info info) {
  Str path(info, 1);
  char text[4096];
  int n = InNetns(Int(info, 0), [&] {
    int fd = open(path.get(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return -1;
    ssize_t size = read(fd, text, sizeof text - 1);
    int error = errno;
    close(fd);
    errno = error;
    return static_cast<int>(size);
  });
  if (n < 0) return Fail(info, errno);
  return Napi::String::New(info.Env(), text, static_cast<size_t>(n));
}

// (netnsFd or -1, link name) -> 1 with carrier, 0 without. ETHTOOL_GLINK also makes the kernel act at once on a change
// of carrier that it would otherwise look at in its own time, for some links once a second (net/core/link_watch.c).
Napi::Value LinkCarrier(Info info) {
  Str name(info, 1);
  struct ifreq request = {};
  struct ethtool_value value = {};
  if (name.value().size() >= sizeof request.ifr_name) return Fail(info, ENAMETOOLONG);
  memcpy(request.ifr_name, name.value().c_str(), name.value().size());
  value.cmd = ETHTOOL_GLINK;
  request.ifr_data = reinterpret_cast<char*>(&value);
  int fd = InNetns(Int(info, 0), [] { return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); });
  if (fd < 0) return Fail(info, errno);
  int r = ioctl(fd, SIOCETHTOOL, &request);
  int error = errno;
  close(fd);
  errno = error;
  return Result(info, r < 0 ? r : static_cast<int64_t>(value.data));
}

}  // namespace

void InitSocket(Napi::Env, Napi::Object exports) {
  Export(exports, "socket", Socket);
  Export(exports, "netlinkSocket", NetlinkSocket);
  Export(exports, "connectSeqpacket", ConnectUnix<SOCK_SEQPACKET>);
  Export(exports, "connectStream", ConnectUnix<SOCK_STREAM>);
  Export(exports, "socketpair", Socketpair);
  Export(exports, "pipe", Pipe);
  Export(exports, "eventfd", Eventfd);
  Export(exports, "sendmsg", Sendmsg);
  Export(exports, "sendmsgAsync", SendmsgAsync);
  Export(exports, "recvmsg", Recvmsg);
  Export(exports, "setsockopt", Setsockopt);
  Export(exports, "getsockoptInt", GetsockoptInt);
  Export(exports, "bindInet", BindInet);
  Export(exports, "connectInet", ConnectInet);
  Export(exports, "writeSysctl", WriteSysctl);
  Export(exports, "readSysctl", ReadSysctl);
  Export(exports, "linkCarrier", LinkCarrier);
}

}  // namespace nodelet
