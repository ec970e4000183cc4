"""What answers look like in replies: marks around letters, words before them, and what takes them back."""

from __future__ import annotations

import re

FIELDS = (
    "answer",
    "final_answer",
    "choice",
    "option",
    "letter",
    "selected",
    "selection",
    "prediction",
    "response",
    "result",
    "label",
    "答案",
    "选项",
    "选择",
)
"""Where a reply in JSON may keep its option; the last three are Chinese for answer, option and choice."""

DECORATION = re.compile(
    r"[*_`#\"~$]+|\\(?:boxed|fbox|text|textbf|textit|mathrm|mathbf|mbox)\b|</?s>|<\|[a-z_]+\|>|(?<!\w)'|'(?!\w)|^[\s>\u2022-]+"
)
"""Markdown, LaTeX, quotes, bullets and end marks around an answer; they carry no meaning."""

END = r"(?=\s*(?:[.,:;!)\]}]|$|\b(?:because|since|as)\b))"
"""What follows a letter that is an answer and no article."""

BARE = re.compile(r"[\[({]?([a-z])[\])}]?[.:,]?", re.IGNORECASE)
"""The whole reply is a letter: `B`, `(b)`, `[B]`, `b.`, `B)`."""

LEADING = re.compile(
    r"(?:[\[(]([a-z])[\])]|([a-z])[.:)])[.:,]?(?=\s|$)|(?-i:([A-D]))(?:\s+[-\u2013\u2014]|,|\s+(?=because\b|since\b))\s",
    re.IGNORECASE,
)
"""The reply starts with a marked letter: `(B) Yes`, `B: Yes`, `b) yes`, `B - yes`, `B, because`."""

_WORDS = r"answer|response|verdict|respuesta|r[eé]ponse|antwort|resposta|risposta|ответ"
_IS = r"(?:is|was|es|est|ist|è|é|(?:would|will|should|must|has to|seems to|appears to)\s+be)"
MARKED = re.compile(
    r"[\[({]([a-z])[\])}]"
    rf"|\b(?:option|choice|letter)\s*(?:[:=-]\s*)?((?-i:[A-Zb-hj-z])\b|[ai]{END})(?!')"
    rf"|\b(?:{_WORDS}|option|choice|letter|selection|pick)\b(?:\s+{_IS})?\s*[:=-]?\s*"
    rf"(?:(?:probably|likely|most likely|clearly|definitely|option|choice|letter)\s+)*([a-z]){END}"
    r"|\b(?:choose|chose|pick|select|go with|going with|opt for|say|guess|think|believe|it's|it is|it must be)\s+"
    rf"(?-i:([A-D])){END}"
    r"|(?-i:(?<![\w'])([A-D]))\s+is\s+(?:the\s+)?(?:most\s+likely\s+)?(?:correct|right|best|answer)\b"
    r"|(?:选择|选项|选|答案|答え|正解|정답|답)"
    r"\s*(?:是|为|应为|应该是|应该选|应选|は|은|:)?\s*"
    r"(?:选项|选)?\s*([a-z])(?![a-z'])"
    r"|(?<![a-z])([a-z])\s*(?:选项|(?:是)?(?:正确|对的)|です|입니다)",
    re.IGNORECASE,
)
"""A letter in brackets or after a word such as "option" or "answer", anywhere in the reply; the last two alternatives
are the usual forms in Chinese, Japanese and Korean."""

ALSO = re.compile(
    r"[\])}.]*\s*(?:,|/|&|\bor\b|\band\b|或(?:者)?|和)\s*(?:(?:or|and|option|choice|perhaps|maybe)\s+)*"
    r"[\[({]?([a-z])[\])}]?(?![\w'])(?!\s+\w)",
    re.IGNORECASE,
)
"""Another letter right after one: `A or B`, `A, B`, `A/B`."""

DECISIVE = re.compile(
    rf"\\boxed\s*\{{[^a-z]*(?:\\[a-z]+\s*\{{)?[\[(]?([a-z])[\])]?\}}"
    rf"|\bfinal\s+(?:answer|choice)\b(?:\s+{_IS})?[\s*_`:=]*(?:option\s+)?[\[(]?([a-z])(?:[\])]|{END}|[*_`])",
    re.IGNORECASE,
)
"""Where a reply that discusses several letters names its final answer."""

NO_PHRASE = re.compile(r"\s*no\s+(?!it\b|he\b|she\b|they\b|there\b|this\b|that\b|the\b|i\b|because\b|not\b)\w", re.I)
"""A no that belongs to the next word ("no idea", "no sound") and answers nothing."""

NEGATED = re.compile(
    r"(?:\b(?:not|isn't|neither|nor|never|don't|wouldn't|can't|cannot|didn't|rather than|instead of|rule out|exclude)"
    r"\s+(?:(?:think|believe|say|choose|pick|that)\s+)*(?:the\s+)?(?:answer\s+|option\s+)?|(?:不|不是|不应|不应该|不能|排除|别))\s*$",
    re.I,
)
REJECTED = re.compile(
    r"[\])}.:]*\s*(?:(?:is|seems|looks|can|could|would)\s*(?:not\b|n't\b)|(?:isn't|can't|couldn't|wouldn't|cannot)\b"
    r"|(?:is|seems|looks)\s+(?:clearly\s+)?(?:wrong|incorrect|false|unlikely|impossible)\b"
    r"|(?:选项)?\s*(?:是)?(?:错|不对|不正确|不是))",
    re.I,
)
"""What takes a letter back: before it, and after it."""

LEAD_IN = re.compile(
    r"^(?:(?:so|therefore|thus|hence|ok|okay|well)\b,?\s*)?(?:(?:the|my|final|correct|right)\s+)*(?:"
    rf"(?:{_WORDS})\s*(?:{_IS}\s*:?|[:=])|答案(?:是|为|:))\s*",
    re.IGNORECASE,
)
"""What precedes an option's text: `The answer is`, `Answer:`."""

YES = ("yes", "yeah", "yep", "sí", "oui", "ja", "sim", "да", "是", "是的", "对", "对的", "有", "はい", "예", "네")
NO = ("no", "nope", "nein", "non", "não", "нет", "否", "不", "不是", "不是的", "不对", "没有", "いいえ", "아니요")
POLAR = re.compile(rf"({'|'.join(sorted((*YES, *NO), key=len, reverse=True))})(?=$|\s*[.,:;!?-])", re.IGNORECASE)
"""A first word, ended by punctuation, that means yes or no: English, Chinese, Japanese, Korean, Spanish, French,
German, Russian, Portuguese."""
