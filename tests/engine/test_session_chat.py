"""Chat templates: rendered as Hugging Face does, and in a sandbox."""

from __future__ import annotations

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.chat import render

QWEN = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
USER = [{"role": "user", "content": "Hello {{ 7*7 }}"}]


def test_qwens_template() -> None:
    assert render(QWEN, USER) == (
        "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
        "<|im_start|>user\nHello {{ 7*7 }}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_what_templates_may_use() -> None:
    template = (
        "{{ bos_token }}{%- set x = namespace(n=0) -%}\n"
        "{% for m in messages %}\n    {% if m.role == 'none' %}{% continue %}{% endif %}\n"
        "    {{- m | tojson }}\n{% endfor %}{{ eos_token }}"
    )
    message = {"role": "user", "content": "größer <b>"}
    assert render(template, [message], bos="<s>", eos="</s>") == (
        '<s>{"role": "user", "content": "größer <b>"}\n</s>'
    )


@pytest.mark.parametrize(
    "template",
    [
        "{% for",
        "{{ nonsense() }}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append({}) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{{ 1 / 0 }}",
        "{{ range(10**9) | list }}",
    ],
)
def test_broken_and_hostile_templates(template: str) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        render(template, USER)
    assert "--raw" in caught.value.fix
