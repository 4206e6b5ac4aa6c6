// Tokenizers against recorded answers of sentencepiece and tokenizers, and their rules about bad files.
#include "io/tokenizer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/json.h"
#include "io/tokenizer_stream.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {
namespace {

const std::string kData = FLASHRT_TEST_DATA "/tokenizer/";

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), 2);
    return e.what();
  }
  return "no error";
}
#define EXPECT_ERROR(expression, part)                                 \
  do {                                                                 \
    const std::string message = error_of([&] { (void)(expression); }); \
    EXPECT_NE(message.find(part), std::string::npos) << message;       \
  } while (0)

TEST(Tokenizer, EqualsTheReferences) {
  const JsonDocument golden = JsonDocument::read(kData + "golden.json");
  std::vector<std::string> texts;
  for (const JsonNode& text : golden.root().at("texts").elements()) texts.push_back(text.text());
  ASSERT_GT(texts.size(), 50u);
  const auto files = golden.root().at("files").members();
  ASSERT_GE(files.size(), 9u);
  for (const auto& [name, file] : files) {
    const bool special = name.ends_with(":special");
    const Tokenizer tokenizer = Tokenizer::load(kData + std::string(name.substr(0, name.find(':'))));
    const auto ids = file.at("ids").elements(), decoded = file.at("decoded").elements();
    for (size_t i = 0; i < texts.size(); ++i) {
      std::vector<int32_t> expected;
      for (const JsonNode& id : ids[i].elements()) expected.push_back(int32_t(id.integer(0, 1 << 20)));
      const auto found = special ? tokenizer.encode_with_special(texts[i]) : tokenizer.encode(texts[i]);
      EXPECT_EQ(found, expected) << name << " text " << i;
      EXPECT_EQ(tokenizer.decode(expected), decoded[i].text()) << name << " text " << i;
    }
  }
}

// The pair of files that byte-level tokenizers had before tokenizer.json.
std::string split_files(const std::string& name) {
  namespace fs = std::filesystem;
  const fs::path path = fs::path(testing::TempDir()) / fmt::format("flashrt-{}-{}", name, getpid());
  fs::create_directories(path);
  const auto document = nlohmann::json::parse(read_text_file(kData + name + ".json"));
  std::ofstream merges(path / "merges.txt");
  merges << "#version: 0.2\n";
  for (const auto& merge : document["model"]["merges"])
    merges << merge[0].get<std::string>() << ' ' << merge[1].get<std::string>() << '\n';
  nlohmann::json vocab = document["model"]["vocab"], added = nlohmann::json::object();
  for (const auto& token : document["added_tokens"]) added[token["content"].get<std::string>()] = token["id"];
  const bool qwen = name == "byte_qwen";
  if (qwen) {
    std::ofstream(path / "added_tokens.json") << added;
    std::ofstream(path / "tokenizer_config.json") << R"({"tokenizer_class": "Qwen2Tokenizer"})";
  } else {
    vocab.update(added);  // GPT-2's end of text stands in the vocabulary itself
  }
  std::ofstream(path / "vocab.json") << vocab;
  return path;
}

TEST(Tokenizer, VocabularyAndMergesAreEnough) {
  const JsonDocument golden = JsonDocument::read(kData + "golden.json");
  const auto texts = golden.root().at("texts").elements();
  for (const std::string name : {"byte_gpt2", "byte_qwen"}) {
    SCOPED_TRACE(name);
    const std::string directory = split_files(name);
    const Tokenizer whole = Tokenizer::load(kData + name + ".json"), pair = Tokenizer::load(directory);
    EXPECT_EQ(pair.vocab_size(), whole.vocab_size());
    EXPECT_EQ(pair.eos(), whole.eos());
    for (const JsonNode& text : texts) {
      EXPECT_EQ(pair.encode(text.text()), whole.encode(text.text()));
      EXPECT_EQ(pair.decode(pair.encode(text.text())), whole.decode(whole.encode(text.text())));
    }
    EXPECT_EQ(pair.encode_with_special("a<|endoftext|>b"), whole.encode_with_special("a<|endoftext|>b"));
    EXPECT_EQ(pair.encode("a<|endoftext|>b"), whole.encode("a<|endoftext|>b"));
    std::ofstream(directory + "/merges.txt", std::ios::app) << "one two three\n";
    EXPECT_ERROR(Tokenizer::load(directory), "merges.txt: line");
    std::ofstream(directory + "/tokenizer_config.json") << R"({"tokenizer_class": "RobertaTokenizer"})";
    EXPECT_ERROR(Tokenizer::load(directory), "RobertaTokenizer");
    std::filesystem::remove(directory + "/merges.txt");
    EXPECT_ERROR(Tokenizer::load(directory), "merges.txt");
    std::filesystem::remove_all(directory);
  }
}

