"""Tiny random models of every family with the logits that transformers computes for them.

    pip install torch==2.15.0 transformers==5.24.0
    python3 tests/goldens/make_models.py

Writes tiny/NAME/{config.json,model.safetensors,logits.json} beside this file, in f32 on the CPU
with eager attention. Every parameter is random, biases and norms too, so that each one matters.
"""

import json
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

IDS = [1, 17, 4, 30, 22, 9, 9, 2, 13, 28, 5, 11, 19, 3, 26, 8, 0, 31, 14, 7, 21, 12, 6, 25]
SIZES = dict(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=None,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
CONFIGS = {
    # Wavelengths of 6, 63, 628 and 6283 positions: kept, blended and divided.
    "llama3": LlamaConfig(**{**SIZES, "head_dim": 8}, rope_parameters=LLAMA3),
    "llama-biased-linear": LlamaConfig(
        **SIZES,
        tie_word_embeddings=True,
        attention_bias=True,
        mlp_bias=True,
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0),
    ),
    "mistral": MistralConfig(**SIZES, sliding_window=5),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**{**SIZES, "head_dim": 8}),
    "gpt2": GPT2Config(
        vocab_size=32, n_positions=64, n_embd=16, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2
    ),
}


def main() -> None:
    here = Path(__file__).parent / "tiny"
    for number, (name, config) in enumerate(CONFIGS.items()):
        config._attn_implementation = "eager"
        config.dtype = "float32"
        model = AutoModelForCausalLM.from_config(config).eval()
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if parameter.dim() == 1:
                    is_norm = "norm" in key or "ln_" in key
                    start = 1.0 if is_norm and key.endswith("weight") else 0.0
                    parameter.copy_(start + 0.3 * noise)
                else:
                    parameter.copy_(0.35 * noise)
            logits = model(torch.tensor([IDS])).logits[0].double().tolist()
        folder = here / name
        model.save_pretrained(folder, safe_serialization=True)
        (folder / "generation_config.json").unlink(missing_ok=True)
        rows = ",\n".join(json.dumps([round(x, 7) for x in row]) for row in logits)
        (folder / "logits.json").write_text(f'{{"ids": {IDS},\n"logits": [\n{rows}\n]}}\n')


main()
