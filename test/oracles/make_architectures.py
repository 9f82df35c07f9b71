"""Writes what every architecture computes, in float64: the oracle of test/architectures.test.ts.

A reference of its own in PyTorch, written from the formulas of transformers' modeling files (llama, mistral, qwen2,
qwen3, modeling_rope_utils) and PEFT's LoRA. It reads the folders that `npm run make-model` writes for the catalogue's
tiny models; the folders follow from their seeds, so the hashes of their files are kept and not the files.

Run from the repository's root with a Python that has torch (Debian: python3-torch python3-numpy), then, where a Python
has transformers and peft too, let those confirm it:

    python3 test/oracles/make_architectures.py             # writes test/oracles/architectures.json
    python3 test/oracles/make_architectures.py --confirm   # compares transformers with it, and stamps it

Of each model it keeps prompts, one of them past the sliding window or the original context: the ids, the logits of the
last position, eight greedy tokens; and for one prompt the residual stream of the last position after the embedding and
each layer, and what the final norm makes of it. `rope` holds exact tables of published parameters.
"""

import argparse
import datetime
import hashlib
import json
import math
import pathlib
import platform
import random
import re
import subprocess
import tempfile

import torch

ORACLE = pathlib.Path("test/oracles/architectures.json")
SEED = 1
GREEDY_TOKENS = 8
# A prompt is drawn anew until each greedy token wins by this share of the largest logit: what rounding cannot turn.
MARGIN = 0.02

# Lengths of the prompts by model, the one whose states are kept last.
MODELS = {
    "tiny-llama-2": (1, 9, 40),
    "tiny-llama-3": (1, 9, 40),
    "tiny-llama-3.1": (9, 64, 200),
    "tiny-llama-3.2": (9, 200),
    "tiny-mistral-v0.1": (9, 16, 17, 50),
    "tiny-mistral-v0.3": (9, 50),
    "tiny-qwen2.5": (9, 40),
    "tiny-qwen3": (1, 9, 40),
}
ADAPTERS = {
    "two-projections": ("tiny-llama-2", "rank=4,alpha=8,targets=q_proj+v_proj"),
    "all-projections-rslora": (
        "tiny-llama-3",
        "rank=4,alpha=2,targets=q_proj+k_proj+v_proj+o_proj+gate_proj+up_proj+down_proj,rslora",
    ),
}
ROPE = {
    "llama-guard-3-8b": dict(head_dim=128, factor=8.0),
    "llama-guard-3-1b": dict(head_dim=64, factor=32.0),
}
ROPE_POSITIONS = (0, 1, 8191, 8192, 131071)
LLAMA3_ROPE = dict(
    rope_type="llama3", low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
)
LLAMA3_THETA = 500000.0