void expect_streams(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  for (const bool with_special : {false, true}) {
    TextStream stream(tokenizer, with_special);
    std::string all;
    for (const int32_t id : ids) {
      const std::string piece = stream.push(id);
      EXPECT_TRUE(is_valid_utf8(piece));
      all += piece;
    }
    all += stream.finish();
    EXPECT_EQ(all, tokenizer.decode(ids, with_special));
  }
}

TEST(Tokenizer, StreamsWhatItDecodes) {
  const JsonDocument golden = JsonDocument::read(kData + "golden.json");
  for (const auto& [name, file] : golden.root().at("files").members()) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = Tokenizer::load(kData + std::string(name.substr(0, name.find(':'))));
    for (const JsonNode& list : file.at("ids").elements()) {
      std::vector<int32_t> ids;
      for (const JsonNode& id : list.elements()) ids.push_back(int32_t(id.integer(0, 1 << 20)));
      expect_streams(tokenizer, ids);
    }
    uint32_t state = 7;  // any ids at all: cut characters, stray bytes, special tokens in between
    for (int repeat = 0; repeat < 60; ++repeat) {
      std::vector<int32_t> ids;
      for (int i = 0; i < 120; ++i) {
        state = state * 1664525u + 1013904223u;
        const uint32_t range = repeat % 2 ? uint32_t(tokenizer.vocab_size()) : 280;
        ids.push_back(int32_t((state >> 8) % range));
      }
      expect_streams(tokenizer, ids);
    }
  }
}

TEST(Tokenizer, StreamsWholeCharactersAtOnce) {
  const Tokenizer t = Tokenizer::load(kData + "byte_qwen.json");
  TextStream stream(t);
  const auto ids = t.encode("\xF0\x9F\xA6\x96!");  // a dinosaur the vocabulary has no token for
  ASSERT_GE(ids.size(), 4u);
  const size_t last = ids.size() - 2;
  for (size_t i = 0; i < last; ++i) EXPECT_EQ(stream.push(ids[i]), "") << i;
  EXPECT_EQ(stream.push(ids[last]), "\xF0\x9F\xA6\x96");
  EXPECT_EQ(stream.push(ids[last + 1]), "!");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Tokenizer, NamesItsSpecialTokens) {
  for (const char* name : {"gemma_like.model", "gemma_like.json"}) {
    const Tokenizer t = Tokenizer::load(kData + name);
    EXPECT_EQ(t.pad(), 0) << name;
    EXPECT_EQ(t.eos(), 1) << name;
    EXPECT_EQ(t.bos(), 2) << name;
    EXPECT_EQ(t.unk(), 3) << name;
    EXPECT_EQ(t.vocab_size(), 900) << name;
    ASSERT_EQ(t.prefix().size(), 1u) << name;
    EXPECT_EQ(t.prefix()[0], 2) << name;
    EXPECT_TRUE(t.suffix().empty()) << name;
    EXPECT_EQ(t.token(t.id_of("<loc0003>")), "<loc0003>") << name;
    EXPECT_EQ(t.id_of("no such token"), -1) << name;
    EXPECT_TRUE(t.is_special(2)) << name;
    EXPECT_FALSE(t.is_special(700)) << name;
  }
}

TEST(Tokenizer, TextCannotNameSpecialTokens) {
  const Tokenizer model = Tokenizer::load(kData + "gemma_like.model"),
                  json = Tokenizer::load(kData + "gemma_like.json");
  for (const int32_t id : model.encode("<eos><bos>")) EXPECT_GT(id, 3);
  for (const int32_t id : json.encode("<eos><bos>")) EXPECT_GT(id, 3);
  EXPECT_EQ(json.encode_with_special("<eos><bos>"), (std::vector<int32_t>{1, 2}));
}

