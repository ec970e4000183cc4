"""The controlled corpus: drawn faces and synthesised voices whose every emotion cue is known."""