def make_folder(folder, *arguments):
    command = ["npx", "tsx", "bench/make-model/main.ts", "--seed", str(SEED), "--out", folder, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def read_safetensors(path):
    """Every tensor of a file in float64, by name."""
    data = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    dtypes = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(bytearray(data[start + begin : start + end]), dtype=dtypes[entry["dtype"]])
        tensors[name] = values.to(torch.float64).reshape(entry["shape"])
    return tensors


def hashes(folder, *names):
    return {name: hashlib.sha256((pathlib.Path(folder) / name).read_bytes()).hexdigest() for name in names}


def merge(weights, folder):
    """Weights with an adapter's `scale * B A` added."""
    config = json.loads((pathlib.Path(folder) / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])
    adapter = read_safetensors(pathlib.Path(folder) / "adapter_model.safetensors")
    merged = dict(weights)
    for name, down in adapter.items():
        if ".lora_A." not in name:
            continue
        target = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
        merged[target] = merged[target] + scale * (adapter[name.replace(".lora_A.", ".lora_B.")] @ down)
    return merged


def inverse_frequencies(head_dim, theta, scaling=None):
    """RoPE's frequencies in radians a position, (head_dim / 2); of type llama3 where `scaling` is given."""
    plain = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    if scaling is None:
        return plain
    assert scaling["rope_type"] == "llama3", scaling
    original = scaling["original_max_position_embeddings"]
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    # Turns within the original context decide: many are kept, few are divided, between them it blends.
    turns = original * plain / (2 * math.pi)
    blend = ((turns - low) / (high - low)).clamp(0, 1)
    return blend * plain + (1 - blend) * plain / factor


class Model:
    """The forward pass of one sequence, without a cache."""

    def __init__(self, config, weights):
        self.config = config
        self.weights = weights
        self.heads = config["num_attention_heads"]
        self.key_value_heads = config["num_key_value_heads"]
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.frequencies = inverse_frequencies(self.head_dim, config["rope_theta"], config.get("rope_scaling"))

    def window(self, layer):
        """Positions that a token of this layer attends to, its own among them; None for all."""
        if self.config["model_type"] == "mistral":
            return self.config["sliding_window"]
        if self.config.get("use_sliding_window") and layer >= self.config["max_window_layers"]:
            return self.config["sliding_window"]
        return None

    def norm(self, x, name):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return x * scale * self.weights[f"{name}.weight"]

    def linear(self, x, name):
        y = x @ self.weights[f"{name}.weight"].T
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def rotate(self, x):
        """RoPE on (heads, tokens, head_dim): element i turns with element i + head_dim / 2."""
        angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * self.frequencies  # (tokens, head_dim / 2)
        first, second = x.chunk(2, -1)
        return torch.cat(
            (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()), -1
        )

    def attention(self, x, layer, name):
        tokens = x.shape[0]
        split = lambda y, heads: y.reshape(tokens, heads, self.head_dim)  # noqa: E731
        query = split(self.linear(x, f"{name}.q_proj"), self.heads)
        key = split(self.linear(x, f"{name}.k_proj"), self.key_value_heads)
        value = split(self.linear(x, f"{name}.v_proj"), self.key_value_heads)
        if self.config["model_type"] == "qwen3":
            query, key = self.norm(query, f"{name}.q_norm"), self.norm(key, f"{name}.k_norm")
        query, key, value = self.rotate(query.transpose(0, 1)), self.rotate(key.transpose(0, 1)), value.transpose(0, 1)
        group = self.heads // self.key_value_heads
        key, value = key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)

        behind = torch.arange(tokens)[:, None] - torch.arange(tokens)  # (query, key)
        seen = behind >= 0
        if self.window(layer) is not None:
            seen &= behind < self.window(layer)
        scores = query @ key.transpose(1, 2) / math.sqrt(self.head_dim)  # (heads, query, key)
        shares = scores.masked_fill(~seen, -math.inf).softmax(-1)
        return self.linear((shares @ value).transpose(0, 1).reshape(tokens, -1), f"{name}.o_proj")

    def mlp(self, x, name):
        gate = self.linear(x, f"{name}.gate_proj")
        return self.linear(gate * torch.sigmoid(gate) * self.linear(x, f"{name}.up_proj"), f"{name}.down_proj")

    def forward(self, ids):
        """The last position's logits, its residual stream after the embedding and each layer, and the final norm."""
        x = self.weights["model.embed_tokens.weight"][torch.tensor(ids)]
        states = [x[-1]]
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}"
            x = x + self.attention(self.norm(x, f"{name}.input_layernorm"), layer, f"{name}.self_attn")
            x = x + self.mlp(self.norm(x, f"{name}.post_attention_layernorm"), f"{name}.mlp")
            states.append(x[-1])
        final = self.norm(x[-1], "model.norm")
        head = "model.embed_tokens" if self.config["tie_word_embeddings"] else "lm_head"
        return final @ self.weights[f"{head}.weight"].T, states, final


def greedy(model, ids):
    """Eight tokens, or None where one of them is a close call or ends the completion."""
    end = model.config["eos_token_id"]
    written = []
    for _ in range(GREEDY_TOKENS):
        logits, _, _ = model.forward([*ids, *written])
        best, second = logits.topk(2).values
        token = int(logits.argmax())
        if best - second < MARGIN * logits.abs().max() or token in (end if isinstance(end, list) else [end]):
            return None
        written.append(token)
    return written


def numbers(tensor):
    return [float(f"{value:.10g}") for value in tensor.tolist()]


def results(model, name, lengths):
    prompts = []
    for length in lengths:
        rng = random.Random(f"{name} {length}")
        draw = lambda: [rng.randrange(model.config["vocab_size"]) for _ in range(length)]  # noqa: E731
        ids = draw()
        while (tokens := greedy(model, ids)) is None:
            ids = draw()
        logits, states, final = model.forward(ids)
        prompts.append({"ids": ids, "logits": numbers(logits), "greedy": tokens})
    # Those of the last, and longest, prompt.
    return {"prompts": prompts, "states": [numbers(state) for state in states], "finalNorm": numbers(final)}