TEST(Tokenizer, MalformedUtf8BecomesReplacementCharacters) {
  for (const char* name : {"gemma_like.model", "gemma_like.json", "plain.model", "flags.json"}) {
    const Tokenizer t = Tokenizer::load(kData + name);
    const std::string_view r = "\xEF\xBF\xBD";
    const std::string three = std::string(r) + std::string(r) + std::string(r);
    EXPECT_EQ(t.encode("a\xff"
                       "b"),
              t.encode("a\xEF\xBF\xBD"
                       "b"))
        << name;
    EXPECT_EQ(t.encode("\xed\xa0\x80"), t.encode(three)) << name;                        // a surrogate
    EXPECT_EQ(t.encode("\xe2\x82"), t.encode(std::string(r) + std::string(r))) << name;  // cut
    EXPECT_EQ(t.encode("\xc0\xaf"), t.encode(std::string(r) + std::string(r))) << name;  // overlong
  }
}

TEST(Tokenizer, LongTextsTakeNoQuadraticTime) {
  const auto begin = std::chrono::steady_clock::now();
  std::string text(1 << 20, 'a');
  for (size_t i = 0; i < text.size(); i += 3) text[i] = "etoinsr"[i % 7];
  for (const char* name : {"gemma_like.model", "gemma_like.json"}) {
    const Tokenizer t = Tokenizer::load(kData + name);
    EXPECT_EQ(t.decode(t.encode(text)), text) << name;
  }
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(spent.count(), 20.0);  // about 0.5 s; the quadratic loop takes minutes
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  for (const char* name : {"gemma_like.model", "gemma_like.json"}) {
    const Tokenizer t = Tokenizer::load(kData + name);
    EXPECT_ERROR(t.decode(std::vector<int32_t>{-1}), "cannot decode id -1");
    EXPECT_ERROR(t.decode(std::vector<int32_t>{900}), "cannot decode id 900");
  }
}

TEST(Tokenizer, RefusesMissingFiles) {
  EXPECT_ERROR(Tokenizer::load(kData + "none.model"), "none.model: cannot open");
  EXPECT_ERROR(Tokenizer::load(FLASHRT_TEST_DATA "/../reference"), "holds no tokenizer");
}

// --- tokenizer.model, one broken rule at a time
// --------------------------------------------------------------

