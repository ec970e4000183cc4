"""A small benchmark with clips, and the replies of the golden logs (`tests/golden/harness`), which are about it."""

import json

from tests.evaluate.media_kit import write_clip

REPLIES = {
    "000": "A",
    "001": "(B) No",
    "002": "The answer is B",
    "003": "A.",
    "004": "A man laughs",
    "005": "(A) or (B)",
}


def write_benchmark(folder, clips=3):
    """`q.json` with six questions, two a clip, and the clips below `clips/`."""
    for number in range(1, clips + 1):
        write_clip(folder / f"clips/part_1/{number}.mp4")
    questions = [
        {
            "id": f"{number:03d}",
            "video": f"part_1/{number // 2 + 1}.mp4",
            "task": "modality_agreement" if number % 3 else "reasoning_basic_audio",
            "question": f"Question {number}?",
            "choices": ["(A) Yes", "(B) No"]
            if number % 3
            else ["(A) low voice", "(B) high voice", "(C) a cry", "(D) a laugh"],
            "answer": "AB"[number % 2],
        }
        for number in range(6)
    ]
    (folder / "q.json").write_text(json.dumps(questions))
    return questions
