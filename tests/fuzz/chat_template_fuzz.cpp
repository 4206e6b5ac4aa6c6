// Chat templates: any template ends within its budget, with a text or an error.
#include <cstdlib>

#include "base/error.h"
#include "io/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flashrt;
  try {
    const ChatTemplate chat({reinterpret_cast<const char*>(data), size}, "fuzz");
    const std::string text =
        chat.render({{"system", "s\xC3\xA9"}, {"user", " a b "}, {"assistant", "<think>x</think>y"}}, true,
                    "<s>", "</s>", 0);
    if (text.size() > 4 << 20) std::abort();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) std::abort();
  }
  return 0;
}
