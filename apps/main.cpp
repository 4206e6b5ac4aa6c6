// The flashrt executable: one subcommand per file.
#include <fmt/core.h>

#include <new>

#include "apps/command.h"
#include "apps/generate.h"

int main(int argc, char** argv) {
  using namespace flashrt;
  CLI::App app{"FlashRT: one request, as fast as the GPU allows"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "0.1.0");
  app.get_formatter()->column_width(34);
  bool quiet = false;
  app.add_flag("-q,--quiet", quiet, "Warnings only on stderr");
  apps::add_run(app);
  apps::add_inspect(app);
  apps::add_bench(app);
  apps::add_bench_op(app);
  apps::add_tune(app);
  apps::add_verify(app);
  apps::add_profile(app);
  apps::add_diff(app);
  apps::add_synth(app);
  apps::add_demo(app);
  apps::add_eval(app);
  apps::add_generate(app);
  apps::add_chat(app);
  apps::add_quantize(app);
  apps::add_perplexity(app);
  try {
    app.parse(argc, argv);
    if (quiet) g_log_level = LogLevel::warn;
    return apps::run_selected();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "error: out of memory\n");
    return 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
