"""The same model shapes in PyTorch and transformers, as ``LlamaForCausalLM`` with random weights made on the device.

Times what a guard is made of: a forward of N tokens with the logits of the last position only, batches of it,
``generate`` of a verdict, and a forward of the new tokens behind a cached prefix. Prints one JSON object: the device,
the versions, and a list of figures. Needs torch and transformers and nothing else.

    python3 torch_reference.py --config 7b                      # f16 on CUDA where there is one
    python3 torch_reference.py --config 768 --device cpu        # f32 on the processor
"""

import argparse
import json
import statistics
import sys
import time

import torch
import transformers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

# The shapes that bench/shapes.ts names so.
CONFIGS = {
    "tiny": dict(
        vocab_size=4096,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
    ),
    "768": dict(
        vocab_size=32000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
    ),
    "1b": dict(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    ),
    "7b": dict(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
    ),
}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# A verdict is "unsafe", a line feed and a code: five tokens at most.
VERDICT_TOKENS = 5
# New tokens behind the policy: a message of 30 tokens and the end of the instruction.
NEW_TOKENS = 70


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", choices=CONFIGS, default="768")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--dtype", choices=DTYPES, help="f16 on CUDA, f32 on the processor by default")
    parser.add_argument("--device", help="cuda where there is one, else cpu by default")
    parser.add_argument("--repeat", type=int, default=5, help="runs that count, after two that do not")
    arguments = parser.parse_args()
    if arguments.repeat < 1 or min(arguments.tokens) <= NEW_TOKENS or min(arguments.batch) < 1:
        parser.error(f"--repeat and --batch must be at least 1, and --tokens above {NEW_TOKENS}")
    return arguments


def make_model(config: LlamaConfig, device: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    """Makes the weights where they are used: the host never holds them. Their scale keeps f16 in range."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(default)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
    return model.eval()


def linear_parameters(config: LlamaConfig) -> int:
    """Weights of the layers' projections: each costs two operations a token."""
    hidden, head_dim = config.hidden_size, config.hidden_size // config.num_attention_heads
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * config.intermediate_size
    return layer * config.num_hidden_layers


class Clock:
    """Times work on a device from an idle device to an idle device."""

    def __init__(self, device: torch.device, repeat: int) -> None:
        self.device = device
        self.repeat = repeat

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def time(self, work, prepare=lambda: None) -> dict:
        """Median and 90th percentile of ``work(prepare())`` in milliseconds; only ``work`` is timed."""
        times = []
        for _ in range(2 + self.repeat):
            prepared = prepare()
            self.synchronise()
            start = time.perf_counter()
            work(prepared)
            self.synchronise()
            times.append((time.perf_counter() - start) * 1000)
        counted = sorted(times[2:])
        p90 = counted[min(len(counted) - 1, int(0.9 * len(counted)))]
        return {"median": statistics.median(counted), "p90": p90, "runs": len(counted)}


def measure(model: LlamaForCausalLM, clock: Clock, tokens: int, batch: int) -> list[dict]:
    device = clock.device
    random_ids = lambda count: torch.randint(3, model.config.vocab_size, (batch, count), device=device)  # noqa: E731
    ids = random_ids(tokens)
    mask = torch.ones_like(ids)
    linear = 2 * linear_parameters(model.config)
    shared = {"tokens": tokens, "batch": batch}

    def figures(work: str, timing: dict, computed: int) -> dict:
        seconds = timing["median"] / 1000
        return {
            **shared,
            "work": work,
            **timing,
            "tokensPerSecond": batch * computed / seconds,
            "tflops": batch * computed * linear / seconds / 1e12,
            "requestsPerSecond": batch / seconds,
        }

    # The logits of the last position alone, read back, as a guard reads them.
    def forward(_) -> None:
        model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1].float().softmax(-1)[:, :2].cpu()

    def generate(_) -> None:
        options = dict(do_sample=False, min_new_tokens=VERDICT_TOKENS, max_new_tokens=VERDICT_TOKENS, pad_token_id=0)
        model.generate(input_ids=ids, attention_mask=mask, **options).cpu()

    # The cache grows by what is read: after each run it is cut back to the prefix.
    prefix = tokens - NEW_TOKENS
    cache = DynamicCache(config=model.config)
    model(input_ids=ids[:, :prefix], past_key_values=cache, use_cache=True, logits_to_keep=1)
    rest = ids[:, prefix:]

    def cut() -> None:
        cache.crop(prefix)

    def cached(_) -> None:
        logits = model(input_ids=rest, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        logits[:, -1].float().softmax(-1)[:, :2].cpu()

    results = [
        figures("prefill", clock.time(forward), tokens),
        figures("cached forward", clock.time(cached, cut), NEW_TOKENS),
    ]
    del cache
    results.append(figures("generate", clock.time(generate), tokens + VERDICT_TOKENS - 1))
    return results


def main() -> None:
    arguments = parse_arguments()
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype_name = arguments.dtype or ("f16" if device.type == "cuda" else "f32")
    config = LlamaConfig(**CONFIGS[arguments.config], max_position_embeddings=4096, rms_norm_eps=1e-5)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(1)
    results = []
    with torch.inference_mode():
        model = make_model(config, device, DTYPES[dtype_name])
        clock = Clock(device, arguments.repeat)
        for tokens in arguments.tokens:
            for batch in arguments.batch:
                try:
                    results += measure(model, clock, tokens, batch)
                except torch.OutOfMemoryError as error:
                    reason = str(error).split("\n")[0]
                    results.append({"tokens": tokens, "batch": batch, "work": "prefill", "failed": reason})
    cuda = device.type == "cuda"
    json.dump(
        {
            "config": arguments.config,
            "dtype": dtype_name,
            "device": torch.cuda.get_device_name(device) if cuda else "cpu",
            "threads": None if cuda else torch.get_num_threads(),
            "attention": model.config._attn_implementation,
            "versions": {
                "python": sys.version.split()[0],
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "cuda": torch.version.cuda,
            },
            "results": results,
        },
        sys.stdout,
    )
    print()


if __name__ == "__main__":
    main()
