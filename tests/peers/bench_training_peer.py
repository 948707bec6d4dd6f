"""Training steps beside PyTorch, which does the same work eagerly: time, tokens a second, memory.

usage: tests/peers/run_training.sh [--rounds N] [--setting lora|whole] [--arm ARM ..] [--threads N]
                                   [--length [N ..]]

Model, weights, batch and rollouts are those of the benchmark `bench-training`; the losses and the
norms of the gradients of both programs are compared before anything is timed. Workers of both take
their steps in turn. Beside the time of the clock stands that of the processor: with `--threads 1` it is
nearly the clock's of a quiet machine, even where others compute at the same time. What the PyTorch side does is what one writes without a library: torch's own
attention, norm and activation, a key/value cache grown by `torch.cat`, one graph over the whole
recurrence, or one cut every 16 positions by `detach` and differentiated part by part.
"""

import argparse
import gc
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "bench-training"
FOLDER = ROOT / "target" / "peers-weights"
ARMS = ["teacher", "parallel-2", "parallel-3", "sequential", "truncated"]
# Floor and goal of our time divided by PyTorch's.
GOALS = {"teacher": (2.0, 1.2), "sequential": (1.0, 0.5)}
PROMPT, ANSWER, SOFT, TRUNCATE = 32, 16, 64, 16
TEMPERATURE, TOP_K, RANK, ALPHA = 0.6, 30, 8, 16.0
SHAPES = {
    "lora": dict(rows=1, heads=9, kv=3, dim=64, theta=1e5, layers=30, vocabulary=49152),
    "whole": dict(rows=4, heads=8, kv=4, dim=32, theta=1e4, layers=12, vocabulary=4096),
}
EPS = 1e-5
LENGTHS = (16, 64, 128, 256, 512)


def make(setting):
    """The model of a setting: a function from embeddings and a cache to hidden states."""
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file

    torch.set_num_threads(int(os.environ["RAYON_NUM_THREADS"]))
    shape = SHAPES[setting]
    tensors = load_file(FOLDER / f"{setting}.safetensors")
    trained = []

    def parameter(name):
        tensor = tensors.pop(name)
        if setting == "whole" or name.startswith("trained."):
            trained.append(tensor.requires_grad_())
        return tensor

    class Layer:
        def __init__(self, i):
            of = lambda name: parameter(f"model.layers.{i}.{name}.weight")
            self.norms = of("input_layernorm"), of("post_attention_layernorm")
            self.q, self.k, self.v, self.o = (of(f"self_attn.{x}_proj") for x in "qkvo")
            self.gate, self.up, self.down = (of(f"mlp.{x}_proj") for x in ("gate", "up", "down"))
            self.low_rank = {}
            if setting == "lora":
                a = [parameter(f"trained.{4 * i + j}") for j in range(4)]
                self.low_rank = {"q": a[:2], "v": a[2:]}

        def project(self, x, name):
            y = F.linear(x, getattr(self, name))
            if name in self.low_rank:
                a, b = self.low_rank[name]
                y = y + x @ a @ b * (ALPHA / RANK)
            return y

        def __call__(self, x, cos, sin, past, mask):
            rows, columns, width = x.shape
            heads = lambda y: y.view(rows, columns, -1, shape["dim"]).transpose(1, 2)
            h = F.rms_norm(x, (width,), self.norms[0], EPS)
            q, k, v = (heads(self.project(h, name)) for name in "qkv")
            turn = lambda y: y * cos + torch.cat([-y[..., half:], y[..., :half]], -1) * sin
            half = shape["dim"] // 2
            q, k = turn(q), turn(k)
            if past is not None:
                k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=past is None and columns > 1, enable_gqa=True
            )
            x = x + F.linear(out.transpose(1, 2).reshape(rows, columns, -1), self.o)
            h = F.rms_norm(x, (width,), self.norms[1], EPS)
            return x + F.linear(F.silu(F.linear(h, self.gate)) * F.linear(h, self.up), self.down), (k, v)

    embedding = parameter("model.embed_tokens.weight")
    layers = [Layer(i) for i in range(shape["layers"])]
    norm = parameter("model.norm.weight")
    frequencies = shape["theta"] ** (-torch.arange(0, shape["dim"], 2, dtype=torch.float64) / shape["dim"])

    def forward(x, cache):
        start = 0 if cache is None else cache[0][0].shape[2]
        columns = x.shape[1]
        angles = torch.arange(start, start + columns)[:, None] * frequencies
        angles = torch.cat([angles, angles], -1)
        cos, sin = angles.cos().float(), angles.sin().float()
        mask = None
        if start > 0 and columns > 1:
            mask = torch.ones(columns, start + columns, dtype=torch.bool).tril(start)
        new = []
        for i, layer in enumerate(layers):
            x, kept = layer(x, cos, sin, cache[i] if cache else None, mask)
            new.append(kept)
        return F.rms_norm(x, x.shape[-1:], norm, EPS), new

    return embedding, forward, trained


