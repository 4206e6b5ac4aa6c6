// Brace expansion, shape checks and the stacking of parts.
#include "models/weights.h"

#include "base/error.h"

namespace flashrt {

namespace {

std::vector<std::string> expand(const std::string& pattern) {
  const size_t open = pattern.find('{'), close = pattern.find('}');
  if (open == pattern.npos) return {pattern};
  std::vector<std::string> names;
  for (size_t begin = open + 1; begin <= close;) {
    const size_t end = std::min(pattern.find(',', begin), close);
    names.push_back(pattern.substr(0, open) + pattern.substr(begin, end - begin) + pattern.substr(close + 1));
    begin = end + 1;
  }
  return names;
}

}  // namespace

Weight WeightBinder::stacked(const std::string& pattern, Shape shape) const {
  Weight whole{.name = prefix_ + pattern, .shape = {0, shape.cols}};
  for (const std::string& name : expand(prefix_ + pattern)) {
    Weight one = source_(name);
    if (one.shape.cols != shape.cols) {
      fail("{}: expected rows of {}, found [{}, {}]", name, shape.cols, one.shape.rows, one.shape.cols);
    }
    whole.shape.rows += one.shape.rows;
    whole.parts.insert(whole.parts.end(), one.parts.begin(), one.parts.end());
  }
  if (whole.shape != shape) {
    fail("{}: expected [{}, {}], found [{}, {}]", whole.name, shape.rows, shape.cols, whole.shape.rows,
         whole.shape.cols);
  }
  return whole;
}

Tensor WeightBinder::columns(const std::string& name, Shape shape, int64_t begin, int64_t count) const {
  Weight w = stacked(name, shape);
  w.name += fmt::format("[:, {}:{}]", begin, begin + count);
  w.shape.cols = count;
  check(!w.format(), "columns of a matrix of plain elements");
  for (Weight::Part& part : w.parts) part.data += size_t(begin) * size_of(part.dtype);
  return program_.weight(std::move(w));
}

Tensor WeightBinder::vector(const std::string& name, int64_t n) const {
  Weight whole{.name = prefix_ + name, .shape = {1, 0}};
  std::vector<float> values;
  for (const std::string& one : expand(prefix_ + name)) {
    const Weight part = source_(one);
    const std::vector<float> more = weight_values(part);
    values.insert(values.end(), more.begin(), more.end());
  }
  if (int64_t(values.size()) != n) fail("{}: expected {} values, found {}", whole.name, n, values.size());
  return program_.constant(whole.name, {1, n}, std::move(values));
}

}  // namespace flashrt
