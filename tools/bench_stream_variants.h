// Tactics tried in the chain, per linear; the first is the base. Edited by hand while tuning.
void chain_variants(int m, int rows, std::vector<StreamTactic> (&v)[4]) {
  // rows, row groups, splits, clusters, stages, trigger
  if (m <= 16) {
    v[0] = {tactic(rows, 1, 4, 40, 4, 0), tactic(rows, 1, 2, 40, 8, 0)};
    v[1] = {tactic(rows, 1, 8, 16, 4, 0), tactic(rows, 1, 4, 16, 8, 0)};
    v[2] = {tactic(rows, 2, 2, 64, 8, 0), tactic(rows, 2, 2, 64, 6, 0), tactic(rows, 1, 1, 128, 12, 0),
            tactic(rows, 1, 1, 128, 16, 0)};
    v[3] = {tactic(rows, 1, 8, 16, 8, 0), tactic(rows, 1, 8, 16, 6, 0), tactic(rows, 1, 4, 16, 16, 0)};
  } else {
    v[0] = {tactic(rows, 1, 4, 40, 4, 0), tactic(rows, 1, 2, 40, 8, 0)};
    v[1] = {tactic(rows, 1, 4, 16, 8, 0), tactic(rows, 1, 8, 16, 4, 0)};
    v[2] = {tactic(rows, 2, 2, 64, 6, 6), tactic(rows, 2, 2, 64, 8, 0), tactic(rows, 1, 2, 64, 12, 12),
            tactic(rows, 1, 2, 128, 8, 0)};
    v[3] = {tactic(rows, 1, 4, 16, 8, 0), tactic(rows, 1, 4, 16, 12, 0), tactic(rows, 1, 8, 16, 8, 0)};
  }
}