def load(folder):
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    return config, read_safetensors(pathlib.Path(folder) / "model.safetensors")


def each_folder():
    """Makes every model and adapter in turn: the section and name in the oracle, the base's folder, the adapter's."""
    with tempfile.TemporaryDirectory() as root:
        for name in MODELS:
            make_folder(f"{root}/{name}", "--like", name)
            yield "models", name, f"{root}/{name}", None
        for name, (base, settings) in ADAPTERS.items():
            make_folder(f"{root}/{name}", "--like", base, "--lora", settings)
            yield "adapters", name, f"{root}/{base}", f"{root}/{name}"


def make():
    oracle = {
        "by": {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "date": datetime.date.today().isoformat(),
        },
        "seed": SEED,
        "models": {},
        "adapters": {},
        "rope": {},
    }
    for section, name, folder, adapter in each_folder():
        config, weights = load(folder)
        if adapter is None:
            about = {"sha256": hashes(folder, "config.json", "model.safetensors")}
            lengths = MODELS[name]
        else:
            base, settings = ADAPTERS[name]
            files = hashes(adapter, "adapter_config.json", "adapter_model.safetensors")
            about = {"base": base, "lora": settings, "sha256": files}
            weights = merge(weights, adapter)
            lengths = (9,)
        oracle[section][name] = {**about, **results(Model(config, weights), name, lengths)}
    positions = torch.tensor(ROPE_POSITIONS, dtype=torch.float64)
    for name, parameters in ROPE.items():
        scaling = {**LLAMA3_ROPE, "factor": parameters["factor"]}
        frequencies = inverse_frequencies(parameters["head_dim"], LLAMA3_THETA, scaling)
        angles = positions[:, None] * frequencies
        oracle["rope"][name] = {
            "positions": ROPE_POSITIONS,
            "inverseFrequencies": numbers(frequencies),
            "cos": [numbers(row) for row in angles.cos()],
            "sin": [numbers(row) for row in angles.sin()],
        }
    return oracle


def confirm(oracle):
    """Compares transformers and PEFT, which compute norms, softmax and RoPE in f32, with the oracle, and stamps it."""
    import peft
    import transformers

    worst = 0.0
    for section, name, folder, adapter in each_folder():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager"
        )
        if adapter is not None:
            model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().to(torch.float64)
        expected = oracle[section][name]
        with torch.no_grad():
            for prompt in expected["prompts"]:
                ids = list(prompt["ids"])
                output = model(torch.tensor([ids]), output_hidden_states=True)
                worst = max(worst, difference(output.logits[0, -1], prompt["logits"]))
                for token in prompt["greedy"]:
                    assert int(model(torch.tensor([ids])).logits[0, -1].argmax()) == token, name
                    ids.append(token)
            *states, final = (state[0, -1] for state in output.hidden_states)
        # transformers' last state is normalised; the one before it is not among them.
        for state, own in zip([*states, final], [*expected["states"][:-1], expected["finalNorm"]]):
            worst = max(worst, difference(state, own))
    for name, parameters in ROPE.items():
        config = transformers.LlamaConfig(
            hidden_size=parameters["head_dim"],
            num_attention_heads=1,
            rope_parameters={**LLAMA3_ROPE, "factor": parameters["factor"], "rope_theta": LLAMA3_THETA},
        )
        theirs, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config)
        own = torch.tensor(oracle["rope"][name]["inverseFrequencies"])
        worst = max(worst, float((theirs.double() / own.double() - 1).abs().max()))
    assert worst < 1e-5, worst
    oracle["confirmedBy"] = {
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "torch": torch.__version__,
        "largestDifference": float(f"{worst:.2g}"),
    }


def difference(theirs, own):
    own = torch.tensor(own, dtype=torch.float64)
    return float((theirs.double() - own).abs().max() / own.abs().max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--confirm", action="store_true", help="compare transformers and peft with what is there")
    if parser.parse_args().confirm:
        oracle = json.loads(ORACLE.read_text())
        confirm(oracle)
    else:
        oracle = make()
    # A list of numbers a line, so that a change of the oracle reads as a change of cases.
    text = re.sub(r"\[([^][{}\"]*)\]", lambda found: "[" + " ".join(found[1].split()) + "]", json.dumps(oracle, indent=1))
    ORACLE.write_text(text + "\n")


main()
