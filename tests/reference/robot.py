"""Records robot transforms, normalisation round trips and state bins, written from the published formulas in numpy.

    robot.py > ../data/robot/transforms.txt

Lines: bin X N · aloha_state IN(14) OUT(14) · aloha_actions STATE(14) IN(32) OUT(14) · libero_actions STATE(8) IN(32) OUT(7)
"""
import numpy as np

rng = np.random.default_rng(42)
SIGNS = np.array([1, -1, -1, 1, 1, 1, 1, 1, -1, -1, 1, 1, 1, 1], np.float64)


def line(name, *arrays):
    print(name, *(f"{v:.9g}" for a in arrays for v in np.ravel(a)))


def mask(*runs):
    return np.concatenate([np.full(abs(r), r > 0) for r in runs])


def main():
    edges = np.linspace(-1, 1, 256 + 1)[:-1]
    values = np.concatenate([edges, np.nextafter(edges.astype(np.float32), np.float32(-9)), rng.normal(0, 1, 100), [-2, 1, 5, 1e-30, -1e-30, 1e30, -1e30, 0.0, -0.0]])
    for v in values.astype(np.float32):
        line("bin", v, np.digitize(v, edges) - 1)

    for _ in range(5):
        state = np.concatenate([rng.uniform(-2, 2, 6), rng.uniform(-0.2, 1.2, 1), rng.uniform(-2, 2, 6), rng.uniform(0, 1, 1)]).astype(np.float32).astype(np.float64)
        adapted = state * SIGNS
        for i in (6, 13):
            pos = adapted[i] * (0.05800 - 0.01844) + 0.01844
            sine = (0.022 ** 2 + pos ** 2 - 0.036 ** 2) / (2 * 0.022 * pos)
            adapted[i] = (np.arcsin(np.clip(sine, -1, 1)) - 0.5476) / (1.6296 - 0.5476)
        line("aloha_state", state, adapted)

    for _ in range(5):
        state = rng.normal(0, 1, 14).astype(np.float32).astype(np.float64)
        actions = rng.normal(0, 1, 32).astype(np.float32).astype(np.float64)
        m = mask(6, -1, 6, -1)
        out = actions[:14] + np.where(m, state, 0)
        out = out * SIGNS
        for i in (6, 13):
            out[i] = (out[i] + 0.5476 - -0.6213) / (1.4910 - -0.6213)
        line("aloha_actions", state, actions, out)

    for _ in range(3):
        state = rng.normal(0, 1, 8).astype(np.float32).astype(np.float64)
        actions = rng.normal(0, 1, 32).astype(np.float32).astype(np.float64)
        m = mask(6, -1)
        line("libero_actions", state, actions, actions[:7] + np.where(m, state[:7], 0))


main()
