// Flow step of bench_stream.cu: the kernel against f64, and its time as a link of a PDL chain.
int flow() {
  constexpr int width = 1024, actions = 32;
  int failures = 0;
  for (int tokens : {1, 10, 50})
    for (int kind = 0; kind < 3; ++kind) {  // 0 whole step, 1 first (projection only), 2 last (no projection)
      FlowStepParams p{};
      p.tokens = tokens, p.width = width, p.eps = 1e-6f, p.dt = -.1f;
      bf16 *hidden = make<bf16>(tokens * width, 1, 1.f), *w_out = make<bf16>(actions * width, 2, .03f);
      bf16 *w_in = make<bf16>(width * actions, 3, .2f), *out = make<bf16>(tokens * width, 4, 1.f);
      float *scale = make<float>(width, 5, .3f), *shift = make<float>(width, 6, .3f),
            *b_out = make<float>(actions, 7, .5f);
      float *b_in = make<float>(width, 8, .5f), *state = make<float>(tokens * actions, 9, 1.f),
            *stat = make<float>(tokens * 4, 10, 1.f);
      p.hidden = kind == 1 ? nullptr : hidden, p.norm_scale = scale,
      p.norm_shift = tokens == 1 ? nullptr : shift;
      p.w_out = w_out, p.b_out = b_out, p.state = p.next_state = state, p.w_in = w_in, p.b_in = b_in;
      p.out = kind == 2 ? nullptr : out, p.stat_out = stat;
      CHECK(cudaDeviceSynchronize());
      const auto h = download(hidden, tokens * width), wo = download(w_out, actions * width),
                 wi = download(w_in, width * actions);
      const auto sc = download(scale, width), sh = download(shift, width), bo = download(b_out, actions),
                 bi = download(b_in, width);
      const auto x0 = download(state, tokens * actions);
      poison<<<64, 256>>>(out, tokens * width);
      void* args[] = {&p};
      launch_kernel((const void*)flow_step, tokens, 1, 512, 0, args, true, nullptr);
      CHECK(cudaDeviceSynchronize());
      const auto x1 = download(state, tokens * actions);
      const auto y = download(out, tokens * width);
      const auto st = download(stat, tokens * 4);
      Gate gx, gy;
      bool ok = true;
      for (int t = 0; t < tokens; ++t) {
        double ss = 0, x[actions], sum = 0;
        for (int c = 0; c < width; ++c) ss += double(float(h[t * width + c])) * float(h[t * width + c]);
        const double rstd = 1 / std::sqrt(ss / width + p.eps);
        for (int a = 0; a < actions; ++a) {
          double v = bo[a];
          for (int c = 0; c < width; ++c) {
            const double n = float(h[t * width + c]) * rstd * (1. + sc[c]) + (p.norm_shift ? sh[c] : 0.);
            v += double(float(bf16(float(n)))) * float(wo[a * width + c]);
          }
          x[a] = kind == 1 ? x0[t * actions + a] : x0[t * actions + a] + p.dt * v;
          gx.add(x1[t * actions + a], x[a]);
        }
        for (int c = 0; c < width; ++c) {
          double v = bi[c];
          for (int a = 0; a < actions; ++a) v += x[a] * float(wi[c * actions + a]);
          if (kind != 2) gy.add(float(y[t * width + c]), v);
          if (kind == 2) ok = ok && float(y[t * width + c]) == float(bf16(kPoison));
          sum += double(float(y[t * width + c])) * float(y[t * width + c]);
        }
        if (kind != 2)
          ok = ok && std::fabs(st[t * 4] + st[t * 4 + 1] + st[t * 4 + 2] + st[t * 4 + 3] - sum) < 1e-3 * sum;
      }
      ok = ok && gx.finite && gx.rel() < 2e-3 && (kind == 2 || (gy.finite && gy.rel() < 4e-3));
      failures += !ok;
      cudaStream_t stream;
      CHECK(cudaStreamCreate(&stream));
      auto exec = capture(stream, [&] {
        for (int i = 0; i < 50; ++i)
          launch_kernel((const void*)flow_step, tokens, 1, 512, 0, args, true, stream);
      });
      std::printf("flow step, %2d tokens, kind %d: state %.1e, projection %.1e %s; %.2f us in a chain\n",
                  tokens, kind, gx.rel(), kind == 2 ? 0. : gy.rel(), ok ? "ok" : "FAIL",
                  time_graph(exec, stream, 5) / 50);
      CHECK(cudaGraphExecDestroy(exec));
      CHECK(cudaStreamDestroy(stream));
    }
  return failures;
}
