// Image decoding over libpng and libjpeg-turbo; the header's size is checked before anything is allocated for
// it.
#include "io/image_decode.h"

#include <png.h>
#include <turbojpeg.h>

#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/mapped_file.h"

namespace flashrt {

namespace {

constexpr size_t kMaxFileBytes = 64 << 20;
constexpr int kMaxSide = 8192, kMaxArea = 32 << 20;

void check_size(int64_t width, int64_t height, const std::string& source) {
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide || width * height > kMaxArea) {
    fail("{}: expected an image of at most {} pixels a side and {} in all, found {} x {}", source, kMaxSide,
         kMaxArea, width, height);
  }
}

struct PngReader {
  std::span<const std::byte> rest;
  char message[200] = {};
  png_structp png = nullptr;
  png_infop info = nullptr;
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }

  static void on_error(png_structp png, png_const_charp text) {
    auto* self = static_cast<PngReader*>(png_get_error_ptr(png));
    std::strncpy(self->message, text, sizeof self->message - 1);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep out, size_t size) {
    auto* self = static_cast<PngReader*>(png_get_io_ptr(png));
    if (size > self->rest.size()) png_error(png, "the file is cut");
    std::memcpy(out, self->rest.data(), size);
    self->rest = self->rest.subspan(size);
  }

  // Both return false with `message` set. No C++ object may live in them: libpng jumps out with longjmp.
  bool read_header() {
    if (setjmp(png_jmpbuf(png))) return false;
    png_read_info(png, info);
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    return true;
  }
  bool read_rows(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_read_image(png, rows);
    png_read_end(png, nullptr);
    return true;
  }
};

Image decode_png(std::span<const std::byte> bytes, const std::string& source) {
  PngReader reader{.rest = bytes};
  reader.png =
      png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, PngReader::on_error, PngReader::on_warning);
  reader.info = reader.png ? png_create_info_struct(reader.png) : nullptr;
  check(reader.info != nullptr, "no memory for a PNG reader");
  png_set_read_fn(reader.png, &reader, PngReader::on_read);
  png_set_user_limits(reader.png, kMaxSide, kMaxSide);
  png_set_chunk_cache_max(reader.png, 128);
  png_set_chunk_malloc_max(reader.png, 8 << 20);
  if (!reader.read_header()) fail("{}: not a readable PNG image: {}", source, reader.message);
  Image image{int(png_get_image_width(reader.png, reader.info)),
              int(png_get_image_height(reader.png, reader.info)),
              {}};
  check_size(image.width, image.height, source);
  const size_t stride = size_t(image.width) * 3;
  check(png_get_rowbytes(reader.png, reader.info) == stride, "libpng's rows are not RGB");
  image.pixels.resize(stride * size_t(image.height));
  std::vector<png_bytep> rows;
  for (int y = 0; y < image.height; ++y) rows.push_back(image.pixels.data() + size_t(y) * stride);
  if (!reader.read_rows(rows.data())) fail("{}: damaged PNG image: {}", source, reader.message);
  return image;
}

Image decode_jpeg(std::span<const std::byte> bytes, const std::string& source) {
  const std::unique_ptr<void, int (*)(tjhandle)> jpeg(tjInitDecompress(), tjDestroy);
  check(jpeg != nullptr, "no memory for a JPEG reader");
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  Image image;
  int subsampling = 0, colorspace = 0;
  if (tjDecompressHeader3(jpeg.get(), data, bytes.size(), &image.width, &image.height, &subsampling,
                          &colorspace)) {
    fail("{}: not a readable JPEG image: {}", source, tjGetErrorStr2(jpeg.get()));
  }
  check_size(image.width, image.height, source);
  image.pixels.resize(size_t(image.width) * size_t(image.height) * 3);
  // A warning means damaged or missing data: no robot should act on a half-grey picture.
  const int flags = TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS;
  if (tjDecompress2(jpeg.get(), data, bytes.size(), image.pixels.data(), image.width, 0, image.height,
                    TJPF_RGB, flags)) {
    fail("{}: damaged JPEG image: {}", source, tjGetErrorStr2(jpeg.get()));
  }
  return image;
}

bool starts_with(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

}  // namespace

Image decode_image(std::span<const std::byte> bytes, const std::string& source) {
  if (bytes.size() > kMaxFileBytes) fail("{}: {} bytes, limit {}", source, bytes.size(), kMaxFileBytes);
  if (starts_with(bytes, "\x89PNG\r\n\x1a\n")) return decode_png(bytes, source);
  if (starts_with(bytes, "\xff\xd8\xff")) return decode_jpeg(bytes, source);
  fail("{}: expected a PNG or JPEG image, found {}", source,
       bytes.empty() ? "an empty file" : "something else");
}

Image read_image(const std::string& path) { return decode_image(MappedFile(path).bytes(), path); }

}  // namespace flashrt
