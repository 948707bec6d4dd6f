"""Tiny random sequence classifiers with the logits that transformers computes for ragged rows.

    pip install torch==2.15.0 transformers==5.24.0
    python3 tests/goldens/make_classifiers.py

Writes tiny/classifier-NAME/{config.json,model.safetensors,logits.json} beside this file, in f32 on
the CPU with eager attention; rows are padded on the right. Every parameter is random, biases and
norms too, so that each one matters. Some rows end in tokens that have the padding id, one has no
others: transformers reads their logits at the last token that has another id, or at the first.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, GPT2Config, LlamaConfig

ROWS = [
    [1, 17, 4, 30, 22, 9, 9, 5, 13, 28, 3, 11],
    [19],
    [1, 26, 8, 31, 14, 7, 2],
    [1, 6, 0, 25, 0, 0],
    [2, 12, 2, 21, 2],
    [0, 0, 0],
    [2, 2],
]
CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        num_labels=1,
    ),
    "gpt2": GPT2Config(
        vocab_size=32,
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=4,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        num_labels=3,
    ),
}


def main() -> None:
    here = Path(__file__).parent / "tiny"
    for number, (name, config) in enumerate(CONFIGS.items()):
        config._attn_implementation = "eager"
        config.dtype = "float32"
        model = AutoModelForSequenceClassification.from_config(config).eval()
        generator = torch.Generator().manual_seed(number)
        longest = max(map(len, ROWS))
        ids = [row + [config.pad_token_id] * (longest - len(row)) for row in ROWS]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in ROWS]
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if parameter.dim() == 1:
                    is_norm = "norm" in key or "ln_" in key
                    start = 1.0 if is_norm and key.endswith("weight") else 0.0
                    parameter.copy_(start + 0.3 * noise)
                else:
                    parameter.copy_(0.35 * noise)
            logits = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits
        folder = here / f"classifier-{name}"
        model.save_pretrained(folder, safe_serialization=True)
        (folder / "generation_config.json").unlink(missing_ok=True)
        as_lines = lambda rows: ",\n".join(json.dumps(row) for row in rows)
        rounded = [[round(x, 7) for x in row] for row in logits.double().tolist()]
        (folder / "logits.json").write_text(
            f'{{"rows": [\n{as_lines(ROWS)}\n],\n"logits": [\n{as_lines(rounded)}\n]}}\n'
        )


main()
