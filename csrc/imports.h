// The import table of a loaded library: where its calls into other libraries go.

#pragma once

#include <initializer_list>

namespace odmt {

struct Redirect {
  const char* symbol;
  void* target;
};

// Sends what `library` (a file name such as "libc10.so") calls by these names to other functions,
// in the order given. All or nothing: false, and nothing done, unless it calls every one of them.
bool redirect_imports(const char* library, std::initializer_list<Redirect> redirects);

}  // namespace odmt
