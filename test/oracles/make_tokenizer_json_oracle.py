"""Writes what Hugging Face's tokenizers make of awkward texts and of prompts: the oracle of test/tokenizer-json.test.ts.

Run from the repository's root with a Python that has `tokenizers` and `transformers`:

    python3 test/oracles/make_tokenizer_json_oracle.py

It reads the tokenizers that test/oracles/write-tokenizers.ts makes, which follow from this repository's files byte by
byte, so that their hashes are kept and not they, and writes test/oracles/tokenizer-json.json:

- `texts`, and for each tokenizer the ids of each (numbers with spaces between) with added tokens taken out, as text is
  only ever text here, and by the text's place what they decode to, where that is another text;
- `frames` for each tokenizer: texts that spell added tokens, and their ids;
- `prompts` for the chat templates that its models come with: the ids of the prompts of test/oracles/prompts.json, which
  transformers has to make of the same conversations, too.

Characters are of Unicode 14 at the latest: newer ones are letters to one program and nothing to another.
"""

import hashlib
import json
import pathlib
import platform
import random
import subprocess
import tempfile
import unicodedata

import tokenizers
import transformers
from awkward_texts import TEXTS

ORACLE = pathlib.Path("test/oracles/tokenizer-json.json")
PROMPTS = pathlib.Path("test/oracles/prompts.json")
TEMPLATES = pathlib.Path("bench/make-model/templates")
COUNT = 520
FRAMES = 60

# Which templates the models of a tokenizer come with.
CHATS = {"llama-3": ["llama-guard-2", "llama-guard-3"], "qwen": ["qwen3guard"], "mistral": ["llama-guard-1"], "mistral-v0.1": ["llama-guard-1"]}

MORE_TEXTS = [
    # Contractions, also in capitals and with the long s, which is an s where case does not count
    "it's", "IT'S", "we'Ve", "I'LL'd", "don'T", "'s", "''s", "it'\u017f", "'\u017fab", "'\u212a", "o'clock", "y'all'd've",
    # Digits in threes and one by one
    "1", "123", "1234", "12345678", "a1b22c333d4444", "\u0661\u0662\u0663\u0664", "\uff11\uff12\uff13\uff14", "\u00b2\u00b3\u00b9\u00bd", "\u2167", "3.14,15",
    # Punctuation before words and line feeds
    "(a)", "[INST]a", "]safe", "!a !b", "...\n", "...\n\n\nx", "!?\r\n\r\n", "/\n/", "a/b\n", "--a--", "\u2026\u2026", "\u201cq\u201d", "\u4f60\u597d\u3002\u4e16\u754c",
    # Spaces before words, line feeds and ends
    "a  b", "a   b", "a \n b", "a \n\n  b", "\n \n \n", " \n", "  \n  ", "\t\tx", "x \t", "\u3000x", "\u00a0\u00a0x", "x\ufeffy", "\ufeff x", "x\u0085\u0085y", "\u0085 x", "\u2028\n", "\x1c\x1d\x1e\x1fx",
    # Case within words
    "camelCaseWord", "HTMLParser", "aBC", "ABc", "\u01c5a", "\u00c4\u00d6\u00dcber", "\u4e2dA\u4e2da", "\u02b0A",
    # What normalises to something else
    "e\u0301", "\u00e9", "\u212b", "\u1e9b\u0323", "\u0344", "A\u0308\u0323", "A\u0323\u0308", "\u1112\u1161\u11ab", "\uac00\u11a8", "\u0958", "\u2126", "\ufb01", "\u0f73\u0f71", "q\u0307\u0323" * 3,
    "a" + "\u0301\u0316" * 40, "\u0301\u0316" * 33 + "b", "x" + "\u0f73\u0334" * 20,
    # Spellings of added tokens
    "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>", "x<|eot_id|>y", "<|reserved_special_token_100|>", "<|im_start|>user\n", "<|im_end|>", "<think>\n\n</think>",
    "<tool_call>", "<|endoftext|>", "<|end_of_text|>", "[INST] x [/INST]", "<unk><s></s>", "<0xE2><0x82><0xAC>", "<|python_tag|>",
    # Letters that stand for bytes
    "\u0120a", "\u010a", "\u0100\u0101\u0143", "\u00c3\u00a9", "\u00ad", "\u00a1\u00ac\u00ae\u00ff",
]