std::string varint(uint64_t v) {
  std::string out;
  for (; v >= 0x80; v >>= 7) out += char(v | 0x80);
  return out += char(v);
}
std::string field(uint32_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string number(uint32_t number, uint64_t value) { return varint(number << 3) + varint(value); }
std::string piece(const std::string& text, int type, const std::string& score = std::string(4, '\0')) {
  return field(1, field(1, text) + varint(2 << 3 | 5) + score + number(3, uint64_t(type)));
}
const std::string kTrainer = field(2, number(3, 2)),
                  kPieces = piece("<unk>", 2) + piece("<s>", 3) + piece("a", 1);
Tokenizer model_of(const std::string& bytes) { return Tokenizer::from_sentencepiece(bytes, "t.model"); }

TEST(SentencePieceFile, AcceptsTheSmallest) {
  const Tokenizer t = model_of(kPieces + kTrainer);
  EXPECT_EQ(t.encode("a"), (std::vector<int32_t>{0, 2}));  // ▁ is unknown
  EXPECT_EQ(t.bos(), 1);
  EXPECT_EQ(t.eos(), -1);  // id 2 is no control piece
}

TEST(SentencePieceFile, RefusesBrokenFiles) {
  EXPECT_ERROR(model_of(""), "t.model: not a SentencePiece model: it has no pieces");
  EXPECT_ERROR(model_of("\x0a"), "cut number");
  EXPECT_ERROR(model_of("\x0a\x7f"), "length beyond its end");
  EXPECT_ERROR(model_of("\x0b"), "unsupported wire type");
  EXPECT_ERROR(model_of(std::string(11, '\xff')), "more than 64 bits");
  EXPECT_ERROR(model_of(std::string("\x02\x00", 2)), "invalid field number");
  EXPECT_ERROR(model_of(number(1, 5)), "ModelProto field 1: expected wire type 2, found 0");
  EXPECT_ERROR(model_of(kPieces), "expected a BPE model (type 2), found type 1 (Unigram)");
  EXPECT_ERROR(model_of(kPieces + field(2, number(3, 1))),
               "expected a BPE model (type 2), found type 1 (Unigram)");
  EXPECT_ERROR(model_of(kPieces + field(2, number(3, 77))), "found type 77");
  EXPECT_ERROR(model_of(piece("a", 1) + kTrainer), "no piece has the type UNKNOWN");
  EXPECT_ERROR(model_of(kPieces + piece("a", 1) + kTrainer), "piece 3: the text 'a' is there twice");
  EXPECT_ERROR(model_of(kPieces + piece("?", 2) + kTrainer), "a second unknown piece");
  EXPECT_ERROR(model_of(kPieces + piece("", 1) + kTrainer), "piece 3: its text is empty");
  EXPECT_ERROR(model_of(kPieces + piece("\xff", 1) + kTrainer), "piece 3: its text is not UTF-8");
  EXPECT_ERROR(model_of(kPieces + piece("b", 7) + kTrainer), "piece 3: expected a type from 1 to 6, found 7");
  EXPECT_ERROR(model_of(kPieces + piece("b", 1, std::string("\0\0\x80\x7f", 4)) + kTrainer),
               "score is not finite");
  EXPECT_ERROR(model_of(kPieces + piece(std::string(70000, 'x'), 1) + kTrainer), "more than the limit");
  EXPECT_ERROR(model_of(kPieces + kTrainer + field(3, field(2, "map"))), "character map");
  const std::string fallback = field(2, number(3, 2) + number(35, 1));
  EXPECT_ERROR(model_of(kPieces + fallback), "the piece <0x00> is missing");
  EXPECT_ERROR(model_of(kPieces + piece("<0x-1>", 6) + fallback), "expected a byte piece");
  EXPECT_ERROR(model_of(kPieces + piece("<0x1>", 6) + fallback), "expected a byte piece");
  EXPECT_ERROR(model_of(kPieces + piece("<0x41>", 6) + kTrainer), "byte_fallback is off");
  EXPECT_ERROR(model_of(kPieces + field(2, number(3, 2) + number(41, 1'000'000))), "expected an id from -1");
}

TEST(SentencePieceFile, EveryCutIsRefusedOrSmaller) {
  const std::string whole = read_text_file(kData + "plain.model");
  for (size_t size = 0; size < whole.size(); size += 7) {
    const std::string message = error_of([&] { model_of(whole.substr(0, size)); });
    EXPECT_TRUE(message == "no error" || message.starts_with("t.model: ")) << message;
  }
}

TEST(SentencePieceFile, PiecesMayHoldNul) {
  const Tokenizer t = model_of(kPieces + piece(std::string("\0b", 2), 4) + kTrainer + field(3, number(3, 0)));
  EXPECT_EQ(t.encode(std::string_view("\0ba", 3)), (std::vector<int32_t>{3, 2}));
}

// --- tokenizer.json
// ------------------------------------------------------------------------------------------

std::string json_with(const std::string& vocab, const std::string& merges, const std::string& rest = "",
                      const std::string& model = "") {
  return R"({"model":{"type":"BPE","vocab":{)" + vocab + R"(},"merges":[)" + merges + "]" + model + "}" +
         rest + "}";
}
Tokenizer json_of(const std::string& text) { return Tokenizer::from_json(text, "t.json"); }

TEST(TokenizerJson, MergesMayBeTextOrPairs) {
  const std::string vocab = R"("a":0,"b":1," ":2,"ab":3," a":4)";
  const Tokenizer text = json_of(json_with(vocab, R"("a b")")),
                  pair = json_of(json_with(vocab, R"(["a","b"],[" ","a"])"));
  EXPECT_EQ(text.encode("ab a"), (std::vector<int32_t>{3, 2, 0}));
  EXPECT_EQ(pair.encode("ab a"), (std::vector<int32_t>{3, 4}));
}

TEST(TokenizerJson, VocabulariesMayHaveHoles) {
  const Tokenizer t = json_of(json_with(R"("a":0,"b":9)", ""));
  EXPECT_EQ(t.vocab_size(), 10);
  EXPECT_EQ(t.decode(std::vector<int32_t>{0, 5, 9}), "a b");  // without a decoder, tokens stand apart
}

TEST(TokenizerJson, RefusesBrokenFiles) {
  const std::string ab = R"("a":0,"b":1,"ab":2)";
  EXPECT_ERROR(json_of("{"), "t.json: malformed JSON");
  EXPECT_ERROR(json_of("{}"), "t.json: the document: the field \"model\" is missing");
  EXPECT_ERROR(json_of(json_with("", "")), "/model/vocab: expected 1 to");
  EXPECT_ERROR(json_of(json_with(R"("a":-1)", "")), "/model/vocab/a: expected an integer from 0");
  EXPECT_ERROR(json_of(json_with(R"("a":1.5)", "")), "/model/vocab/a: expected an integer");
  EXPECT_ERROR(json_of(json_with(R"("a":2000000)", "")), "/model/vocab/a: expected an integer");
  EXPECT_ERROR(json_of(json_with(R"("a":0,"b":0)", "")), "id 0 is there twice");
  EXPECT_ERROR(json_of(json_with(R"("a":0,"a":1)", "")), "duplicate key");
  EXPECT_ERROR(json_of(json_with(ab, R"("a")")), "/model/merges/0: expected two tokens");
  EXPECT_ERROR(json_of(json_with(ab, R"("a b c")")), "/model/merges/0: expected two tokens");
  EXPECT_ERROR(json_of(json_with(ab, R"(["a"])")), "/model/merges/0: expected a pair");
  EXPECT_ERROR(json_of(json_with(ab, R"("a x")")), R"(the token "x" is not in the vocabulary)");
  EXPECT_ERROR(json_of(json_with(ab, R"("b a")")), R"(the token "ba" is not in the vocabulary)");
  EXPECT_ERROR(json_of(json_with(ab, "", "", R"(,"unk_token":"?")")), "/model/unk_token");
  EXPECT_ERROR(json_of(json_with(ab, "", "", R"(,"dropout":0.1)")), "/model/dropout");
  EXPECT_ERROR(json_of(R"({"model":{"type":"WordPiece","vocab":{}}})"),
               "expected \"BPE\", found \"WordPiece\"");
  EXPECT_ERROR(json_of(json_with(ab, "", R"(,"normalizer":{"type":"Precompiled"})")),
               "normaliser \"Precompiled\"");
  EXPECT_ERROR(json_of(json_with(ab, "", R"(,"pre_tokenizer":{"type":"Wordy"})")), "pre-tokenizer \"Wordy\"");
  EXPECT_ERROR(json_of(json_with(ab, "", R"(,"decoder":{"type":"CTC"})")), "decoder \"CTC\"");
  EXPECT_ERROR(json_of(json_with(ab, "", R"(,"added_tokens":[{"content":"a","id":1}])")), "has id 1 here");
  EXPECT_ERROR(json_of(json_with(ab, "", R"(,"added_tokens":[{"content":"c","id":1}])")), "that id is \"b\"");
  EXPECT_ERROR(json_of(json_with(ab, "", R"(,"added_tokens":[{"content":"","id":7}])")), "expected 1 to");
  EXPECT_ERROR(json_of(json_with(ab, "", R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"}})")),
               "does not compile");
  std::string deep;
  for (int i = 0; i < 40; ++i) deep += "[";
  EXPECT_ERROR(json_of(R"({"x":)" + deep), "nested deeper");
}

TEST(TokenizerJson, RegexesCannotRunAway) {
  const Tokenizer t = json_of(
      json_with(R"("a":0)", "",
                R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a+)+$"},"behavior":"Isolated"})"));
  EXPECT_ERROR(t.encode(std::string(5000, 'a') + "b"), "regular expression failed");
}

}  // namespace
}  // namespace flashrt