class Peer:
    """One arm on one batch: forward and backward."""

    def __init__(self, setting, arm):
        import torch

        self.torch, self.arm, self.shape = torch, arm, SHAPES[setting]
        self.embedding, self.forward, self.trained = make(setting)

    def batch(self, soft):
        length = PROMPT + soft + ANSWER + 1
        row = lambda row: [(row * 7919 + t * 104729 + 13) % self.shape["vocabulary"] for t in range(length)]
        self.ids = self.torch.tensor([row(i) for i in range(self.shape["rows"])])
        self.soft = soft
        self.scored = self.shape["rows"] * (soft + ANSWER + 1)

    def hard(self, start, end):
        return self.embedding[self.ids[:, start:end]]

    def mixtures(self, logits):
        weights, ids = (logits / TEMPERATURE).topk(TOP_K)
        return (weights.softmax(-1)[..., None, :] @ self.embedding[ids]).squeeze(-2)

    def loss(self, logits, start):
        """Of the predictions of the positions from `start`."""
        truth = self.ids[:, start : start + logits.shape[1]]
        entropy = self.torch.nn.functional.cross_entropy
        return entropy(logits.flatten(0, 1), truth.flatten(), reduction="sum") / self.scored

    def parallel(self, passes):
        first, end = PROMPT, PROMPT + self.soft
        columns = end + ANSWER
        x = self.hard(0, columns)
        for _ in range(passes - 1):
            hidden, _ = self.forward(x, None)
            mixtures = self.mixtures(hidden[:, first - 1 : end - 1] @ self.embedding.T)
            x = self.torch.cat([self.hard(0, first), mixtures, self.hard(end, columns)], 1)
        hidden, _ = self.forward(x, None)
        loss = self.loss(hidden[:, first - 1 :] @ self.embedding.T, first)
        loss.backward()
        return loss.item()

    def sequential(self, truncate):
        hidden, cache = self.forward(self.hard(0, PROMPT), None)
        logits = hidden[:, -1:] @ self.embedding.T
        part, total = self.loss(logits, PROMPT), 0.0
        for i in range(self.soft):
            x = self.mixtures(logits)
            if truncate and (i + 1) % truncate == 0:
                part.backward()
                total, part = total + part.item(), 0.0
                x, cache = x.detach(), [(k.detach(), v.detach()) for k, v in cache]
            position = PROMPT + i
            end = position + 1
            if i + 1 == self.soft:
                end = position + 1 + ANSWER
                x = self.torch.cat([x, self.hard(position + 1, end)], 1)
            hidden, cache = self.forward(x, cache)
            logits = hidden @ self.embedding.T
            part = part + self.loss(logits, position + 1)
        part.backward()
        return total + part.item()

    def step(self):
        for tensor in self.trained:
            tensor.grad = None
        if self.arm == "teacher":
            return self.parallel(1)
        if self.arm.startswith("parallel-"):
            return self.parallel(int(self.arm.removeprefix("parallel-")))
        return self.sequential(TRUNCATE if self.arm == "truncated" else 0)


