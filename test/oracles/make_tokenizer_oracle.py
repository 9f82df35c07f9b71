"""Writes what the reference SentencePiece does with awkward texts and ids: the oracle of test/tokenizer.test.ts.

Run from the repository's root with a Python that has `sentencepiece` (Debian: python3-sentencepiece):

    python3 test/oracles/make_tokenizer_oracle.py

For each model it writes test/oracles/tokenizer-NAME.json: `encode` holds [text, ids, decoded text], `decode` holds
[ids, text]. The JSON is pure ASCII. Lone surrogates have no UTF-8, so they are not in here. Unless it is there, it first
trains tokenizer-unigram.model, which has what the Llama models lack: unigram, unknown pieces instead of bytes, removal
of extra whitespace, a user-defined and a control symbol of its own.
"""

import hashlib
import io
import json
import pathlib
import random

import sentencepiece

from awkward_texts import TEXTS, random_texts

MODELS = {
    "llama2": "../shared/tokenizers/llama2/tokenizer.model",
    "tiny-guard": "guard/models/tiny-guard/tokenizer.model",
    "unigram": "test/oracles/tokenizer-unigram.model",
}


def random_ids(rng, processor, count):
    """Ids that no text encodes to: specials in the middle, byte tokens that are not UTF-8, spaces anywhere."""
    size = processor.get_piece_size()
    space = processor.piece_to_id("\u2581")
    multibyte = [3 + byte for byte in (0x41, 0x80, 0xBF, 0xC0, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xED, 0xA0, 0xEF, 0xBB, 0xF0, 0x9F, 0x98, 0xF4, 0x90, 0xFF)]
    for _ in range(count):
        yield [
            rng.choice([rng.randrange(size), rng.randrange(3, min(size, 259)), rng.choice(multibyte) % size, rng.choice(multibyte) % size, rng.randrange(3), space])
            for _ in range(rng.randrange(1, 12))
        ]


def train_unigram(path):
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in TEXTS if text.isascii() and text.isprintable() and text.strip()] * 4),
        model_writer=writer,
        model_type="unigram",
        vocab_size=200,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        user_defined_symbols=["<sep>"],
        control_symbols=["<mask>"],
        minloglevel=2,
    )
    path.write_bytes(writer.getvalue())


def cases(values, result):
    """One case a line, so that a change of the oracle reads as a change of cases."""
    return "[\n" + ",\n".join("    " + json.dumps([value, *result(value)]) for value in values) + "\n  ]"


def main():
    unigram = pathlib.Path(MODELS["unigram"])
    if not unigram.exists():
        train_unigram(unigram)
    for name, path in MODELS.items():
        model = pathlib.Path(path).read_bytes()
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        rng = random.Random(0)
        texts = TEXTS + list(random_texts(rng, 60))
        ids = [[], *random_ids(rng, processor, 120)]
        special = {"bos": processor.bos_id(), "eos": processor.eos_id(), "unknown": processor.unk_id()}
        pathlib.Path(f"test/oracles/tokenizer-{name}.json").write_text(
            "{\n"
            f'  "by": "sentencepiece {sentencepiece.__version__}",\n'
            f'  "sha256": "{hashlib.sha256(model).hexdigest()}",\n'
            f'  "vocabularySize": {processor.get_piece_size()},\n'
            f'  "special": {json.dumps(special)},\n'
            f'  "encode": {cases(texts, lambda text: (lambda i: (i, processor.decode(i)))(processor.encode(text)))},\n'
            f'  "decode": {cases(ids, lambda value: (processor.decode(value),))}\n'
            "}\n"
        )


main()
