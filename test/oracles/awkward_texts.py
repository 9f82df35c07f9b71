"""Texts that tokenizers disagree on: what the oracles of all kinds are made of. Lone surrogates have no UTF-8, so they are not in here."""

TEXTS = [
    # Nothing, and nearly nothing
    "", " ", "  ", "   ", "    ", " " * 7, " " * 15, " " * 16, " " * 17, " " * 33, " " * 100, "a", " a", "a ", " a ", "  a", "a  ",
    # Runs of whitespace
    "a b", "a  b", "a   b", "a    b", "    indented", "trailing    ", "\t", "\ta", "a\tb", "\t\t\t", " \t \t ", "\n", "\n\n", "\n\n\n",
    "a\nb", "a\n\nb", "a \n b", "\na", "a\n", "\r\n", "a\r\nb\r\n", "\r", "a\rb", "\x0b", "\x0c", "a\x0bb", " \n", "\n ", "\t\n\r ",
    # Spaces that are not U+0020
    "\u00a0", "a\u00a0b", "\u2003", "\u2009x", "\u3000", "a\u3000b", "\u200b", "a\u200bb", "\u2028", "\u2029", "\u0085", "\u1680",
    # Marks of byte order, joining and direction
    "\ufeff", "\ufeffa", "a\ufeff", "\ufeff\ufeff a", "\u200d", "\u200c", "\u202eabc\u202c", "\u2066x\u2069", "\u00ad", "\u2060",
    # SentencePiece's own space symbol, typed by the user
    "\u2581", "\u2581\u2581", "\u2581a", "a\u2581b", " \u2581", "\u2581 ", "\u2581safe", "\u2581unsafe", " \u2581 \u2581 ",
    # What looks like a special token, or like a turn
    "<s>", "</s>", "<unk>", "<pad>", " <s>", "<s> ", "<s></s><unk>", "a<s>b", "<s", "s>", "< s >", "<sep>", "a <sep> b<sep>", "<mask>", "\u2581<s>", "<S>",
    "<0x0A>", "<0x00>", "<0xFF>", "<0xE2><0x82><0xAC>", "a<0x0A>b", "<0x0a>", "<0xG0>", "<|eot_id|>", "<|begin_of_text|>", "<|im_start|>",
    "[INST]", "[/INST]", "[INST] hello [/INST]", "[/INST] safe</s><s>[INST]", "<<SYS>>\nx\n<</SYS>>\n\n", "<END CONVERSATION>",
    "User: hi\n\nAgent: hello", "safe", " safe", "unsafe", " unsafe", "unsafe\nO1,O3", "unsafe\nO3", "\nsafe",
    # Control characters
    "\x00", "a\x00b", "\x00\x00", "\x00a", "a\x00", " \x00 ", "\x01", "\x07\x08", "\x1b[31mred\x1b[0m", "\x7f", "\x80", "\x9f",
    # Digits, numbers, code
    "0", "12", "1234567890", "3.14159", "1,000,000.00", "-1e-10", "0x1F", "\u0661\u0662\u0663", "\uff11\uff12", "\u00b2\u00bd", "2024-02-29T12:00:00Z",
    "for (let i = 0; i < n; i++) {\n\treturn a[i] ?? `x${y}`;\n}", "def f(x):\n    return x ** 2\n", "SELECT * FROM t WHERE a='b' -- c",
    '{"a": [1, 2.5e-3, null, "\\u0000"]}', "https://example.com/a?b=c&d=%20#e", "C:\\path\\to", "a@b.example", "$\\frac{1}{2}$", "!!!???...", "----====",
    # Latin with accents, composed and not
    "caf\u00e9", "cafe\u0301", "\u00c5ngstr\u00f6m", "na\u00efve", "stra\u00dfe", "\u0130stanbul", "\ufb01n", "e\u0301\u0302\u0303\u0304", "Z\u0351\u036b\u0343a\u0316lgo",
    "\u0301", " \u0301", "\u1e9e",
    # Other scripts
    "\u4f60\u597d\uff0c\u4e16\u754c", "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0", "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab", "\u0645\u0631\u062d\u0628\u0627", "\u0645\u064e\u0631\u0652",
    "\u05e9\u05dc\u05d5\u05dd", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u041f\u0440\u0438\u0432\u0435\u0442", "\u0393\u03b5\u03b9\u03ac", "\u10d2\u10d0", "\u12a0", "\u0f40",
    # Emoji, joined, coloured and flagged
    "\U0001f600", "\U0001f600\U0001f600", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "1\ufe0f\u20e3", "a \U0001f600 b",
    # Private use, noncharacters, the ends of the planes
    "\ufffd", "a\ufffdb", "\ufffd\ufffd", "\ue000", "\uf8ff", "\ufdd0", "\uffff", "\ufffe", "\U00010000", "\U0001d54f", "\U00020000", "\U000e0041", "\U000f0000", "\U0010ffff",
    # Look-alikes of what a guard looks for
    "\u0455afe", "\uff55\uff4e\uff53\uff41\uff46\uff45", "u\u200bnsafe", "UNSAFE", "Safe", "s a f e",
    # Long
    "a" * 1000, "ab" * 500, "supercalifragilisticexpialidocious" * 20, "\u4e2d" * 300, "\U0001f600" * 100, "lorem ipsum " * 100, "\n" * 200, "\u0001" * 100,
    "The quick brown fox jumps over the lazy dog.", "How do I kill a Linux process?",
]


def random_texts(rng, count):
    """Texts of awkward characters next to each other, with some from anywhere in Unicode."""
    awkward = [0, 9, 10, 13, 0x20, 0x20, 0x20, 0x2581, 0xFEFF, 0xFFFD, 0xA0, 0x200D, 0x301, 0xE000, 0x1F600, 0x10FFFF, 0x4E2D]
    awkward += map(ord, "abcthe <s>/[INST]0x0A>12")
    for _ in range(count):
        yield "".join(
            chr(rng.choice(awkward) if rng.random() < 0.9 else rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]))
            for _ in range(rng.randrange(1, 30))
        )