def peak_megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def work(setting, arm, soft):
    """A worker, as that of `bench-training`: ready, then a step for every line."""
    peer = Peer(setting, arm)
    peer.batch(1)
    peer.step()
    peer.batch(soft)
    gc.collect()
    reset_peak()
    base = peak_megabytes()
    loss = peer.step()
    peak = peak_megabytes()
    grads = [tensor.grad for tensor in peer.trained]
    norm = sum(float(grad.double().square().sum()) for grad in grads) ** 0.5
    print(f"READY {loss} {norm}", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        peer.step()
        print(1e3 * (time.perf_counter() - began), peak, peak - base, flush=True)


class Worker:
    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        line = self.process.stdout.readline().split()
        if line[:1] != ["READY"]:
            sys.exit(f"{command} said {line}, expected READY")
        self.loss, self.norm = float(line[1]), float(line[2])

    def step(self):
        """Milliseconds, peak MB, peak MB above the loaded model, milliseconds of processor time."""
        before = self.processor_time()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found = [float(word) for word in self.process.stdout.readline().split()]
        return [*found, self.processor_time() - before]

    def processor_time(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def pair(setting, arm, soft):
    words = [setting, arm, str(soft)]
    return Worker([OURS, "--worker", *words]), Worker([sys.executable, __file__, "--worker", *words])


def check(name, ours, peer):
    """Whether both computed the same; the choice of the 30th token may hang on rounding."""
    loss = abs(ours.loss - peer.loss)
    norm = abs(ours.norm - peer.norm) / peer.norm
    verdict = "same" if loss < 1e-3 and norm < 1e-2 else "DIFFERENT"
    print(f"{name:<24} loss {ours.loss:.6f} {peer.loss:.6f}   gradient {ours.norm:.6f} {peer.norm:.6f}"
          f"   {verdict}", flush=True)
    return verdict == "same"


def compare(setting, arms, rounds):
    tokens = SHAPES[setting]["rows"] * (PROMPT + SOFT + ANSWER)
    same, rows = True, []
    for arm in arms:
        ours, peer = pair(setting, arm, SOFT)
        same &= check(f"{setting} {arm}", ours, peer)
        steps = [(ours.step(), peer.step()) for _ in range(rounds + 1)][1:]
        ours.end(), peer.end()
        ratios = sorted(a[0] / b[0] for a, b in steps)
        a, b = (statistics.median(step[i][0] for step in steps) for i in (0, 1))
        processor = statistics.median(a[3] / b[3] for a, b in steps)
        rows.append((arm, a, b, ratios, processor, steps[0]))
    print(f"\n{setting}: {SOFT} soft positions, {tokens} tokens a step, {os.environ['RAYON_NUM_THREADS']} threads, medians of"
          f" {rounds} rounds; peak MB: whole process (above the loaded model)")
    print(f"{'arm':<12} {'ours ms':>8} {'tokens/s':>8} {'peak MB':>13}  {'torch ms':>8} {'tokens/s':>8}"
          f" {'peak MB':>13}   ours / torch: clock, processor")
    for arm, a, b, ratios, processor, (ours, peer) in rows:
        memory = [f"{x[1]:.0f} ({x[2]:.0f})" for x in (ours, peer)]
        print(f"{arm:<12} {a:>8.0f} {tokens * 1e3 / a:>8.0f} {memory[0]:>13}  {b:>8.0f}"
              f" {tokens * 1e3 / b:>8.0f} {memory[1]:>13}   {statistics.median(ratios):.2f}"
              f" ({ratios[0]:.2f} .. {ratios[-1]:.2f}), {processor:.2f}")
    for arm, _, _, ratios, _, _ in rows:
        if arm in GOALS:
            ratio, (floor, goal) = statistics.median(ratios), GOALS[arm]
            verdict = "ok" if ratio <= goal else "under the floor" if ratio <= floor else "MISSED"
            print(f"RESULT {setting}/{arm}/torch {ratio:.3f} floor {floor} goal {goal} {verdict}")
    print(flush=True)
    return same


def lengths(setting, softs):
    """The sequential rollout against the number of soft positions."""
    same, times = True, []
    for soft in softs:
        ours, peer = pair(setting, "sequential", soft)
        same &= check(f"{setting} sequential {soft}", ours, peer)
        (a, _, more, spent), (b, _, peers, other) = ours.step(), peer.step()
        ours.end(), peer.end()
        times.append((spent, other))
        print(f"{setting} sequential {soft:>4}: {a:.0f} ms, {more:.0f} MB above; torch {b:.0f} ms,"
              f" {peers:.0f} MB; ours / torch: clock {a / b:.2f}, processor {spent / other:.2f}", flush=True)
    if len(times) > 1:
        growth = math.log(softs[-1] / softs[0])
        mine, peers = (math.log(last / first) / growth for first, last in zip(times[0], times[-1]))
        print(f"exponent of processor time from {softs[0]} to {softs[-1]}: {mine:.2f}, torch {peers:.2f}")
    print(flush=True)
    return same


def machine():
    from importlib.metadata import version

    names = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    name = next(names, "an unknown processor").rpartition(": ")[2]
    return f"{name}, {os.cpu_count()} cores; torch {version('torch')}, Python {sys.version.split()[0]}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--setting", choices=list(SHAPES))
    parser.add_argument("--arm", choices=ARMS, nargs="+", default=ARMS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, nargs="*")
    given = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(given.threads)
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(machine(), flush=True)
    same = True
    for setting in [given.setting] if given.setting else SHAPES:
        subprocess.run([OURS, "--export", setting, FOLDER / f"{setting}.safetensors"], check=True)
        same &= compare(setting, given.arm, given.rounds)
        if given.length is not None:
            same &= lengths(setting, given.length or LENGTHS)
    if not same:
        sys.exit("the two programs did not do the same work")


if sys.argv[1:2] == ["--worker"]:
    work(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    main()