def texts(rng):
    """As many as are wanted, the rest of them at random."""
    chosen = list(dict.fromkeys(TEXTS + MORE_TEXTS))
    common = [chr(code) for code in range(0x20, 0x7F)] + list(" \n\t\r'  .,\u00a0\u3000\u2581\u0301\u0316\ufeff")

    def character():
        if rng.random() < 0.7:
            return rng.choice(common)
        first, last = rng.choice([(0xA0, 0x2FF), (0x300, 0x36F), (0x370, 0x1FFF), (0x2000, 0x2FFF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1F6FF), (0, 0x10FFFF)])
        while True:
            found = chr(rng.randint(first, last))
            if unicodedata.category(found) not in ("Cn", "Cs"):
                return found

    while len(chosen) < COUNT:
        chosen.append("".join(character() for _ in range(rng.randrange(1, 24))))
    return chosen


def frames(rng, added):
    between = [" ", "  ", "\n\n", "user", "hello", " world \u00e9", "<", "|>", "<|", "[/", "unsafe\nS1", ""]
    for _ in range(FRAMES):
        yield "".join(rng.choice(added if rng.random() < 0.4 else between) for _ in range(rng.randrange(1, 10)))


def line(ids):
    return " ".join(map(str, ids))


def chat(folder, template, messages):
    """What transformers makes of a conversation; templates that say no BOS get none."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = (TEMPLATES / f"{template}.jinja").read_text()
    roles = [{"role": "assistant" if place % 2 else "user", "content": content} for place, content in enumerate(messages)]
    return tokenizer.apply_chat_template(roles, chat_template=text, add_generation_prompt=True, tokenize=True)["input_ids"]


def kind(folder, name, all_texts):
    path = folder / name
    raw = json.loads((path / "tokenizer.json").read_text())
    whole = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    plain = tokenizers.Tokenizer.from_str(json.dumps({**raw, "added_tokens": [], "post_processor": None}))
    ids = [plain.encode(text, add_special_tokens=False).ids for text in all_texts]
    decoded = [whole.decode(each) for each in ids]
    prompts = json.loads(PROMPTS.read_text())
    chats = {}
    for template in CHATS.get(name, []):
        chats[template] = {}
        for conversation, text in prompts["prompts"][template]["own"].items():
            bare = whole.encode(text, add_special_tokens=False).ids
            assert bare == list(chat(path, template, prompts["conversations"][conversation])), (name, template)
            first = raw["added_tokens"][0]["id"] if "<s>" not in whole.get_vocab() else whole.token_to_id("<s>")
            spelt = name == "qwen" or bare[0] == first
            chats[template][conversation] = line(bare if spelt else whole.encode(text).ids)
    rng = random.Random(1)
    return {
        "sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir())},
        "ids": list(map(line, ids)),
        "decoded": {place: text for place, text in enumerate(decoded) if text != all_texts[place]},
        "frames": {text: line(whole.encode(text, add_special_tokens=False).ids) for text in frames(rng, [token["content"] for token in raw["added_tokens"]])},
        "prompts": chats,
    }


def main():
    all_texts = texts(random.Random(0))
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(["npx", "tsx", "test/oracles/write-tokenizers.ts", out], check=True)
        folder = pathlib.Path(out)
        oracle = {
            "by": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__, "python": platform.python_version()},
            "texts": all_texts,
            "tokenizers": {each.name: kind(folder, each.name, all_texts) for each in sorted(folder.iterdir())},
        }
    ORACLE.write_text(json.dumps(oracle, indent=1) + "\n")


main()
