// Encodes and decodes texts for tokenizer.py: reads [u32 size][bytes] records, writes [u32 n][i32 ids][u32
// size][text].
#include <cstdio>
#include <string>

#include "base/error.h"
#include "io/tokenizer.h"

int main(int argc, char** argv) try {
  if (argc != 3) flashrt::fail("usage: tokenizer_dump TOKENIZER plain|special");
  const auto tokenizer = flashrt::Tokenizer::load(argv[1]);
  const bool special = std::string(argv[2]) == "special";
  std::string text;
  for (uint32_t size = 0; std::fread(&size, 4, 1, stdin) == 1;) {
    text.resize(size);
    if (std::fread(text.data(), 1, size, stdin) != size) flashrt::fail("stdin: a cut record");
    const auto ids = special ? tokenizer.encode_with_special(text) : tokenizer.encode(text);
    const std::string back = tokenizer.decode(ids);
    const auto count = uint32_t(ids.size()), length = uint32_t(back.size());
    std::fwrite(&count, 4, 1, stdout);
    std::fwrite(ids.data(), 4, count, stdout);
    std::fwrite(&length, 4, 1, stdout);
    std::fwrite(back.data(), 1, length, stdout);
  }
} catch (const flashrt::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
