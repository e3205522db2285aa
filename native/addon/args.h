// The thin line between JavaScript and system calls: arguments were checked in TypeScript, results are a
// number (negative errno on failure) or a plain object. Nothing here knows Kubernetes, OCI or policy.
#pragma once

#include <errno.h>
#include <napi.h>
#include <stdint.h>
#include <string>
#include <vector>

namespace nodelet {

using Info = const Napi::CallbackInfo&;

inline int32_t Int(Info info, size_t i) { return info[i].ToNumber().Int32Value(); }
inline uint32_t U32(Info info, size_t i) { return info[i].ToNumber().Uint32Value(); }

// 64-bit flags and ids: a number up to 2^53, or a bigint.
inline uint64_t U64(Info info, size_t i) {
  if (info[i].IsBigInt()) {
    bool lossless = false;
    return info[i].As<Napi::BigInt>().Uint64Value(&lossless);
  }
  return static_cast<uint64_t>(info[i].ToNumber().Int64Value());
}

// A string argument, or a null pointer for null and undefined. File names are bytes: where they are not UTF-8 they
// come as a Uint8Array (without NUL, the caller checks).
class Str {
 public:
  Str(Info info, size_t i) : null_(info[i].IsNull() || info[i].IsUndefined()) {
    if (info[i].IsTypedArray()) {
      auto array = info[i].As<Napi::Uint8Array>();
      value_.assign(reinterpret_cast<const char*>(array.Data()), array.ByteLength());
    } else if (!null_) {
      value_ = info[i].ToString().Utf8Value();
    }
  }
  const char* get() const { return null_ ? nullptr : value_.c_str(); }
  const std::string& value() const { return value_; }

 private:
  bool null_;
  std::string value_;
};

// Borrowed bytes of a Buffer or Uint8Array.
struct Bytes {
  uint8_t* data = nullptr;
  size_t size = 0;
  Bytes(Info info, size_t i) {
    if (!info[i].IsTypedArray()) return;
    auto array = info[i].As<Napi::Uint8Array>();
    data = array.Data();
    size = array.ByteLength();
  }
};

inline std::vector<int> IntList(Info info, size_t i) {
  std::vector<int> out;
  if (!info[i].IsArray()) return out;
  auto array = info[i].As<Napi::Array>();
  out.reserve(array.Length());
  for (uint32_t k = 0; k < array.Length(); k++) out.push_back(array.Get(k).ToNumber().Int32Value());
  return out;
}

inline std::vector<std::string> StrList(Info info, size_t i) {
  std::vector<std::string> out;
  if (!info[i].IsArray()) return out;
  auto array = info[i].As<Napi::Array>();
  out.reserve(array.Length());
  for (uint32_t k = 0; k < array.Length(); k++) out.push_back(array.Get(k).ToString().Utf8Value());
  return out;
}

// The result of a call that returns -1 and sets errno.
inline Napi::Value Result(Info info, int64_t r) {
  return Napi::Number::New(info.Env(), static_cast<double>(r < 0 ? -errno : r));
}

inline Napi::Value Fail(Info info, int error) { return Napi::Number::New(info.Env(), -error); }

void InitFs(Napi::Env env, Napi::Object exports);
void InitMount(Napi::Env env, Napi::Object exports);
void InitProcess(Napi::Env env, Napi::Object exports);
void InitSocket(Napi::Env env, Napi::Object exports);
void InitPoll(Napi::Env env, Napi::Object exports);
void InitBpf(Napi::Env env, Napi::Object exports);

inline void Export(Napi::Object exports, const char* name, Napi::Value (*fn)(Info)) {
  exports.Set(name, Napi::Function::New(exports.Env(), fn, name));
}

}  // namespace nodelet
