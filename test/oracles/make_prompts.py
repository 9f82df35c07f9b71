"""Renders the chat templates of bench/make-model/templates as transformers does: the oracle of test/chat-template.test.ts.

Run from the repository's root with a Python that has `jinja2` (Debian: python3-jinja2):

    python3 test/oracles/make_prompts.py

It writes test/oracles/prompts.json: for each template the prompt of every conversation, and of those whose categories
can be given, with categories too. Templates are compiled as `apply_chat_template` compiles them: `trim_blocks`,
`lstrip_blocks`, `raise_exception`, an immutable sandbox.
"""

import json
import pathlib
import platform

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

CONVERSATIONS = {
    "a question": ["How do I kill a process in Linux?"],
    "an answer": ["How do I kill a process in Linux?", "Find its number with ps, then run kill."],
    "a third turn": ["Hi!", "Hello, how can I help?", "Tell me a joke about C++\n\n{{ and }} {% braces %}"],
    "white space": [" \t two  spaces \n\n", "\u3000wide\u00a0\n"],
    "other scripts": ["\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u0645\u0631\u062d\u0628\u0627 \U0001f44b", "$& \\1 <END"],
}
CATEGORIES = {"S1": "Cooking.\nRecipes of any kind.", "S7": "Gardening."}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
environment.globals["raise_exception"] = raise_exception

prompts = {}
for path in sorted(pathlib.Path("bench/make-model/templates").glob("*.jinja")):
    template = environment.from_string(path.read_text())
    in_parts = path.stem.endswith("-parts")

    def render(texts, **variables):
        contents = [[{"type": "text", "text": text}] for text in texts] if in_parts else texts
        messages = [
            {"role": "user" if i % 2 == 0 else "assistant", "content": content} for i, content in enumerate(contents)
        ]
        return template.render(messages=messages, add_generation_prompt=True, **TOKENS, **variables)

    prompts[path.stem] = {
        "own": {name: render(texts) for name, texts in CONVERSATIONS.items()},
        "given": {name: render(texts, categories=CATEGORIES) for name, texts in CONVERSATIONS.items()},
    }

result = {
    "madeWith": {"jinja2": jinja2.__version__, "python": platform.python_version()},
    "conversations": CONVERSATIONS,
    "categories": CATEGORIES,
    "prompts": prompts,
}
pathlib.Path("test/oracles/prompts.json").write_text(json.dumps(result, indent=1) + "\n")
