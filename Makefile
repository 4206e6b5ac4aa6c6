# The commands people type. `make demo` and `make test` work on a fresh Debian 12 or Ubuntu 24.04.
PRESET ?= dev
SECONDS_PER_TARGET ?= 10

.PHONY: demo test build setup asan fuzz format tidy clean
demo: setup
	@cmake --preset $(PRESET)
	@cmake --build --preset $(PRESET) --target flashrt
	@build/$(PRESET)/flashrt demo $(ARGS)

test: build
	@ctest --preset $(PRESET)

build: setup
	@cmake --preset $(PRESET)
	@cmake --build --preset $(PRESET)

setup:
	@tools/setup build

# Tests that parse what others wrote, under AddressSanitizer and UndefinedBehaviorSanitizer.
asan: setup
	@cmake --preset asan
	@cmake --build --preset asan --target parser_tests
	@ctest --preset asan -L parser

# Every fuzz target over the kept corpus for SECONDS_PER_TARGET.
fuzz:
	@tools/setup build fuzz
	@cmake --preset fuzz -DFLASHRT_FUZZ_SECONDS=$(SECONDS_PER_TARGET)
	@cmake --build --preset fuzz
	@ctest --preset fuzz

format:
	@tools/setup style
	@tools/check_style --fix

tidy: build
	@tools/setup style
	@git ls-files 'src/*.cpp' 'apps/*.cpp' | xargs -P 2 -n 4 \
	  clang-tidy-14 -p build/$(PRESET) --quiet --extra-arg-before=-isystem$(CURDIR)/tests/fuzz/compat --extra-arg=-Wno-unknown-warning-option

clean:
	rm -rf build
