#include <malloc.h>

#include "args.h"

// Every call is per environment and keeps no state, so worker threads may load the addon as well.
static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  // One heap of malloc for all threads: each would otherwise keep its own high-water mark of buffers (a pull with three
  // workers peaks 25 MiB higher).
  mallopt(M_ARENA_MAX, 1);
  nodelet::InitFs(env, exports);
  nodelet::InitMount(env, exports);
  nodelet::InitProcess(env, exports);
  nodelet::InitSocket(env, exports);
  nodelet::InitPoll(env, exports);
  nodelet::InitBpf(env, exports);
  return exports;
}

NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)
