"""Training steps on MNNS beside PyTorch: the trainer whole, at the size where everything is overhead.

usage: tests/peers/run_mnns.sh [--rounds N] [--steps N] [--threads N]

The soft arm, teacher forced: width 32, 2 layers, 2 heads, 4 digits, batch 64, drop-out 0.1, AdamW, gradients
clipped at norm 1. One parallel pass in which each soft input is the true mixture of embeddings. Ours is
`soft train` with all that it does at a step: drawing the batch, figures, `metrics.jsonl`. PyTorch runs eagerly, in two
forms: `torch` is a GPT-2 as one writes it with torch's own attention, norms and activation, and
`transformers` is GPT2LMHeadModel, which the published code uses. Both have their batches made before, log
nothing and read the loss every 100 steps. Workers take turns; seconds are of the clock and of the processor.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "soft"
GOAL = 3.0
WIDTH, LAYERS, HEADS, BATCH, DIGITS, VOCABULARY = 32, 2, 2, 64, 4, 89
BOS, FIRST_DIGIT, SUM_0, POSITIONS = 1, 6, 52, 11


def lines():
    """Ids, mixtures and truths of every problem: 9 positions, of which the last is never fed."""
    import torch

    ids, mixtures, truths = [], [], []
    for digits in itertools.product(range(1, 10), repeat=DIGITS):
        signs = itertools.product((1, -1), repeat=DIGITS)
        paths = [list(itertools.accumulate(s * d for s, d in zip(sign, digits))) for sign in signs]
        answer = min(path[-1] for path in paths if path[-1] >= 0)
        steps = torch.zeros(DIGITS, VOCABULARY)
        for path in paths:
            for t in range(DIGITS - 1):
                steps[t, SUM_0 + path[t]] += 1 / len(paths)
        steps[DIGITS - 1, SUM_0 + answer] = 1
        ids.append([BOS] + [FIRST_DIGIT + d for d in digits])
        mixtures.append(steps[: DIGITS - 1])
        truths.append(steps)
    return torch.tensor(ids), torch.stack(mixtures), torch.stack(truths)


def plain_model():
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
            self.drop = nn.Dropout(0.1)

        def forward(self, x):
            rows, columns, _ = x.shape
            heads = lambda y: y.view(rows, columns, HEADS, -1).transpose(1, 2)
            q, k, v = (heads(y) for y in self.qkv(self.norm_1(x)).split(WIDTH, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1)
            x = x + self.drop(self.out(y.transpose(1, 2).reshape(rows, columns, WIDTH)))
            return x + self.drop(self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh")))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH)
            self.drop, self.blocks = nn.Dropout(0.1), nn.ModuleList(Block() for _ in range(LAYERS))
            self.norm = nn.LayerNorm(WIDTH)
            nn.init.normal_(self.tokens.weight, std=0.02)

        def forward(self, x):
            x = self.drop(x + self.positions.weight[: x.shape[1]])
            for block in self.blocks:
                x = block(x)
            return F.linear(self.norm(x), self.tokens.weight)

    model = Model()
    return model, model.tokens.weight, model


def transformers_model():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS
    )
    model = GPT2LMHeadModel(config)
    return model, model.transformer.wte.weight, lambda x: model(inputs_embeds=x, use_cache=False).logits


def torch_worker(form, steps):
    """Seconds a step of the clock and of the processor, and the last loss."""
    import torch

    torch.set_num_threads(int(os.environ["RAYON_NUM_THREADS"]))
    torch.manual_seed(1)
    ids, mixtures, truths = lines()
    model, embedding, forward = plain_model() if form == "torch" else transformers_model()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batches = torch.randint(len(ids), (steps + 20, BATCH))
    for number, batch in enumerate(batches):
        if number == 20:
            clock, processor = time.perf_counter(), time.process_time()
        x = torch.cat([embedding[ids[batch]], mixtures[batch] @ embedding], 1)
        logits = forward(x)[:, DIGITS:]
        loss = -(truths[batch] * logits.log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if number % 100 == 0:
            last = loss.item()
    parameters = sum(p.numel() for p in model.parameters())
    found = [time.perf_counter() - clock, time.process_time() - processor]
    print(json.dumps([f / steps for f in found] + [last, parameters]))


def ours(steps):
    with tempfile.TemporaryDirectory() as folder:
        settings = [
            f"run.dir={folder!r}".replace("'", '"'),
            "model.d_model=32", "model.n_layers=2", "model.n_heads=2", "model.dropout=0.1",
            'task.name="mnns"', "train.micro_batch=64", "train.lr=5e-3", "train.clip=1",
            f"train.steps={steps}", "log.every=1000000", "eval.limit=8", 'eval.arms=["soft"]',
        ]
        command = [OURS, "train", "-c", os.devnull] + settings
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        run = Path(folder) / "run"
        times = [json.loads(line) for line in (run / "times.jsonl").read_text().splitlines()]
        metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        results = json.loads((run / "results.json").read_text())
        return [
            sum(line["seconds"] for line in times) / len(times),
            sum(line.get("processor_seconds", float("nan")) for line in times) / len(times),
            metrics[-1]["loss"],
            results["arms"][0]["parameters"],
        ]


def measured(form, steps, threads):
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    if form == "ours":
        return ours(steps)
    command = [sys.executable, __file__, "--worker", form, "--steps", str(steps)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(output.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker")
    arguments = parser.parse_args()
    if arguments.worker:
        return torch_worker(arguments.worker, arguments.steps)
    forms = ["ours", "torch", "transformers"]
    found = {form: [] for form in forms}
    for number in range(arguments.rounds):
        for turn in range(len(forms)):
            form = forms[(number + turn) % len(forms)]
            found[form].append(measured(form, arguments.steps, arguments.threads))
    print(f"MNNS, batch {BATCH}, {arguments.steps} steps, {arguments.threads} threads, {arguments.rounds} rounds")
    print(f"{'':<14}{'steps/s':>9}{'ms a step':>11}{'processor':>11}{'loss':>8}{'parameters':>12}   ours / it")
    for form in forms:
        clock, processor, loss, parameters = (statistics.median(column) for column in zip(*found[form]))
        ratios = [it[0] / own[0] for it, own in zip(found[form], found["ours"])]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        print(
            f"{form:<14}{1 / clock:>9.0f}{1e3 * clock:>11.2f}{1e3 * processor:>11.2f}{loss:>8.3f}"
            f"{parameters:>12.0f}   {spread}"
        )
    for form in forms[1:]:
        ratio = statistics.median(it[0] / own[0] for it, own in zip(found[form], found["ours"]))
        verdict = "ok" if ratio >= GOAL else "MISSED"
        print(f"RESULT mnns/steps/{form} {ratio:.2f} {GOAL:.2f} {verdict}")


if __name__ == "__main__":
    main()
