// A descriptor in Node's event loop (uv_poll): pidfds, netlink monitors, SEQPACKET sockets, eventfds.
// new FdWatcher(fd, callback); start(events), stop(), close(). The descriptor stays the caller's.
#include <uv.h>

#include "args.h"

namespace nodelet {
namespace {

class FdWatcher : public Napi::ObjectWrap<FdWatcher> {
 public:
  static void Init(Napi::Env env, Napi::Object exports) {
    Napi::Function constructor = DefineClass(env, "FdWatcher",
                                             {InstanceMethod("start", &FdWatcher::Start),
                                              InstanceMethod("stop", &FdWatcher::Stop),
                                              InstanceMethod("ref", &FdWatcher::Ref_),
                                              InstanceMethod("unref", &FdWatcher::Unref_),
                                              InstanceMethod("close", &FdWatcher::Close)});
    exports.Set("FdWatcher", constructor);
  }

  explicit FdWatcher(Info info) : Napi::ObjectWrap<FdWatcher>(info) {
    Napi::Env env = info.Env();
    uv_loop_t* loop = nullptr;
    napi_get_uv_event_loop(env, &loop);
    handle_ = new Handle;
    handle_->owner = this;
    int r = uv_poll_init(loop, &handle_->poll, Int(info, 0));
    if (r < 0) {
      delete handle_;
      handle_ = nullptr;
      Napi::Error error = Napi::Error::New(env, "cannot watch the descriptor");
      error.Set("errno", Napi::Number::New(env, r));
      error.ThrowAsJavaScriptException();
      return;
    }
    callback_ = Napi::Persistent(info[1].As<Napi::Function>());
    context_ = std::make_shared<Napi::AsyncContext>(env, "nodelet.FdWatcher");
    napi_add_env_cleanup_hook(env, &FdWatcher::AtExit, this);
    hooked_ = true;
  }

  ~FdWatcher() override { Release(); }

 private:
  // The uv handle outlives the JavaScript object until libuv has closed it.
  struct Handle {
    uv_poll_t poll;
    FdWatcher* owner;
  };

  static void AtExit(void* self) {
    auto* watcher = static_cast<FdWatcher*>(self);
    watcher->hooked_ = false;
    watcher->Release();
  }

  void Release() {
    if (handle_ != nullptr) {
      handle_->owner = nullptr;
      uv_poll_stop(&handle_->poll);
      uv_close(reinterpret_cast<uv_handle_t*>(&handle_->poll), [](uv_handle_t* h) {
        delete reinterpret_cast<Handle*>(h);
      });
      handle_ = nullptr;
    }
    if (hooked_) {
      hooked_ = false;
      napi_remove_env_cleanup_hook(Env(), &FdWatcher::AtExit, this);
    }
    // The listener holds whoever watches, who holds this object: a circle that no collection breaks while it is ours.
    callback_.Reset();
    context_.reset();
    if (active_) {
      active_ = false;
      Unref();
    }
  }

  static void OnEvent(uv_poll_t* poll, int status, int events) {
    auto* self = reinterpret_cast<Handle*>(poll)->owner;
    if (self == nullptr) return;
    Napi::Env env = self->Env();
    Napi::HandleScope scope(env);
    // MakeCallback, so that promises and ticks queued by the listener run; an exception it throws is
    // reported by Node as uncaught.
    // The listener may close the watcher: what the call needs is held here.
    std::shared_ptr<Napi::AsyncContext> context = self->context_;
    Napi::Function callback = self->callback_.Value();
    callback.MakeCallback(self->Value(), {Napi::Number::New(env, status < 0 ? status : events)}, *context);
  }

  Napi::Value Start(Info info) {
    if (handle_ == nullptr) return Fail(info, EBADF);
    int r = uv_poll_start(&handle_->poll, Int(info, 0), &FdWatcher::OnEvent);
    if (r == 0 && !active_) {
      active_ = true;
      Ref();  // the object lives while it listens
    }
    return Napi::Number::New(info.Env(), r);
  }

  Napi::Value Stop(Info info) {
    if (handle_ != nullptr) uv_poll_stop(&handle_->poll);
    if (active_) {
      active_ = false;
      Unref();
    }
    return info.Env().Undefined();
  }

  Napi::Value Ref_(Info info) {
    if (handle_ != nullptr) uv_ref(reinterpret_cast<uv_handle_t*>(&handle_->poll));
    return info.Env().Undefined();
  }

  Napi::Value Unref_(Info info) {
    if (handle_ != nullptr) uv_unref(reinterpret_cast<uv_handle_t*>(&handle_->poll));
    return info.Env().Undefined();
  }

  Napi::Value Close(Info info) {
    Release();
    return info.Env().Undefined();
  }

  Handle* handle_ = nullptr;
  Napi::FunctionReference callback_;
  std::shared_ptr<Napi::AsyncContext> context_;
  bool active_ = false;
  bool hooked_ = false;
};

}  // namespace

void InitPoll(Napi::Env env, Napi::Object exports) { FdWatcher::Init(env, exports); }

}  // namespace nodelet
