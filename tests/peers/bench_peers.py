"""Greedy decode steps of SmolLM2 beside transformers (f32) and llama.cpp (the GGUF file as it is).

usage: tests/peers/run.sh [ROUNDS]

Prints milliseconds a step and tokens a second at batch 1 and 8, medians of interleaved rounds, and
our time divided by the peer's. llama.cpp computes with 4-bit weights and 8-bit activations; ours and
transformers with f32 weights, so the three do not do the same work.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / "models", ROOT / ".." / "shared" / "models"]
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
THREADS = 2
STEPS = 32
PROMPT = "Question: Tom has 12 apples, gives 5 away and buys 9. How many has he?\nAnswer:"


def model_path():
    for folder in FOLDERS:
        if (folder / FILE).is_file():
            return folder / FILE
    sys.exit(f"no {FILE} in {FOLDERS}: run `cargo xtask fetch`")


class Ours:
    name = "soft (f32)"

    def step(self, batch):
        program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "bench-generate"
        out = subprocess.run(
            [program, "--greedy", str(batch), str(STEPS)],
            check=True, capture_output=True, text=True, env={"RAYON_NUM_THREADS": str(THREADS)},
        )
        return float(out.stdout)


class Transformers:
    name = "transformers (f32)"

    def __init__(self, path):
        import torch
        import transformers

        torch.set_num_threads(THREADS)
        self.torch = torch
        load = dict(gguf_file=path.name)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, **load
        ).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **load)
        self.ids = tokenizer(PROMPT, return_tensors="pt").input_ids
        self.version = transformers.__version__

    def step(self, batch):
        ids = self.ids.repeat(batch, 1)
        with self.torch.no_grad():
            out = self.model(ids, use_cache=True)
            began = time.perf_counter()
            for _ in range(STEPS):
                token = out.logits[:, -1].argmax(-1, keepdim=True)
                out = self.model(token, past_key_values=out.past_key_values, use_cache=True)
            return 1e3 * (time.perf_counter() - began) / STEPS


class LlamaCpp:
    """Only one sequence: the figure of its server's own clock."""

    name = "llama.cpp (Q4_1)"

    def __init__(self, path):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = 512
        params.cpuparams.n_threads = THREADS
        params.cpuparams_batch.n_threads = THREADS
        self.server = xllamacpp.Server(params)
        self.version = getattr(xllamacpp, "__version__", "")

    def step(self, batch):
        if batch > 1:
            return None
        answer = self.server.handle_completions(
            {"prompt": PROMPT, "max_tokens": STEPS, "temperature": 0, "ignore_eos": True,
             "cache_prompt": False}
        )
        if isinstance(answer, (str, bytes)):
            import json

            answer = json.loads(answer)
        return answer["timings"]["predicted_per_token_ms"]


SYSTEMS = {"ours": Ours, "transformers": Transformers, "llama.cpp": LlamaCpp}


def one(name, batch):
    """Milliseconds a step of one system, in this process."""
    system = SYSTEMS[name]
    system = system() if system is Ours else system(model_path())
    system.step(batch)  # a first round to warm up
    print("STEP", system.step(batch), getattr(system, "version", ""))


def step(name, batch):
    """The same in a process of its own: the peers' idle threads spin, and would slow one another."""
    if name == "llama.cpp" and batch > 1:
        return None
    out = subprocess.run(
        [sys.executable, __file__, "--one", name, str(batch)], capture_output=True, text=True
    )
    lines = [line for line in out.stdout.splitlines() if "STEP" in line]
    if not lines:
        print(f"left out: {name}: {out.stderr.strip().splitlines()[-1:]}")
        return None
    words = lines[-1].split("STEP")[1].split()
    return float(words[0]), " ".join(words[1:])


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for batch in (1, 8):
        times = {name: [] for name in SYSTEMS}
        versions = {}
        for _ in range(rounds):
            for name in SYSTEMS:
                found = step(name, batch)
                if found is not None:
                    times[name].append(found[0])
                    versions[name] = found[1]
        print(f"batch {batch}, {THREADS} threads, {STEPS} steps, medians of {rounds} rounds")
        for name, own in times.items():
            if not own:
                continue
            ms = statistics.median(own)
            ratio = statistics.median(a / b for a, b in zip(times["ours"], own))
            print(f"  {SYSTEMS[name].name:<20} {versions[name]:<14} {ms:8.2f} ms/step"
                  f" {batch * 1e3 / ms:8.1f} tokens/s   ours / this {ratio:.2f}")


if sys.argv[1:2] == ["--one"]:
    one(sys.argv[2], int(sys.argv[3]))
else:
    main()
