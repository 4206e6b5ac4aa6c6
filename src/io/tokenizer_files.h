// The first byte-level BPE tokenizers: vocab.json and merges.txt, without a tokenizer.json.
#pragma once

#include <string>

namespace flashrt {

// What tokenizer.json would say for a directory that holds both files: GPT-2's rules, or Qwen2's when
// tokenizer_config.json names that class. Special tokens: added_tokens_decoder of tokenizer_config.json,
// added_tokens.json, and <|endoftext|> where the vocabulary has it. Throws Error(input) naming file and line.
std::string tokenizer_json_of_files(const std::string& directory);

}  // namespace flashrt
