// tokenizer.model and tokenizer.json: an accepted file encodes any text to ids of its vocabulary and decodes
// them.
#include <cstdlib>

#include "base/error.h"
#include "io/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flashrt;
  try {
    // The file, then optionally 0xff 0x00 0xff and a text.
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const size_t cut = bytes.find(std::string_view("\xff\x00\xff", 3));
    const std::string_view file = bytes.substr(0, cut);
    const std::string_view text =
        cut == bytes.npos ? "a b  \xEF\xBF\xBD\xff <s>1 2\n\xE2\x96\x81" : bytes.substr(cut + 3);
    const Tokenizer tokenizer = file.starts_with('{') ? Tokenizer::from_json(file, "fuzz")
                                                      : Tokenizer::from_sentencepiece(file, "fuzz");
    for (const auto& ids : {tokenizer.encode(text), tokenizer.encode_with_special(text)}) {
      for (const int32_t id : ids) {
        if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
      }
      tokenizer.decode(ids);
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) std::abort();
  }
  return 0;
}
